//! Lists, creates, renames, deletes and restores spaces, invites people, and lists, shows,
//! changes and removes members.

mod invitation;
mod member;
mod space;

use api::http::{Request, Response, no_such_route, serve};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use db::{Database, DatabaseUrl, InvitationLimits};
use model::Days;
use platform::Clock;
use platform::config::{ConfigError, Vars};
use queue::Queue;
use time::Duration;

/// The function's configuration. Each field names its environment variable.
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL database that holds the metadata.
    pub database_url: DatabaseUrl,
    /// `QUEUE_URL`: the SQS queue that events are sent to.
    pub queue_url: String,
    /// `METRICS_NAMESPACE`: the CloudWatch namespace of the function's metrics.
    pub metrics_namespace: String,
    /// `MAX_CHANGES_PER_MINUTE`: the largest number of changes of a user within a minute.
    pub max_changes_per_minute: i64,
    /// `MAX_SPACES_PER_USER`: the largest number of shared spaces that a user is a member of.
    pub max_spaces: i64,
    /// `MAX_PENDING_INVITATIONS`, `MAX_RECEIVED_INVITATIONS` and `MAX_INVITATIONS_PER_DAY`: the maximums of
    /// invitations.
    pub invitation_limits: InvitationLimits,
    /// `TRASH_DAYS`: for how many days a deleted space can be restored.
    pub trash_days: Days,
}

impl Config {
    /// Reads the environment variables. The error names a variable that is missing or invalid.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            queue_url: vars.required("QUEUE_URL")?,
            metrics_namespace: vars.required("METRICS_NAMESPACE")?,
            max_changes_per_minute: vars.required("MAX_CHANGES_PER_MINUTE")?,
            max_spaces: vars.required("MAX_SPACES_PER_USER")?,
            invitation_limits: InvitationLimits {
                pending: vars.required("MAX_PENDING_INVITATIONS")?,
                received: vars.required("MAX_RECEIVED_INVITATIONS")?,
                per_day: vars.required("MAX_INVITATIONS_PER_DAY")?,
            },
            trash_days: vars.required("TRASH_DAYS")?,
        })
    }
}

/// The state that all requests of one execution environment share.
pub struct App {
    /// The database that holds the metadata.
    pub db: Database,
    /// The queue that events are sent to.
    pub queue: Queue,
    /// The largest number of changes of a user within a minute.
    pub max_changes_per_minute: i64,
    /// The largest number of shared spaces that a user is a member of.
    pub max_spaces: i64,
    /// The maximums of invitations.
    pub invitation_limits: InvitationLimits,
    /// The clock. Tests set its time.
    pub clock: Clock,
    /// How long a deleted space can be restored.
    pub trash_time: Duration,
}

/// Answers one request of the HTTP API. An error becomes a problem response.
pub async fn handle(app: &App, event: &ApiGatewayV2httpRequest) -> Response {
    let request = Request::new(event);
    serve(request, async {
        match request.route() {
            "GET /spaces" => space::list(app, request).await,
            "POST /spaces" => space::create(app, request).await,
            "GET /spaces/{spaceId}" => space::show(app, request).await,
            "PATCH /spaces/{spaceId}" => space::rename(app, request).await,
            "DELETE /spaces/{spaceId}" => space::delete(app, request).await,
            "POST /spaces/{spaceId}/restore" => space::restore(app, request).await,
            "GET /spaces/{spaceId}/invitations" => invitation::list(app, request).await,
            "POST /spaces/{spaceId}/invitations" => invitation::create(app, request).await,
            "DELETE /spaces/{spaceId}/invitations/{invitationId}" => invitation::withdraw(app, request).await,
            "GET /spaces/{spaceId}/members" => member::list(app, request).await,
            "GET /spaces/{spaceId}/members/{userId}" => member::show(app, request).await,
            "PUT /spaces/{spaceId}/members/{userId}" => member::set(app, request).await,
            "DELETE /spaces/{spaceId}/members/{userId}" => member::remove(app, request).await,
            _ => Err(no_such_route(request)),
        }
    })
    .await
}
