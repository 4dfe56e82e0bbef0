//! Events of the WebSocket API. The status of the answer to `CONNECT` decides whether the handshake succeeds.
//!
//! Events are told apart by their type, not by their route key. API Gateway takes the route key from the
//! message, so a client could send `$disconnect`. API Gateway answers all other messages itself.

use api::Problem;
use api::http::{Response, empty, respond};
use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use db::{Connecting, NewConnection};
use http::StatusCode;
use http::header::ORIGIN;
use platform::{secret, summary};
use thiserror::Error as ThisError;
use tracing::{Instrument as _, info_span};

use crate::{App, CONNECTION_LIFETIME};

#[derive(Debug, ThisError)]
enum Error {
    #[error("the origin is not allowed")]
    Origin,
    #[error("no valid ticket")]
    Ticket,
    #[error("the user has too many connections")]
    TooMany { limit: i64 },
    #[error("the event names no connection")]
    NoConnectionId,
    #[error("the event is of type {0:?}")]
    UnknownEvent(Option<String>),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Origin => Problem::new(
                StatusCode::FORBIDDEN,
                "origin-not-allowed",
                "The origin is not allowed",
                "Pages of this origin may not connect.",
            ),
            Error::Ticket => Problem::new(
                StatusCode::UNAUTHORIZED,
                "invalid-ticket",
                "The ticket is not valid",
                "A ticket works once and for 30 seconds. Get a new one.",
            ),
            Error::TooMany { limit } => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-connections",
                "Too many connections",
                format!("A user has at most {limit} open connections."),
            ),
            Error::NoConnectionId | Error::UnknownEvent(_) => Problem::internal(error),
        }
    }
}

/// Answers one event of the WebSocket API.
pub(crate) async fn handle(app: &App, event: &ApiGatewayWebsocketProxyRequest) -> Response {
    let context = &event.request_context;
    let (request_id, route) = (context.request_id.as_deref(), context.route_key.as_deref());
    let connection_id = context.connection_id.as_deref();
    let span = info_span!("request", request_id, route, connection_id);
    let handling = async {
        let connection_id = connection_id.ok_or(Error::NoConnectionId)?;
        match context.event_type.as_deref() {
            Some("CONNECT") => connect(app, event, connection_id).await,
            Some("DISCONNECT") => disconnect(app, connection_id).await,
            Some("MESSAGE") => Ok(ignore(connection_id)),
            other => Err(Error::UnknownEvent(other.map(str::to_owned)).into()),
        }
    };
    respond(request_id.unwrap_or_default(), handling)
        .instrument(span)
        .await
}

async fn connect(
    app: &App,
    event: &ApiGatewayWebsocketProxyRequest,
    connection_id: &str,
) -> Result<Response, Problem> {
    let origin = event
        .headers
        .get(ORIGIN)
        .map(|origin| origin.to_str().unwrap_or_default());
    if origin.is_some_and(|origin| !app.allowed_origins.iter().any(|allowed| allowed == origin)) {
        return Err(Error::Origin.into());
    }
    let ticket = event
        .query_string_parameters
        .first("ticket")
        .filter(|ticket| secret::is_secret(ticket))
        .ok_or(Error::Ticket)?;

    let ticket_hash = secret::secret_hash(ticket);
    let connected_at = app.clock.now();
    let connecting = app.db.connect(NewConnection {
        ticket_hash: &ticket_hash,
        connection_id,
        connected_at,
        expires_at: connected_at + CONNECTION_LIFETIME,
        limit: app.max_connections_per_user,
    });
    match connecting.await? {
        Connecting::Connected(user_id) => {
            summary::record("user_id", user_id);
            Ok(empty(StatusCode::OK))
        }
        Connecting::NoTicket => Err(Error::Ticket.into()),
        Connecting::TooMany => Err(Error::TooMany {
            limit: app.max_connections_per_user,
        }
        .into()),
    }
}

/// Ignores a message into which a client has written the key of a lifecycle route.
fn ignore(connection_id: &str) -> Response {
    summary::record("ignored_messages", connection_id);
    empty(StatusCode::OK)
}

async fn disconnect(app: &App, connection_id: &str) -> Result<Response, Problem> {
    app.db.remove_connections(&[connection_id]).await?;
    Ok(empty(StatusCode::OK))
}
