//! `cargo xtask chaos --outage`: compares uploads during an SQS outage, in which nothing consumes the queue
//! either, with uploads in normal operation.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::cluster::Cluster;
use super::history::Counts;
use super::metrics::Counted;
use super::phase::{percentile, phase};
use super::run::{Plan, folder, patience, report};
use runner::project::Project;
use runner::ui::{self, Step};

/// The timeout that functions set for a send to the queue.
const SEND_TIMEOUT: Duration = Duration::from_millis(2_500);

/// During the outage a completion may take this multiple of its time in normal operation, plus the send
/// timeout.
const ALLOWED_RATIO: f64 = 1.1;

/// The result of both phases. The unit of a time is in its name.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    seed: u64,
    uploads: u64,
    healthy_p50_ms: f64,
    healthy_p99_ms: f64,
    outage_p50_ms: f64,
    outage_p99_ms: f64,
    ratio_p50: f64,
    ratio_p99: f64,
    refused_sends: u64,
    waiting_in_outbox: u64,
    drain_seconds: f64,
    drained: bool,
    healthy_notification_p50_ms: f64,
    healthy_notification_p99_ms: f64,
    counted_committed: u64,
    counted_published: u64,
    lost: u64,
    unexpected: u64,
}

/// Runs both phases and the recovery of the queue. Fails if anything was lost or the outage delayed
/// completions.
pub(crate) async fn run(project: &Project, plan: &Plan, json: bool) -> Result<()> {
    let begun = Instant::now();
    let step = Step::begin("outage");
    let folder = folder(project, plan.seed)?;
    let cluster = Cluster::start(project, plan, folder, 0.0, &step).await?;

    let healthy = phase(&cluster, plan, plan.seed, &step, Counts::take_latencies).await;
    cluster.wait_until_idle(patience(plan.uploads)).await?;
    let notifications = Counted::read(&cluster.folder)?.latencies;

    cluster.faults.expect_errors(true);
    cluster.mapping.enable(false);
    cluster.sqs.set_down(true);
    let outage = phase(
        &cluster,
        plan,
        plan.seed.wrapping_add(1),
        &step,
        Counts::take_latencies,
    )
    .await;
    let refused_sends = cluster.sqs.refused();
    let waiting = cluster.outbox_size().await?;

    step.note("waiting for every device");
    let returned = Instant::now();
    cluster.sqs.set_down(false);
    cluster.mapping.enable(true);
    cluster.faults.expect_errors(false);
    let drained = cluster.wait_until_idle(patience(plan.uploads)).await?;
    let drain = returned.elapsed();
    let committed = cluster.check().await?;
    let report = report(&cluster, plan.seed, committed, drain, begun.elapsed());
    let counted = Counted::read(&cluster.folder)?;
    step.done("");

    let outcome = Outcome {
        seed: plan.seed,
        uploads: plan.uploads,
        healthy_p50_ms: percentile(&healthy, 0.5),
        healthy_p99_ms: percentile(&healthy, 0.99),
        outage_p50_ms: percentile(&outage, 0.5),
        outage_p99_ms: percentile(&outage, 0.99),
        ratio_p50: percentile(&outage, 0.5) / percentile(&healthy, 0.5),
        ratio_p99: percentile(&outage, 0.99) / percentile(&healthy, 0.99),
        refused_sends,
        waiting_in_outbox: u64::try_from(waiting).unwrap_or_default(),
        drain_seconds: drain.as_secs_f64(),
        drained,
        healthy_notification_p50_ms: percentile(&notifications, 0.5),
        healthy_notification_p99_ms: percentile(&notifications, 0.99),
        counted_committed: counted.committed,
        counted_published: counted.published,
        lost: report.lost,
        unexpected: report.unexpected,
    };
    report.show();
    outcome.show();
    if json {
        ui::output(serde_json::to_string(&outcome)?);
    }
    ensure!(
        report.is_clean(),
        "{} lost, {} unexpected",
        outcome.lost,
        outcome.unexpected
    );
    for (what, healthy, outage) in [
        ("median", outcome.healthy_p50_ms, outcome.outage_p50_ms),
        ("99th percentile", outcome.healthy_p99_ms, outcome.outage_p99_ms),
    ] {
        let limit = healthy * ALLOWED_RATIO + SEND_TIMEOUT.as_secs_f64() * 1_000.0;
        ensure!(
            outage <= limit,
            "completing took {outage:.1} ms at the {what} in the outage, more than {limit:.1} ms"
        );
    }
    let sums = [outcome.counted_committed, outcome.counted_published];
    ensure!(
        sums == [report.committed; 2],
        "{} changes are committed; the functions counted {} committed and {} published",
        report.committed,
        outcome.counted_committed,
        outcome.counted_published
    );
    Ok(())
}

impl Outcome {
    fn show(&self) {
        ui::line(format_args!(
            "\ncompleting, ms        healthy    outage     ratio\n  p50            {:>12.1} {:>9.1} {:>9.2}\n  p99            {:>12.1} {:>9.1} {:>9.2}",
            self.healthy_p50_ms,
            self.outage_p50_ms,
            self.ratio_p50,
            self.healthy_p99_ms,
            self.outage_p99_ms,
            self.ratio_p99
        ));
        ui::line(format_args!(
            "from commit to the last device, healthy: p50 {:.1} ms, p99 {:.1} ms\ncounted by the functions: {} committed, {} published",
            self.healthy_notification_p50_ms,
            self.healthy_notification_p99_ms,
            self.counted_committed,
            self.counted_published
        ));
        ui::line(format_args!(
            "requests that SQS refused {:>6}\nevents in the outbox      {:>6}\nuntil every device knew   {:>6.1} s",
            self.refused_sends, self.waiting_in_outbox, self.drain_seconds
        ));
    }
}
