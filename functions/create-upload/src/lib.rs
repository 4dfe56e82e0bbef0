//! `POST /uploads`: opens an upload and presigns the PUT for its content. The URL accepts exactly the declared bytes, once.

use std::collections::BTreeMap;

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use aws_sdk_s3::presigning::PresigningConfig;
use db::{Database, DatabaseUrl, NewUpload, Opened};
use edge::config::{ConfigError, Vars};
use edge::http::{Request, Response, json, no_such_route, respond};
use edge::{Clock, Problem, ids};
use http::StatusCode;
use model::{ByteCount, CreateUploadRequest, CreatedUpload, CurrentVersion, PresignedPut, UploadId, UserId};
use thiserror::Error as ThisError;
use time::Duration;

/// How long the content can be put and the upload completed. A URL cannot outlive the credentials that signed it, which
/// Lambda renews every few hours (Amazon S3 User Guide, "Download and upload objects with presigned URLs").
pub const UPLOAD_LIFETIME: Duration = Duration::hours(1);

/// What this function reads from its environment.
pub struct Config {
    /// `DATABASE_URL`: where the metadata is.
    pub database_url: DatabaseUrl,
    /// `BUCKET_NAME`: where the content goes.
    pub bucket: String,
    /// `MAX_UPLOAD_BYTES`: the largest content.
    pub max_upload_bytes: i64,
}

impl Config {
    /// Reads the variables.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            bucket: vars.required("BUCKET_NAME")?,
            max_upload_bytes: vars.required("MAX_UPLOAD_BYTES")?,
        })
    }
}

/// All that requests share.
pub struct App {
    /// Metadata.
    pub db: Database,
    /// Content.
    pub s3: aws_sdk_s3::Client,
    /// Where the content goes.
    pub bucket: String,
    /// The largest content in bytes.
    pub max_upload_bytes: i64,
    /// The time.
    pub clock: Clock,
}

#[derive(Debug, ThisError)]
enum Error {
    #[error("the file is larger than allowed")]
    TooLarge { most: i64 },
    #[error("the base version is not current")]
    Conflict(CurrentVersion),
    #[error("the PUT could not be presigned")]
    Presign(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the upload could not be stored")]
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
            Error::Conflict(current) => Problem::new(
                StatusCode::CONFLICT,
                "version-conflict",
                "The version is not current",
                "The path does not hold the version that the upload started from; current says what it holds.",
            )
            .with("current", current),
            Error::Presign(_) => Problem::internal(error),
            Error::Database(error) => Problem::unavailable(error),
        }
    }
}

/// Answers one request. This function is also where API Gateway sends what matches no route.
pub async fn handle(app: &App, event: &ApiGatewayV2httpRequest) -> Response {
    let request = Request::new(event);
    respond(request.id(), request.route(), async {
        match request.route() {
            "POST /uploads" => create(app, request).await,
            _ => Err(no_such_route(request)),
        }
    })
    .await
}

async fn create(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let user_id: UserId = request.subject()?;
    let body: CreateUploadRequest = request.json()?;
    if body.size.get() > app.max_upload_bytes {
        return Err(Error::TooLarge {
            most: app.max_upload_bytes,
        }
        .into());
    }

    let upload_id = UploadId::from(ids::new_id());
    let created_at = app.clock.now();
    let expires_at = created_at + UPLOAD_LIFETIME;
    let put = presign(app, upload_id, &body).await?;
    let opening = app.db.open_upload(NewUpload {
        id: upload_id,
        new_space_id: ids::new_id().into(),
        user_id: &user_id,
        device_id: body.device_id,
        path: &body.path,
        size: body.size,
        sha256: body.sha256,
        content_type: body.content_type.as_ref(),
        base_version: body.base_version,
        created_at,
        expires_at,
    });
    match opening.await.map_err(Error::Database)? {
        Opened::Opened(space_id) => json(
            StatusCode::CREATED,
            &CreatedUpload {
                upload_id,
                space_id,
                path: body.path,
                expires_at,
                put,
            },
        ),
        Opened::Conflict(current) => Err(Error::Conflict(current).into()),
    }
}

/// Signs length, SHA-256 and `If-None-Match: *` along with the URL, so that S3 itself refuses other bytes and a second PUT.
async fn presign(app: &App, upload_id: UploadId, body: &CreateUploadRequest) -> Result<PresignedPut, Error> {
    let valid_for = std::time::Duration::from_secs(UPLOAD_LIFETIME.whole_seconds().unsigned_abs());
    let config = PresigningConfig::expires_in(valid_for).map_err(|error| Error::Presign(error.into()))?;
    let request = app
        .s3
        .put_object()
        .bucket(&app.bucket)
        .key(upload_id.object_key())
        .content_length(ByteCount::get(body.size))
        .set_content_type(body.content_type.clone().map(String::from))
        .checksum_sha256(body.sha256.to_string())
        .if_none_match("*")
        .presigned(config)
        .await
        .map_err(|error| Error::Presign(error.into()))?;
    let headers: BTreeMap<String, String> = request
        .headers()
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Ok(PresignedPut {
        url: request.uri().to_owned(),
        headers,
    })
}
