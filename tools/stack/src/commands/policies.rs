//! `cargo xtask policies`: mutation tests of the IAM policies. Some test must fail for each statement that is
//! removed.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::test::SIMULATION;
use crate::deployment::Stack;
use runner::arguments::Profile;
use runner::build::cargo;
use runner::environment::{command, emulated};
use runner::process;
use runner::project::Project;
use runner::services::{Ports, Services};
use runner::ui::Step;

/// Deploys the stack and runs `policies.py`, which removes statements and runs tests.
pub(crate) async fn run(project: &Project, ports: Ports) -> Result<()> {
    let _lock = project.lock()?;
    let services = Services::start(project, ports).await?;
    Stack::deploy(project, services.ports, Profile { release: false }).await?;
    let step = Step::begin("building the tests (cargo test)");
    let tests = build_tests(project).await?;
    step.done("");

    // The Python environment of the emulator contains the AWS SDK.
    let python = project.tools().join("emulator/bin/python");
    let mut script = emulated(command(project, &python.display().to_string()), services.ports);
    script
        .args(["tools/stack/policies.py", &tests])
        .env("SYNCSPHERE_STACK", project.stack_file());
    let status = process::attached(script).await?;
    if !status.success() {
        bail!("a statement is not needed, or nothing notices that it is missing");
    }
    Ok(())
}

/// Builds the integration tests and returns the path of their binary.
async fn build_tests(project: &Project) -> Result<String> {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        executable: Option<String>,
    }
    let mut building = cargo(project);
    // The features are those of `cargo xtask test`, so that the tests are compiled once.
    building.args([
        "test",
        "--workspace",
        "--features",
        SIMULATION,
        "--test",
        "it",
        "--no-run",
    ]);
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
