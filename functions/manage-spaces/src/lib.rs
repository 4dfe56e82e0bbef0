//! Spaces and their members.

mod member;
mod space;

use api::http::{Request, Response, no_such_route, serve};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use db::{Database, DatabaseUrl};
use platform::Clock;
use platform::config::{ConfigError, Vars};
use queue::Queue;

/// What this function reads from its environment.
pub struct Config {
    /// `DATABASE_URL`: where the metadata is.
    pub database_url: DatabaseUrl,
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
            queue_url: vars.required("QUEUE_URL")?,
            metrics_namespace: vars.required("METRICS_NAMESPACE")?,
        })
    }
}

/// All that requests share.
pub struct App {
    /// Metadata.
    pub db: Database,
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
            "GET /spaces" => space::list(app, request).await,
            "POST /spaces" => space::create(app, request).await,
            "GET /spaces/{spaceId}/members" => member::list(app, request).await,
            "GET /spaces/{spaceId}/members/{userId}" => member::show(app, request).await,
            "PUT /spaces/{spaceId}/members/{userId}" => member::set(app, request).await,
            "DELETE /spaces/{spaceId}/members/{userId}" => member::remove(app, request).await,
            _ => Err(no_such_route(request)),
        }
    })
    .await
}
