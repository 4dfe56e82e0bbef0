//! `POST /uploads/{uploadId}/complete`: verifies the object, commits the change, publishes the event.
//!
//! A 200 is final: version, change and outbox row are in one committed statement. What fails after the commit is left to
//! the outbox and cannot fail the request.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::ChecksumMode;
use db::{Completing, Completion, Database, DatabaseUrl, Upload, UploadState};
use edge::config::{ConfigError, Vars};
use edge::http::{Request, Response, json, no_such_route, respond};
use edge::{Clock, Problem, chain, ids};
use http::StatusCode;
use model::{CurrentVersion, Empty, Event, FileChanged, Sha256, UploadId, UserId};
use thiserror::Error as ThisError;
use time::Duration;
use tracing::{info, warn};

/// How long the event belongs to the call that made it, before anybody else may send it: longer than the call can take.
const OUTBOX_LEASE: Duration = Duration::seconds(30);

/// What this function reads from its environment.
pub struct Config {
    /// `DATABASE_URL`: where the metadata is.
    pub database_url: DatabaseUrl,
    /// `BUCKET_NAME`: where the content is.
    pub bucket: String,
    /// `QUEUE_URL`: where events go.
    pub queue_url: String,
}

impl Config {
    /// Reads the variables.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            bucket: vars.required("BUCKET_NAME")?,
            queue_url: vars.required("QUEUE_URL")?,
        })
    }
}

/// All that requests share.
pub struct App {
    /// Metadata.
    pub db: Database,
    /// Content.
    pub s3: aws_sdk_s3::Client,
    /// Events.
    pub sqs: aws_sdk_sqs::Client,
    /// Where the content is.
    pub bucket: String,
    /// Where events go.
    pub queue_url: String,
    /// The time.
    pub clock: Clock,
}

#[derive(Debug, ThisError)]
enum Error {
    #[error("no such upload for this user")]
    NotFound,
    #[error("the upload has expired")]
    Expired,
    #[error("storage has no object yet")]
    Incomplete,
    #[error("the object has another size")]
    SizeMismatch { declared: i64, stored: i64 },
    #[error("the object has another SHA-256")]
    ChecksumMismatch {
        declared: Sha256,
        stored: Option<Sha256>,
    },
    #[error("the base version is not current")]
    Conflict(CurrentVersion),
    #[error("storage did not answer")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the database did not answer")]
    Database(#[from] db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        match error {
            Error::NotFound => Problem::not_found("There is no such upload."),
            Error::Expired => Problem::new(
                StatusCode::GONE,
                "upload-expired",
                "The upload has expired",
                "The upload was not completed in time. Open a new one.",
            ),
            Error::Incomplete => Problem::new(
                StatusCode::CONFLICT,
                "upload-incomplete",
                "The upload is incomplete",
                "The content has not arrived in storage. Put it, then complete.",
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
            Error::Conflict(current) => Problem::new(
                StatusCode::CONFLICT,
                "version-conflict",
                "The version is not current",
                "The path no longer holds the version that the upload started from; current says what it holds.",
            )
            .with("current", current),
            Error::Storage(_) | Error::Database(_) => Problem::unavailable(error),
        }
    }
}

/// Answers one request.
pub async fn handle(app: &App, event: &ApiGatewayV2httpRequest) -> Response {
    let request = Request::new(event);
    respond(request.id(), request.route(), async {
        match request.route() {
            "POST /uploads/{uploadId}/complete" => complete(app, request).await,
            _ => Err(no_such_route(request)),
        }
    })
    .await
}

async fn complete(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let user_id: UserId = request.subject()?;
    let upload_id = request
        .path_parameter("uploadId")
        .and_then(|id| id.parse::<UploadId>().ok());
    // What is no id names no upload.
    let upload_id = upload_id.ok_or(Error::NotFound)?;
    let Empty {} = request.json()?;

    let object_key = upload_id.object_key();
    let (upload, object) = tokio::join!(app.db.load_upload(upload_id, &user_id), head(app, &object_key));
    let upload = upload.map_err(Error::Database)?.ok_or(Error::NotFound)?;
    let now = app.clock.now();
    match upload.state {
        UploadState::Completed(event) => return json(StatusCode::OK, &FileChanged::from(*event)),
        UploadState::Aborted => return Err(Error::Expired.into()),
        UploadState::Pending if upload.expires_at <= now => return Err(Error::Expired.into()),
        UploadState::Pending => verify(&upload, &object?.ok_or(Error::Incomplete)?)?,
    }

    let completing = app.db.complete_upload(Completing {
        upload_id,
        user_id: &user_id,
        new_file_id: ids::new_id().into(),
        event_id: ids::new_id().into(),
        object_key: &object_key,
        now,
        leased_until: now + OUTBOX_LEASE,
    });
    match completing.await.map_err(Error::Database)? {
        Completion::Done(event) => {
            info!(%upload_id, event_id = %event.event_id, "completed upload {upload_id} as event {}", event.event_id);
            if let Err(error) = publish(app, &event).await {
                let event_id = event.event_id;
                let error = chain(error.as_ref());
                warn!(%event_id, %upload_id, error, "event {event_id} stays in the outbox: it may not be in the queue");
            }
            json(StatusCode::OK, &FileChanged::from(*event))
        }
        Completion::Already(event) => json(StatusCode::OK, &FileChanged::from(*event)),
        Completion::NotFound => Err(Error::NotFound.into()),
        Completion::Expired => Err(Error::Expired.into()),
        Completion::Conflict(current) => Err(Error::Conflict(current).into()),
    }
}

/// Asks storage for the object's size and SHA-256; nothing if it is not there.
async fn head(app: &App, key: &str) -> Result<Option<HeadObjectOutput>, Error> {
    let head = app
        .s3
        .head_object()
        .bucket(&app.bucket)
        .key(key)
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await;
    match head {
        Ok(object) => Ok(Some(object)),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(aws_sdk_s3::operation::head_object::HeadObjectError::is_not_found) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::Storage(error.into())),
    }
}

/// The presigned PUT lets only the declared bytes in; this is the proof that they are there.
fn verify(upload: &Upload, object: &HeadObjectOutput) -> Result<(), Error> {
    let (declared, stored) = (upload.size.get(), object.content_length().unwrap_or_default());
    if stored != declared {
        return Err(Error::SizeMismatch { declared, stored });
    }
    let stored = object
        .checksum_sha256()
        .and_then(|checksum| checksum.parse().ok());
    if stored != Some(upload.sha256) {
        return Err(Error::ChecksumMismatch {
            declared: upload.sha256,
            stored,
        });
    }
    Ok(())
}

/// Sends the event to the queue, then takes it out of the outbox. The client bounds both.
async fn publish(app: &App, event: &Event) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    app.sqs
        .send_message()
        .queue_url(&app.queue_url)
        .message_body(event.to_message()?)
        .send()
        .await?;
    app.db.remove_published(event.event_id).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn only_an_object_of_the_declared_size_and_sha256_passes() {
        let sha256 = Sha256::from([1; 32]);
        let upload = Upload {
            size: 5.try_into().unwrap(),
            sha256,
            expires_at: OffsetDateTime::UNIX_EPOCH,
            state: UploadState::Pending,
        };
        let object = |size, checksum: Option<Sha256>| {
            let checksum = checksum.map(|checksum| checksum.to_string());
            HeadObjectOutput::builder()
                .content_length(size)
                .set_checksum_sha256(checksum)
                .build()
        };
        assert!(verify(&upload, &object(5, Some(sha256))).is_ok());
        assert!(matches!(
            verify(&upload, &object(6, Some(sha256))),
            Err(Error::SizeMismatch { .. })
        ));
        let other = Some(Sha256::from([2; 32]));
        assert!(matches!(
            verify(&upload, &object(5, other)),
            Err(Error::ChecksumMismatch { .. })
        ));
        assert!(matches!(
            verify(&upload, &object(5, None)),
            Err(Error::ChecksumMismatch { stored: None, .. })
        ));
    }
}
