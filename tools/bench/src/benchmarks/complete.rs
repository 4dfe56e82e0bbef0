//! `complete-upload`: duration of a warm invocation, compared with its parts alone, and throughput.

mod batches;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use uuid::Uuid;

use super::{LATENCY_OF_AWS, each, megabytes, memory, number, progress};
use crate::baselines::commits;
use crate::baselines::complete::Task;
use crate::harness::{Harness, Services, Variables, milliseconds};
use crate::process::{Instructions, NO_VALGRIND, Process, Program};
use crate::report::{Benchmark, Count, Plot, Row, Series, Summary, Unit};
use crate::requests::{User, answered};

/// Numbers of concurrent environments.
const ENVIRONMENTS: [usize; 4] = [1, 2, 4, 8];

/// Simulated latency of the database in some rows.
const LATENCY: Duration = Duration::from_millis(1);

/// Durations of the invocations in a round, in milliseconds.
#[derive(Clone, Copy)]
struct Took {
    p50: f64,
    p99: f64,
}

/// A round of warm invocations.
struct Warm {
    took: Took,
    /// Median duration of the parts alone, in milliseconds.
    parts: f64,
}

/// A round with several concurrent environments.
struct Crowded {
    took: Took,
    /// Uploads per second.
    rate: f64,
    /// Bare commits per second.
    commits: f64,
}

impl Took {
    fn of(all: &[f64]) -> Self {
        Self {
            p50: Summary::of(all).median,
            p99: percentile(all, 99),
        }
    }
}

impl Warm {
    fn took(&self) -> Took {
        self.took
    }
}

/// Runs the `complete-upload` benchmark.
pub(crate) async fn run(harness: &Harness) -> Result<Benchmark> {
    let services = harness.services(false).await?;
    let user = harness.user().await?;
    let direct = harness.variables(&services, harness.direct_url());
    let relayed = harness.variables(&services, harness.relayed_url(&services));
    let mut rows = Vec::new();

    progress("  warm");
    let rounds = warm(harness, &direct, &user).await?;
    rows.push(median("warm p50", &rounds));
    rows.push(tail("warm p99", &rounds, Warm::took));
    let per_file = batches::per_file(harness, &direct, &user, "p50 per file in batches of 100").await?;
    rows.push(per_file.at_most(0.5, Some(0.3)));

    progress("  warm, 1 ms to the database");
    services.relay.set_latency(LATENCY);
    let rounds = warm(harness, &relayed, &user).await?;
    let figure = "p50 per file in batches of 100, 1 ms to the database";
    let per_file = batches::per_file(harness, &relayed, &user, figure).await?;
    services.relay.set_latency(Duration::ZERO);
    rows.push(median("warm p50, 1 ms to the database", &rounds));
    rows.push(tail("warm p99, 1 ms to the database", &rounds, Warm::took));
    rows.push(per_file.at_most(0.3, Some(0.2)));

    progress("  over TLS");
    let secured = harness.services(true).await?;
    let variables = harness.variables(&secured, harness.relayed_url(&secured));
    let rounds = warm(harness, &variables, &user).await?;
    rows.push(median("warm p50 over TLS", &rounds));

    progress("  as on a network");
    // The HEAD request is concurrent with loading the upload and takes longer, as on AWS.
    secured.relay.set_latency(LATENCY);
    for server in [&secured.s3.server, &secured.sqs.server] {
        server.set_latency(LATENCY_OF_AWS);
    }
    let rounds = warm(harness, &variables, &user).await?;
    rows.push(median(
        "warm p50 over TLS, 10 ms to S3 and SQS, 1 ms to the database",
        &rounds,
    ));
    let mut notes = vec![
        "PostgreSQL does not wait for the disk (`fsync=off`), so that the programs are measured: waits \
            for a disk would bring the ratios nearer to 1. Environments, fakes and PostgreSQL share the \
            machine's cores, so eight environments get only the CPU time that their HTTP, JSON and three \
            statements leave."
            .to_owned(),
        "The control waits for three answers, one after the other. Completing waits for the \
            invocation, for loading beside the HEAD, for the statement, for the queue, and for deleting \
            the event from the outbox. With 1 ms to the database three of these waits take that long, \
            because the fake's HEAD is faster than loading; on a network it is not."
            .to_owned(),
    ];
    match by_memory(harness, variables, &user).await? {
        Some(costs) => rows.extend(costs),
        None => notes.push(memory::NO_GROUPS.to_owned()),
    }
    drop(secured);

    match instructions(harness, &direct, &user).await? {
        Some(row) => rows.push(row),
        None => notes.push(NO_VALGRIND.to_owned()),
    }
    let (crowded, series) = by_environments(harness, direct.clone()).await?;
    rows.extend(crowded);
    let one_space = batches::one_space(harness, direct).await?;
    rows.push(one_space.at_least(0.1, Some(0.2)));
    let (counts, memory) = counts(harness, &services, relayed, &user).await?;
    rows.push(memory);

    Ok(Benchmark {
        name: "complete".to_owned(),
        about: "`POST /uploads/{uploadId}/complete` of a file in one part, from passing the request to the \
            function until its answer. The control makes the same statement, one HEAD and one message, one \
            after the other, with the same clients in one process and without the Runtime API."
            .to_owned(),
        rows,
        counts,
        plot: Some(Plot {
            title: "Uploads completed per second by environments".to_owned(),
            x: "environments".to_owned(),
            y: "uploads per second".to_owned(),
            logarithmic: false,
            logarithmic_y: false,
            series: vec![series],
        }),
        notes,
    })
}

/// Instructions per invocation.
async fn instructions(harness: &Harness, variables: &Variables, user: &User) -> Result<Option<Row>> {
    let ours = Instructions::of(&harness.function("complete-upload", variables.clone()));
    let parts = Instructions::of(&harness.baseline("baseline-complete", variables.clone())?);
    let (Some(ours), Some(parts)) = (ours, parts) else {
        return Ok(None);
    };
    progress("  instructions");
    let many = 20;
    let ours = ours.of_one(many, async |process| {
        let uploads = harness.uploads(user, 1).await?;
        complete(harness, process, user, uploads).await.map(drop)
    });
    let ours = ours.await?;
    let parts = parts.of_one(many, async |process| {
        alone(process, user, harness.uploads(user, 1).await?)
            .await
            .map(drop)
    });
    let parts = parts.await?;
    Ok(Some(Row::ratio(
        "instructions",
        Unit::Number,
        vec![ours],
        "statement, HEAD and message alone",
        vec![parts],
    )))
}

/// Duration and cost by memory size.
async fn by_memory(harness: &Harness, variables: Variables, user: &User) -> Result<Option<Vec<Row>>> {
    progress("  by memory");
    let program = harness.function("complete-upload", variables);
    memory::costs(
        &program,
        harness.rounds(),
        harness.size(50, 2),
        "one",
        async |process| {
            let took = complete(harness, process, user, harness.uploads(user, 1).await?).await?;
            Ok(Summary::of(&took).median)
        },
    )
    .await
}

/// Number of uploads in a round.
fn many(harness: &Harness) -> usize {
    harness.size(200, 20)
}

/// Alternates warm invocations and their parts alone. The first round only opens connections and is not
/// counted.
async fn warm(harness: &Harness, variables: &Variables, user: &User) -> Result<Vec<Warm>> {
    let ours = harness.function("complete-upload", variables.clone());
    let parts = harness.baseline("baseline-complete", variables.clone())?;
    let (mut ours, mut parts) = (ours.start().await?, parts.start().await?);
    let mut rounds = Vec::new();
    for round in 0..=harness.rounds() {
        let alone = alone(&mut parts, user, harness.uploads(user, many(harness)).await?).await?;
        let took = complete(
            harness,
            &mut ours,
            user,
            harness.uploads(user, many(harness)).await?,
        )
        .await?;
        if round > 0 {
            rounds.push(Warm {
                took: Took::of(&took),
                parts: Summary::of(&alone).median,
            });
        }
    }
    Ok(rounds)
}

fn median(figure: &str, rounds: &[Warm]) -> Row {
    Row::ratio(
        figure,
        Unit::Milliseconds,
        each(rounds, |round| round.took.p50),
        "statement, HEAD and message alone",
        each(rounds, |round| round.parts),
    )
}

fn tail<T>(figure: &str, rounds: &[T], took: impl Fn(&T) -> Took) -> Row {
    Row::ratio(
        figure,
        Unit::Milliseconds,
        each(rounds, |round| took(round).p99),
        "p50",
        each(rounds, |round| took(round).p50),
    )
}

/// Throughput of several environments, compared with bare commits by the same number of clients.
async fn by_environments(harness: &Harness, variables: Variables) -> Result<(Vec<Row>, Series)> {
    let program = harness.everywhere(harness.function("complete-upload", variables.clone()));
    let bare = harness.everywhere(harness.baseline("baseline-commits", variables)?);
    let mut bare = bare.start().await?;
    let (mut rows, mut points) = (Vec::new(), Vec::new());
    for environments in ENVIRONMENTS {
        progress(&format!("  {environments} environments"));
        let mut crew = Crew::start(harness, &program, environments).await?;
        let mut rounds = Vec::new();
        for _ in 0..harness.rounds() {
            let commits = bare_commits(harness, &mut bare, environments).await?;
            let (took, rate) = crew.complete(harness, many(harness)).await?;
            rounds.push(Crowded {
                took: Took::of(&took),
                rate,
                commits,
            });
        }
        let rates = each(&rounds, |round| round.rate);
        points.push((number(environments), Summary::of(&rates).median));
        if environments == 8 {
            rows = crowded(&rounds);
        }
    }
    let name = "complete-upload".to_owned();
    Ok((rows, Series { name, points }))
}

/// Measures bare commits per second.
async fn bare_commits(harness: &Harness, process: &mut Process, clients: usize) -> Result<f64> {
    let task = commits::Task {
        clients,
        commits: harness.size(2_000, 100),
    };
    let answer = process.invoke(serde_json::to_vec(&task)?).await?.answer;
    Ok(serde_json::from_slice(&answer)?)
}

fn crowded(rounds: &[Crowded]) -> Vec<Row> {
    vec![
        tail("8 environments, p99", rounds, |round| round.took).at_most(4.0, None),
        Row::ratio(
            "8 environments, uploads per second",
            Unit::PerSecond,
            each(rounds, |round| round.rate),
            "bare commits by 8 clients",
            each(rounds, |round| round.commits),
        ),
    ]
}

/// Counts for one warm invocation, and the process's peak memory.
async fn counts(
    harness: &Harness,
    services: &Services,
    variables: Variables,
    user: &User,
) -> Result<(Vec<Count>, Row)> {
    progress("  counts");
    let program = harness.counted(&harness.function("complete-upload", variables));
    let mut ours = program.start().await?;
    complete(harness, &mut ours, user, harness.uploads(user, 5).await?).await?;
    services.relay.take();
    services.s3.server.take_requests();
    services.sqs.server.take_requests();
    for server in [&services.s3.server, &services.sqs.server] {
        server.take_connects();
    }
    let uploads = harness.uploads(user, 1).await?;
    let upload = uploads.first().context("no upload")?;
    let measured = ours.invoke(harness.completing(user, *upload)?).await?;
    answered(&measured.answer, 200)?;
    let passed = services.relay.take();
    let connects = services.s3.server.take_connects() + services.sqs.server.take_connects() + passed.connects;
    let counts = vec![
        Count::new(
            "database round trips: loading, committing, deleting from the outbox",
            passed.round_trips,
            3,
        ),
        Count::new("requests to S3", services.s3.server.take_requests(), 1),
        Count::new("requests to SQS", services.sqs.server.take_requests(), 1),
        Count::new("connections made by a warm one", connects, 0),
        Count::new("allocations", measured.allocations, 1_700),
    ];
    let memory = megabytes(ours.peak_memory()?);
    Ok((counts, Row::alone("peak memory", Unit::Megabytes, vec![memory])))
}

/// Completes the uploads one after the other. Returns the duration of each, in milliseconds.
pub(super) async fn complete(
    harness: &Harness,
    process: &mut Process,
    user: &User,
    uploads: Vec<Uuid>,
) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for upload in uploads {
        let measured = process.invoke(harness.completing(user, upload)?).await?;
        answered(&measured.answer, 200)?;
        took.push(milliseconds(measured.wall));
    }
    Ok(took)
}

/// Runs the parts alone for each upload. Returns the durations, in milliseconds.
async fn alone(process: &mut Process, user: &User, uploads: Vec<Uuid>) -> Result<Vec<f64>> {
    let task = Task {
        user: user.id.clone(),
        space: user.space_id,
        uploads,
    };
    let answer = process.invoke(serde_json::to_vec(&task)?).await?.answer;
    let took: Vec<f64> = serde_json::from_slice(&answer)?;
    Ok(took.into_iter().map(|micros| micros / 1e3).collect())
}

/// Concurrent environments, each with a separate user.
struct Crew(Vec<(Process, User)>);

impl Crew {
    async fn start(harness: &Harness, program: &Program, environments: usize) -> Result<Self> {
        let mut crew = Vec::new();
        for _ in 0..environments {
            let (mut process, user) = (program.start().await?, harness.user().await?);
            complete(harness, &mut process, &user, harness.uploads(&user, 5).await?).await?;
            crew.push((process, user));
        }
        Ok(Self(crew))
    }

    /// Completes uploads in all environments at once. Returns the durations in milliseconds, and the uploads
    /// per second.
    async fn complete(&mut self, harness: &Harness, many: usize) -> Result<(Vec<f64>, f64)> {
        let mut uploads = Vec::new();
        for (_, user) in &self.0 {
            uploads.push(harness.uploads(user, many).await?);
        }
        let begun = Instant::now();
        let all = try_join_all(
            self.0
                .iter_mut()
                .zip(uploads)
                .map(|((process, user), uploads)| complete(harness, process, user, uploads)),
        )
        .await?;
        let took: Vec<f64> = all.into_iter().flatten().collect();
        let rate = number(took.len()) / begun.elapsed().as_secs_f64();
        Ok((took, rate))
    }
}

/// Percentile of the values by the nearest-rank method; NaN if there are none.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
