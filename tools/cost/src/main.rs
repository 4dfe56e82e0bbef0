//! `cargo xtask cost`. `xtask` builds this program and starts it with its own arguments.

use std::process::ExitCode;

use anyhow::bail;
use clap::Parser as _;
use runner::arguments::{Cli, Command};
use runner::project::Project;
use runner::signals::until_interrupted;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    client::install_crypto_provider();
    until_interrupted(async {
        match &cli.command {
            Command::Cost(options) => cost::run(&Project::find()?, options).await,
            _ => bail!("another program runs this command; start it with `cargo xtask`"),
        }
    })
    .await
}
