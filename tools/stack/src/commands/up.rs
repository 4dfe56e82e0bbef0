//! `cargo xtask up`, `up --services` and `deploy`: a stack for development.

use std::fs;

use anyhow::{Context as _, Result};
use runner::arguments::Profile;
use syncsphere::accounts::Accounts;

use crate::cli_profile::CliProfile;
use crate::deployment::{PASSWORD, Stack};
use crate::page::Page;
use crate::{logs, resources};
use runner::project::Project;
use runner::services::{Ports, Services};
use runner::ui::{self, step};

/// The users that `up` creates. There are two, so that one can share with the other.
const USERS: [&str; 2] = ["alice", "bob"];

/// Deploys the whole stack and waits for Ctrl-C.
pub(crate) async fn stack(project: &Project, ports: Ports, profile: Profile) -> Result<()> {
    let _lock = project.lock()?;
    let services = Services::start(project, ports).await?;
    let stack = Stack::deploy(project, services.ports, profile).await?;
    step("creating users", stack.create_users(&USERS)).await?;
    let [user, other] = USERS;
    let mut sessions = Vec::new();
    for user in USERS {
        sessions.push((user, stack.sign_in(user).await?));
    }
    let token = sessions.first().context("there is a user")?.1.token().await?;
    fs::write(project.run().join("token"), token.as_str()).context("cannot keep the token")?;
    let _known = CliProfile::register(Accounts::find()?, &stack, &sessions).await?;
    let _page = Page::serve(project, services.ports, &stack).await?;

    let outputs = &stack.outputs;
    ui::line(format_args!(
        "
Page        {page}   (open it in two windows and drop a file in one)
Users       {user} and {other}, password {PASSWORD}; a token of {user} is in .local/run/token
Command     cargo install --path clients/cli, then: syncsphere doctor, syncsphere upload FILE, syncsphere watch
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

/// Starts only the services that functions use, creates the schema, and waits for Ctrl-C.
pub(crate) async fn services(project: &Project, ports: Ports) -> Result<()> {
    let _lock = project.lock()?;
    let services = Services::start(project, ports).await?;
    resources::prepare(project, services.ports).await?;
    ui::line(
        "
Run functions as you edit them, in another terminal:
  cargo lambda watch --env-file .local/run/env
and invoke them, in a third:
  cargo lambda invoke uploads --data-file events/uploads.post.json

cargo-lambda is in .local/tools/cargo-lambda/bin. Ctrl-C stops everything.
",
    );
    std::future::pending().await
}

/// Deploys again to the stack that `up` keeps running.
pub(crate) async fn deploy(project: &Project, profile: Profile) -> Result<()> {
    let running = Stack::running(project)?;
    Stack::deploy(project, Ports::from_base(running.port)?, profile).await?;
    Ok(())
}
