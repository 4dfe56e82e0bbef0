//! `GET /changes`: the feed of a space, the truth that every notification only hints at.

use api::Problem;
use api::http::{Request, Response, json, no_such_route, serve};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use db::{Database, DatabaseUrl, Rejection};
use http::StatusCode;
use model::{Cursor, PageLimit, SpaceId, UserId};
use platform::config::{ConfigError, Vars};
use serde::Deserialize;

/// What this function reads from its environment.
pub struct Config {
    /// `DATABASE_URL`: where the metadata is.
    pub database_url: DatabaseUrl,
}

impl Config {
    /// Reads the variables.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
        })
    }
}

/// All that requests share.
pub struct App {
    /// Metadata.
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

/// Answers one request.
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
    let user_id: UserId = request.subject()?;
    let query: Query = request.query()?;
    let listing = app
        .db
        .list_changes(query.space_id, &user_id, query.after, query.limit);
    let changes = listing.await?;
    let changes = changes.ok_or(Rejection::NotFound)?;
    json(StatusCode::OK, &changes)
}
