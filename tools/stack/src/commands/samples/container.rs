//! Runs the functions in Lambda's container image with `sam local invoke`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;
use tokio::time::timeout;

use crate::resources::sam_env_file;
use runner::build::architecture;
use runner::environment::{command, emulated};
use runner::project::Project;
use runner::services::Ports;

/// The default address of Docker's bridge.
const DEFAULT_BRIDGE: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);

/// The container image of the functions' runtime, without the architecture at the end of its tag.
const RUNTIME_IMAGE: &str = "public.ecr.aws/lambda/provided:al2023";

/// The timeout of a Docker command.
const DOCKER_TIMEOUT: Duration = Duration::from_secs(20);

/// The address at which containers reach this machine, or the reason why they cannot.
pub(crate) async fn bridge(project: &Project) -> Result<Ipv4Addr, &'static str> {
    if docker(project, &["info"]).await.is_none() {
        return Err("no Docker engine answers");
    }
    let inspect = [
        "network",
        "inspect",
        "bridge",
        "--format",
        "{{range .IPAM.Config}}{{.Gateway}} {{end}}",
    ];
    let gateways = docker(project, &inspect).await.unwrap_or_default();
    let address = gateways.split_whitespace().find_map(|word| word.parse().ok());
    let address = address.unwrap_or(DEFAULT_BRIDGE);
    // If the engine runs in a virtual machine or on another host, its bridge is there too.
    if TcpListener::bind((address, 0)).is_err() {
        return Err("the bridge of the Docker engine is not on this machine");
    }
    Ok(address)
}

/// The output of a Docker command; `None` if it fails or exceeds the timeout.
async fn docker(project: &Project, arguments: &[&str]) -> Option<String> {
    let asking = command(project, "docker").args(arguments).output();
    let answer = timeout(DOCKER_TIMEOUT, asking).await.ok()?.ok()?;
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    answer.status.success().then_some(said)
}

/// Whether the runtime's image is already on this machine. SAM then needs no registry, which may be
/// unreachable.
pub(crate) async fn has_image(project: &Project) -> Result<bool> {
    let image = format!("{RUNTIME_IMAGE}-{}", architecture()?);
    Ok(docker(project, &["image", "inspect", &image]).await.is_some())
}

/// The command that invokes a function from the output of `sam build`.
pub(crate) fn invoke(
    project: &Project,
    ports: Ports,
    has_image: bool,
    function: &str,
    event: &Path,
) -> Result<Command> {
    let mut sam = emulated(command(project, "sam"), ports);
    sam.args(["local", "invoke", &logical_id(function), "--event"])
        .arg(event)
        .arg("--env-vars")
        .arg(sam_env_file(project))
        .arg("--parameter-overrides")
        .arg(format!("Architecture={}", architecture()?))
        .arg(format!("LocalEndpoint={}", ports.emulator()));
    if has_image {
        sam.arg("--skip-pull-image");
    }
    Ok(sam)
}

/// The logical ID of a function in the template.
fn logical_id(function: &str) -> String {
    let words = function.split('-').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters)
    });
    words.flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::commands::samples::{expected::EXPECTED, function};

    #[test]
    fn the_template_has_the_function_of_every_sample() {
        let template = fs::read_to_string(Project::find().unwrap().root.join("template.yaml")).unwrap();
        for (name, _) in EXPECTED {
            let id = logical_id(function(name));
            let declared = format!("\n  {id}:\n    Type: AWS::Serverless::Function\n");
            assert!(template.contains(&declared), "{name}: there is no {id}");
        }
    }
}
