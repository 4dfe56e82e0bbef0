//! Baseline of completing an upload: its statement, one HEAD and one message in sequence, with the same
//! clients.

use std::time::Instant;

use db::{Commit, Completing};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use model::{Caller, UserId};
use platform::Clock;
use platform::config::Vars;
use serde::{Deserialize, Serialize};
use time::Duration;
use uuid::Uuid;

use super::connect::database;

/// Uploads to complete.
#[derive(Deserialize, Serialize)]
pub(crate) struct Task {
    pub(crate) user: String,
    pub(crate) space: Uuid,
    pub(crate) uploads: Vec<Uuid>,
}

/// Serves invocations; responds with the duration of each upload in microseconds.
pub(crate) async fn run() -> Result<(), Error> {
    let vars = Vars::from_env();
    let aws = platform::aws::Aws::from_vars(&vars)?.sdk;
    let (s3, sqs) = (aws_sdk_s3::Client::new(&aws), aws_sdk_sqs::Client::new(&aws));
    let (bucket, queue): (String, String) = (vars.required("BUCKET_NAME")?, vars.required("QUEUE_URL")?);
    let database = database()?;
    database.warm_up().await;
    let clock = Clock::system();
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Task>| {
        let caller = Caller::from(UserId::try_from(event.payload.user)?);
        let mut took = Vec::new();
        for upload in event.payload.uploads {
            let begun = Instant::now();
            let (key, path) = (format!("objects/{upload}"), format!("/bench/{upload}").parse()?);
            let now = clock.now();
            let commit = Commit {
                now,
                leased_until: now + Duration::seconds(10),
                caller: &caller,
                max_changes_per_minute: i64::MAX,
            };
            let completing = Completing {
                upload_id: upload.into(),
                event_id: platform::ids::new_id().into(),
                new_file_id: platform::ids::new_id().into(),
                path: &path,
                sha256: None,
                composite_sha256: None,
                object_key: &key,
            };
            let mut changed = database
                .complete_uploads(event.payload.space.into(), &[completing], i64::MAX, commit)
                .await?;
            let changed = changed.pop().ok_or("nothing was completed")?;
            changed.map_err(|refusal| format!("{refusal:?}"))?;
            s3.head_object().bucket(&bucket).key(&key).send().await?;
            let body = "x".repeat(400);
            sqs.send_message()
                .queue_url(&queue)
                .message_body(body)
                .send()
                .await?;
            took.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        Ok::<_, Error>(took)
    }))
    .await
}
