//! The `syncsphere` executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            syncsphere::warn(format_args!("syncsphere: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(syncsphere::main());
    // Does not wait for blocking tasks, which cannot be interrupted.
    runtime.shutdown_background();
    code
}
