//! `cargo xtask policies`: whether each statement of each policy is needed, and its absence noticed.

use std::env;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::environment::{command, emulated};
use crate::process;
use crate::project::Project;
use crate::services::{Ports, Services};
use crate::stack::Stack;
use crate::tools;
use crate::ui::Step;

/// Deploys the stack, and has `policies.py` take statements away and run tests.
pub(crate) async fn run(project: &Project, ports: Ports) -> Result<()> {
    let _lock = project.lock()?;
    tools::install(project).await?;
    let services = Services::start(project, ports).await?;
    Stack::deploy(project, services.ports).await?;
    let step = Step::begin("building the tests (cargo test)");
    let tests = build_tests(project).await?;
    step.done("");

    // The emulator's Python has the AWS SDK.
    let python = project.tools().join("emulator/bin/python");
    let mut script = emulated(command(project, &python.display().to_string()), services.ports);
    script
        .args(["xtask/policies.py", &tests])
        .env("SYNCSPHERE_STACK", project.stack_file());
    let status = process::attached(script).await?;
    if !status.success() {
        bail!("a statement is not needed, or nothing notices that it is missing");
    }
    Ok(())
}

/// Builds the integration tests and returns their binary.
async fn build_tests(project: &Project) -> Result<String> {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        executable: Option<String>,
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut building = command(project, &cargo.to_string_lossy());
    building.args(["test", "--package", "tests", "--test", "it", "--no-run"]);
    building
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit());
    let output = building.output().await.context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the tests cannot be built");
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let built = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok()?.executable)
        .next_back();
    built.context("cargo built no tests")
}
