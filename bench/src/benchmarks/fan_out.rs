//! `fan-out`: posts per second and CPU, beside a plain client's and the peers'.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use uuid::Uuid;

use super::queue::Batches;
use super::{Serving, megabytes, number, progress};
use crate::limit::posts::Task;
use crate::process::{Process, Program};
use crate::report::{Benchmark, Count, Goal, Plot, Row, Series, Unit};
use crate::stage::{Services, Stage, milliseconds};
use crate::stand_in::posts::{Faults, densest};

/// As many as fan-out has.
const IN_FLIGHT: usize = 64;

/// What each post waits for in some rows.
const LATENCY: Duration = Duration::from_millis(10);

/// Posts per second that are allowed where the pace is measured.
const PACE: u32 = 1_000;

/// A space and who listens to it.
struct Audience {
    space_id: Uuid,
    ids: Vec<String>,
}

/// One event delivered to all, in as many invocations as it took.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    wall: Duration,
    cpu: Duration,
    posts: usize,
    allocations: u64,
    invocations: u32,
    server_bound: bool,
}

impl Delivered {
    fn per_second(&self) -> f64 {
        number(self.posts) / self.wall.as_secs_f64()
    }

    /// In microseconds.
    fn cpu_per_post(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / number(self.posts)
    }
}

/// Everything at hand.
struct Hall<'a> {
    stage: &'a Stage,
    services: &'a Services,
    batches: Batches,
    frame: String,
}

impl<'a> Hall<'a> {
    fn new(stage: &'a Stage, services: &'a Services) -> Result<Self> {
        let batches = Batches::new(stage)?;
        // As long as a real one, within a few bytes.
        let body = batches.message(Uuid::nil(), 1)?;
        let frame = format!(
            r#"{{"type":"changes","spaceId":"{}","changes":[{body}]}}"#,
            Uuid::nil()
        );
        Ok(Self {
            stage,
            services,
            batches,
            frame,
        })
    }

    /// Makes a shared space whose members have ten connections each, or as many as there are.
    async fn audience(&self, connections: usize) -> Result<Audience> {
        let space_id = edge::ids::new_id();
        let tag = space_id.simple().to_string();
        let tag = tag.get(20..).unwrap_or_default().to_owned();
        let ids: Vec<String> = (0..connections).map(|i| format!("{tag}{i:08}=")).collect();
        let sql = format!(
            "INSERT INTO spaces (id, kind, name, created_at) VALUES ('{space_id}', 'shared', 'bench', now());
            INSERT INTO members (space_id, user_id, role, added_at)
            SELECT '{space_id}', 'u{tag}' || i, 'editor', now() FROM generate_series(0, {last} / 10) i;",
            last = connections.saturating_sub(1),
        );
        self.stage
            .client
            .batch_execute(&sql)
            .await
            .context("cannot make an audience")?;
        let audience = Audience { space_id, ids };
        self.connect(&audience).await?;
        Ok(audience)
    }

    /// Stores the connections that are not there.
    async fn connect(&self, audience: &Audience) -> Result<()> {
        let sql = "INSERT INTO connections (connection_id, user_id, connected_at, expires_at)
            SELECT id, 'u' || left(id, 12) || ((n - 1) / 10), now() - interval '1 hour', now() + interval '1 hour'
            FROM unnest($1::text[]) WITH ORDINALITY AS given (id, n)
            ON CONFLICT DO NOTHING";
        self.stage
            .client
            .execute(sql, &[&audience.ids])
            .await
            .context("cannot connect")?;
        self.stage
            .client
            .batch_execute("ANALYZE connections; ANALYZE members")
            .await?;
        Ok(())
    }

    /// Delivers messages until none is left, and checks that every connection in `expected` heard once of each of `events` events, and nobody else.
    async fn deliver(
        &self,
        process: &mut Process,
        messages: Vec<String>,
        expected: &HashSet<&str>,
        events: usize,
    ) -> Result<(Delivered, Vec<Instant>)> {
        self.services.posts.forget();
        let serving = Serving::begin();
        let mut all = Delivered {
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            posts: 0,
            allocations: 0,
            invocations: 0,
            server_bound: false,
        };
        let mut messages = messages;
        while !messages.is_empty() {
            let measured = process.invoke(self.batches.of(&messages)).await?;
            let answer: Value = serde_json::from_slice(&measured.answer)?;
            let failures = answer["batchItemFailures"].as_array().map_or(0, Vec::len);
            ensure!(failures == 0, "{failures} records failed");
            all.wall += measured.wall;
            all.cpu += measured.cpu;
            all.allocations += measured.allocations;
            all.invocations += 1;
            messages = self.services.sqs.receive(10);
        }
        all.server_bound = serving.was_bound();
        ensure!(
            self.services.sqs.dead_letters() == 0,
            "messages were dead-lettered"
        );
        let posted = self.services.posts.take()?;
        ensure!(
            posted.frames.len() == expected.len(),
            "{} connections heard, not {}",
            posted.frames.len(),
            expected.len()
        );
        for (id, frames) in &posted.frames {
            ensure!(expected.contains(id.as_str()), "{id} heard what was not for it");
            let mut heard = HashSet::new();
            for frame in frames {
                let frame: Value = serde_json::from_slice(frame)?;
                for change in frame["changes"].as_array().map(Vec::as_slice).unwrap_or_default() {
                    ensure!(
                        heard.insert(change["eventId"].to_string()),
                        "{id} heard twice of an event"
                    );
                }
            }
            ensure!(
                heard.len() == events,
                "{id} heard of {} events, not {events}",
                heard.len()
            );
        }
        all.posts = posted.frames.values().map(Vec::len).sum();
        Ok((all, posted.times))
    }

    /// One event to an audience, of whom `gone` percent are gone.
    async fn one(&self, process: &mut Process, audience: &Audience, gone: u32) -> Result<Delivered> {
        let alive = audience
            .ids
            .iter()
            .filter(|id| crate::stand_in::posts::lot(id) >= gone);
        let expected: HashSet<&str> = alive.map(String::as_str).collect();
        let message = self.batches.message(audience.space_id, 1)?;
        Ok(self.deliver(process, vec![message], &expected, 1).await?.0)
    }

    /// The limit posts as many.
    async fn limit(&self, process: &mut Process, ids: &[String]) -> Result<Delivered> {
        let task = Task {
            ids: ids.to_vec(),
            frame: self.frame.clone(),
            in_flight: IN_FLIGHT.min(ids.len()),
            endpoint: self.services.posts.endpoint(),
            authority: self.stage.authority.pem.clone(),
        };
        let serving = Serving::begin();
        let measured = process.invoke(serde_json::to_vec(&task)?).await?;
        let posts: usize = serde_json::from_slice(&measured.answer)?;
        ensure!(
            posts == ids.len() && self.services.posts.answered() >= posts,
            "the limit lost posts"
        );
        self.services.posts.forget();
        Ok(Delivered {
            wall: measured.wall,
            cpu: measured.cpu,
            posts,
            allocations: measured.allocations,
            invocations: 1,
            server_bound: serving.was_bound(),
        })
    }

    fn peers(&self, variables: &[(&'static str, String)]) -> Vec<(&'static str, Program)> {
        let options = &self.stage.options;
        let node = options.node_peer.as_ref().map(|folder| {
            let script = folder.join("bootstrap.mjs").display().to_string();
            let program =
                self.stage
                    .program("peer-node", vec!["node".to_owned(), script], variables.to_vec());
            ("Node.js peer", program)
        });
        let python = options.python_peer.as_ref().map(|folder| {
            let python = folder.join("bin/python").display().to_string();
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/python/bootstrap.py").to_owned();
            let command = vec![python, "-B".to_owned(), script];
            (
                "Python peer",
                self.stage.program("peer-python", command, variables.to_vec()),
            )
        });
        node.into_iter().chain(python).collect()
    }
}

/// Runs it.
pub(crate) async fn run(stage: &Stage) -> Result<Benchmark> {
    let services = stage.services(false).await?;
    let hall = Hall::new(stage, &services)?;
    let variables = stage.variables(&services, stage.direct_url());
    let ours = stage.function("fan-out", variables.clone());
    let limit = stage.limit("limit-posts", Vec::new())?;

    let many = stage.size(10_000, 1_000);
    let sizes: Vec<usize> = [1, 10, 100, 1_000, 10_000]
        .into_iter()
        .filter(|size| *size <= many)
        .collect();
    let mut audiences = Vec::new();
    for size in &sizes {
        audiences.push(hall.audience(*size).await?);
    }
    let largest = audiences.last().context("no audience")?;

    let (mut rows, mut counts) = (Vec::new(), Vec::new());
    let mut series: Vec<Series> = Vec::new();

    // ---- Against the limit and the peers, by size.
    progress("  by number of recipients");
    let mut process = ours.start().await?;
    let mut control = limit.start().await?;
    let mut peers = Vec::new();
    for (name, program) in hall.peers(&variables) {
        peers.push((name, program.start().await?));
    }
    let names = ["plain hyper", "fan-out"]
        .into_iter()
        .chain(peers.iter().map(|(name, _)| *name));
    series.extend(names.map(|name| Series {
        name: name.to_owned(),
        points: Vec::new(),
    }));
    let mut by_size: Vec<Vec<Vec<Delivered>>> = Vec::new();
    for audience in &audiences {
        let mut all: Vec<Vec<Delivered>> = vec![Vec::new(); 2 + peers.len()];
        // The first is for connections to be made.
        for round in 0..=stage.rounds() {
            let mut of_round = vec![
                hall.limit(&mut control, &audience.ids).await?,
                hall.one(&mut process, audience, 0).await?,
            ];
            for (_, peer) in &mut peers {
                of_round.push(hall.one(peer, audience, 0).await?);
            }
            if round > 0 {
                for (all, one) in all.iter_mut().zip(of_round) {
                    all.push(one);
                }
            }
        }
        for (series, all) in series.iter_mut().zip(&all) {
            let rates: Vec<f64> = all.iter().map(Delivered::per_second).collect();
            series.points.push((
                number(audience.ids.len()),
                crate::report::Summary::of(&rates).median,
            ));
        }
        by_size.push(all);
    }
    let all = by_size.last().context("no size")?;
    let (theirs, own) = (&all[0], &all[1]);
    let mut row = Row::ratio(
        format!("posts per second, {many} recipients"),
        Unit::PerSecond,
        values(own, Delivered::per_second),
        "plain hyper",
        values(theirs, Delivered::per_second),
    );
    row.server_bound = own.iter().chain(theirs).any(|one| one.server_bound);
    rows.push(row.at_least(0.5, Some(0.8)));
    rows.push(
        Row::ratio(
            "CPU per post",
            Unit::Microseconds,
            values(own, Delivered::cpu_per_post),
            "plain hyper",
            values(theirs, Delivered::cpu_per_post),
        )
        .at_most(2.0, Some(1.3)),
    );
    for ((name, goal), peer) in [("Node.js peer", 20.0), ("Python peer", 25.0)]
        .iter()
        .zip(&all[2..])
    {
        rows.push(
            Row::ratio(
                "CPU per post",
                Unit::Microseconds,
                values(own, Delivered::cpu_per_post),
                *name,
                values(peer, Delivered::cpu_per_post),
            )
            .at_most(1.0 / goal, Some(1.0 / 40.0)),
        );
    }
    if let [.., before, last] = by_size.as_slice() {
        let tenfold = |one: &Delivered| 10.0 * milliseconds(one.wall);
        rows.push(
            Row::ratio(
                format!("time for {many}"),
                Unit::Milliseconds,
                values(&last[1], |one| milliseconds(one.wall)),
                format!("ten times that for {}", many / 10),
                values(&before[1], tenfold),
            )
            .at_most(1.1, None),
        );
    }
    let memory = process.peak_memory()?;
    rows.push(Row::alone("peak memory", Unit::Megabytes, vec![megabytes(memory)]).at_most(24.0, Some(14.0)));
    for (name, peer) in &peers {
        let theirs = megabytes(peer.peak_memory()?);
        rows.push(Row::ratio(
            "peak memory",
            Unit::Megabytes,
            vec![megabytes(memory)],
            *name,
            vec![theirs],
        ));
    }
    drop(peers);

    // ---- Latency and faults, in turn.
    progress("  latency and faults");
    let (mut slow, mut slow_limit, mut clean, mut throttled, mut gone) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..stage.rounds() {
        services.posts.server.set_latency(LATENCY);
        slow_limit.push(hall.limit(&mut control, &largest.ids).await?);
        slow.push(hall.one(&mut process, largest, 0).await?);
        services.posts.server.set_latency(Duration::ZERO);
        clean.push(hall.one(&mut process, largest, 0).await?);
        services.posts.set_faults(Faults {
            throttled: 5,
            gone: 0,
        });
        throttled.push(hall.one(&mut process, largest, 0).await?);
        services.posts.set_faults(Faults {
            throttled: 0,
            gone: 30,
        });
        gone.push(hall.one(&mut process, largest, 30).await?);
        services.posts.set_faults(Faults::default());
        let sql = "SELECT count(*) FROM connections WHERE connection_id = ANY ($1)";
        let left: i64 = stage.client.query_one(sql, &[&largest.ids]).await?.get(0);
        ensure!(
            usize::try_from(left)? == largest.ids.len() * 7 / 10,
            "{left} connections are left"
        );
        hall.connect(largest).await?;
    }
    let wall = |one: &Delivered| milliseconds(one.wall);
    let ideal = milliseconds(LATENCY) * number(largest.ids.len()) / number(IN_FLIGHT);
    rows.push(
        Row::ratio(
            "time with 10 ms latency",
            Unit::Milliseconds,
            values(&slow, wall),
            "n × latency ÷ in flight",
            vec![ideal; slow.len()],
        )
        .at_most(1.3, Some(1.15)),
    );
    rows.push(Row::ratio(
        "time with 10 ms latency",
        Unit::Milliseconds,
        values(&slow, wall),
        "plain hyper",
        values(&slow_limit, wall),
    ));
    rows.push(
        Row::ratio(
            "time, 5 % throttled once",
            Unit::Milliseconds,
            values(&throttled, wall),
            "none throttled",
            values(&clean, wall),
        )
        .at_most(1.5, Some(1.2)),
    );
    rows.push(
        Row::ratio(
            "time, 30 % gone",
            Unit::Milliseconds,
            values(&gone, wall),
            "none gone",
            values(&clean, wall),
        )
        .at_most(1.1, None),
    );

    // ---- Ten events at once.
    progress("  ten events");
    let hundred = hall.audience(100.min(many)).await?;
    let mut spaces = Vec::new();
    for _ in 0..10 {
        spaces.push(hall.audience(10).await?);
    }
    let (mut single, mut same, mut different) = (vec![], vec![], vec![]);
    for _ in 0..stage.rounds() {
        single.push(hall.one(&mut process, &hundred, 0).await?);
        let expected: HashSet<&str> = hundred.ids.iter().map(String::as_str).collect();
        let messages: Result<Vec<_>> = (1..=10)
            .map(|i| hall.batches.message(hundred.space_id, i))
            .collect();
        same.push(hall.deliver(&mut process, messages?, &expected, 10).await?.0);
        let expected: HashSet<&str> = spaces
            .iter()
            .flat_map(|space| &space.ids)
            .map(String::as_str)
            .collect();
        let messages: Result<Vec<_>> = spaces
            .iter()
            .map(|space| hall.batches.message(space.space_id, 1))
            .collect();
        different.push(hall.deliver(&mut process, messages?, &expected, 1).await?.0);
    }
    rows.push(Row::ratio(
        "10 events to the same 100",
        Unit::Milliseconds,
        values(&same, wall),
        "1 event to them",
        values(&single, wall),
    ));
    rows.push(Row::ratio(
        "10 events to 10 each",
        Unit::Milliseconds,
        values(&different, wall),
        "1 event to 100",
        values(&single, wall),
    ));
    drop(process);

    // ---- Pace.
    progress("  pace");
    let mut paced_variables = variables.clone();
    for (name, value) in &mut paced_variables {
        if *name == "POSTS_PER_SECOND" {
            *value = PACE.to_string();
        }
    }
    let mut paced = stage.function("fan-out", paced_variables).start().await?;
    let crowd = hall.audience(stage.size(5_000, 1_000)).await?;
    let expected: HashSet<&str> = crowd.ids.iter().map(String::as_str).collect();
    let message = hall.batches.message(crowd.space_id, 1)?;
    let (_, times) = hall.deliver(&mut paced, vec![message], &expected, 1).await?;
    drop(paced);
    let most = number(densest(&times, Duration::from_secs(1)));
    let mut row = Row::ratio(
        "most posts in any 1 s",
        Unit::Number,
        vec![most],
        "the configured rate",
        vec![f64::from(PACE)],
    );
    row.goal = Some(Goal::Between {
        least: 0.95,
        most: 1.05,
    });
    rows.push(row);
    let after = |times: &[Instant]| -> Vec<Instant> {
        let first = times.iter().min().copied();
        times
            .iter()
            .copied()
            .filter(|time| first.is_some_and(|first| *time - first > Duration::from_secs(1)))
            .collect()
    };
    if !stage.options.quick {
        let most = number(densest(&after(&times), Duration::from_secs(1)));
        rows.push(Row::ratio(
            "the same after the first second",
            Unit::Number,
            vec![most],
            "the configured rate",
            vec![f64::from(PACE)],
        ));
    }

    // ---- Over TLS.
    progress("  over TLS");
    let secured = stage.services(true).await?;
    let tls = Hall::new(stage, &secured)?;
    let tls_variables = stage.variables(&secured, stage.direct_url());
    let mut process = stage.function("fan-out", tls_variables.clone()).start().await?;
    let mut control = limit.start().await?;
    let (mut own, mut theirs) = (vec![], vec![]);
    for round in 0..=stage.rounds() {
        let limited = tls.limit(&mut control, &largest.ids).await?;
        let one = tls.one(&mut process, largest, 0).await?;
        if round == 0 {
            counts.push(Count {
                what: "TLS connections for the first event".to_owned(),
                counted: u32::try_from(secured.posts.server.take_connects()).map_or(f64::MAX, f64::from)
                    - number(IN_FLIGHT),
                most: number(IN_FLIGHT),
            });
        } else {
            theirs.push(limited);
            own.push(one);
        }
    }
    rows.push(Row::ratio(
        "posts per second over TLS",
        Unit::PerSecond,
        values(&own, Delivered::per_second),
        "plain hyper",
        values(&theirs, Delivered::per_second),
    ));
    rows.push(Row::ratio(
        "CPU per post over TLS",
        Unit::Microseconds,
        values(&own, Delivered::cpu_per_post),
        "plain hyper",
        values(&theirs, Delivered::cpu_per_post),
    ));
    drop(process);

    // ---- Counts.
    progress("  counts");
    let relayed = stage.variables(&services, stage.relayed_url(&services));
    let mut process = stage.counted(&stage.function("fan-out", relayed)).start().await?;
    let thousand = hall.audience(1_000).await?;
    hall.one(&mut process, &thousand, 0).await?;
    services.relay.take();
    services.sqs.take_requests();
    let one = hall.one(&mut process, &thousand, 0).await?;
    let passed = services.relay.take();
    counts.push(Count::new(
        "database round trips of 1,000 recipients",
        passed.round_trips,
        1,
    ));
    counts.push(Count::new(
        "SQS requests of 1,000 recipients",
        services.sqs.take_requests(),
        0,
    ));
    counts.push(Count::new(
        "invocations of 1,000 recipients",
        one.invocations.into(),
        1,
    ));
    counts.push(Count {
        what: "allocations per post".to_owned(),
        counted: u32::try_from(one.allocations).map_or(f64::MAX, f64::from) / 1_000.0,
        most: 120.0,
    });
    services.posts.set_faults(Faults {
        throttled: 0,
        gone: 30,
    });
    hall.one(&mut process, &thousand, 30).await?;
    services.posts.set_faults(Faults::default());
    services.relay.take();
    hall.connect(&thousand).await?;
    services.posts.set_faults(Faults {
        throttled: 0,
        gone: 30,
    });
    hall.one(&mut process, &thousand, 30).await?;
    services.posts.set_faults(Faults::default());
    counts.push(Count::new(
        "database round trips of 1,000 recipients, 300 gone",
        services.relay.take().round_trips,
        2,
    ));

    Ok(Benchmark {
        name: "fan-out".to_owned(),
        about: "One event to all who listen, from the first invocation to the last answer, 64 posts in flight, without a pace. Every frame and \
            every signature is checked. The limit is a plain hyper client that posts as many bytes, 64 in flight, and signs nothing. The peers \
            are the same fan-out as it is ordinarily written with the AWS SDKs for Node.js and Python (`bench/peers`)."
            .to_owned(),
        rows,
        counts,
        plot: Some(Plot {
            title: "Posts per second by recipients".to_owned(),
            x: "recipients".to_owned(),
            y: "posts per second".to_owned(),
            logarithmic: true,
            series,
        }),
        notes: Vec::new(),
    })
}

fn values(all: &[Delivered], value: impl Fn(&Delivered) -> f64) -> Vec<f64> {
    all.iter().map(value).collect()
}
