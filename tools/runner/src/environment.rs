//! The environment that every tool and service gets: the emulator instead of AWS, and nothing of the developer's account.

use std::env;

use tokio::process::Command;

use crate::project::Project;
use crate::services::Ports;

/// The region that the emulator plays.
pub const REGION: &str = "us-east-1";

/// The emulator's credentials; any would do.
pub const ACCESS_KEY: &str = "test";

/// Prefixes of variables that children do not get: the developer's AWS account, and what `cargo run` says of this package.
/// ring's build script watches the latter, so passing it on would compile ring and all that uses it again each time.
const REMOVED: [&str; 6] = [
    "AWS_",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_PACKAGE",
];

/// A program with a clean environment and the project's tools first in its search path.
pub fn command(project: &Project, program: &str) -> Command {
    let mut command = Command::new(program);
    #[expect(
        clippy::disallowed_methods,
        reason = "child processes inherit the search path"
    )]
    let path = env::var("PATH").unwrap_or_default();
    let tools = project.tools();
    // cargo-lambda first: its Python brings the Zig that it links with.
    let own = ["cargo-lambda", "sam"]
        .map(|tool| tools.join(tool).join("bin").display().to_string())
        .join(":");
    command
        .current_dir(&project.root)
        .env("PATH", format!("{own}:{path}"));
    for (name, _) in env::vars_os() {
        if REMOVED
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("SAM_CLI_TELEMETRY", "0")
        // SAM asks for the state of a deployment every five seconds unless told otherwise, and shows progress
        // as it comes.
        .env("SAM_CLI_POLL_DELAY", "0.5")
        .env("PYTHONUNBUFFERED", "1")
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("no_proxy", "127.0.0.1,localhost")
        .kill_on_drop(true);
    command
}

/// Points an AWS tool, or a process that runs functions, at the emulator.
pub fn emulated(command: Command, ports: Ports) -> Command {
    let mut command = direct(command, ports);
    command.envs(aws_variables(ports));
    command
}

/// Keeps what a program asks of the services away from the developer's proxy, also where they listen for containers.
pub fn direct(mut command: Command, ports: Ports) -> Command {
    let hosts = format!("127.0.0.1,localhost,{}", ports.address);
    command.env("NO_PROXY", &hosts).env("no_proxy", hosts);
    command
}

/// The variables that point AWS clients at the emulator.
pub fn aws_variables(ports: Ports) -> [(&'static str, String); 5] {
    [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("AWS_ENDPOINT_URL", ports.aws_endpoint()),
    ]
}
