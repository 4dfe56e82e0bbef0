//! `cargo xtask samples`: invokes each event of `events/` as docs/development.md describes, and checks the
//! response.

mod container;
mod expected;
mod watch;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::process::Command;

use crate::deployment::Stack;
use crate::emulator::patient_config;
use crate::resources::{self, ANSWERS, BUCKET};
use runner::process;
use runner::project::Project;
use runner::services::{Ports, Services};
use runner::ui::{self, Step};

use expected::{EXPECTED, Expected};
use watch::Watch;

/// The emulator's endpoint in the sample files.
const NAMED_ENDPOINT: &str = "http://127.0.0.1:4566";

/// The time limit for the first response of a function. In that time cargo-lambda runs cargo, and SAM may
/// download an image.
const FIRST_LIMIT: Duration = Duration::from_mins(10);

/// The time limit for every other response.
const LIMIT: Duration = Duration::from_mins(1);

/// Invokes every sample with cargo-lambda and, where possible, in a container. Fails after the last sample if
/// a response was wrong.
pub(crate) async fn run(project: &Project, ports: Ports) -> Result<()> {
    let _lock = project.lock()?;
    let bridge = container::bridge(project).await;
    let address = bridge.unwrap_or(ports.address);
    let services = Services::start(project, Ports { address, ..ports }).await?;
    let ports = services.ports;
    resources::prepare(project, ports).await?;
    let run = SampleRun::new(project, ports)?;

    let watch = Watch::start(project, ports).await?;
    let invoke = |function: &str, event: &Path| Ok(watch.invoke(project, function, event));
    let mut wrong = run.invoke_all("cargo lambda invoke", invoke).await;
    drop(watch);

    match bridge {
        Ok(_) => {
            Stack::build(project, ports, &project.root).await?;
            let has_image = container::has_image(project).await?;
            let invoke =
                |function: &str, event: &Path| container::invoke(project, ports, has_image, function, event);
            wrong.extend(run.invoke_all("sam local invoke", invoke).await);
        }
        Err(reason) => ui::line(format_args!("– sam local invoke is left out: {reason}")),
    }
    if !wrong.is_empty() {
        bail!(
            "{} answers are wrong: {}; logs are in .local/run",
            wrong.len(),
            wrong.join(", ")
        );
    }
    Ok(())
}

/// The function for a sample: the file name up to the first dot.
fn function(sample: &str) -> &str {
    sample.split('.').next().unwrap_or_default()
}

/// The context that all invocations share.
struct SampleRun<'a> {
    project: &'a Project,
    ports: Ports,
    /// The folder for logs and for events that differ from the files in `events/`.
    folder: PathBuf,
    s3: aws_sdk_s3::Client,
}

impl<'a> SampleRun<'a> {
    fn new(project: &'a Project, ports: Ports) -> Result<Self> {
        let folder = project.run().join("samples");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self {
            project,
            ports,
            folder,
            s3: aws_sdk_s3::Client::new(&patient_config(&ports.aws_endpoint())?),
        })
    }

    /// Invokes all samples in turn with the command from `invoke`. Returns the names of those with a wrong
    /// response.
    async fn invoke_all(&self, way: &str, invoke: impl Fn(&str, &Path) -> Result<Command>) -> Vec<String> {
        ui::line(format_args!("… {way}"));
        let (mut functions, mut wrong) = (BTreeSet::new(), Vec::new());
        for &(name, expected) in EXPECTED {
            let function = function(name);
            let limit = if functions.insert(function) {
                FIRST_LIMIT
            } else {
                LIMIT
            };
            let step = Step::begin(name);
            let invoking = async {
                let command = invoke(function, &self.event(name)?)?;
                self.answer(name, expected, command, limit).await
            };
            match invoking.await {
                Ok(said) => step.done(said),
                Err(error) => {
                    drop(step);
                    ui::failure(&error.context(name));
                    wrong.push(format!("{name} ({way})"));
                }
            }
        }
        wrong
    }

    /// Runs an invocation and returns a short description of its response.
    async fn answer(
        &self,
        name: &str,
        expected: Expected,
        command: Command,
        limit: Duration,
    ) -> Result<String> {
        if expected == Expected::Success {
            self.clear_answer(name).await?;
        }
        let output = process::output(&self.folder, name, command, limit).await?;
        let answer = output.lines().rfind(|line| !line.trim().is_empty());
        let answer: Value = serde_json::from_str(answer.unwrap_or_default())
            .with_context(|| format!("the answer is not JSON: {output:?}"))?;
        if expected == Expected::Success {
            expected.check(&self.delivered_answer(name).await?)
        } else {
            expected.check(&answer)
        }
    }

    /// The file with a sample's event. This is a modified copy if the sample names an endpoint and the
    /// emulator has another one.
    fn event(&self, name: &str) -> Result<PathBuf> {
        let sample = self.project.root.join("events").join(name);
        let text =
            fs::read_to_string(&sample).with_context(|| format!("cannot read {}", sample.display()))?;
        let event = text.replace(NAMED_ENDPOINT, &self.ports.aws_endpoint());
        if event == text {
            return Ok(sample);
        }
        let file = self.folder.join(name);
        fs::write(&file, event).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// Deletes the response that CloudFormation received for this sample in an earlier invocation.
    async fn clear_answer(&self, name: &str) -> Result<()> {
        let deleting = self.s3.delete_object().bucket(BUCKET);
        let deleting = deleting.key(format!("{ANSWERS}{name}")).send();
        deleting.await.context("cannot remove the former answer")?;
        Ok(())
    }

    /// The response that CloudFormation received for this sample.
    async fn delivered_answer(&self, name: &str) -> Result<Value> {
        let getting = self.s3.get_object().bucket(BUCKET);
        let getting = getting.key(format!("{ANSWERS}{name}")).send();
        let answer = getting.await.context("CloudFormation received no answer")?;
        let answer = answer.body.collect().await.context("cannot read the answer")?;
        serde_json::from_slice(&answer.to_vec()).context("the answer to CloudFormation is not JSON")
    }
}
