//! `cargo xtask test`: every test, with the services that they need.

use std::env;

use anyhow::{Result, bail};

use crate::environment::command;
use crate::fuzz;
use crate::process;
use crate::project::Project;
use crate::services::{Ports, Services};
use crate::stack::Stack;
use crate::tools;
use crate::ui;
use crate::web_test;

/// Deploys the stack and runs schemathesis, the page's tests and `cargo test` against it; with arguments, only the tests that they name,
/// and for the page, only its own.
pub(crate) async fn run(project: &Project, ports: Ports, page: bool, arguments: &[String]) -> Result<()> {
    let _lock = project.lock()?;
    tools::install(project).await?;
    let services = Services::start(project, ports).await?;
    let stack = Stack::deploy(project, services.ports).await?;
    if page {
        return web_test::run(project, services.ports, &stack).await;
    }
    if arguments.is_empty() {
        // Before the tests, whose result is what a reader looks for at the end.
        fuzz::run(project, &stack).await?;
        web_test::run(project, services.ports, &stack).await?;
    }

    ui::line("… cargo test");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut test = command(project, &cargo.to_string_lossy());
    test.args(["test", "--workspace"])
        .args(arguments)
        .env("SYNCSPHERE_STACK", project.stack_file());
    let status = process::attached(test).await?;
    if !status.success() {
        bail!("tests failed; logs of the stack are in .local/run");
    }
    Ok(())
}
