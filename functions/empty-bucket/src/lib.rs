//! CloudFormation custom resource: deletes every version of every object when a trial's stack is deleted, so
//! that the bucket can be deleted.
//!
//! CloudFormation also asks for a deletion when a resource leaves the template or is replaced. Content is deleted only if the template says that it
//! goes with the stack, and CloudFormation says that the stack itself is being deleted.

use std::time::Duration;

use aws_lambda_events::cloudformation::CloudFormationCustomResourceRequest;
use platform::client::HttpClient;
use platform::config::{ConfigError, Vars};
use platform::custom_resource::{Change, Error, Request};
use platform::error_chain;
use platform::signed::{self, Services};
use serde_json::{Value, json};
use storage::{Batch, Storage};
use thiserror::Error as ThisError;
use tokio::time::Instant;
use tracing::{error, info};

/// The resource is always the same one.
const PHYSICAL_RESOURCE_ID: &str = "syncsphere-content";

/// Time of an invocation that is left for the last request and the answer.
pub const DEADLINE_MARGIN: Duration = Duration::from_secs(20);

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
    /// The bucket.
    pub storage: Storage,
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
    Storage(String, #[source] storage::Error),
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
    deadline: Instant,
) -> Result<(), Error> {
    let request = Request::try_from(request)?;
    let outcome = match &request.change {
        Change::Delete => delete(app, &request, deadline).await.map_err(|failure| {
            let reason = error_chain(&failure);
            error!(reason, "content is left");
            reason
        }),
        Change::Create | Change::Update(_) => Ok(json!({})),
    };
    request.answer(&app.http, PHYSICAL_RESOURCE_ID, outcome).await
}

async fn delete(app: &App, request: &Request, deadline: Instant) -> Result<Value, Failure> {
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
    let deleted = empty(app, deadline).await?;
    info!(deleted, "content is deleted");
    Ok(json!({}))
}

/// Deletes all versions, delete markers and multipart uploads, and returns the number of versions and markers.
async fn empty(app: &App, deadline: Instant) -> Result<usize, Failure> {
    let bucket = || app.storage.bucket().to_owned();
    let failed = |error| Failure::Storage(bucket(), error);
    let mut deleted = 0;
    loop {
        if Instant::now() >= deadline {
            return Err(Failure::Time {
                bucket: bucket(),
                deleted,
            });
        }
        match app.storage.delete_versions().await.map_err(failed)? {
            Batch::Empty => break,
            Batch::Deleted(count) => deleted += count,
            Batch::Refused { key, reason } => {
                return Err(Failure::Refused {
                    bucket: bucket(),
                    key,
                    reason,
                });
            }
        }
    }
    let in_time = || Instant::now() < deadline;
    while !app.storage.abort_multiparts(in_time).await.map_err(failed)? {
        if !in_time() {
            return Err(Failure::Uploads(bucket()));
        }
    }
    Ok(deleted)
}
