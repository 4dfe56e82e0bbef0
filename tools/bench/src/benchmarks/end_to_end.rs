//! Latency from the commit to the frame at a constant rate, up to a rate that cannot be sustained.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use platform::Clock;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::complete::percentile;
use super::queue::{Batches, poll};
use super::{number, progress};
use crate::harness::{Harness, Services};
use crate::process::{Process, Program};
use crate::report::{Benchmark, Plot, Row, Series, Unit};
use crate::requests::{User, answered};

/// Environments of each of the two functions.
const ENVIRONMENTS: usize = 2;

/// Factor between two consecutive rates.
const STEP: f64 = 1.5;

/// First rate, in uploads per second.
const FIRST: f64 = 40.0;

/// A rate is sustained if at least this fraction of it is delivered.
const HELD: f64 = 0.95;

/// Result at one rate.
struct Outcome {
    held: bool,
    /// Time from each change's timestamp to its frame, in milliseconds.
    latencies: Vec<f64>,
}

struct Line {
    completing: Vec<(Process, User)>,
    notifying: Vec<Process>,
    batches: Batches,
}

/// Runs the end-to-end benchmark.
pub(crate) async fn run(harness: &Harness) -> Result<Benchmark> {
    let services = harness.services(false).await?;
    let variables = harness.variables(&services, harness.direct_url());
    let start = |name| harness.everywhere(harness.function(name, variables.clone()));
    let mut line = Line {
        completing: Vec::new(),
        notifying: Vec::new(),
        batches: Batches::new(harness)?,
    };
    let (complete, fan_out): (Program, Program) = (start("complete-upload"), start("fan-out"));
    for _ in 0..ENVIRONMENTS {
        let user = harness.user().await?;
        harness.listener(&user).await?;
        line.completing.push((complete.start().await?, user));
        line.notifying.push(fan_out.start().await?);
    }
    let lasting = Duration::from_secs(if harness.options.quick { 1 } else { 5 });
    line.hold(harness, &services, FIRST, Duration::from_millis(500))
        .await?;

    let (mut rate, mut saturation) = (FIRST, FIRST);
    let (mut medians, mut slowest) = (Vec::new(), Vec::new());
    loop {
        progress(&format!("  {rate:.0} uploads per second"));
        let outcome = line.hold(harness, &services, rate, lasting).await?;
        medians.push((rate, percentile(&outcome.latencies, 50)));
        slowest.push((rate, percentile(&outcome.latencies, 99)));
        if harness.options.quick {
            break;
        }
        ensure!(
            outcome.held || rate > FIRST,
            "not even {FIRST} uploads per second are held"
        );
        if !outcome.held {
            break;
        }
        saturation = rate;
        rate *= STEP;
    }
    progress("  half of that");
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..harness.rounds() {
        let outcome = line.hold(harness, &services, saturation / 2.0, lasting).await?;
        p50.push(percentile(&outcome.latencies, 50));
        p99.push(percentile(&outcome.latencies, 99));
    }
    Ok(Benchmark {
        name: "end-to-end".to_owned(),
        about: format!(
            "{ENVIRONMENTS} environments complete uploads at a steady rate, and {ENVIRONMENTS} \
                environments of `fan-out` receive the events like those of an event source mapping. The \
                time is measured from the timestamp of the change, before its commit, until its frame \
                arrives. A rate is held if {:.0} % of it is completed.",
            HELD * 100.0
        ),
        rows: vec![
            Row::alone(
                "uploads per second that are held",
                Unit::PerSecond,
                vec![saturation],
            ),
            Row::alone("commit to frame at half of that, p50", Unit::Milliseconds, p50),
            Row::alone("commit to frame at half of that, p99", Unit::Milliseconds, p99)
                .at_most(100.0, Some(25.0)),
        ],
        counts: Vec::new(),
        plot: Some(Plot {
            title: "Commit to frame by rate".to_owned(),
            x: "uploads per second".to_owned(),
            y: "milliseconds".to_owned(),
            logarithmic: true,
            logarithmic_y: false,
            series: vec![
                Series {
                    name: "p50".to_owned(),
                    points: medians,
                },
                Series {
                    name: "p99".to_owned(),
                    points: slowest,
                },
            ],
        }),
        notes: vec![
            "Environments, PostgreSQL, fakes and the load generator share the machine's cores.".to_owned(),
        ],
    })
}

impl Line {
    /// Completes uploads at a rate for a while, and waits until all frames have arrived.
    async fn hold(
        &mut self,
        harness: &Harness,
        services: &Services,
        rate: f64,
        lasting: Duration,
    ) -> Result<Outcome> {
        let each = rate / number(self.completing.len());
        let mut waiting = Vec::new();
        for (_, user) in &self.completing {
            let many = (each * lasting.as_secs_f64()).ceil();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small positive number"
            )]
            let uploads = harness.uploads(user, many as usize).await?;
            waiting.push(Mutex::new(VecDeque::from(uploads)));
        }
        let planned: usize = waiting.iter().map(|uploads| locked(uploads).len()).sum();
        services.posts.discard();
        // Posts have timestamps of the monotonic clock, changes of the system clock.
        let (zero, zero_time) = (Instant::now(), Clock::system().now());
        let done = AtomicBool::new(false);
        let completing = async {
            let begun = Instant::now();
            try_join_all(
                self.completing
                    .iter_mut()
                    .zip(&waiting)
                    .map(|((process, user), uploads)| complete(harness, process, user, uploads, begun, each)),
            )
            .await?;
            let took = begun.elapsed();
            done.store(true, Ordering::SeqCst);
            Ok::<_, anyhow::Error>(took)
        };
        let notifying = try_join_all(
            self.notifying
                .iter_mut()
                .map(|process| poll(&services.sqs, &self.batches, process, &done)),
        );
        let (took, _) = tokio::try_join!(completing, notifying)?;
        let times = services.posts.take_timed()?;
        let mut latencies = Vec::new();
        for (at, frame) in times {
            let frame: serde_json::Value = serde_json::from_slice(&frame)?;
            for change in frame["changes"].as_array().map(Vec::as_slice).unwrap_or_default() {
                let text = change["occurredAt"].as_str().context("no time")?;
                let occurred = OffsetDateTime::parse(text, &Rfc3339)?;
                latencies.push(((zero_time + (at - zero)) - occurred).as_seconds_f64() * 1e3);
            }
        }
        ensure!(
            latencies.len() == planned,
            "{} of {planned} changes were heard of",
            latencies.len()
        );
        Ok(Outcome {
            held: number(planned) / took.as_secs_f64() >= HELD * rate,
            latencies,
        })
    }
}

/// Completes uploads, each at its scheduled time.
async fn complete(
    harness: &Harness,
    process: &mut Process,
    user: &User,
    uploads: &Mutex<VecDeque<Uuid>>,
    begun: Instant,
    rate: f64,
) -> Result<()> {
    let mut made: u32 = 0;
    loop {
        let Some(upload) = locked(uploads).pop_front() else {
            return Ok(());
        };
        let due = begun + Duration::from_secs_f64(f64::from(made) / rate);
        tokio::time::sleep_until(due.into()).await;
        made += 1;
        let measured = process.invoke(harness.completing(user, upload)?).await?;
        answered(&measured.answer, 200)?;
    }
}

fn locked(uploads: &Mutex<VecDeque<Uuid>>) -> parking_lot::MutexGuard<'_, VecDeque<Uuid>> {
    uploads.lock()
}
