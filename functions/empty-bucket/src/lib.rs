//! CloudFormation custom resource: deletes every version of every object when a trial's stack is deleted, so
//! that the bucket can be deleted.
//!
//! CloudFormation also asks for a deletion when a resource leaves the template or is replaced. Content is deleted only if the template says that it
//! goes with the stack, and CloudFormation says that the stack itself is being deleted.

use std::time::Duration;

use aws_lambda_events::cloudformation::CloudFormationCustomResourceRequest;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use platform::chain;
use platform::client::HttpClient;
use platform::config::{ConfigError, Vars};
use platform::custom_resource::{Change, Error, Request};
use platform::signed::{self, Services};
use serde_json::{Value, json};
use thiserror::Error as ThisError;
use tokio::time::Instant;
use tracing::{error, info};

/// The resource is always the same one.
const PHYSICAL_RESOURCE_ID: &str = "syncsphere-content";

/// Time of an invocation that is left for the last request and the answer.
pub const RESERVE: Duration = Duration::from_secs(20);

/// Statuses of a stack during its deletion, and while a failed creation is undone (AWS CloudFormation API
/// Reference, "Stack", `StackStatus`).
const DELETED: [&str; 2] = ["DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"];

/// Configuration from the environment.
pub struct Config {
    /// `BUCKET_NAME`: where content is.
    pub bucket: String,
}

impl Config {
    /// Reads the variables.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            bucket: vars.required("BUCKET_NAME")?,
        })
    }
}

/// All that requests share.
pub struct App {
    /// Where content is.
    pub storage: aws_sdk_s3::Client,
    /// The bucket's name.
    pub bucket: String,
    /// For the stack's status.
    pub services: Services,
    /// For the answer.
    pub http: HttpClient,
}

/// Why the bucket is not empty.
#[derive(Debug, ThisError)]
enum Failure {
    #[error("the stack's status could not be read, so nothing was deleted")]
    Status(#[source] signed::Error),
    #[error("the bucket {0} could not be emptied; delete the stack again")]
    Storage(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("S3 did not delete {key} of {bucket}: {reason}; delete the stack again")]
    Refused {
        bucket: String,
        key: String,
        reason: String,
    },
    #[error(
        "the bucket {bucket} has more content than could be deleted in time ({deleted} versions are); delete the stack again"
    )]
    Time { bucket: String, deleted: usize },
    #[error("the bucket {0} has more uploads in parts than could be aborted in time; delete the stack again")]
    Uploads(String),
}

/// Handles one request and answers it. Deleting stops at `stop`.
pub async fn handle(
    app: &App,
    request: CloudFormationCustomResourceRequest,
    stop: Instant,
) -> Result<(), Error> {
    let request = Request::try_from(request)?;
    let outcome = match &request.change {
        Change::Delete => delete(app, &request, stop).await.map_err(|failure| {
            let reason = chain(&failure);
            error!(reason, "content is left");
            reason
        }),
        Change::Create | Change::Update(_) => Ok(json!({})),
    };
    request.answer(&app.http, PHYSICAL_RESOURCE_ID, outcome).await
}

async fn delete(app: &App, request: &Request, stop: Instant) -> Result<Value, Failure> {
    if request.properties["DeletedWithStack"] != "true" {
        info!("content outlives the stack");
        return Ok(json!({}));
    }
    let status = app.services.stack_status(&request.stack_id).await;
    let status = status.map_err(Failure::Status)?;
    if !DELETED.contains(&status.as_str()) {
        info!(status, "the stack is not being deleted, so content stays");
        return Ok(json!({}));
    }
    let deleted = empty(app, stop).await?;
    info!(deleted, "content is deleted");
    Ok(json!({}))
}

/// Deletes all versions, markers and uploads in parts: how many versions there were.
async fn empty(app: &App, stop: Instant) -> Result<usize, Failure> {
    let failed =
        |error: Box<dyn std::error::Error + Send + Sync>| Failure::Storage(app.bucket.clone(), error);
    let mut deleted = 0;
    loop {
        // From the beginning each time: the versions listed before are gone.
        let listing = app.storage.list_object_versions().bucket(&app.bucket);
        let page = listing.send().await.map_err(|error| failed(error.into()))?;
        let versions = page.versions().iter().map(|v| (v.key(), v.version_id()));
        let markers = page.delete_markers().iter().map(|m| (m.key(), m.version_id()));
        let found: Vec<ObjectIdentifier> = versions.chain(markers).filter_map(identifier).collect();
        if found.is_empty() {
            break;
        }
        if Instant::now() >= stop {
            let bucket = app.bucket.clone();
            return Err(Failure::Time { bucket, deleted });
        }
        let count = found.len();
        let batch = Delete::builder().set_objects(Some(found)).quiet(true).build();
        let batch = batch.map_err(|error| failed(error.into()))?;
        let deleting = app.storage.delete_objects().bucket(&app.bucket).delete(batch);
        let answer = deleting.send().await.map_err(|error| failed(error.into()))?;
        if let Some(refused) = answer.errors().first() {
            return Err(Failure::Refused {
                bucket: app.bucket.clone(),
                key: refused.key().unwrap_or_default().to_owned(),
                reason: refused
                    .message()
                    .or(refused.code())
                    .unwrap_or_default()
                    .to_owned(),
            });
        }
        deleted += count;
    }
    abort_uploads(app, stop).await?;
    Ok(deleted)
}

fn identifier((key, version): (Option<&str>, Option<&str>)) -> Option<ObjectIdentifier> {
    let identifier = ObjectIdentifier::builder()
        .key(key?)
        .set_version_id(version.map(str::to_owned));
    identifier.build().ok()
}

/// Parts that were sent of uploads that were not completed.
async fn abort_uploads(app: &App, stop: Instant) -> Result<(), Failure> {
    let failed =
        |error: Box<dyn std::error::Error + Send + Sync>| Failure::Storage(app.bucket.clone(), error);
    loop {
        let listing = app.storage.list_multipart_uploads().bucket(&app.bucket);
        let page = listing.send().await.map_err(|error| failed(error.into()))?;
        if page.uploads().is_empty() {
            return Ok(());
        }
        for upload in page.uploads() {
            if Instant::now() >= stop {
                return Err(Failure::Uploads(app.bucket.clone()));
            }
            let aborting = app.storage.abort_multipart_upload().bucket(&app.bucket);
            let aborting = aborting
                .set_key(upload.key.clone())
                .set_upload_id(upload.upload_id.clone());
            aborting.send().await.map_err(|error| failed(error.into()))?;
        }
    }
}
