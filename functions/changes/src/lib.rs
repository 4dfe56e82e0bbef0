//! `GET /changes`: lists the changes of a space. This feed is complete; a notification only tells clients to
//! read it.

use api::Problem;
use api::http::{Request, Response, json, no_such_route, serve};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use db::{Database, DatabaseUrl, Rejection};
use http::StatusCode;
use model::{Cursor, PageLimit, SpaceId};
use platform::config::{ConfigError, Vars};
use serde::Deserialize;

/// The function's configuration. Each field names its environment variable.
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL database that holds the metadata.
    pub database_url: DatabaseUrl,
}

impl Config {
    /// Reads the environment variables. The error names a variable that is missing or invalid.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
        })
    }
}

/// The state that all requests of one execution environment share.
pub struct App {
    /// The database that holds the metadata.
    pub db: Database,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Query {
    space_id: Option<SpaceId>,
    #[serde(default)]
    after: Cursor,
    #[serde(default)]
    limit: PageLimit,
}

/// Answers one request of the HTTP API. An error becomes a problem response.
pub async fn handle(app: &App, event: &ApiGatewayV2httpRequest) -> Response {
    let request = Request::new(event);
    serve(request, async {
        match request.route() {
            "GET /changes" => list(app, request).await,
            _ => Err(no_such_route(request)),
        }
    })
    .await
}

async fn list(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let query: Query = request.query()?;
    let listing = app
        .db
        .list_changes(query.space_id, &caller, query.after, query.limit);
    let changes = listing.await?;
    let changes = changes.ok_or(Rejection::NotFound)?;
    json(StatusCode::OK, &changes)
}
