//! Files: listed, read, downloaded, moved, deleted.

mod content;
mod edit;
mod list;

use api::http::{Request, Response, no_such_route, serve};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use db::{Database, DatabaseUrl};
use platform::Clock;
use platform::config::{ConfigError, Vars};

use queue::Queue;
use storage::Storage;

pub use content::URL_LIFETIME;

/// What this function reads from its environment.
pub struct Config {
    /// `DATABASE_URL`: where the metadata is.
    pub database_url: DatabaseUrl,
    /// `BUCKET_NAME`: where the content is.
    pub bucket: String,
    /// `QUEUE_URL`: where events go.
    pub queue_url: String,
    /// `METRICS_NAMESPACE`: what CloudWatch files the metrics under.
    pub metrics_namespace: String,
}

impl Config {
    /// Reads the variables.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            bucket: vars.required("BUCKET_NAME")?,
            queue_url: vars.required("QUEUE_URL")?,
            metrics_namespace: vars.required("METRICS_NAMESPACE")?,
        })
    }
}

/// All that requests share.
pub struct App {
    /// Metadata.
    pub db: Database,
    /// Content.
    pub storage: Storage,
    /// Events.
    pub queue: Queue,
    /// The time.
    pub clock: Clock,
}

/// Answers one request.
pub async fn handle(app: &App, event: &ApiGatewayV2httpRequest) -> Response {
    let request = Request::new(event);
    serve(request, async {
        match request.route() {
            "GET /files" => list::list(app, request).await,
            "GET /files/{fileId}" => list::show(app, request).await,
            "GET /files/{fileId}/content" => content::locate(app, request).await,
            "PATCH /files/{fileId}" => edit::rename(app, request).await,
            "DELETE /files/{fileId}" => edit::delete(app, request).await,
            _ => Err(no_such_route(request)),
        }
    })
    .await
}
