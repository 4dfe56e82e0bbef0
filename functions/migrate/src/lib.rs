//! CloudFormation custom resource: brings the schema up on every deploy, before the functions that need it.
//!
//! CloudFormation waits for an answer at a URL that comes with the request, so every path that is not a crash ends with one.

use std::time::Duration;

use aws_lambda_events::cloudformation::CloudFormationCustomResourceRequest as Request;
use db::DatabaseUrl;
use edge::chain;
use edge::config::{ConfigError, Vars};
use serde_json::{Value, json};
use thiserror::Error as ThisError;
use tracing::{error, info};

/// The resource is always the same one: were its id to change, CloudFormation would delete the former.
const PHYSICAL_RESOURCE_ID: &str = "syncsphere-schema";

/// The longest reason in characters: CloudFormation takes a response of 4,096 bytes (AWS CloudFormation User Guide, "Custom
/// resource response objects").
const MAX_REASON_CHARACTERS: usize = 900;

/// How long the answer may take to be sent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What this function reads from its environment.
pub struct Config {
    /// `DATABASE_URL`: where the schema is, as a role that may change it.
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
    /// Where the schema is.
    pub database_url: DatabaseUrl,
    /// For the answer.
    pub http: reqwest::Client,
}

/// CloudFormation did not get its answer. Lambda runs the request again, which is harmless.
#[derive(Debug, ThisError)]
pub enum Error {
    /// This release does not know the request.
    #[error("unknown request type")]
    UnknownRequest,
    /// The answer could not be sent. The URL is a secret and is not shown.
    #[error("CloudFormation could not be answered")]
    Unanswered(#[source] reqwest::Error),
}

/// Handles one request and answers it.
pub async fn handle(app: &App, request: Request) -> Result<(), Error> {
    let (migrates, stack_id, request_id, logical_id, response_url) = match request {
        Request::Create(r) => (
            true,
            r.stack_id,
            r.request_id,
            r.logical_resource_id,
            r.response_url,
        ),
        Request::Update(r) => (
            true,
            r.stack_id,
            r.request_id,
            r.logical_resource_id,
            r.response_url,
        ),
        Request::Delete(r) => (
            false,
            r.stack_id,
            r.request_id,
            r.logical_resource_id,
            r.response_url,
        ),
        _ => return Err(Error::UnknownRequest),
    };
    let mut answer = json!({
        "Status": "SUCCESS",
        "PhysicalResourceId": PHYSICAL_RESOURCE_ID,
        "StackId": stack_id,
        "RequestId": request_id,
        "LogicalResourceId": logical_id,
    });
    // Deleting the stack leaves the data alone.
    if migrates {
        match db::migrate(&app.database_url).await {
            Ok(applied) => {
                let version = db::schema_version();
                info!(
                    applied,
                    version, "the schema is at version {version}: {applied} migrations applied"
                );
                answer["Data"] = json!({ "SchemaVersion": version.to_string() });
            }
            Err(error) => {
                let reason: String = chain(&error).chars().take(MAX_REASON_CHARACTERS).collect();
                error!(error = reason, "the schema could not be brought up");
                answer["Status"] = "FAILED".into();
                answer["Reason"] = reason.into();
            }
        }
    }
    respond(&app.http, &response_url, &answer)
        .await
        .map_err(|error| Error::Unanswered(error.without_url()))
}

/// The URL is signed for a request without a content type.
async fn respond(http: &reqwest::Client, url: &str, answer: &Value) -> Result<(), reqwest::Error> {
    let sending = http
        .put(url)
        .body(answer.to_string())
        .timeout(ANSWER_TIMEOUT)
        .send();
    sending.await?.error_for_status()?;
    Ok(())
}
