//! Lists, shows, downloads, moves, deletes and restores files.

mod content;
mod edit;
mod list;
mod trash;

use api::http::{Request, Response, no_such_route, serve};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use db::{Database, DatabaseUrl};
use model::Days;
use platform::Clock;
use platform::config::{ConfigError, Vars};
use queue::Queue;
use storage::Storage;
use time::Duration;

pub use content::URL_LIFETIME;

/// The function's configuration. Each field names its environment variable.
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL database that holds the metadata.
    pub database_url: DatabaseUrl,
    /// `BUCKET_NAME`: the S3 bucket that holds the content.
    pub bucket: String,
    /// `QUEUE_URL`: the SQS queue that events are sent to.
    pub queue_url: String,
    /// `TRASH_DAYS`: the number of days after which a deleted file is purged.
    pub trash_days: Days,
    /// `METRICS_NAMESPACE`: the CloudWatch namespace of the function's metrics.
    pub metrics_namespace: String,
    /// `MAX_CHANGES_PER_MINUTE`: the largest number of changes of a user within a minute.
    pub max_changes_per_minute: i64,
}

impl Config {
    /// Reads the environment variables. The error names a variable that is missing or invalid.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            bucket: vars.required("BUCKET_NAME")?,
            queue_url: vars.required("QUEUE_URL")?,
            trash_days: vars.required("TRASH_DAYS")?,
            metrics_namespace: vars.required("METRICS_NAMESPACE")?,
            max_changes_per_minute: vars.required("MAX_CHANGES_PER_MINUTE")?,
        })
    }
}

/// The state that all requests of one execution environment share.
pub struct App {
    /// The database that holds the metadata.
    pub db: Database,
    /// The bucket that holds the content.
    pub storage: Storage,
    /// The queue that events are sent to.
    pub queue: Queue,
    /// The largest number of changes of a user within a minute.
    pub max_changes_per_minute: i64,
    /// The time after which a deleted file is purged.
    pub trash_time: Duration,
    /// The clock. Tests set its time.
    pub clock: Clock,
}

/// Answers one request of the HTTP API. An error becomes a problem response.
pub async fn handle(app: &App, event: &ApiGatewayV2httpRequest) -> Response {
    let request = Request::new(event);
    serve(request, async {
        match request.route() {
            "GET /files" => list::list(app, request).await,
            "POST /files/batch" => edit::change_all(app, request).await,
            "GET /files/{fileId}" => list::show(app, request).await,
            "GET /files/{fileId}/content" => content::locate(app, request).await,
            "PATCH /files/{fileId}" => edit::rename(app, request).await,
            "DELETE /files/{fileId}" => edit::delete(app, request).await,
            "POST /files/{fileId}/restore" => trash::restore_file(app, request).await,
            "POST /files/{fileId}/versions/{version}/restore" => trash::restore_version(app, request).await,
            _ => Err(no_such_route(request)),
        }
    })
    .await
}
