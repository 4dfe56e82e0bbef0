//! `cargo xtask up`, `up --services` and `deploy`: a stack to work with.

use std::fs;

use anyhow::{Context as _, Result};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use aws_types::SdkConfig;
use aws_types::region::Region;

use edge::aws::Aws;
use edge::config::Vars;
use syncsphere::accounts::Accounts;

use crate::command_line::CommandLine;
use crate::environment::{ACCESS_KEY, REGION};
use crate::project::Project;
use crate::services::{Ports, Services};
use crate::stack::{PASSWORD, Stack};
use crate::ui::{self, step};
use crate::web::Page;
use crate::{logs, resources, tools};

/// The users that `up` makes: two, so that one can share with the other.
const USERS: [&str; 2] = ["alice", "bob"];

/// Deploys everything and waits for Ctrl-C.
pub(crate) async fn stack(project: &Project, ports: Ports) -> Result<()> {
    let _lock = project.lock()?;
    tools::install(project).await?;
    let services = Services::start(project, ports).await?;
    let stack = Stack::deploy(project, services.ports).await?;
    step("creating users", stack.create_users(&USERS)).await?;
    let [user, other] = USERS;
    let mut sessions = Vec::new();
    for user in USERS {
        sessions.push((user, stack.sign_in(user).await?));
    }
    let token = sessions.first().context("there is a user")?.1.token().await?;
    fs::write(project.run().join("token"), token.as_str()).context("cannot keep the token")?;
    let _known = CommandLine::tell(Accounts::find()?, &stack, &sessions).await?;
    let _page = Page::serve(project, services.ports, &stack).await?;

    let outputs = &stack.outputs;
    ui::line(format_args!(
        "
Page        {page}   (open it in two windows and drop a file in one)
Users       {user} and {other}, password {PASSWORD}; a token of {user} is in .local/run/token
Command     cargo install --path client/cli, then: syncsphere doctor, syncsphere upload FILE, syncsphere watch
            as {user}, or with --user {other}

HTTP API    {http}
WebSocket   {socket}   (with ?ticket=…, from POST /tickets)
AWS         {aws}
PostgreSQL  {database}

Open an upload:
  curl -s '{http}/uploads' -H \"Authorization: Bearer $(cat .local/run/token)\" -H 'Content-Type: application/json' \\
    -d '{{\"path\":\"/hello.txt\",\"size\":5,\"sha256\":\"LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=\"}}'
Get a WebSocket ticket:
  curl -s -X POST '{http}/tickets' -H \"Authorization: Bearer $(cat .local/run/token)\"
After an edit, in another terminal:
  cargo xtask deploy

The functions' logs follow. Ctrl-C stops everything.
",
        page = ports.web_origin(),
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
    resources::prepare(project, services.ports).await?;
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

/// What the emulator takes for an account.
pub(crate) fn credentials() -> Credentials {
    Credentials::new(ACCESS_KEY, ACCESS_KEY, None, None, "emulator")
}

/// How this program itself talks to the emulator.
pub async fn aws_config(endpoint: &str) -> Result<SdkConfig> {
    // Nothing of the developer's.
    let aws = Aws::from_vars(&Vars::from_lookup(|_| None))?;
    Ok(aws
        .sdk
        .into_builder()
        .endpoint_url(endpoint)
        .region(Region::new(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials()))
        .build())
}

/// An object's content, straight from storage.
pub(crate) async fn stored_object(stack: &Stack, key: &str) -> Result<Vec<u8>> {
    let s3 = aws_sdk_s3::Client::new(&aws_config(&stack.aws_endpoint).await?);
    let object = s3.get_object().bucket(&stack.outputs.bucket_name).key(key).send();
    let object = object.await.context("cannot download the object")?;
    Ok(object
        .body
        .collect()
        .await
        .context("cannot read the object")?
        .to_vec())
}
