//! The commands of `cargo xtask` that need the local stack. `xtask` builds this program and starts it with
//! its own arguments.

use std::process::ExitCode;

use clap::Parser as _;
use runner::arguments::Cli;
use runner::signals::until_interrupted;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    client::install_crypto_provider();
    until_interrupted(stack::run(&cli)).await
}
