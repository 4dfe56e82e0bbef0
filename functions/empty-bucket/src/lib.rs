//! CloudFormation custom resource: when the stack of a trial is deleted, deletes every version of every
//! object, so that the bucket can be deleted.
//!
//! CloudFormation also sends a delete request when a resource leaves the template or is replaced. Content is
//! therefore deleted only if two conditions hold: the template says that content is deleted with the stack,
//! and CloudFormation reports that the stack itself is being deleted.

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

/// The physical id of the resource. It never changes, because CloudFormation deletes a resource whose id
/// changed.
const PHYSICAL_RESOURCE_ID: &str = "syncsphere-content";

/// Time before the end of an invocation at which deleting stops. It is reserved for the last request to S3
/// and for the answer.
pub const DEADLINE_MARGIN: Duration = Duration::from_secs(20);

/// Statuses of a stack during its deletion and during the rollback of its creation (AWS CloudFormation API
/// Reference, "Stack", `StackStatus`).
const DELETED: [&str; 2] = ["DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"];

/// The function's configuration.
pub struct Config {
    /// `BUCKET_NAME`: the S3 bucket that holds the content.
    pub bucket: String,
}

impl Config {
    /// Reads the environment variables. The error names a variable that is missing or invalid.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            bucket: vars.required("BUCKET_NAME")?,
        })
    }
}

/// The state that all requests of one execution environment share.
pub struct App {
    /// The bucket that is emptied.
    pub storage: Storage,
    /// Client for the stack's status.
    pub services: Services,
    /// Client that sends the answer to CloudFormation.
    pub http: HttpClient,
}

/// The reason why the bucket is not empty.
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

/// Handles one request of CloudFormation and sends the answer. Deleting stops at `deadline`; the request
/// fails if content is left then.
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

/// Deletes all versions, delete markers and multipart uploads. Returns the number of versions and delete
/// markers.
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
