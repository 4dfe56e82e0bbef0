//! `POST /uploads/{uploadId}/complete`: verifies the object, commits the change and publishes the event.
//!
//! A 200 is final: the version, the change and the outbox row were committed in one transaction. A failure
//! after the commit cannot fail the request; the outbox handles it.

mod content;

use api::Problem;
use api::http::{Request, Response, json, no_such_route, serve};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use db::{Completing, Database, DatabaseUrl, Rejection, UploadPhase, UploadState};
use http::StatusCode;
use model::{Empty, FileChanged, Sha256, UploadId};
use platform::config::{ConfigError, Vars};
use platform::{Clock, ids, summary};
use queue::Queue;
use storage::Storage;
use thiserror::Error as ThisError;
use tracing::{Instrument as _, info_span};

use content::{Declared, assemble, verify};

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
        declared: Sha256,
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
            Error::ChecksumMismatch { declared, stored } => Problem::new(
                unprocessable,
                "checksum-mismatch",
                "The checksum does not match",
                match stored {
                    Some(stored) => format!("SHA-256 {declared} was declared, storage has {stored}."),
                    None => format!("SHA-256 {declared} was declared, storage has none."),
                },
            ),
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
            "POST /uploads/{uploadId}/complete" => {
                let span = info_span!("upload", upload_id = request.path_text("uploadId"));
                complete(app, request).instrument(span).await
            }
            _ => Err(no_such_route(request)),
        }
    })
    .await
}

async fn complete(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let upload_id: UploadId = request.path_parameter("uploadId")?;
    let Empty {} = request.json()?;

    let object_key = upload_id.object_key();
    // Load the upload before any call to storage. Storage calls cost money, so only the user who opened the
    // upload may cause them.
    let upload = app.db.load_upload(upload_id, &caller).await?;
    let upload = upload.ok_or(Rejection::NotFound)?;
    match upload.phase_at(app.clock.now()) {
        UploadPhase::Completed(event) => return answer(event.clone()),
        UploadPhase::Ended => return Err(Rejection::Expired.into()),
        UploadPhase::Open | UploadPhase::Arriving if !upload.may_write => {
            return Err(Rejection::Forbidden.into());
        }
        UploadPhase::Open | UploadPhase::Arriving => {}
    }

    let declared = Declared::of(&upload);
    let composite_sha256 = match app.storage.head(&object_key).await.map_err(Error::Storage)? {
        // The object also exists if an earlier call assembled the parts and died before its commit.
        Some(object) => verify(&declared, &object)?,
        None => match assemble(app, &object_key, &declared, upload.multipart_id.as_deref()).await {
            // The parts are also missing if the upload was aborted in the meantime: aborting frees them.
            Err(Error::Incomplete(detail)) => {
                let upload = app.db.load_upload(upload_id, &caller).await;
                let state = upload?.map(|upload| upload.state);
                return Err(match state {
                    Some(UploadState::Aborted) => Problem::from(Rejection::Expired),
                    _ => Error::Incomplete(detail).into(),
                });
            }
            assembled => assembled?,
        },
    };

    let completing = Completing {
        upload_id,
        new_file_id: ids::new_id().into(),
        path: &upload.path,
        composite_sha256,
        object_key: &object_key,
        max_space_bytes: app.max_space_bytes,
    };
    let new = commands::begin(&app.clock, &caller, upload.device_id, app.max_changes_per_minute);
    let effect = app.db.complete_upload(completing, new).await??;
    let event = commands::finish(&app.queue, &app.db, &app.clock, effect).await;
    answer(event.ok_or_else(|| Problem::internal("completing changed nothing"))?)
}

fn answer(event: model::Event) -> Result<Response, Problem> {
    summary::record("event_ids", event.event_id);
    let changed = FileChanged::try_from(event).map_err(Problem::internal)?;
    json(StatusCode::OK, &changed)
}
