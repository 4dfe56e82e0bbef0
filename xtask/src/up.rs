//! `cargo xtask up`, `up --services` and `deploy`: a stack to work with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};
use aws_config::{Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use db::DatabaseUrl;

use crate::environment::{ACCESS_KEY, REGION, aws_variables};
use crate::postgres::{OWNER, ROLE};
use crate::project::Project;
use crate::services::{Ports, Services};
use crate::stack::{PASSWORD, Stack};
use crate::ui::{self, step};
use crate::{logs, secrets, tools};

/// The user that `up` makes.
const USER: &str = "alice";

/// Deploys everything and waits for Ctrl-C.
pub(crate) async fn stack(project: &Project, ports: Ports) -> Result<()> {
    let _lock = project.lock()?;
    tools::install(project).await?;
    let services = Services::start(project, ports).await?;
    let stack = Stack::deploy(project, services.ports).await?;
    step("creating a user", stack.create_user(USER)).await?;
    let token = stack.sign_in(USER).await?;
    fs::write(project.run().join("token"), token.as_str()).context("cannot keep the token")?;

    let outputs = &stack.outputs;
    ui::line(format_args!(
        "
HTTP API    {http}
WebSocket   {socket}   (with ?ticket=…, from POST /tickets)
AWS         {aws}
PostgreSQL  {database}
User        {USER}, password {PASSWORD}; a token is in .local/run/token

Open an upload:
  curl -s '{http}/uploads' -H \"Authorization: Bearer $(cat .local/run/token)\" -H 'Content-Type: application/json' \\
    -d '{{\"path\":\"/hello.txt\",\"size\":5,\"sha256\":\"LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=\"}}'
Get a WebSocket ticket:
  curl -s -X POST '{http}/tickets' -H \"Authorization: Bearer $(cat .local/run/token)\"
After an edit, in another terminal:
  cargo xtask deploy

The functions' logs follow. Ctrl-C stops everything.
",
        http = outputs.http_api_url,
        socket = outputs.web_socket_url,
        aws = stack.aws_endpoint,
        database = stack.database_url,
    ));
    logs::follow(project, ports).await
}

/// Starts only what functions talk to, with the schema in place, and waits for Ctrl-C.
pub(crate) async fn services(project: &Project, ports: Ports) -> Result<()> {
    let _lock = project.lock()?;
    tools::install(project).await?;
    let services = Services::start(project, ports).await?;
    let ports = services.ports;
    let variables = step("creating bucket, queues and schema", resources(ports)).await?;
    // One for cargo-lambda, which takes an equals sign only between quotation marks, and one for SAM.
    let mut text = String::new();
    for (name, value) in &variables {
        let _ = writeln!(text, "{name}=\"{value}\"");
    }
    fs::write(project.run().join("env"), text).context("cannot write .local/run/env")?;
    let parameters: BTreeMap<_, _> = variables.into_iter().collect();
    let text = serde_json::to_vec_pretty(&BTreeMap::from([("Parameters", parameters)]))?;
    fs::write(project.run().join("env.json"), text).context("cannot write .local/run/env.json")?;
    ui::line(
        "
Run functions as you edit them, in another terminal:
  cargo lambda watch --env-file .local/run/env
and invoke them, in a third:
  cargo lambda invoke create-upload --data-file events/create-upload.post.json

cargo-lambda is in .local/tools/cargo-lambda/bin. Ctrl-C stops everything.
",
    );
    std::future::pending().await
}

/// Builds and deploys to the stack of a running `up`.
pub(crate) async fn deploy(project: &Project) -> Result<()> {
    let running = Stack::running(project)?;
    Stack::deploy(project, Ports::from_base(running.port)?).await?;
    Ok(())
}

/// What the template makes and functions read, made by hand.
async fn resources(ports: Ports) -> Result<Vec<(&'static str, String)>> {
    let aws = aws_config(&ports.aws_endpoint()).await;
    let bucket = "syncsphere-services";
    let s3 = aws_sdk_s3::Client::new(&aws);
    s3.create_bucket()
        .bucket(bucket)
        .send()
        .await
        .context("cannot create the bucket")?;
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
    db::migrate(&owner.into(), Some(ROLE)).await?;

    let mut variables = aws_variables(ports).to_vec();
    let [queue_url, dead_letter_queue_url] = <[String; 2]>::try_from(queues).unwrap_or_default();
    let gateway = format!("{}/_aws/execute-api/none/live", ports.emulator());
    variables.extend([
        ("DATABASE_URL", ports.database_url(ROLE)),
        ("OWNER_SECRET_ARN", secrets::owner(ports).await?),
        ("BUCKET_NAME", bucket.to_owned()),
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
    ]);
    Ok(variables)
}

/// How this program itself talks to the emulator.
pub async fn aws_config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new(ACCESS_KEY, ACCESS_KEY, None, None, "emulator");
    edge::aws::sdk_config()
        .await
        .into_builder()
        .endpoint_url(endpoint)
        .region(Region::new(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// An object's content, straight from storage.
pub(crate) async fn stored_object(stack: &Stack, key: &str) -> Result<Vec<u8>> {
    let s3 = aws_sdk_s3::Client::new(&aws_config(&stack.aws_endpoint).await);
    let object = s3.get_object().bucket(&stack.outputs.bucket_name).key(key).send();
    let object = object.await.context("cannot download the object")?;
    Ok(object
        .body
        .collect()
        .await
        .context("cannot read the object")?
        .to_vec())
}
