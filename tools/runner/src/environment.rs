//! The environment of every tool and service: it points to the emulator and hides the developer's AWS
//! account.

use std::env;

use tokio::process::Command;

use crate::project::Project;
use crate::services::Ports;

/// The region of the emulator.
pub const REGION: &str = "us-east-1";

/// The access key and secret of the emulator, which accepts any value.
pub const ACCESS_KEY: &str = "test";

/// Prefixes of variables that are removed for child processes: those of the developer's AWS account, and
/// those that `cargo run` sets for this package. ring's build script watches the latter; with them, ring and
/// its dependents would be compiled again each time.
const REMOVED: [&str; 6] = [
    "AWS_",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_PACKAGE",
];

/// A command with a clean environment and with the project's tools first in its `PATH`.
pub fn command(project: &Project, program: &str) -> Command {
    let mut command = Command::new(program);
    #[expect(
        clippy::disallowed_methods,
        reason = "child processes inherit the search path"
    )]
    let path = env::var("PATH").unwrap_or_default();
    let tools = project.tools();
    // cargo-lambda comes first because its Python environment contains the Zig that it links with.
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
        // By default SAM polls the state of a deployment every five seconds. A shorter interval also shows
        // progress sooner.
        .env("SAM_CLI_POLL_DELAY", "0.5")
        .env("PYTHONUNBUFFERED", "1")
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("no_proxy", "127.0.0.1,localhost")
        .kill_on_drop(true);
    command
}

/// Points an AWS tool, or a process that runs functions, to the emulator.
pub fn emulated(command: Command, ports: Ports) -> Command {
    let mut command = direct(command, ports);
    command.envs(aws_variables(ports));
    command
}

/// Excludes the services from the developer's HTTP proxy, including the address at which containers reach
/// them.
pub fn direct(mut command: Command, ports: Ports) -> Command {
    let hosts = format!("127.0.0.1,localhost,{}", ports.address);
    command.env("NO_PROXY", &hosts).env("no_proxy", hosts);
    command
}

/// The environment variables that point AWS clients to the emulator.
pub fn aws_variables(ports: Ports) -> [(&'static str, String); 5] {
    [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("AWS_ENDPOINT_URL", ports.aws_endpoint()),
    ]
}
