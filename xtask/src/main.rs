//! `cargo xtask`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    xtask::main().await
}
