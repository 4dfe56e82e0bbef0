//! Cold starts: from the start of the process to its first response, over TLS.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};

use super::queue::Batches;
use super::{each, megabytes, memory, progress};
use crate::harness::{Harness, Services, Variables, milliseconds, with};
use crate::process::{Measured, Process, Program, Quota};
use crate::report::{Benchmark, Plot, Row, Series, Summary, Unit};
use crate::requests::User;

/// All functions that are measured.
const FUNCTIONS: [&str; 10] = [
    "files",
    "complete-upload",
    "uploads",
    "fan-out",
    "changes",
    "spaces",
    "account",
    "migrate",
    "maintenance",
    "connections",
];

/// Warm invocations that the first invocation is compared with.
const WARM: usize = 5;

/// A database URL whose port refuses connections.
const NO_DATABASE: &str = "postgresql://syncsphere:password@127.0.0.1:1/syncsphere";

/// Programs and configuration for the measurements.
struct Setup<'a> {
    harness: &'a Harness,
    variables: Variables,
    /// The same variables with an unreachable database.
    detached: Variables,
    /// Empty function.
    empty: Program,
    /// Empty function with a database connection.
    database: Program,
    user: User,
}

/// Duration and CPU time of an init phase, in milliseconds.
struct Init {
    wall: f64,
    cpu: f64,
}

impl Init {
    fn of(process: &Process) -> Self {
        Self {
            wall: milliseconds(process.init),
            cpu: milliseconds(process.init_cpu),
        }
    }
}

/// One round of init phases.
struct Inits {
    empty: Init,
    detached: Init,
    database: Init,
    ours: Init,
    /// Resident memory of our function after init, in megabytes.
    resident: f64,
}

/// CPU time of an environment's invocations, in milliseconds.
struct Invocations {
    first: f64,
    /// Median of the later invocations.
    warm: f64,
}

/// Runs the cold start benchmark.
pub(crate) async fn run(harness: &Harness) -> Result<Benchmark> {
    let services = harness.services(true).await?;
    // Removes outbox rows of another benchmark, which `maintenance` would otherwise publish.
    harness.client.batch_execute("DELETE FROM outbox").await?;
    let variables = harness.variables(&services, harness.relayed_url(&services));
    let setup = Setup {
        harness,
        detached: with(variables.clone(), "DATABASE_URL", NO_DATABASE),
        empty: harness.baseline_program("baseline-empty", variables.clone())?,
        database: harness.baseline_program("baseline-database", variables.clone())?,
        user: harness.user().await?,
        variables,
    };
    let (mut rows, mut series) = (Vec::new(), Vec::new());
    let mut notes = vec![
        "Zips with the S3 client's presigning or reading contain 0.7 MB of tables for checksums that \
            this project does not use (crc-fast, a dependency of the client)."
            .to_owned(),
    ];
    for name in FUNCTIONS {
        progress(&format!("  {name}"));
        let program = harness.function(name, setup.variables.clone());
        rows.extend(sizes(harness, name)?);
        let inits = setup.inits(&program).await?;
        rows.extend(without_database(name, &inits));
        // `migrate` signs in to the database only when invoked.
        if name == "migrate" {
            continue;
        }
        rows.push(with_database(name, &inits));
        rows.push(setup.first_invocation(&program).await?);
        let by_memory = setup.by_memory(&program).await?;
        rows.extend(with_256_mb(name, &by_memory));
        series.push(line(name, &by_memory));
    }
    if series.iter().any(|line| line.points.len() < memory::SIZES.len()) {
        notes.push(memory::NO_GROUPS.to_owned());
    }
    drain(&services);
    Ok(Benchmark {
        name: "cold".to_owned(),
        about: "A new environment of each function, with TLS to S3, SQS, `@connections` and PostgreSQL. \
            Init lasts from the start of the process until its request for the first invocation, with a \
            full core, as on Lambda. The invocation is then measured with a full core, and with the CPU \
            share of each memory size. An empty function is `lambda_runtime` with the same logging and no \
            other code."
            .to_owned(),
        rows,
        counts: Vec::new(),
        plot: Some(Plot {
            title: "First invocation by memory".to_owned(),
            x: "memory (MB)".to_owned(),
            y: "milliseconds".to_owned(),
            logarithmic: true,
            logarithmic_y: true,
            series,
        }),
        notes,
    })
}

/// Discards the messages and posts caused by an invocation.
fn drain(services: &Services) {
    services.sqs.take(usize::MAX);
    services.posts.discard();
}

impl Setup<'_> {
    /// Init phases with and without a database.
    async fn inits(&self, program: &Program) -> Result<Vec<Inits>> {
        let detached = self.harness.function(program.name, self.detached.clone());
        let mut rounds = Vec::new();
        for _ in 0..self.harness.rounds().max(3) * 2 - 1 {
            let empty = self.empty.start().await?;
            let detached = detached.start().await?;
            let database = self.database.start().await?;
            let ours = program.start().await?;
            rounds.push(Inits {
                empty: Init::of(&empty),
                detached: Init::of(&detached),
                database: Init::of(&database),
                ours: Init::of(&ours),
                resident: megabytes(ours.resident_memory()?),
            });
            // The exit of a process uses CPU time too, so all processes are ended outside of the
            // measurements.
            for process in [empty, detached, database, ours] {
                process.end().await;
            }
        }
        Ok(rounds)
    }

    async fn first_invocation(&self, program: &Program) -> Result<Row> {
        let mut rounds = Vec::new();
        for _ in 0..self.harness.rounds() {
            let mut process = program.start().await?;
            let first = milliseconds(self.invoke(&mut process, program.name).await?.cpu);
            let mut later = Vec::new();
            for _ in 0..WARM {
                later.push(milliseconds(self.invoke(&mut process, program.name).await?.cpu));
            }
            let warm = Summary::of(&later).median;
            rounds.push(Invocations { first, warm });
            process.end().await;
        }
        let row = Row::difference(
            format!("{}: first invocation, CPU", program.name),
            Unit::Milliseconds,
            each(&rounds, |round| round.first),
            "a warm one",
            each(&rounds, |round| round.warm),
        );
        Ok(row.at_most(6.0, Some(3.0)))
    }

    /// CPU-limited first invocations by memory size, in milliseconds. Empty if this user may not create
    /// control groups.
    async fn by_memory(&self, program: &Program) -> Result<Vec<(u32, Vec<f64>)>> {
        let mut all = Vec::new();
        for memory in memory::SIZES {
            let Some(quota) = Quota::of_memory(memory) else {
                break;
            };
            let mut took = Vec::new();
            for _ in 0..self.harness.rounds() {
                let mut process = program.start().await?;
                process.limit(&quota)?;
                took.push(milliseconds(self.invoke(&mut process, program.name).await?.wall));
                process.end().await;
            }
            all.push((memory, took));
        }
        Ok(all)
    }

    /// Invokes the function with a typical event.
    async fn invoke(&self, process: &mut Process, name: &str) -> Result<Measured> {
        let event = event(self.harness, name, &self.user).await?;
        let measured = process.invoke(event).await?;
        check(name, &measured.answer)?;
        Ok(measured)
    }
}

fn without_database(name: &str, rounds: &[Inits]) -> [Row; 3] {
    let resident = each(rounds, |round| round.resident);
    [
        Row::alone(format!("{name}: memory at /next"), Unit::Megabytes, resident).at_most(9.0, Some(5.0)),
        Row::difference(
            format!("{name}: init without database"),
            Unit::Milliseconds,
            each(rounds, |round| round.detached.wall),
            "empty function",
            each(rounds, |round| round.empty.wall),
        )
        .at_most(3.0, Some(1.5)),
        Row::difference(
            format!("{name}: the same, CPU"),
            Unit::Milliseconds,
            each(rounds, |round| round.detached.cpu),
            "empty function",
            each(rounds, |round| round.empty.cpu),
        ),
    ]
}

fn with_database(name: &str, rounds: &[Inits]) -> Row {
    Row::difference(
        format!("{name}: init with database"),
        Unit::Milliseconds,
        each(rounds, |round| round.ours.wall),
        "empty function with a connection",
        each(rounds, |round| round.database.wall),
    )
    .at_most(3.0, Some(1.5))
}

fn with_256_mb(name: &str, by_memory: &[(u32, Vec<f64>)]) -> Option<Row> {
    let (_, took) = by_memory.iter().find(|(memory, _)| *memory == 256)?;
    let figure = format!("{name}: first invocation with 256 MB's CPU");
    Some(Row::alone(figure, Unit::Milliseconds, took.clone()).at_most(25.0, Some(8.0)))
}

fn line(name: &str, by_memory: &[(u32, Vec<f64>)]) -> Series {
    let points = by_memory
        .iter()
        .map(|(memory, took)| (f64::from(*memory), Summary::of(took).median));
    Series {
        name: name.to_owned(),
        points: points.collect(),
    }
}

/// A typical event for the function.
async fn event(harness: &Harness, name: &str, user: &User) -> Result<Bytes> {
    let event: Value = match name {
        "complete-upload" => {
            let upload = harness.uploads(user, 1).await?;
            return harness.completing(user, *upload.first().context("no upload")?);
        }
        "uploads" => {
            let mut event = harness.request("uploads.post.json", &user.id)?;
            let body = json!({
                "path": format!("/bench/{}", platform::ids::new_id()),
                "size": crate::settings::SIZE,
                "sha256": crate::settings::SHA256,
            });
            event["body"] = json!(body.to_string());
            if let Some(headers) = event["headers"].as_object_mut() {
                headers.remove("idempotency-key");
            }
            event
        }
        "files" => with_query(
            harness.request("files.list.json", &user.id)?,
            &format!("spaceId={}", user.space_id),
        ),
        "changes" => with_query(
            harness.request("changes.get.json", &user.id)?,
            &format!("spaceId={}&after=0", user.space_id),
        ),
        "spaces" => harness.request("spaces.list.json", &user.id)?,
        "account" => harness.request("account.invitations.json", &user.id)?,
        "connections" => harness.request("connections.post-tickets.json", &user.id)?,
        "fan-out" => {
            harness
                .client
                .execute("DELETE FROM connections WHERE user_id = $1", &[&user.id])
                .await?;
            harness.listener(user).await?;
            let batches = Batches::new(harness)?;
            return Ok(batches.of(&[batches.message(user.space_id, 1)?]).into());
        }
        _ => harness.event("maintenance.schedule.json")?,
    };
    Ok(event.to_string().into())
}

fn with_query(mut event: Value, query: &str) -> Value {
    event["rawQueryString"] = json!(query);
    event
}

/// Checks that the invocation succeeded.
fn check(name: &str, answer: &[u8]) -> Result<()> {
    let answer: Value = serde_json::from_slice(answer).context("an answer is no JSON")?;
    let right = match name {
        "fan-out" => answer["batchItemFailures"].as_array().is_some_and(Vec::is_empty),
        "maintenance" => answer.is_object() || answer.is_null(),
        _ => answer["statusCode"].as_u64().is_some_and(|status| status < 300),
    };
    ensure!(right, "{name} answered {answer}");
    Ok(())
}

/// Size of the binary, and of the zip file with it that is deployed.
fn sizes(harness: &Harness, name: &str) -> Result<[Row; 2]> {
    let binary = harness.options.binaries.join(name).join("bootstrap");
    let zip = harness.options.folder.join(format!("{name}.zip"));
    let length = |path: &std::path::Path| Ok::<_, anyhow::Error>(megabytes(fs::metadata(path)?.len()));
    // Python is available, because the project's tools need it.
    let script = "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED).write(sys.argv[2], 'bootstrap')";
    let zipping = Command::new("python3")
        .args(["-c", script])
        .arg(&zip)
        .arg(&binary)
        .status();
    ensure!(
        zipping.is_ok_and(|status| status.success()),
        "cannot zip {}",
        binary.display()
    );
    let rows = [
        Row::alone(format!("{name}: binary"), Unit::Megabytes, vec![length(&binary)?])
            .at_most(8.0, Some(5.0)),
        Row::alone(format!("{name}: zip"), Unit::Megabytes, vec![length(&zip)?]).at_most(3.5, None),
    ];
    fs::remove_file(zip)?;
    Ok(rows)
}
