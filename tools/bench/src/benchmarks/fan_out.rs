//! `fan-out`: posts per second and CPU time, compared with a plain HTTP client and the references.

mod by_size;
mod faults;
mod fixture;
mod subjects;

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{LATENCY_OF_AWS, each, memory, number, progress};
use crate::harness::{Harness, Variables, with};
use crate::posts::{Faults, densest};
use crate::process::{Instructions, NO_VALGRIND, Process, Program};
use crate::report::{Benchmark, Count, Goal, Plot, Row, Unit, float};
use by_size::by_size;
use faults::latency_and_faults;
use fixture::{Audience, Delivered, Fixture, bound};
use subjects::{Subjects, references};

/// Posts in flight, as in `fan-out`.
const IN_FLIGHT: usize = 64;

/// Rate limit, in posts per second, in the benchmark of the rate limiter.
const PACE: u32 = 1_000;

/// Interval of the rate limit.
const SECOND: Duration = Duration::from_secs(1);

/// 30 % of the connections are gone, but still in the database.
const SOME_GONE: Faults = Faults {
    throttled: 0,
    gone: 30,
};

/// Runs the `fan-out` benchmark.
pub(crate) async fn run(harness: &Harness) -> Result<Benchmark> {
    let services = harness.services(false).await?;
    let fixture = Fixture::new(harness, &services)?;
    let variables = harness.variables(&services, harness.direct_url());
    let baseline = harness.baseline("baseline-posts", Vec::new())?;
    let audiences = audiences(&fixture).await?;
    let largest = audiences.last().context("no audience")?;

    let mut subjects = Subjects::start(&harness.function("fan-out", variables.clone()), &baseline).await?;
    subjects.references = references(harness, &variables).await?;
    let (mut rows, series) = by_size(&fixture, &mut subjects, &audiences).await?;
    subjects.references.clear();
    rows.extend(latency_and_faults(&fixture, &mut subjects, largest).await?);
    rows.extend(ten_events(&fixture, &mut subjects.ours).await?);
    drop(subjects);
    rows.push(pace(&fixture, variables.clone()).await?);
    let mut notes = Vec::new();
    match instructions(
        &fixture,
        &harness.function("fan-out", variables.clone()),
        &baseline,
    )
    .await?
    {
        Some(row) => {
            rows.push(row);
            notes.push(
                "Valgrind does not emulate SHA instructions, so signing takes far more instructions \
                    there than on real processors."
                    .to_owned(),
            );
        }
        None => notes.push(NO_VALGRIND.to_owned()),
    }
    match by_memory(&fixture, &harness.function("fan-out", variables)).await? {
        Some(costs) => rows.extend(costs),
        None => notes.push(memory::NO_GROUPS.to_owned()),
    }
    let (secured, connections) = over_tls(harness, &baseline, largest).await?;
    rows.extend(secured);
    let mut counted = vec![connections];
    counted.extend(counts(&fixture).await?);

    Ok(Benchmark {
        name: "fan-out".to_owned(),
        about: "One event to all listening connections, from the first invocation to the last answer, with \
            64 posts in flight and without a rate limit. Every frame and every signature is checked. The \
            baseline is a plain hyper client that posts as many bytes, 64 in flight, without \
            signatures. The references are ordinary implementations of fan-out with the AWS SDKs for Node.js \
            and Python (`tools/bench/references`)."
            .to_owned(),
        rows,
        counts: counted,
        plot: Some(Plot {
            title: "Posts per second by recipients".to_owned(),
            x: "recipients".to_owned(),
            y: "posts per second".to_owned(),
            logarithmic: true,
            logarithmic_y: false,
            series,
        }),
        notes,
    })
}

/// One audience of each size, smallest first.
async fn audiences(fixture: &Fixture<'_>) -> Result<Vec<Audience>> {
    let many = fixture.harness.size(10_000, 1_000);
    let mut audiences = Vec::new();
    for size in [1, 10, 100, 1_000, 10_000] {
        if size <= many {
            audiences.push(fixture.audience(size).await?);
        }
    }
    Ok(audiences)
}

/// A round of one event and of ten events in one batch.
struct Batched {
    single: Delivered,
    /// Ten events to the same connections as the single event.
    same: Delivered,
    /// Ten events in ten spaces, each with ten connections.
    different: Delivered,
}

async fn ten_events(fixture: &Fixture<'_>, process: &mut Process) -> Result<Vec<Row>> {
    progress("  ten events");
    let hundred = fixture.audience(100).await?;
    let mut spaces = Vec::new();
    for _ in 0..10 {
        spaces.push(fixture.audience(10).await?);
    }
    let mut rounds = Vec::new();
    for _ in 0..fixture.harness.rounds() {
        let single = fixture.one(process, &hundred).await?;
        let messages: Result<Vec<_>> = (1..=10)
            .map(|i| fixture.batches.message(hundred.space_id, i))
            .collect();
        let all: HashSet<&str> = hundred.listeners().collect();
        let same = fixture.deliver(process, messages?, &all, 10).await?;
        let messages: Result<Vec<_>> = spaces
            .iter()
            .map(|space| fixture.batches.message(space.space_id, 1))
            .collect();
        let all: HashSet<&str> = spaces.iter().flat_map(Audience::listeners).collect();
        let different = fixture.deliver(process, messages?, &all, 1).await?;
        rounds.push(Batched {
            single,
            same,
            different,
        });
    }
    let single = each(&rounds, |round| round.single.milliseconds());
    Ok(vec![
        Row::ratio(
            "10 events to the same 100",
            Unit::Milliseconds,
            each(&rounds, |round| round.same.milliseconds()),
            "1 event to them",
            single.clone(),
        ),
        Row::ratio(
            "10 events to 10 each",
            Unit::Milliseconds,
            each(&rounds, |round| round.different.milliseconds()),
            "1 event to 100",
            single,
        ),
    ])
}

async fn pace(fixture: &Fixture<'_>, variables: Variables) -> Result<Row> {
    progress("  pace");
    let harness = fixture.harness;
    let variables = with(variables, "POSTS_PER_SECOND", &PACE.to_string());
    let mut paced = harness.function("fan-out", variables).start().await?;
    let crowd = fixture.audience(harness.size(5_000, 1_000)).await?;
    let times = fixture.one(&mut paced, &crowd).await?.times;
    let mut most = Row::ratio(
        "most posts in any 1 s",
        Unit::Number,
        vec![number(densest(&times, SECOND))],
        "the configured rate",
        vec![f64::from(PACE)],
    );
    most.goal = Some(Goal::Between {
        least: 0.95,
        most: 1.05,
    });
    Ok(most)
}

/// Instructions per post, for 1,000 posts.
async fn instructions(fixture: &Fixture<'_>, ours: &Program, baseline: &Program) -> Result<Option<Row>> {
    let (Some(ours), Some(baseline)) = (Instructions::of(ours), Instructions::of(baseline)) else {
        return Ok(None);
    };
    progress("  instructions");
    let thousand = fixture.audience(1_000).await?;
    let ours = ours.of_one(3, async |process| fixture.one(process, &thousand).await.map(drop));
    let ours = ours.await?;
    let baseline = baseline.of_one(3, async |process| {
        fixture.baseline(process, &thousand).await.map(drop)
    });
    let baseline = baseline.await?;
    Ok(Some(Row::ratio(
        "instructions per post",
        Unit::Number,
        vec![ours / 1_000.0],
        "plain hyper",
        vec![baseline / 1_000.0],
    )))
}

/// Delivers one event to 1,000 connections by memory size, with simulated latency.
async fn by_memory(fixture: &Fixture<'_>, program: &Program) -> Result<Option<Vec<Row>>> {
    progress("  by memory");
    let thousand = fixture.audience(1_000).await?;
    let posts = &fixture.services.posts.fake.server;
    posts.set_latency(LATENCY_OF_AWS);
    let (rounds, events) = (fixture.harness.rounds(), fixture.harness.size(10, 1));
    let costs = memory::costs(program, rounds, events, "1 event to 1,000", async |process| {
        Ok(fixture.one(process, &thousand).await?.milliseconds())
    });
    let costs = costs.await;
    posts.set_latency(Duration::ZERO);
    costs
}

async fn over_tls(harness: &Harness, baseline: &Program, audience: &Audience) -> Result<(Vec<Row>, Count)> {
    progress("  over TLS");
    let services = harness.services(true).await?;
    let fixture = Fixture::new(harness, &services)?;
    let variables = harness.variables(&services, harness.direct_url());
    let mut subjects = Subjects::start(&harness.function("fan-out", variables), baseline).await?;
    subjects.round(&fixture, audience).await?;
    let connects = services.posts.fake.server.take_connects();
    let rounds = subjects.rounds(&fixture, audience).await?;
    let rate = Row::ratio(
        "posts per second over TLS",
        Unit::PerSecond,
        each(&rounds, |round| round.ours.per_second()),
        "plain hyper",
        each(&rounds, |round| round.baseline.per_second()),
    );
    let rows = vec![
        bound(
            rate,
            rounds.iter().flat_map(|round| [&round.ours, &round.baseline]),
        ),
        Row::ratio(
            "CPU per post over TLS",
            Unit::Microseconds,
            each(&rounds, |round| round.ours.cpu_per_post()),
            "plain hyper",
            each(&rounds, |round| round.baseline.cpu_per_post()),
        ),
    ];
    let connections = Count {
        what: "TLS connections for the first event".to_owned(),
        // The baseline opened this many connections too.
        counted: float(connects) - number(IN_FLIGHT),
        most: number(IN_FLIGHT),
    };
    Ok((rows, connections))
}

async fn counts(fixture: &Fixture<'_>) -> Result<Vec<Count>> {
    progress("  counts");
    let Fixture {
        harness, services, ..
    } = fixture;
    let relayed = harness.variables(services, harness.relayed_url(services));
    let program = harness.counted(&harness.function("fan-out", relayed));
    let mut process = program.start().await?;
    let thousand = fixture.audience(1_000).await?;

    fixture.one(&mut process, &thousand).await?;
    services.relay.take();
    services.sqs.server.take_requests();
    let one = fixture.one(&mut process, &thousand).await?;
    let (passed, requests) = (services.relay.take(), services.sqs.server.take_requests());

    fixture
        .deliver_with_faults(&mut process, &thousand, SOME_GONE)
        .await?;
    services.relay.take();
    fixture.connect(&thousand).await?;
    fixture
        .deliver_with_faults(&mut process, &thousand, SOME_GONE)
        .await?;
    let deleting = services.relay.take();

    Ok(vec![
        Count::new("database round trips of 1,000 recipients", passed.round_trips, 1),
        Count::new("SQS requests of 1,000 recipients", requests, 0),
        Count::new("invocations of 1,000 recipients", one.invocations.into(), 1),
        Count {
            what: "allocations per post".to_owned(),
            counted: float(one.allocations) / 1_000.0,
            most: 120.0,
        },
        Count::new(
            "database round trips of 1,000 recipients, 300 gone",
            deleting.round_trips,
            2,
        ),
    ])
}
