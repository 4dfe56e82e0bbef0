//! SyncSphere's functions, configured as in the template. Each invocation may be killed.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::body::Bytes;

use super::bus;
use super::faults::{FaultInjector, Kind};
use super::proxy::Proxy;
use super::s3::BUCKET;
use super::violations::Violations;
use fakes::eventbridge::EventBridge;
use fakes::sqs::{Sqs, Which};
use lambda::{Failure, Function, Settings};
use runner::postgres::{self, DATABASE, ROLE};
use runner::project::Project;

/// Environments of `fan-out`; its event source mapping has as many pollers.
pub(crate) const FAN_OUT_CONCURRENCY: usize = 4;

/// Environments of each API function: one for each concurrent upload, and a few more.
const API_CONCURRENCY: usize = 24;

/// The number of older versions that a file keeps. Fewer than in the template, so that versions are purged
/// during a run.
pub(crate) const KEEP_VERSIONS: i64 = 1;

/// Longer content is sent in parts. It is about a third of the files that are uploaded one by one.
pub(crate) const MULTIPART_THRESHOLD_BYTES: usize = 150;

/// The time from the start of an invocation to its SIGKILL, in milliseconds.
const KILL_WITHIN: std::ops::Range<u64> = 0..40;

/// Name, timeout in seconds and number of environments of each function.
const TEMPLATE: [(&str, u64, usize); 9] = [
    ("uploads", 15, API_CONCURRENCY),
    ("complete-upload", 29, API_CONCURRENCY),
    ("files", 15, API_CONCURRENCY),
    ("spaces", 15, API_CONCURRENCY),
    ("account", 15, API_CONCURRENCY),
    ("changes", 15, API_CONCURRENCY),
    ("connections", 15, API_CONCURRENCY),
    ("fan-out", 30, FAN_OUT_CONCURRENCY),
    ("maintenance", 50, 2),
];

/// All functions of the system.
pub(crate) struct Functions {
    all: Vec<Function>,
    faults: Arc<FaultInjector>,
    violations: Arc<Violations>,
}

impl Functions {
    /// Gives every function the same variables; each reads those that it needs.
    pub(crate) fn new(
        project: &Project,
        binaries: &Path,
        folder: &Path,
        variables: &[(&'static str, String)],
        (faults, violations): (Arc<FaultInjector>, Arc<Violations>),
    ) -> Result<Self> {
        let all = TEMPLATE.into_iter().map(|(name, seconds, concurrency)| {
            let settings = Settings {
                name,
                timeout: Duration::from_secs(seconds),
                concurrency,
                variables: variables.to_vec(),
            };
            Function::new(project, binaries, folder, settings)
        });
        Ok(Self {
            all: all.collect::<Result<_>>()?,
            faults,
            violations,
        })
    }

    /// Invokes the function behind a route of the HTTP API.
    pub(crate) async fn route(&self, route: &str, payload: Bytes) -> Result<Bytes, Failure> {
        let path = route.split_once(' ').map_or(route, |(_, path)| path);
        let function = match path.split('/').nth(1) {
            Some("uploads") if path.ends_with("/complete") => "complete-upload",
            Some("files") => "files",
            Some("spaces") => "spaces",
            Some("invitations" | "me") => "account",
            Some("changes") => "changes",
            Some("tickets") => "connections",
            _ => "uploads",
        };
        self.invoke(function, payload).await
    }

    /// Invokes the function behind the WebSocket API.
    pub(crate) async fn connections(&self, payload: Bytes) -> Result<Bytes, Failure> {
        self.invoke("connections", payload).await
    }

    /// Invokes `fan-out` with a batch of SQS records.
    pub(crate) async fn fan_out(&self, payload: Bytes) -> Result<Bytes, Failure> {
        self.invoke("fan-out", payload).await
    }

    /// Invokes `maintenance` as its schedule does.
    pub(crate) async fn run_maintenance(&self) -> Result<Bytes, Failure> {
        self.invoke("maintenance", Bytes::from_static(b"{}")).await
    }

    /// Whether an invocation of this function runs or waits.
    pub(crate) fn is_running(&self, name: &str) -> bool {
        self.all
            .iter()
            .any(|function| function.name() == name && function.running() > 0)
    }

    /// The number of environments started so far, over all functions.
    pub(crate) fn started(&self) -> u64 {
        self.all.iter().map(Function::started).sum()
    }

    async fn invoke(&self, name: &str, payload: Bytes) -> Result<Bytes, Failure> {
        let function = self.all.iter().find(|function| function.name() == name);
        let Some(function) = function else {
            return Err(Failure::Crashed(format!("there is no function {name}")));
        };
        let kill = match name {
            "fan-out" => Kind::FanOutKilled,
            "maintenance" => Kind::MaintenanceKilled,
            _ => Kind::Killed,
        };
        let kill_after = self
            .faults
            .decides(kill)
            .then(|| self.faults.millis(kill, KILL_WITHIN));
        let excused = self.faults.excuses();
        let outcome = function.invoke(payload, kill_after).await;
        // Faults may have begun during the invocation.
        let excused = excused || self.faults.excuses();
        match &outcome {
            Ok(_) => {}
            // `maintenance` reports an unfinished run as an error so that the alarm of its schedule goes
            // off.
            Err(Failure::Reported(_)) if excused && name == "maintenance" => {}
            Err(Failure::Killed) => self.faults.count(kill),
            Err(Failure::TimedOut) => self.violations.unexpected("function timed out", name),
            Err(Failure::Crashed(how)) => {
                self.violations
                    .unexpected("function crashed", format!("{name}: {how}"));
            }
            Err(Failure::Reported(error)) => {
                self.violations
                    .unexpected("function reported an error", format!("{name}: {error}"));
            }
        }
        outcome
    }
}

/// The environment variables that the template sets, and those that point AWS clients at the fakes.
pub(crate) fn variables(
    proxies: &[Proxy; 4],
    bus: &EventBridge,
    log_level: &str,
) -> Vec<(&'static str, String)> {
    let [database, storage, queue, connections] = proxies;
    let SocketAddr::V4(address) = database.address else {
        return Vec::new();
    };
    let [storage, queue, connections] =
        [storage, queue, connections].map(|proxy| format!("http://{}", proxy.address));
    let mut variables = lambda::variables();
    variables.extend([
        ("AWS_LAMBDA_LOG_LEVEL", log_level.to_owned()),
        ("AWS_ENDPOINT_URL_S3", storage),
        ("AWS_ENDPOINT_URL_SQS", queue.clone()),
        ("AWS_ENDPOINT_URL_EVENTBRIDGE", bus.server.url("127.0.0.1")),
        ("EVENT_BUS_NAME", bus::NAME.to_owned()),
        ("DATABASE_URL", postgres::url(address, ROLE, DATABASE)),
        ("BUCKET_NAME", BUCKET.to_owned()),
        ("QUEUE_URL", Sqs::url(&queue, Which::Events)),
        ("DEAD_LETTER_QUEUE_URL", Sqs::url(&queue, Which::DeadLetters)),
        ("CONNECTIONS_ENDPOINT", format!("{connections}/live")),
        ("WEBSOCKET_URL", "ws://chaos.example/live".to_owned()),
        ("POSTS_PER_SECOND", "5000".to_owned()),
        ("KEEP_VERSIONS", KEEP_VERSIONS.to_string()),
        ("MULTIPART_THRESHOLD_BYTES", MULTIPART_THRESHOLD_BYTES.to_string()),
        ("MAXIMUM_CONCURRENCY", FAN_OUT_CONCURRENCY.to_string()),
    ]);
    variables
}
