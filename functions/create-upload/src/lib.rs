//! An upload before it is completed: opened, presigned whole or in parts, looked at, aborted. The URLs accept exactly the
//! declared bytes.

mod create;
mod presign;
mod resume;

use api::Problem;
use api::http::{Request, Response, no_such_route, serve};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use db::{Database, DatabaseUrl};
use http::StatusCode;
use platform::Clock;
use platform::config::{ConfigError, Vars};
use storage::Storage;
use thiserror::Error as ThisError;
use time::Duration;
use tracing::{Instrument as _, info_span};

/// How long content can be put in one request. The upload can be completed [`db::IN_FLIGHT`] longer.
pub const PUT_LIFETIME: Duration = Duration::hours(1);

/// How long an upload in parts can take. The bucket's lifecycle frees the parts of what was never completed a day later.
pub const MULTIPART_LIFETIME: Duration = Duration::days(7);

/// What this function reads from its environment.
pub struct Config {
    /// `DATABASE_URL`: where the metadata is.
    pub database_url: DatabaseUrl,
    /// `BUCKET_NAME`: where the content goes.
    pub bucket: String,
    /// `MAX_UPLOAD_BYTES`: the largest content.
    pub max_upload_bytes: i64,
    /// `MULTIPART_THRESHOLD_BYTES`: the largest content that is put in one request.
    pub multipart_threshold_bytes: i64,
}

impl Config {
    /// Reads the variables.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            bucket: vars.required("BUCKET_NAME")?,
            max_upload_bytes: vars.required("MAX_UPLOAD_BYTES")?,
            multipart_threshold_bytes: vars.required("MULTIPART_THRESHOLD_BYTES")?,
        })
    }
}

/// All that requests share.
pub struct App {
    /// Metadata.
    pub db: Database,
    /// Content.
    pub storage: Storage,
    /// The largest content in bytes.
    pub max_upload_bytes: i64,
    /// The largest content in bytes that is put in one request.
    pub multipart_threshold_bytes: i64,
    /// The time.
    pub clock: Clock,
}

#[derive(Debug, ThisError)]
enum Error {
    #[error("the file is larger than allowed")]
    TooLarge { most: i64 },
    #[error("the request asks for no or too many parts, or for one twice")]
    Parts(String),
    #[error("the upload is not one in parts")]
    NotMultipart,
    #[error("no URL could be presigned")]
    Presign(#[source] storage::Error),
    #[error(transparent)]
    Storage(#[from] storage::Error),
    #[error("storage did not list the parts in time")]
    ListingTimeout,
    #[error("the database did not answer")]
    Database(#[from] db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::TooLarge { most } => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "upload-too-large",
                "The file is too large",
                format!("A file has at most {most} bytes."),
            ),
            Error::Parts(detail) => Problem::invalid(detail),
            Error::NotMultipart => Problem::new(
                StatusCode::CONFLICT,
                "not-multipart",
                "The upload has no parts",
                "This upload's content is put in one request. GET the upload for its URL.",
            ),
            Error::Presign(_) => Problem::internal(error),
            Error::Storage(_) | Error::ListingTimeout | Error::Database(_) => Problem::unavailable(error),
        }
    }
}

/// Answers one request.
pub async fn handle(app: &App, event: &ApiGatewayV2httpRequest) -> Response {
    let request = Request::new(event);
    serve(request, async {
        let handling = async {
            match request.route() {
                "POST /uploads" => create::create(app, request).await,
                "POST /uploads/{uploadId}/parts" => resume::parts(app, request).await,
                "GET /uploads/{uploadId}" => resume::show(app, request).await,
                "DELETE /uploads/{uploadId}" => resume::abort(app, request).await,
                _ => Err(no_such_route(request)),
            }
        };
        let span = info_span!("upload", upload_id = request.path_text("uploadId"));
        handling.instrument(span).await
    })
    .await
}
