//! The functions' logs, as they come.

use anyhow::{Result, bail};

use crate::environment::{command, emulated};
use crate::process;
use crate::project::Project;
use crate::services::Ports;
use crate::stack::STACK;

/// Shows the logs of all functions until it is stopped.
pub(crate) async fn follow(project: &Project, ports: Ports) -> Result<()> {
    let mut sam = emulated(command(project, "sam"), ports);
    sam.args([
        "logs",
        "--stack-name",
        STACK,
        "--region",
        crate::environment::REGION,
        "--tail",
    ]);
    let status = process::attached(sam).await?;
    bail!("sam logs ended ({status})");
}
