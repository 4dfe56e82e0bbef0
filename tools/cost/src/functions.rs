//! The functions' processes, one for each concurrent invocation, as in Lambda.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use axum::body::Bytes;
use lambda::Environment;
use parking_lot::Mutex;
use runner::build;
use runner::environment::command;
use runner::project::Project;

use crate::counts::Meter;
use crate::template::Template;

/// Timeout of an invocation: the longest of the template.
const TIMEOUT: Duration = Duration::from_secs(50);

/// All functions.
pub(crate) struct Functions {
    project: Project,
    binaries: PathBuf,
    folder: PathBuf,
    variables: Vec<(&'static str, String)>,
    template: Arc<Template>,
    meter: Arc<Meter>,
    /// The environments that wait for an invocation, by function.
    idle: Mutex<BTreeMap<&'static str, Vec<Environment>>>,
    /// The bytes of each function's log that are already counted.
    counted: Mutex<BTreeMap<&'static str, u64>>,
}

/// The functions that workloads invoke.
const NAMES: [&str; 9] = [
    "account",
    "changes",
    "complete-upload",
    "connections",
    "fan-out",
    "files",
    "maintenance",
    "spaces",
    "uploads",
];

/// The functions that cargo has compiled for this machine, in a folder like that of cargo-lambda.
pub(crate) fn development(project: &Project) -> Result<PathBuf> {
    let folder = project.run().join("functions");
    for name in NAMES {
        let own = folder.join(name);
        fs::create_dir_all(&own).with_context(|| format!("cannot create {}", own.display()))?;
        let program = build::programs(project).join(name);
        symlink(&program, own.join("bootstrap"))
            .with_context(|| format!("cannot link {}", program.display()))?;
    }
    Ok(folder)
}

impl Functions {
    /// Functions with these variables and the log levels of the template. Their logs go to `folder`.
    pub(crate) fn new(
        project: &Project,
        binaries: &Path,
        folder: &Path,
        (variables, template): (Vec<(&'static str, String)>, Arc<Template>),
        meter: Arc<Meter>,
    ) -> Self {
        Self {
            project: project.clone(),
            binaries: binaries.to_owned(),
            folder: folder.to_owned(),
            variables,
            template,
            meter,
            idle: Mutex::default(),
            counted: Mutex::default(),
        }
    }

    /// Invokes a function and returns its answer. An environment is started if none is idle. Its init phase
    /// does not count: how often it happens depends on the load and not on the number of requests.
    pub(crate) async fn invoke(&self, name: &str, payload: Bytes) -> Result<Bytes> {
        let name = NAMES.into_iter().find(|known| *known == name);
        let name = name.context("a route names a function that `cargo xtask cost` does not know")?;
        let idle = self.idle.lock().entry(name).or_default().pop();
        let mut environment = match idle {
            Some(environment) => environment,
            None => self.start(name).await?,
        };
        let began = Instant::now();
        let answer = environment.invoke(payload, TIMEOUT, None).await;
        // Lambda rounds up to whole milliseconds (AWS Lambda pricing).
        let milliseconds = began.elapsed().as_micros().div_ceil(1_000);
        self.meter.invoked(name, u64::try_from(milliseconds)?);
        let answer = answer.map_err(|failure| anyhow!("{name} failed: {failure:?}"))?;
        self.idle.lock().entry(name).or_default().push(environment);
        Ok(answer)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    async fn start(&self, name: &'static str) -> Result<Environment> {
        let binary = self.binaries.join(name).join("bootstrap");
        if !binary.exists() {
            bail!("there is no {}; build the functions first", binary.display());
        }
        let log = File::options().create(true).append(true).open(self.log(name));
        let log = log.context("cannot create a function's log")?;
        let logging = self.template.logging.get(name);
        let logging = logging.with_context(|| format!("the template has no function {name}"))?;
        let mut process = command(&self.project, &binary.display().to_string());
        process
            .env_remove("RUST_LOG")
            .env("AWS_LAMBDA_LOG_LEVEL", &logging.level)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log);
        let mut environment = Environment::start(name, process).await?;
        let ready = environment.ready().await;
        ready.map_err(|failure| anyhow!("{name} does not start: {failure:?}"))?;
        Ok(environment)
    }

    /// Counts what the functions logged since the last call.
    pub(crate) fn count_logs(&self) {
        for name in NAMES {
            let length = fs::metadata(self.log(name)).map_or(0, |log| log.len());
            let before = self.counted.lock().insert(name, length).unwrap_or_default();
            self.meter.logged(name, length.saturating_sub(before));
        }
    }
}
