//! One module per command.

mod demo;
mod page_tests;
mod policies;
mod samples;
mod schemathesis;
mod test;
mod throughput;
mod up;
mod update;

use anyhow::{Result, bail};
use runner::arguments::{Cli, Command};
use runner::project::Project;
use runner::services::Ports;

/// Runs a command that needs the local stack. Guards in the command's future own its child processes.
pub async fn run(cli: &Cli) -> Result<()> {
    let project = &Project::find()?;
    let ports = Ports::from_base(cli.port)?;
    match &cli.command {
        Command::Demo { file, json, profile } => demo::run(project, ports, file, *json, *profile).await,
        Command::Up {
            services: false,
            profile,
            ..
        } => up::stack(project, ports, *profile).await,
        Command::Up {
            services: true,
            address,
            ..
        } => {
            let address = *address;
            up::services(project, Ports { address, ..ports }).await
        }
        Command::Deploy { profile } => up::deploy(project, *profile).await,
        Command::Test { page, arguments } => test::run(project, ports, *page, arguments).await,
        Command::Samples => samples::run(project, ports).await,
        Command::Update { from } => update::run(project, ports, from).await,
        Command::Policies => policies::run(project, ports).await,
        Command::Throughput { quick } => throughput::run(project, ports, *quick).await,
        Command::Bench(_)
        | Command::Chaos(_)
        | Command::Cost(_)
        | Command::Simulate { .. }
        | Command::Template
        | Command::Tools => {
            bail!("another program runs this command; start it with `cargo xtask`")
        }
    }
}
