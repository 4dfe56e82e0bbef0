//! `POST /tickets`, and the routes `$connect` and `$disconnect` of the WebSocket API.
//!
//! Clients connect with a ticket instead of the access token, so that the token never appears in a URL. A
//! ticket is 256 random bits, is stored as a hash, is valid for 30 s, and can be used once.

mod socket;
mod ticket;

use api::http::{Request, Response, no_such_route, serve};
use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayWebsocketProxyRequest};
use db::{Database, DatabaseUrl};
use platform::Clock;
use platform::config::{ConfigError, Vars};
use serde::Deserialize;
use time::Duration;

/// Lifetime of a ticket.
pub const TICKET_LIFETIME: Duration = Duration::seconds(30);

/// Longest lifetime of a connection: the two hours after which API Gateway closes it (Amazon API Gateway
/// Developer Guide, "Quotas for configuring and running a WebSocket API"), plus one minute for clock
/// differences.
pub const CONNECTION_LIFETIME: Duration = Duration::minutes(121);

/// The function's configuration. Each field names its environment variable.
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL database that holds tickets and connections.
    pub database_url: DatabaseUrl,
    /// `WEBSOCKET_URL`: the URL that clients connect to, without the ticket.
    pub websocket_url: String,
    /// `ALLOWED_ORIGINS`: origins of web pages that may connect, comma-separated. A request without an
    /// `Origin` header comes from a client that is not a browser, and is allowed.
    pub allowed_origins: Vec<String>,
    /// `MAX_CONNECTIONS_PER_USER`: the largest number of open connections of one user.
    pub max_connections_per_user: i64,
}

impl Config {
    /// Reads the environment variables. The error names a variable that is missing or invalid.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            websocket_url: vars.required("WEBSOCKET_URL")?,
            allowed_origins: vars.list("ALLOWED_ORIGINS")?,
            max_connections_per_user: vars.required("MAX_CONNECTIONS_PER_USER")?,
        })
    }
}

/// The state that all requests of one execution environment share.
pub struct App {
    /// The database that holds tickets and connections.
    pub db: Database,
    /// The URL that clients connect to, without the ticket.
    pub websocket_url: String,
    /// Origins of web pages that may connect.
    pub allowed_origins: Vec<String>,
    /// The largest number of open connections of one user.
    pub max_connections_per_user: i64,
    /// The clock. Tests set its time.
    pub clock: Clock,
}

/// An event of either API. They are told apart by the time of connecting, which only events of the WebSocket
/// API have.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Incoming {
    /// An event of the WebSocket API.
    WebSocket(Box<ApiGatewayWebsocketProxyRequest>),
    /// A request of the HTTP API.
    Http(Box<ApiGatewayV2httpRequest>),
}

/// Answers one event. Both APIs take the same form of response.
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
