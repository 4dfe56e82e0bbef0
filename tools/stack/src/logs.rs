//! Follows the logs of the functions.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::deployment::STACK;
use runner::environment::{command, emulated};
use runner::process;
use runner::project::Project;
use runner::services::Ports;

/// Prints new log lines of all functions until it is stopped.
pub(crate) async fn follow(project: &Project, ports: Ports) -> Result<()> {
    let template =
        fs::read_to_string(project.root.join("template.yaml")).context("cannot read template.yaml")?;
    // If a log group has no name in the template, the emulator names it by its logical ID.
    let ids = template.lines().filter_map(|line| {
        line.trim()
            .strip_prefix("LoggingConfig: { LogGroup: !Ref ")?
            .split([',', ' '])
            .next()
    });
    let groups = ids.map(|id| format!("--cw-log-group=/aws/cloudformation/{STACK}/{id}"));
    let mut sam = emulated(command(project, "sam"), ports);
    sam.args(["logs", "--region", runner::environment::REGION, "--tail"])
        .args(groups);
    let status = process::attached(sam).await?;
    bail!("sam logs ended ({status})");
}
