//! `POST /uploads/{uploadId}/complete` and `POST /uploads/batch/complete`: verify objects, commit changes and
//! publish events.
//!
//! A 200 is final: the version, the change and the outbox row were committed in one transaction. A failure
//! after the commit cannot fail the request; the outbox handles it.

mod complete;
mod content;

use std::collections::HashSet;

use api::http::{Request, Response, json, no_such_route, serve};
use api::{Problem, batch};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use db::{Database, DatabaseUrl};
use http::StatusCode;
use model::{
    ChangeOutcome, CompleteUploadRequest, CompleteUploadsRequest, MAX_BATCH_ITEMS, Sha256, UploadId,
};
use platform::Clock;
use platform::config::{ConfigError, Vars};
use queue::Queue;
use storage::Storage;
use thiserror::Error as ThisError;

use complete::complete;

/// The function's configuration. Each field names its environment variable.
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL database that holds the metadata.
    pub database_url: DatabaseUrl,
    /// `BUCKET_NAME`: the S3 bucket that holds the content.
    pub bucket: String,
    /// `QUEUE_URL`: the SQS queue that events are sent to.
    pub queue_url: String,
    /// `METRICS_NAMESPACE`: the CloudWatch namespace of the function's metrics.
    pub metrics_namespace: String,
    /// `MAX_CHANGES_PER_MINUTE`: the largest number of changes of a user within a minute.
    pub max_changes_per_minute: i64,
    /// `MAX_BYTES_PER_SPACE`: the largest number of bytes of a space, with old versions and the trash.
    pub max_space_bytes: i64,
}

impl Config {
    /// Reads the environment variables. The error names a variable that is missing or invalid.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            bucket: vars.required("BUCKET_NAME")?,
            queue_url: vars.required("QUEUE_URL")?,
            metrics_namespace: vars.required("METRICS_NAMESPACE")?,
            max_changes_per_minute: vars.required("MAX_CHANGES_PER_MINUTE")?,
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
    /// The queue that events are sent to.
    pub queue: Queue,
    /// The largest number of changes of a user within a minute.
    pub max_changes_per_minute: i64,
    /// The largest number of bytes of a space, with old versions and the trash.
    pub max_space_bytes: i64,
    /// The clock. Tests set its time.
    pub clock: Clock,
}

#[derive(Debug, ThisError)]
enum Error {
    #[error("storage has not all of the content yet")]
    Incomplete(String),
    #[error("the content has another size")]
    SizeMismatch { declared: i64, stored: i64 },
    #[error("the content has another checksum")]
    ChecksumMismatch {
        declared: Option<Sha256>,
        stored: Option<String>,
    },
    #[error("the content was put with Content-Encoding, which was not declared")]
    Encoded,
    #[error(transparent)]
    Storage(#[from] storage::Error),
    #[error("storage did not assemble the parts in time")]
    AssemblyTimeout,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        match error {
            Error::Incomplete(detail) => Problem::new(
                StatusCode::CONFLICT,
                "upload-incomplete",
                "The upload is incomplete",
                detail,
            ),
            Error::SizeMismatch { declared, stored } => Problem::new(
                unprocessable,
                "size-mismatch",
                "The size does not match",
                format!("{declared} bytes were declared, storage has {stored}."),
            ),
            Error::ChecksumMismatch { declared, stored } => {
                let declared = match declared {
                    Some(declared) => format!("SHA-256 {declared} was declared"),
                    None => "Content in parts was declared".to_owned(),
                };
                let stored = stored.as_deref().unwrap_or("none");
                Problem::new(
                    unprocessable,
                    "checksum-mismatch",
                    "The checksum does not match",
                    format!("{declared}, storage has {stored}."),
                )
            }
            Error::Encoded => Problem::new(
                unprocessable,
                "undeclared-headers",
                "The content has headers that were not declared",
                "The content was put with Content-Encoding. A download of it would not be the declared bytes. Open another upload, \
                 and send the headers of its put and no others.",
            ),
            Error::Storage(_) | Error::AssemblyTimeout => Problem::unavailable(error),
        }
    }
}

/// Answers one request of the HTTP API. An error becomes a problem response.
pub async fn handle(app: &App, event: &ApiGatewayV2httpRequest) -> Response {
    let request = Request::new(event);
    serve(request, async {
        match request.route() {
            "POST /uploads/{uploadId}/complete" => complete_one(app, request).await,
            "POST /uploads/batch/complete" => complete_all(app, request).await,
            _ => Err(no_such_route(request)),
        }
    })
    .await
}

async fn complete_one(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let upload_id: UploadId = request.path_parameter("uploadId")?;
    let CompleteUploadRequest { sha256 } = request.json()?;
    let mut completed = complete(app, &caller, &[(upload_id, sha256)]).await?;
    let changed = completed
        .pop()
        .ok_or_else(|| Problem::internal("nothing was completed"))??;
    json(StatusCode::OK, &changed)
}

async fn complete_all(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let CompleteUploadsRequest { upload_ids } = request.json()?;
    batch::check_count("uploadIds", &upload_ids, MAX_BATCH_ITEMS)?;
    if upload_ids.iter().collect::<HashSet<_>>().len() < upload_ids.len() {
        return Err(Problem::invalid("uploadIds: each upload once"));
    }
    let wanted: Vec<_> = upload_ids.into_iter().map(|id| (id, None)).collect();
    let completed = complete(app, &caller, &wanted).await?;
    batch::results(
        request,
        StatusCode::OK,
        completed,
        ChangeOutcome::Change,
        ChangeOutcome::Problem,
    )
}
