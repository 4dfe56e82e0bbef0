//! `complete-upload`: how long a warm one takes beside its parts alone, and how many there are a second.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use uuid::Uuid;

use super::progress;
use crate::limit::commits;
use crate::limit::complete::Task;
use crate::process::{Process, Program};
use crate::report::{Benchmark, Count, Plot, Row, Series, Summary, Unit};
use crate::requests::{User, answered};
use crate::stage::{Stage, milliseconds};

/// Environments at once.
const ENVIRONMENTS: [usize; 4] = [1, 2, 4, 8];

/// What the database waits for in some rows.
const LATENCY: Duration = Duration::from_millis(1);

/// Runs it.
pub(crate) async fn run(stage: &Stage) -> Result<Benchmark> {
    let services = stage.services(false).await?;
    let user = stage.user().await?;
    let number = stage.size(200, 20);
    let (mut rows, mut counts) = (Vec::new(), Vec::new());

    let direct = stage.variables(&services, stage.direct_url());
    let relayed = stage.variables(&services, stage.relayed_url(&services));
    for (name, variables, latency, goal) in [
        ("warm p50", &direct, Duration::ZERO, (1.6, 1.3)),
        ("warm p50, 1 ms to the database", &relayed, LATENCY, (1.3, 1.15)),
    ] {
        progress(&format!("  {name}"));
        services.relay.set_latency(latency);
        let mut ours = stage
            .function("complete-upload", variables.clone())
            .start()
            .await?;
        let mut parts = stage.limit("limit-complete", variables.clone())?.start().await?;
        let (mut own, mut theirs, mut slowest) = (vec![], vec![], vec![]);
        for round in 0..=stage.rounds() {
            let alone = alone(&mut parts, &user, stage.uploads(&user, number).await?).await?;
            let took = complete(stage, &mut ours, &user, stage.uploads(&user, number).await?).await?;
            if round > 0 {
                theirs.push(Summary::of(&alone).median);
                own.push(Summary::of(&took).median);
                slowest.push(percentile(&took, 99));
            }
        }
        let row = Row::ratio(
            name,
            Unit::Milliseconds,
            own.clone(),
            "statement, HEAD and message alone",
            theirs,
        );
        rows.push(row.at_most(goal.0, Some(goal.1)));
        rows.push(Row::ratio(
            name.replace("p50", "p99"),
            Unit::Milliseconds,
            slowest,
            "p50",
            own,
        ));
    }
    services.relay.set_latency(Duration::ZERO);

    // ---- Over TLS.
    progress("  over TLS");
    let secured = stage.services(true).await?;
    let variables = stage.variables(&secured, stage.relayed_url(&secured));
    let mut ours = stage
        .function("complete-upload", variables.clone())
        .start()
        .await?;
    let mut parts = stage.limit("limit-complete", variables)?.start().await?;
    let (mut own, mut theirs) = (vec![], vec![]);
    for round in 0..=stage.rounds() {
        let alone = alone(&mut parts, &user, stage.uploads(&user, number).await?).await?;
        let took = complete(stage, &mut ours, &user, stage.uploads(&user, number).await?).await?;
        if round > 0 {
            theirs.push(Summary::of(&alone).median);
            own.push(Summary::of(&took).median);
        }
    }
    rows.push(Row::ratio(
        "warm p50 over TLS",
        Unit::Milliseconds,
        own,
        "statement, HEAD and message alone",
        theirs,
    ));
    drop(secured);

    // ---- Many environments.
    let mut series = Series {
        name: "complete-upload".to_owned(),
        points: Vec::new(),
    };
    let everywhere = stage.everywhere(stage.function("complete-upload", direct.clone()));
    let mut bare = stage
        .everywhere(stage.limit("limit-commits", direct.clone())?)
        .start()
        .await?;
    for environments in ENVIRONMENTS {
        progress(&format!("  {environments} environments"));
        let (mut rates, mut limits, mut medians, mut slowest) = (vec![], vec![], vec![], vec![]);
        let mut crew = Crew::start(stage, &everywhere, environments).await?;
        for _ in 0..stage.rounds() {
            let task = commits::Task {
                clients: environments,
                commits: stage.size(2_000, 100),
            };
            let answer = bare.invoke(serde_json::to_vec(&task)?).await?.answer;
            limits.push(serde_json::from_slice(&answer)?);
            let (took, rate) = crew.complete(stage, number).await?;
            rates.push(rate);
            medians.push(Summary::of(&took).median);
            slowest.push(percentile(&took, 99));
        }
        series
            .points
            .push((super::number(environments), Summary::of(&rates).median));
        if environments == 8 {
            let row = Row::ratio("8 environments, p99", Unit::Milliseconds, slowest, "p50", medians);
            rows.push(row.at_most(4.0, None));
            let row = Row::ratio(
                "8 environments, uploads per second",
                Unit::PerSecond,
                rates,
                "bare commits by 8 clients",
                limits,
            );
            rows.push(row.at_least(0.5, None));
        }
    }
    drop(bare);

    // ---- Counts.
    progress("  counts");
    let program = stage.counted(&stage.function("complete-upload", relayed));
    let mut ours = program.start().await?;
    complete(stage, &mut ours, &user, stage.uploads(&user, 5).await?).await?;
    services.relay.take();
    services.s3.take_requests();
    services.sqs.take_requests();
    for connects in [&services.s3.server, &services.sqs.server] {
        connects.take_connects();
    }
    let uploads = stage.uploads(&user, 1).await?;
    let upload = uploads.first().context("no upload")?;
    let measured = ours.invoke(stage.completing(&user, *upload)?).await?;
    answered(&measured.answer, 200)?;
    let passed = services.relay.take();
    counts.push(Count::new(
        "database round trips: loading, committing, deleting from the outbox",
        passed.round_trips,
        3,
    ));
    counts.push(Count::new("requests to S3", services.s3.take_requests(), 1));
    counts.push(Count::new("requests to SQS", services.sqs.take_requests(), 1));
    let connects = services.s3.server.take_connects() + services.sqs.server.take_connects() + passed.connects;
    counts.push(Count::new("connections made by a warm one", connects, 0));
    counts.push(Count::new("allocations", measured.allocations, 1_700));
    rows.push(Row::alone(
        "peak memory",
        Unit::Megabytes,
        vec![super::megabytes(ours.peak_memory()?)],
    ));

    Ok(Benchmark {
        name: "complete".to_owned(),
        about: "`POST /uploads/{uploadId}/complete` of a file of one part, from handing the request to the function until its answer is there. Its parts \
            alone are its statement, one HEAD and one message, one after the other by the same clients in one process, without the Runtime API."
            .to_owned(),
        rows,
        counts,
        plot: Some(Plot {
            title: "Uploads completed per second by environments".to_owned(),
            x: "environments".to_owned(),
            y: "uploads per second".to_owned(),
            logarithmic: false,
            series: vec![series],
        }),
        notes: vec![
            "PostgreSQL does not wait for the disk (`fsync=off`), so that what is measured is the programs: every wait for a disk would bring the ratios nearer \
             to 1. Environments, stand-ins and PostgreSQL share the machine's cores."
                .to_owned(),
        ],
    })
}

/// Milliseconds of each.
async fn complete(stage: &Stage, process: &mut Process, user: &User, uploads: Vec<Uuid>) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for upload in uploads {
        let measured = process.invoke(stage.completing(user, upload)?).await?;
        answered(&measured.answer, 200)?;
        took.push(milliseconds(measured.wall));
    }
    Ok(took)
}

/// Milliseconds of each, of the parts alone.
async fn alone(process: &mut Process, user: &User, uploads: Vec<Uuid>) -> Result<Vec<f64>> {
    let task = Task {
        user: user.id.clone(),
        uploads,
    };
    let answer = process.invoke(serde_json::to_vec(&task)?).await?.answer;
    let took: Vec<f64> = serde_json::from_slice(&answer)?;
    Ok(took.into_iter().map(|micros| micros / 1e3).collect())
}

/// Environments side by side, each for a user of its own.
struct Crew(Vec<(Process, User)>);

impl Crew {
    async fn start(stage: &Stage, program: &Program, environments: usize) -> Result<Self> {
        let mut crew = Vec::new();
        for _ in 0..environments {
            let (mut process, user) = (program.start().await?, stage.user().await?);
            complete(stage, &mut process, &user, stage.uploads(&user, 5).await?).await?;
            crew.push((process, user));
        }
        Ok(Self(crew))
    }

    /// Completes uploads in all of them at once; milliseconds of each, and how many there were a second.
    async fn complete(&mut self, stage: &Stage, number: usize) -> Result<(Vec<f64>, f64)> {
        let mut uploads = Vec::new();
        for (_, user) in &self.0 {
            uploads.push(stage.uploads(user, number).await?);
        }
        let begun = Instant::now();
        let all = try_join_all(
            self.0
                .iter_mut()
                .zip(uploads)
                .map(|((process, user), uploads)| complete(stage, process, user, uploads)),
        )
        .await?;
        let took: Vec<f64> = all.into_iter().flatten().collect();
        let rate = super::number(took.len()) / begun.elapsed().as_secs_f64();
        Ok((took, rate))
    }
}

/// The value that this many of a hundred are not above.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
