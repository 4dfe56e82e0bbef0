//! Runs the functions under `cargo lambda watch`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::resources::env_file;
use runner::build::BUILD_REMEDY;
use runner::environment::{command, direct};
use runner::process::{self, ProcessGroup};
use runner::project::Project;
use runner::services::{POLL, Ports, check_alive};
use runner::ui::Step;

/// The address that it listens on. Its default is an IPv6 address, which some machines do not have.
const ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A running `cargo lambda watch`. Dropping the value interrupts it, and it then ends the functions that it
/// has started.
pub(crate) struct Watch {
    _group: ProcessGroup,
    port: u16,
}

impl Watch {
    /// Starts `cargo lambda watch` and waits until it accepts connections.
    pub(crate) async fn start(project: &Project, ports: Ports) -> Result<Self> {
        // `cargo lambda watch` would compile a function at its first invocation, and the invocation would
        // hang if compilation failed.
        let step = Step::begin("compiling the functions");
        let mut cargo = command(project, "cargo");
        cargo.arg("build");
        process::run(&step, &project.run().join("cargo-build.log"), cargo, BUILD_REMEDY).await?;
        step.done("");

        let step = Step::begin("starting cargo lambda watch");
        let port = free_port().context("there is no free port")?;
        let mut watch = direct(command(project, "cargo"), ports);
        watch
            // Without this, saving a file would restart a function during its invocation.
            .args(["lambda", "watch", "--ignore-changes"])
            .arg("--env-file")
            .arg(env_file(project));
        at(&mut watch, port);
        let mut group = ProcessGroup::start(&project.run(), "watch", watch)?;
        let asked = Instant::now();
        while TcpStream::connect((ADDRESS, port)).await.is_err() {
            check_alive("cargo lambda watch", &mut group, asked)?;
            tokio::time::sleep(POLL).await;
        }
        step.done("");
        Ok(Self { _group: group, port })
    }

    /// The command that invokes a function with the event in a file.
    pub(crate) fn invoke(&self, project: &Project, function: &str, event: &Path) -> Command {
        let mut invoke = command(project, "cargo");
        invoke
            .args(["lambda", "invoke", function, "--data-file"])
            .arg(event);
        at(&mut invoke, self.port);
        invoke
    }
}

fn at(command: &mut Command, port: u16) {
    command
        .args(["--invoke-address", &ADDRESS.to_string()])
        .args(["--invoke-port", &port.to_string()]);
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((ADDRESS, 0))?.local_addr()?.port())
}
