//! The developer's commands. Everything they install or start is in the project's own `.local` folder, and nothing of it
//! reaches AWS: every tool is given the emulator's address and made-up credentials.

mod bench;
mod chaos;
mod command_line;
mod cors;
mod demo;
mod environment;
mod fuzz;
pub mod lambda;
mod logs;
mod policies;
mod postgres;
mod process;
mod project;
mod resources;
mod samples;
mod secrets;
mod services;
mod stack;
mod test;
mod throughput;
pub mod tls;
mod tools;
mod ui;
mod up;
mod update;
mod web;
mod web_test;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use project::Project;
use services::Ports;

pub use aws_types::SdkConfig;
pub use bench::BENCHMARKS;
pub use chaos::md5;
pub use environment::{ACCESS_KEY, REGION};
pub use postgres::{BY_IAM, ROLE};
pub use secrets::OWNER_SECRET;
pub use stack::{Outputs, PASSWORD, STACK, Stack};
pub use up::aws_config;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "SyncSphere on this machine, without Docker and without AWS"
)]
struct Cli {
    /// Port of the AWS emulator; PostgreSQL gets the next one, and the page the one after that.
    #[arg(long, global = true, default_value_t = 4566)]
    port: u16,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Deploy the system to the local stack, upload a file on one device and hear of it on another.
    Demo {
        /// The file to upload.
        #[arg(default_value = "README.md")]
        file: PathBuf,
        /// End with one line of JSON on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Deploy the system to the local stack and keep it running until Ctrl-C.
    Up {
        /// Only PostgreSQL and the emulator with its queue and bucket, for `cargo lambda watch`.
        #[arg(long)]
        services: bool,
        /// With --services, where they listen: Docker's bridge, 172.17.0.1, lets functions in containers reach them.
        #[arg(long, requires = "services", default_value_t = Ipv4Addr::LOCALHOST)]
        address: Ipv4Addr,
    },
    /// Build and deploy again to the stack that `cargo xtask up` keeps running.
    Deploy,
    /// Run every test, unit to end to end, with the services that they need; schemathesis first.
    Test {
        /// Only the page's: its types, its modules under Node.js, and itself in Chromium.
        #[arg(long, conflicts_with = "arguments")]
        page: bool,
        /// Arguments for `cargo test`, such as a test's name.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Invoke every sample of events/ with cargo lambda, and with sam local where a Docker engine answers.
    Samples,
    /// Break everything that the functions depend on, and account for every upload and notification.
    Chaos(chaos::Options),
    /// Measure the functions as they are deployed, beside the limit and the peers.
    Bench(bench::Options),
    /// Upload with `syncsphere` and with plain curl, many small files and a large one, and once killed half way.
    Throughput {
        /// Only show that it works: seconds instead of minutes, and figures that mean nothing.
        #[arg(long)]
        quick: bool,
    },
    /// Take each statement out of each policy, one at a time, and see a test fail for it.
    Policies,
    /// Deploy a former release, and this one over it while devices upload and listen: no request may fail.
    Update {
        /// The former release: a tag or a commit.
        #[arg(long)]
        from: String,
    },
    /// Install the pinned tools, and print where they are.
    Tools,
}

/// Runs the command line.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    client::use_ring();
    let project = Project::find();
    let outcome = tokio::select! {
        outcome = run(&cli, &project) => outcome,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui::failure(&error);
            ExitCode::FAILURE
        }
    }
}

/// What each command starts lives in guards that end with its future, also when a signal cuts it short.
async fn run(cli: &Cli, project: &Project) -> Result<()> {
    let ports = Ports::from_base(cli.port)?;
    match &cli.command {
        Command::Demo { file, json } => demo::run(project, ports, file, *json).await,
        Command::Up { services: false, .. } => up::stack(project, ports).await,
        Command::Up {
            services: true,
            address,
        } => {
            up::services(
                project,
                Ports {
                    address: *address,
                    ..ports
                },
            )
            .await
        }
        Command::Deploy => up::deploy(project).await,
        Command::Test { page, arguments } => test::run(project, ports, *page, arguments).await,
        Command::Samples => samples::run(project, ports).await,
        Command::Update { from } => update::run(project, ports, from).await,
        Command::Policies => policies::run(project, ports).await,
        Command::Bench(options) => bench::run(project, options).await,
        Command::Throughput { quick } => throughput::run(project, ports, *quick).await,
        Command::Chaos(options) => chaos::run(project, options).await,
        Command::Tools => tools::show(project).await,
    }
}

async fn interrupted() {
    let mut waits = Vec::new();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        if let Ok(mut signal) = signal(kind) {
            waits.push(Box::pin(async move {
                signal.recv().await;
            }));
        }
    }
    futures_util::future::select_all(waits).await;
}
