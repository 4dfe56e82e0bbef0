//! Shows and erases the caller's account, and lists, accepts and declines the caller's invitations to spaces.

mod invitation;
mod me;

use api::http::{Request, Response, no_such_route, serve};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use db::{Database, DatabaseUrl, Maximums};
use platform::Clock;
use platform::config::{ConfigError, Vars};
use queue::Queue;

/// The function's configuration. Each field names its environment variable.
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL database that holds the metadata.
    pub database_url: DatabaseUrl,
    /// `QUEUE_URL`: the SQS queue that events are sent to.
    pub queue_url: String,
    /// `METRICS_NAMESPACE`: the CloudWatch namespace of the function's metrics.
    pub metrics_namespace: String,
    /// `MAX_CHANGES_PER_MINUTE`, `MAX_PENDING_UPLOADS`, `MAX_SPACES_PER_USER`, `MAX_BYTES_PER_SPACE` and
    /// `MAX_INVITATIONS_PER_DAY`: the maximums of users and spaces without their own.
    pub maximums: Maximums,
}

impl Config {
    /// Reads the environment variables. The error names a variable that is missing or invalid.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            queue_url: vars.required("QUEUE_URL")?,
            metrics_namespace: vars.required("METRICS_NAMESPACE")?,
            maximums: Maximums {
                changes_per_minute: vars.required("MAX_CHANGES_PER_MINUTE")?,
                pending_uploads: vars.required("MAX_PENDING_UPLOADS")?,
                spaces: vars.required("MAX_SPACES_PER_USER")?,
                space_bytes: vars.required("MAX_BYTES_PER_SPACE")?,
                invitations_per_day: vars.required("MAX_INVITATIONS_PER_DAY")?,
            },
        })
    }
}

/// The state that all requests of one execution environment share.
pub struct App {
    /// The database that holds the metadata.
    pub db: Database,
    /// The queue that events are sent to.
    pub queue: Queue,
    /// The maximums of users and spaces without their own.
    pub maximums: Maximums,
    /// The clock. Tests set its time.
    pub clock: Clock,
}

/// Answers one request of the HTTP API. An error becomes a problem response.
pub async fn handle(app: &App, event: &ApiGatewayV2httpRequest) -> Response {
    let request = Request::new(event);
    serve(request, async {
        match request.route() {
            "GET /me" => me::show(app, request).await,
            "DELETE /me" => me::erase(app, request).await,
            "GET /invitations" => invitation::list(app, request).await,
            "POST /invitations/{invitationId}/accept" => invitation::accept(app, request).await,
            "POST /invitations/{invitationId}/decline" => invitation::decline(app, request).await,
            _ => Err(no_such_route(request)),
        }
    })
    .await
}
