//! One run: uploads while faults are injected, then recovery, then the checker.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Notify;

use super::cluster::Cluster;
use super::faults::Kind;
use super::proxy::Mode;
use super::report::Report;
use super::schedule::{Schedule, ScheduledFault};
use super::sqs::POISON;
use super::workload::Workload;
use runner::project::Project;
use runner::ui::Step;

/// The base of the time limit for recovery after the last fault; the number of uploads adds to it.
const PATIENCE: Duration = Duration::from_secs(90);

/// The lowest accepted rate of recovery in uploads per second. It extends the time limit of long runs.
const SLOWEST_DRAIN: u64 = 50;

/// The maximum number of uploads for which functions log everything, some 5 KB per upload.
const CHATTY_UPLOADS: u64 = 20_000;

/// The interval at which the progress is shown.
const PROGRESS: Duration = Duration::from_millis(500);

/// The parameters of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The folder with the binaries of the functions.
    pub(crate) binaries: PathBuf,
    /// The seed of all random decisions.
    pub(crate) seed: u64,
    /// The number of uploads.
    pub(crate) uploads: u64,
}

impl Plan {
    /// The log level of the functions. In a long run, logs of successful requests would fill the disk.
    pub(crate) fn log_level(&self) -> &'static str {
        if self.uploads > CHATTY_UPLOADS {
            "WARN"
        } else {
            "INFO"
        }
    }
}

/// Runs the plan in a folder of its own.
pub(crate) async fn run(project: &Project, plan: &Plan) -> Result<Report> {
    let begun = Instant::now();
    let seed = plan.seed;
    let step = Step::begin(format!("seed {seed}"));
    let folder = folder(project, seed)?;
    let cluster = Cluster::start(project, plan, folder.clone(), kill_chance(plan.uploads), &step).await?;

    let workload = Workload::new(cluster.context.clone(), cluster.users.clone(), seed, plan.uploads);
    cluster.faults.turn(true);
    let over = Notify::new();
    let uploading = async {
        workload.run().await;
        over.notify_one();
        Ok(())
    };
    let faults = inject_scheduled_faults(&cluster, Schedule::new(seed, gap(plan.uploads)), seed, &over);
    tokio::select! {
        ended = async { tokio::try_join!(uploading, faults) } => ended.map(|_| ())?,
        () = progress(&step, &workload, plan.uploads) => {}
    }
    cluster.stop_faults();
    let settling = Instant::now();
    step.note("waiting for quiet");
    cluster.wait_until_idle(patience(plan.uploads)).await?;
    let settled = settling.elapsed();
    let committed = cluster.check().await?;
    let report = report(&cluster, seed, committed, settled, begun.elapsed());
    drop(cluster);
    if report.is_clean() {
        // Nobody reads the database after the run, and a series of runs would keep many of them.
        let _ = fs::remove_dir_all(folder.join("postgres"));
    }
    step.done(report.line());
    Ok(report)
}

/// The time limit for recovery after a run of this many uploads.
pub(crate) fn patience(uploads: u64) -> Duration {
    PATIENCE + Duration::from_secs(uploads / SLOWEST_DRAIN)
}

/// The folder for the data and logs of a run. Deletes the folder of an earlier run with the same seed.
pub(crate) fn folder(project: &Project, seed: u64) -> Result<PathBuf> {
    let folder = project.run().join(format!("chaos-{seed}"));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    Ok(folder)
}

/// Collects the results of a run.
pub(crate) fn report(
    cluster: &Cluster,
    seed: u64,
    committed: usize,
    settled: Duration,
    took: Duration,
) -> Report {
    let history = &cluster.context.history;
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let (lost, unexpected) = cluster.context.violations.counts();
    Report {
        seed,
        attempted: count(&history.counts.attempted),
        acknowledged: history.acknowledged().len() as u64,
        refused: count(&history.counts.refused),
        committed: committed as u64,
        sent_events: cluster.sqs.sent_event_count() as u64,
        received: count(&history.counts.received),
        pulled: count(&history.counts.pulled),
        duplicated: count(&history.counts.duplicated),
        lost,
        unexpected,
        environments: cluster.functions.started(),
        faults: cluster.faults.counts(),
        settling_seconds: settled.as_secs_f64(),
        seconds: took.as_secs_f64(),
        violations: cluster.context.violations.kept(),
        logs: relative(&cluster.folder),
    }
}

fn relative(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    format!(".local/run/{}", name.to_string_lossy())
}

/// The number of uploads as a divisor, 1 at least.
pub(crate) fn number(uploads: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 uploads")]
    let number = uploads.max(1) as f64;
    number
}

/// The kill probability per invocation. A short run gets some dozens of kills, and a long one does not spend
/// its time on restarts.
fn kill_chance(uploads: u64) -> f64 {
    (12.0 / number(uploads)).clamp(0.01, 0.06)
}

/// The mean time between scheduled faults. A short run gets some dozens of them, and a long one still makes
/// progress.
fn gap(uploads: u64) -> Duration {
    Duration::from_millis(uploads).clamp(Duration::from_millis(200), Duration::from_secs(1))
}

/// Shows the number of finished uploads; never returns.
pub(crate) async fn progress(step: &Step, workload: &Workload, uploads: u64) {
    loop {
        step.note(&format!("{} of {uploads} uploads", workload.done()));
        tokio::time::sleep(PROGRESS).await;
    }
}

/// Starts the scheduled faults until `over` is notified, then waits for the end of those that are still
/// active.
async fn inject_scheduled_faults(
    cluster: &Cluster,
    schedule: Schedule,
    seed: u64,
    over: &Notify,
) -> Result<()> {
    let mut under_way = FuturesUnordered::new();
    'planned: for (number, planned) in (0_u64..).zip(schedule) {
        let mut waiting = std::pin::pin!(tokio::time::sleep(planned.after));
        loop {
            tokio::select! {
                () = &mut waiting => break,
                () = over.notified() => break 'planned,
                Some(ended) = under_way.next() => ended?,
            }
        }
        under_way.push(one(cluster, planned.fault, (seed, number)));
    }
    while let Some(ended) = under_way.next().await {
        ended?;
    }
    Ok(())
}

async fn one(cluster: &Cluster, fault: ScheduledFault, (seed, number): (u64, u64)) -> Result<()> {
    let faults = Arc::clone(&cluster.faults);
    match fault {
        ScheduledFault::CrashDatabase => {
            faults.count(Kind::DatabaseCrashed);
            cluster.crash_database().await?;
        }
        ScheduledFault::Cut(dependency) => {
            faults.count(Kind::Cut);
            cluster.proxy(dependency).cut_all();
        }
        ScheduledFault::Slow(dependency, late, long) => {
            faults.count(Kind::Slowed);
            cluster.proxy(dependency).set(Mode::Slow(late));
            tokio::time::sleep(long).await;
            cluster.proxy(dependency).set(Mode::Open);
        }
        ScheduledFault::Hang(dependency, long) => {
            faults.count(Kind::Hung);
            cluster.proxy(dependency).set(Mode::Hung);
            tokio::time::sleep(long).await;
            cluster.proxy(dependency).set(Mode::Open);
        }
        ScheduledFault::Refuse(dependency, long) => {
            faults.count(Kind::Refused);
            cluster.proxy(dependency).set(Mode::Refused);
            cluster.proxy(dependency).cut_all();
            tokio::time::sleep(long).await;
            cluster.proxy(dependency).set(Mode::Open);
        }
        ScheduledFault::QueueOutage(long) => {
            faults.count(Kind::QueueOutage);
            cluster.sqs.set_down(true);
            tokio::time::sleep(long).await;
            cluster.sqs.set_down(false);
        }
        ScheduledFault::Forbid(long) => {
            faults.count(Kind::Forbidden);
            cluster.context.sockets.forbid(true);
            tokio::time::sleep(long).await;
            cluster.context.sockets.forbid(false);
        }
        ScheduledFault::DropSocket => cluster.context.sockets.drop_one().await,
        ScheduledFault::Poison => {
            faults.count(Kind::Poisoned);
            cluster.sqs.fake.inject(&format!("{POISON}{seed}-{number}"));
        }
    }
    Ok(())
}
