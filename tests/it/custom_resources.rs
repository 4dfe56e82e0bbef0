//! Custom resources around a deployment. A missing prerequisite fails the deployment before any cost arises.
//! A trial's content is deleted only together with its stack.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use aws_types::region::Region;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use platform::aws::Account;
use platform::signed::Services;
use serde_json::{Value, json};
use tests::sample;
use tokio::time::Instant;

/// Fake of CloudFormation and Lambda. It records the responses that functions send to CloudFormation.
#[derive(Clone)]
struct Aws {
    /// The account's concurrency quota and the unreserved part of it.
    limits: (i64, i64),
    /// Status of the stack; with `None`, `DescribeStacks` fails with 403.
    status: Option<&'static str>,
    answers: Arc<Mutex<Vec<Value>>>,
    url: String,
}

impl Aws {
    async fn saying(limits: (i64, i64), status: Option<&'static str>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let aws = Self {
            limits,
            status,
            answers: Arc::default(),
            url: format!("http://{}", listener.local_addr().unwrap()),
        };
        let settings = async |State(aws): State<Self>| {
            let (quota, left) = aws.limits;
            let limit = json!({ "ConcurrentExecutions": quota, "UnreservedConcurrentExecutions": left });
            json!({ "AccountLimit": limit }).to_string()
        };
        let describe = async |State(aws): State<Self>, asked: String| {
            assert!(
                asked.contains("Action=DescribeStacks&StackName=arn%3Aaws%3A"),
                "{asked}"
            );
            match aws.status {
                Some(status) => (
                    StatusCode::OK,
                    format!("<r><StackStatus>{status}</StackStatus></r>"),
                ),
                None => (StatusCode::FORBIDDEN, "<Code>AccessDenied</Code>".to_owned()),
            }
        };
        let take = async |State(aws): State<Self>, answer: String| {
            aws.answers
                .lock()
                .unwrap()
                .push(serde_json::from_str(&answer).unwrap());
        };
        let app = Router::new()
            .route("/2016-08-19/account-settings/", get(settings))
            .route("/", post(describe))
            .route("/answer", put(take))
            .with_state(aws.clone());
        tokio::spawn(async { axum::serve(listener, app).await });
        aws
    }

    fn services(&self) -> Services {
        let account = Account {
            credentials: Credentials::new("key", "secret", None, None, "test"),
            region: Region::new("eu-central-1"),
        };
        Services::new(tests::http_client(), Some(account), Some(self.url.clone()))
    }

    /// Sample event with these resource properties.
    fn event(&self, name: &str, properties: &Value) -> Value {
        let mut event = sample(name);
        event["ResponseURL"] = format!("{}/answer", self.url).into();
        for (name, value) in properties.as_object().unwrap() {
            event["ResourceProperties"][name] = value.clone();
        }
        event
    }

    fn answer(&self) -> Value {
        let answers = self.answers.lock().unwrap();
        assert_eq!(answers.len(), 1);
        answers[0].clone()
    }
}

async fn checked(aws: &Aws, region: &str, event: Value) -> Value {
    let app = check_account::App {
        region: Some(region.to_owned()),
        services: aws.services(),
        http: tests::http_client(),
    };
    let event = serde_json::from_value(event).unwrap();
    check_account::handle(&app, event).await.unwrap();
    aws.answer()
}

#[tokio::test]
async fn a_quota_that_is_too_small_fails_the_deployment_with_the_command_that_asks_for_more() {
    let aws = Aws::saying((10, 10), None).await;
    let event = aws.event("check-account.create", &json!({ "ReservedConcurrency": "72" }));
    let answer = checked(&aws, "eu-central-1", event).await;
    assert_eq!(answer["Status"], "FAILED", "{answer}");
    let reason = answer["Reason"].as_str().unwrap();
    for part in [
        "10 copies",
        "quota of 172",
        "aws service-quotas request-service-quota-increase",
        "Size=trial",
    ] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

#[tokio::test]
async fn a_trial_fits_into_a_new_account_and_a_stack_may_keep_what_it_has_reserved() {
    let aws = Aws::saying((10, 10), None).await;
    let event = aws.event("check-account.create", &json!({}));
    let answer = checked(&aws, "eu-central-1", event).await;
    assert_eq!(answer["Status"], "SUCCESS", "{answer}");
    assert_eq!(answer["PhysicalResourceId"], "syncsphere-account-check");
    // From 72 to 72 in an account with a quota of 172.
    let aws = Aws::saying((172, 100), None).await;
    let mut event = aws.event("check-account.update", &json!({ "ReservedConcurrency": "72" }));
    event["OldResourceProperties"]["ReservedConcurrency"] = "72".into();
    assert_eq!(checked(&aws, "eu-central-1", event).await["Status"], "SUCCESS");
}

#[tokio::test]
async fn a_region_without_authorities_fails_only_if_they_are_needed() {
    for (needed, status) in [("true", "FAILED"), ("false", "SUCCESS")] {
        let aws = Aws::saying((1_000, 1_000), None).await;
        let event = aws.event("check-account.create", &json!({ "NeedsRdsAuthorities": needed }));
        let answer = checked(&aws, "xx-nowhere-1", event).await;
        assert_eq!(answer["Status"], status, "{answer}");
        if needed == "true" {
            let reason = answer["Reason"].as_str().unwrap();
            assert!(
                reason.contains("xx-nowhere-1") && reason.contains("rds_authorities.py"),
                "{reason}"
            );
        }
    }
}

/// A later deployment with the parameters of the first would remove the protection.
#[tokio::test]
async fn a_larger_size_becomes_no_trial_again_unless_growing_is_taken_back() {
    for (status, former, size, outcome) in [
        (Some("UPDATE_IN_PROGRESS"), "small", "trial", "FAILED"),
        (None, "small", "trial", "FAILED"),
        (Some("UPDATE_ROLLBACK_IN_PROGRESS"), "small", "trial", "SUCCESS"),
        (Some("UPDATE_IN_PROGRESS"), "trial", "small", "SUCCESS"),
        (Some("UPDATE_IN_PROGRESS"), "trial", "trial", "SUCCESS"),
        (Some("UPDATE_IN_PROGRESS"), "large", "small", "SUCCESS"),
    ] {
        let aws = Aws::saying((1_000, 1_000), status).await;
        let mut event = aws.event("check-account.update", &json!({ "Size": size }));
        event["OldResourceProperties"]["Size"] = former.into();
        let answer = checked(&aws, "eu-central-1", event).await;
        assert_eq!(answer["Status"], outcome, "{former} to {size}: {answer}");
        if status == Some("UPDATE_IN_PROGRESS") && outcome == "FAILED" {
            let reason = answer["Reason"].as_str().unwrap();
            assert!(reason.contains("--parameter-overrides Size=small"), "{reason}");
        }
    }
}

#[tokio::test]
async fn deleting_the_check_always_succeeds() {
    let aws = Aws::saying((10, 10), None).await;
    let mut event = aws.event("check-account.update", &json!({ "ReservedConcurrency": "972" }));
    event["RequestType"] = "Delete".into();
    assert_eq!(checked(&aws, "xx-nowhere-1", event).await["Status"], "SUCCESS");
}

/// Bucket with versioning that contains an object with two versions, a deleted object and an unfinished
/// multipart upload.
async fn bucket_with_content() -> (aws_sdk_s3::Client, String) {
    let storage = aws_sdk_s3::Client::new(&tests::aws());
    let bucket = format!("empty-bucket-{}", platform::ids::new_id().simple());
    storage.create_bucket().bucket(&bucket).send().await.unwrap();
    let enabled = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    let versioning = storage.put_bucket_versioning().bucket(&bucket);
    versioning.versioning_configuration(enabled).send().await.unwrap();
    for key in ["objects/a", "objects/a", "objects/b c"] {
        let putting = storage.put_object().bucket(&bucket).key(key);
        putting
            .body(ByteStream::from_static(b"content"))
            .send()
            .await
            .unwrap();
    }
    let deleting = storage.delete_object().bucket(&bucket).key("objects/b c");
    deleting.send().await.unwrap();
    let begun = storage.create_multipart_upload().bucket(&bucket).key("objects/d");
    begun.send().await.unwrap();
    (storage, bucket)
}

/// Number of versions and delete markers, and number of unfinished multipart uploads.
async fn left(storage: &aws_sdk_s3::Client, bucket: &str) -> (usize, usize) {
    let versions = storage
        .list_object_versions()
        .bucket(bucket)
        .send()
        .await
        .unwrap();
    let uploads = storage
        .list_multipart_uploads()
        .bucket(bucket)
        .send()
        .await
        .unwrap();
    (
        versions.versions().len() + versions.delete_markers().len(),
        uploads.uploads().len(),
    )
}

/// Sends an event to the function for a bucket with content. Returns the response to CloudFormation and the
/// remaining content.
async fn emptied(
    status: Option<&'static str>,
    kind: &str,
    with_stack: &str,
    for_seconds: u64,
) -> (Value, (usize, usize)) {
    let (storage, bucket) = bucket_with_content().await;
    assert_eq!(left(&storage, &bucket).await, (4, 1));
    let aws = Aws::saying((10, 10), status).await;
    let mut event = aws.event("empty-bucket.create", &json!({ "DeletedWithStack": with_stack }));
    event["RequestType"] = kind.into();
    event["PhysicalResourceId"] = "syncsphere-content".into();
    event["OldResourceProperties"] = json!({ "DeletedWithStack": "true" });
    let app = empty_bucket::App {
        storage: storage::Storage::new(&tests::aws(), &bucket),
        services: aws.services(),
        http: tests::http_client(),
    };
    let stop = Instant::now() + Duration::from_secs(for_seconds);
    let event = serde_json::from_value(event).unwrap();
    empty_bucket::handle(&app, event, stop).await.unwrap();
    let left = left(&storage, &bucket).await;
    if left == (0, 0) {
        // CloudFormation deletes the bucket next.
        storage.delete_bucket().bucket(&bucket).send().await.unwrap();
    }
    (aws.answer(), left)
}

#[tokio::test]
async fn deleting_a_trial_leaves_no_version_no_marker_and_no_part() {
    for status in ["DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"] {
        let (answer, left) = emptied(Some(status), "Delete", "true", 60).await;
        assert_eq!(
            (answer["Status"].as_str(), left),
            (Some("SUCCESS"), (0, 0)),
            "{answer}"
        );
    }
}

/// CloudFormation also sends `Delete` if an update removes or replaces a resource.
#[tokio::test]
async fn content_stays_unless_its_stack_is_deleted_and_the_template_says_that_it_goes_too() {
    let everything = (4, 1);
    for (status, kind, with_stack) in [
        (Some("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"), "Delete", "true"),
        (Some("UPDATE_IN_PROGRESS"), "Delete", "true"),
        (Some("UPDATE_ROLLBACK_IN_PROGRESS"), "Delete", "true"),
        (Some("DELETE_IN_PROGRESS"), "Delete", "false"),
        (Some("DELETE_IN_PROGRESS"), "Update", "true"),
        (Some("DELETE_IN_PROGRESS"), "Create", "true"),
    ] {
        let (answer, left) = emptied(status, kind, with_stack, 60).await;
        assert_eq!(
            (answer["Status"].as_str(), left),
            (Some("SUCCESS"), everything),
            "{status:?} {kind} {with_stack}"
        );
    }
    let (answer, left) = emptied(None, "Delete", "true", 60).await;
    assert_eq!((answer["Status"].as_str(), left), (Some("FAILED"), everything));
    assert!(
        answer["Reason"].as_str().unwrap().contains("nothing was deleted"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_deletion_that_takes_too_long_fails_and_says_to_go_on() {
    let (answer, left) = emptied(Some("DELETE_IN_PROGRESS"), "Delete", "true", 0).await;
    assert_eq!((answer["Status"].as_str(), left), (Some("FAILED"), (4, 1)));
    assert!(
        answer["Reason"]
            .as_str()
            .unwrap()
            .contains("delete the stack again"),
        "{answer}"
    );
}
