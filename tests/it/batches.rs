//! Requests with up to 100 items: opening and completing uploads, moving and deleting files.
//!
//! Storage and queue are fakes in this process unless a test needs parts, because the emulator takes a tenth
//! of a second for each object.

mod at_once;
mod changing;
mod completing;
mod failures;
mod opening;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use fakes::http::Fault;
use fakes::s3::{Object, S3};
use fakes::sqs::Sqs;
use futures_util::future::join_all;
use model::{BatchResults, ChangeOutcome, CreatedUpload, FileChanged, OpeningOutcome, SpaceId, UploadId};
use serde_json::{Value, json};
use tests::{Answer, Call, Environment, TestContext, TestQueue, TestStorage, upload_body};

/// Timeout of a request to storage that has every object.
const PATIENCE: Duration = Duration::from_secs(20);

/// The functions on fakes of S3 and SQS.
struct Fakes {
    apps: TestContext,
    s3: S3,
    sqs: Sqs,
}

impl Fakes {
    async fn start() -> Self {
        let s3 = S3::start(None, "content", || Fault::None).await.unwrap();
        let sdk = ::stack::emulator::aws_config(&s3.endpoint()).unwrap();
        Self::on(s3, &sdk).await
    }

    /// Storage has this content under every key, so nothing need be sent. Functions wait for it for long: with
    /// hundreds of requests at once, this process takes longer than their timeout.
    async fn with_every_object(content: &[u8]) -> Self {
        let object = Object {
            size: i64::try_from(content.len()).unwrap(),
            sha256: client::sha256(content),
            parts: 0,
        };
        let s3 = S3::with_every_object(None, "content", object).await.unwrap();
        let patience = TimeoutConfig::builder()
            .operation_attempt_timeout(PATIENCE)
            .operation_timeout(PATIENCE)
            .read_timeout(PATIENCE)
            .build();
        let sdk = ::stack::emulator::aws_config(&s3.endpoint()).unwrap();
        Self::on(s3, &sdk.into_builder().timeout_config(patience).build()).await
    }

    async fn on(s3: S3, sdk: &SdkConfig) -> Self {
        let mut apps = TestContext::on(TestStorage {
            s3: aws_sdk_s3::Client::new(sdk),
            bucket: "content".to_owned(),
        })
        .await;
        let (sqs, [queue, dead_letters]) = TestQueue::in_process().await;
        (apps.queue, apps.dead_letters) = (queue, dead_letters);
        Self { apps, s3, sqs }
    }
}

impl Deref for Fakes {
    type Target = TestContext;

    fn deref(&self) -> &TestContext {
        &self.apps
    }
}

impl DerefMut for Fakes {
    fn deref_mut(&mut self) -> &mut TestContext {
        &mut self.apps
    }
}

/// Body of `POST /uploads` for a file whose content is its path.
fn body(path: &str) -> Value {
    upload_body(path, path.as_bytes())
}

/// The same body for a path in a shared space.
fn body_in(space: SpaceId, path: &str) -> Value {
    with(body(path), "spaceId", json!(space))
}

/// A body with another value of a field.
fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn opening(uploads: &[Value]) -> Call {
    Call::new("POST /uploads/batch").body(json!({ "uploads": uploads }))
}

fn completing(uploads: &[UploadId]) -> Call {
    Call::new("POST /uploads/batch/complete").body(json!({ "uploadIds": uploads }))
}

fn changing(changes: &[Value]) -> Call {
    Call::new("POST /files/batch").body(json!({ "changes": changes }))
}

/// The status of each result, with the code of a problem: `201` or `404 not-found`.
fn outcomes(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.body["results"].as_array().unwrap();
    let outcome = |result: &Value| match result["problem"]["code"].as_str() {
        Some(code) => format!("{} {code}", result["status"]),
        None => result["status"].to_string(),
    };
    results.iter().map(outcome).collect()
}

/// The problem of a result, as a request for the item alone would have been answered.
fn problem(answer: &Answer, item: usize) -> Value {
    let mut problem = answer.body["results"][item]["problem"].clone();
    problem.as_object_mut().unwrap().remove("retryAfter");
    problem
}

/// The uploads that a batch opened. Panics if an item failed.
fn opened(answer: &Answer) -> Vec<CreatedUpload> {
    let parsed: BatchResults<OpeningOutcome> = answer.parsed();
    let results = parsed.results.into_iter();
    let uploads = results.map(|result| match result.outcome {
        OpeningOutcome::Upload(upload) => upload,
        OpeningOutcome::Problem(problem) => panic!("{problem}"),
    });
    uploads.collect()
}

/// The changes that a batch made. Panics if an item failed.
fn changed(answer: &Answer) -> Vec<FileChanged> {
    changed_or_refused(answer)
        .into_iter()
        .map(|change| change.unwrap_or_else(|problem| panic!("{problem}")))
        .collect()
}

/// The change of each item, or its problem.
fn changed_or_refused(answer: &Answer) -> Vec<Result<FileChanged, Value>> {
    let parsed: BatchResults<ChangeOutcome> = answer.parsed();
    let results = parsed.results.into_iter();
    let changes = results.map(|result| match result.outcome {
        ChangeOutcome::Change(change) => Ok(change),
        ChangeOutcome::Problem(problem) => Err(problem),
    });
    changes.collect()
}

fn sequences(changes: &[FileChanged]) -> Vec<i64> {
    changes.iter().map(|change| change.sequence.get()).collect()
}

/// Opens uploads in one batch. Panics if one is refused.
async fn open(apps: &TestContext, user: &str, uploads: &[Value]) -> Vec<CreatedUpload> {
    opened(&apps.call(user, opening(uploads)).await)
}

/// Sends the content of uploads of files whose content is their path.
async fn send(apps: &TestContext, uploads: &[CreatedUpload]) {
    let sending = uploads
        .iter()
        .map(|upload| apps.send(upload, upload.path.as_str().as_bytes()));
    join_all(sending).await;
}

/// Opens uploads in one batch and sends their contents, which are their paths. Returns their ids.
async fn put(apps: &TestContext, user: &str, uploads: &[Value]) -> Vec<UploadId> {
    let uploads = open(apps, user, uploads).await;
    send(apps, &uploads).await;
    uploads.iter().map(|upload| upload.upload_id).collect()
}

/// Makes a file with its path as its content in the user's personal space for each path, in one batch.
async fn files(apps: &TestContext, user: &str, paths: &[&str]) -> Vec<FileChanged> {
    let bodies: Vec<Value> = paths.iter().map(|path| body(path)).collect();
    let uploads = put(apps, user, &bodies).await;
    changed(&apps.call(user, completing(&uploads)).await)
}

/// Makes calls at once, each in an execution environment of its own, which is connected to the database.
async fn at_once(apps: &TestContext, user: &str, calls: Vec<Call>) -> Vec<Answer> {
    let environments: Vec<Environment> = calls.iter().map(|_| apps.environment()).collect();
    for (environment, call) in environments.iter().zip(&calls) {
        let database = match call.route() {
            "POST /uploads/batch" => &environment.uploads.db,
            "POST /files/batch" => &environment.files.db,
            _ => &environment.complete_upload.db,
        };
        database.warm_up().await;
    }
    let calling = environments.iter().zip(calls);
    join_all(calling.map(|(environment, call)| environment.call(user, call))).await
}

/// Takes all messages out of the queue. Returns the sequence numbers of the changes that they announce, for
/// each message in the order of a message: the earlier changes, then the newest.
fn announced(apps: &Fakes) -> Vec<Vec<i64>> {
    let numbers = |body: &Arc<str>| {
        let message: Value = serde_json::from_str(body).unwrap();
        let earlier = message["earlier"].as_array().cloned().unwrap_or_default();
        let changes = earlier.iter().chain([&message]);
        changes
            .map(|change| change["sequence"].as_i64().unwrap())
            .collect()
    };
    apps.sqs.take(usize::MAX).iter().map(numbers).collect()
}

/// Sets limits of Alice.
async fn limit(apps: &TestContext, limits: Value) {
    apps.known("alice").await;
    let request = json!({ "action": "setUserLimits", "userId": "alice", "limits": limits });
    let request = serde_json::from_value(request).unwrap();
    administer::handle(&apps.administer(), request).await.unwrap();
}

/// Sets the maximum number of bytes of a space.
async fn limit_bytes(apps: &TestContext, space: SpaceId, bytes: i64) {
    let request = json!({ "action": "setSpaceLimits", "spaceId": space, "limits": { "bytes": bytes } });
    let request = serde_json::from_value(request).unwrap();
    administer::handle(&apps.administer(), request).await.unwrap();
}
