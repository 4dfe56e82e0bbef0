//! `POST /tickets` and the routes of the WebSocket API: `$connect`, `$disconnect` and every message.
//!
//! A ticket stands in for the token, so that no token is ever in a URL: 256 random bits, stored as a hash, valid for 30 s,
//! used once.

mod socket;
mod ticket;

use api::http::{Request, Response, no_such_route, serve};
use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayWebsocketProxyRequest};
use db::{Database, DatabaseUrl};
use platform::Clock;
use platform::config::{ConfigError, Vars};
use serde::Deserialize;
use time::Duration;

/// How long a ticket can be used.
pub const TICKET_LIFETIME: Duration = Duration::seconds(30);

/// How long API Gateway keeps a connection at most (Amazon API Gateway Developer Guide, "Quotas for configuring and running
/// a WebSocket API"), and a minute for clocks that differ.
pub const CONNECTION_LIFETIME: Duration = Duration::minutes(121);

/// What this function reads from its environment.
pub struct Config {
    /// `DATABASE_URL`: where tickets and connections are.
    pub database_url: DatabaseUrl,
    /// `WEBSOCKET_URL`: where clients connect to.
    pub websocket_url: String,
    /// `ALLOWED_ORIGINS`: web pages that may connect, comma-separated. Clients that are no browsers send no origin.
    pub allowed_origins: Vec<String>,
    /// `MAX_CONNECTIONS_PER_USER`: how many may be open at once.
    pub max_connections_per_user: i64,
}

impl Config {
    /// Reads the variables.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            websocket_url: vars.required("WEBSOCKET_URL")?,
            allowed_origins: vars.list("ALLOWED_ORIGINS")?,
            max_connections_per_user: vars.required("MAX_CONNECTIONS_PER_USER")?,
        })
    }
}

/// All that requests share.
pub struct App {
    /// Tickets and connections.
    pub db: Database,
    /// Where clients connect to.
    pub websocket_url: String,
    /// Web pages that may connect.
    pub allowed_origins: Vec<String>,
    /// How many connections a user may have.
    pub max_connections_per_user: i64,
    /// The time.
    pub clock: Clock,
}

/// What invokes this function: only the WebSocket API says when a connection was made.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Incoming {
    /// A route of the WebSocket API.
    WebSocket(Box<ApiGatewayWebsocketProxyRequest>),
    /// A route of the HTTP API.
    Http(Box<ApiGatewayV2httpRequest>),
}

/// Answers either API; both take the same form of response.
pub async fn handle(app: &App, incoming: &Incoming) -> Response {
    match incoming {
        Incoming::WebSocket(event) => socket::handle(app, event).await,
        Incoming::Http(event) => {
            let request = Request::new(event);
            serve(request, async {
                match request.route() {
                    "POST /tickets" => ticket::create(app, request).await,
                    _ => Err(no_such_route(request)),
                }
            })
            .await
        }
    }
}
