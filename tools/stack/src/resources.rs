//! The resources that functions use, created without the template, and the files that configure functions to
//! use them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use db::{DatabaseUrl, Role};
use serde_json::json;

use crate::emulator::patient_config;
use crate::secrets;
use runner::environment::aws_variables;
use runner::postgres::{OWNER, ROLE};
use runner::project::Project;
use runner::services::Ports;
use runner::ui::step;

pub(crate) const BUCKET: &str = "syncsphere-services";

/// The prefix of the objects in which functions store their responses to CloudFormation's sample requests.
pub(crate) const ANSWERS: &str = "answers/";

/// The file with environment variables for cargo-lambda and for a shell.
pub(crate) fn env_file(project: &Project) -> PathBuf {
    project.run().join("env")
}

/// The file with the same environment variables for SAM.
pub(crate) fn sam_env_file(project: &Project) -> PathBuf {
    project.run().join("env.json")
}

/// Creates bucket, queues and schema in services without data, and writes the files with the functions'
/// environment variables.
pub(crate) async fn prepare(project: &Project, ports: Ports) -> Result<()> {
    let variables = step("creating bucket, queues and schema", resources(ports)).await?;
    // cargo-lambda accepts an equals sign only in quotation marks.
    let mut text = String::new();
    for (name, value) in &variables {
        let _ = writeln!(text, "{name}=\"{value}\"");
    }
    fs::write(env_file(project), text).context("cannot write .local/run/env")?;
    let parameters: BTreeMap<_, _> = variables.into_iter().collect();
    let text = serde_json::to_vec_pretty(&BTreeMap::from([("Parameters", parameters)]))?;
    fs::write(sam_env_file(project), text).context("cannot write .local/run/env.json")
}

/// Creates the resources and returns the environment variables that the template would set for functions.
async fn resources(ports: Ports) -> Result<Vec<(&'static str, String)>> {
    let aws = patient_config(&ports.aws_endpoint())?;
    make_bucket(&aws_sdk_s3::Client::new(&aws)).await?;
    let sqs = aws_sdk_sqs::Client::new(&aws);
    let mut queues = Vec::new();
    for name in ["syncsphere-events", "syncsphere-dead-letters"] {
        let created = sqs
            .create_queue()
            .queue_name(name)
            .send()
            .await
            .context("cannot create a queue")?;
        queues.push(created.queue_url.context("a queue without a URL")?);
    }
    let owner: DatabaseUrl = ports.database_url(OWNER).parse()?;
    let role = Role {
        name: ROLE,
        by_iam: true,
    };
    db::migrate(&owner.into(), Some(role), None).await?;

    let mut variables = aws_variables(ports).to_vec();
    let [queue_url, dead_letter_queue_url] = <[String; 2]>::try_from(queues).unwrap_or_default();
    let gateway = format!("{}/_aws/execute-api/none/live", ports.emulator());
    variables.extend([
        // `sam local` does not evaluate the template's condition and sets an empty text, which the SDK would
        // use as the endpoint.
        ("AWS_ENDPOINT_URL_SQS", ports.aws_endpoint()),
        ("DATABASE_URL", ports.database_url(ROLE)),
        ("OWNER_SECRET_ARN", secrets::owner(ports).await?),
        ("BUCKET_NAME", BUCKET.to_owned()),
        ("QUEUE_URL", queue_url),
        ("DEAD_LETTER_QUEUE_URL", dead_letter_queue_url),
        ("CONNECTIONS_ENDPOINT", format!("http://{gateway}")),
        ("WEBSOCKET_URL", format!("ws://{gateway}")),
        ("ALLOWED_ORIGINS", String::new()),
        ("METRICS_NAMESPACE", "SyncSphere/services".to_owned()),
        ("POSTS_PER_SECOND", "5000".to_owned()),
        ("MAXIMUM_CONCURRENCY", "10".to_owned()),
        ("MAX_CONNECTIONS_PER_USER", "64".to_owned()),
        ("MAX_UPLOAD_BYTES", "5497558138880".to_owned()),
        ("MULTIPART_THRESHOLD_BYTES", "67108864".to_owned()),
        ("MAX_CHANGES_PER_MINUTE", "6000".to_owned()),
        ("MAX_BYTES_PER_SPACE", "10995116277760".to_owned()),
        ("MAX_PENDING_UPLOADS", "10000".to_owned()),
        ("MAX_SPACES_PER_USER", "100".to_owned()),
        ("MAX_PENDING_INVITATIONS", "1000".to_owned()),
        ("MAX_RECEIVED_INVITATIONS", "100".to_owned()),
        ("MAX_INVITATIONS_PER_DAY", "500".to_owned()),
        ("DATABASE_RESOURCE_ID", String::new()),
        ("TRASH_DAYS", "30".to_owned()),
        ("KEEP_VERSIONS", "100".to_owned()),
        ("VERSION_DAYS", "180".to_owned()),
    ]);
    Ok(variables)
}

/// Creates the bucket. CloudFormation receives a response at a presigned URL. The URL of a sample cannot be
/// presigned, so the bucket's policy allows everybody to write there.
async fn make_bucket(s3: &aws_sdk_s3::Client) -> Result<()> {
    let creating = s3.create_bucket().bucket(BUCKET).send();
    creating.await.context("cannot create the bucket")?;
    let opening = s3.delete_public_access_block().bucket(BUCKET).send();
    opening.await.context("cannot open the bucket")?;
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:PutObject",
            "Resource": format!("arn:aws:s3:::{BUCKET}/{ANSWERS}*"),
        }],
    });
    let allowing = s3.put_bucket_policy().bucket(BUCKET).policy(policy.to_string());
    allowing
        .send()
        .await
        .context("cannot let answers into the bucket")?;
    Ok(())
}
