//! Uploads until they are completed: opens, lists, presigns, shows and aborts them. The presigned URLs accept
//! only the declared bytes.

mod abort;
mod create;
mod list;
mod parts;
mod show;
mod url_lifetime;

use api::Problem;
use api::http::{Request, Response, no_such_route, serve};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use db::{Database, DatabaseUrl};
use http::StatusCode;
use model::{Caller, UploadId};
use platform::Clock;
use platform::config::{ConfigError, Vars};
use storage::Storage;
use thiserror::Error as ThisError;
use time::Duration;

/// Lifetime of an upload whose content is put in one request. It can be completed for [`db::IN_FLIGHT`]
/// longer.
pub const PUT_LIFETIME: Duration = Duration::hours(1);

/// Lifetime of an upload in parts. The bucket's lifecycle rule frees the parts of incomplete uploads one day
/// later.
pub const MULTIPART_LIFETIME: Duration = Duration::days(7);

/// The function's configuration. Each field names its environment variable.
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL database that holds the metadata.
    pub database_url: DatabaseUrl,
    /// `BUCKET_NAME`: the S3 bucket that clients put the content into.
    pub bucket: String,
    /// `METRICS_NAMESPACE`: the CloudWatch namespace of the function's metrics.
    pub metrics_namespace: String,
    /// `MAX_UPLOAD_BYTES`: the largest size of a file, in bytes.
    pub max_upload_bytes: i64,
    /// `MULTIPART_THRESHOLD_BYTES`: the largest size, in bytes, of content that is put in one request. Larger
    /// content is uploaded in parts.
    pub multipart_threshold_bytes: i64,
    /// `MAX_PENDING_UPLOADS`: the largest number of pending uploads of a user.
    pub max_pending_uploads: i64,
    /// `MAX_BYTES_PER_SPACE`: the largest number of bytes of a space, with old versions and the trash.
    pub max_space_bytes: i64,
}

impl Config {
    /// Reads the environment variables. The error names a variable that is missing or invalid.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            bucket: vars.required("BUCKET_NAME")?,
            metrics_namespace: vars.required("METRICS_NAMESPACE")?,
            max_upload_bytes: vars.required("MAX_UPLOAD_BYTES")?,
            multipart_threshold_bytes: vars.required("MULTIPART_THRESHOLD_BYTES")?,
            max_pending_uploads: vars.required("MAX_PENDING_UPLOADS")?,
            max_space_bytes: vars.required("MAX_BYTES_PER_SPACE")?,
        })
    }
}

/// The state that all requests of one execution environment share.
pub struct App {
    /// The database that holds the metadata.
    pub db: Database,
    /// The bucket that holds the content.
    pub storage: Storage,
    /// The largest size of a file, in bytes.
    pub max_upload_bytes: i64,
    /// The largest size, in bytes, of content that is put in one request.
    pub multipart_threshold_bytes: i64,
    /// The largest number of pending uploads of a user.
    pub max_pending_uploads: i64,
    /// The largest number of bytes of a space, with old versions and the trash.
    pub max_space_bytes: i64,
    /// The clock. Tests set its time.
    pub clock: Clock,
}

#[derive(Debug, ThisError)]
enum Error {
    #[error("the file is larger than allowed")]
    TooLarge { most: i64 },
    #[error("content that is put in one request has no SHA-256")]
    NoSha256 { most: i64 },
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
            Error::NoSha256 { most } => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "sha256-required",
                "The SHA-256 is missing",
                format!(
                    "Content of up to {most} bytes is put in one request, and storage checks it against its SHA-256. Send sha256. \
                     Only for larger content it may be sent at completion."
                ),
            ),
            Error::NotMultipart => Problem::new(
                StatusCode::CONFLICT,
                "not-multipart",
                "The upload has no parts",
                "This upload's content is put in one request. GET the upload for its URL.",
            ),
            Error::Presign(_) => Problem::internal(error),
            Error::Database(error) => error.into(),
            Error::Storage(_) | Error::ListingTimeout => Problem::unavailable(error),
        }
    }
}

/// Answers one request of the HTTP API. An error becomes a problem response.
pub async fn handle(app: &App, event: &ApiGatewayV2httpRequest) -> Response {
    let request = Request::new(event);
    serve(request, async {
        match request.route() {
            "GET /uploads" => list::list(app, request).await,
            "POST /uploads" => create::create(app, request).await,
            "POST /uploads/batch" => create::create_all(app, request).await,
            "POST /uploads/{uploadId}/parts" => parts::parts(app, request).await,
            "GET /uploads/{uploadId}" => show::show(app, request).await,
            "DELETE /uploads/{uploadId}" => abort::abort(app, request).await,
            _ => Err(no_such_route(request)),
        }
    })
    .await
}

fn upload_and_caller(request: Request<'_>) -> Result<(UploadId, Caller), Problem> {
    let caller = request.caller()?;
    request.no_query()?;
    Ok((request.path_parameter("uploadId")?, caller))
}
