//! `syncsphere`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    syncsphere::main().await
}
