//! Cold starts: from the process's start to its first answer, over TLS.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{megabytes, progress};
use crate::process::{Program, Quota};
use crate::report::{Benchmark, Plot, Row, Series, Summary, Unit};
use crate::requests::User;
use crate::stage::{Services, Stage, milliseconds};

/// All functions.
const FUNCTIONS: [&str; 9] = [
    "browse-files",
    "complete-upload",
    "create-upload",
    "fan-out",
    "list-changes",
    "manage-spaces",
    "migrate",
    "relay-events",
    "track-connections",
];

/// Memory sizes in MB, for the CPU that comes with them.
const MEMORY: [u32; 4] = [128, 256, 512, 1_769];

/// Warm invocations that the first one is compared with.
const WARM: usize = 5;

/// A database that refuses connections at once.
const NO_DATABASE: &str = "postgresql://syncsphere:password@127.0.0.1:1/syncsphere";

/// Runs it.
pub(crate) async fn run(stage: &Stage) -> Result<Benchmark> {
    let services = stage.services(true).await?;
    let variables = stage.variables(&services, stage.relayed_url(&services));
    let mut without = variables.clone();
    without.retain(|(name, _)| *name != "DATABASE_URL");
    without.push(("DATABASE_URL", NO_DATABASE.to_owned()));
    let empty = stage.limit("limit-empty", variables.clone())?;
    let database = stage.limit("limit-database", variables.clone())?;
    let user = stage.user().await?;

    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    let mut series: Vec<Series> = Vec::new();
    for name in FUNCTIONS {
        progress(&format!("  {name}"));
        let program = stage.function(name, variables.clone());
        let detached = stage.function(name, without.clone());
        rows.extend(sizes(stage, name)?);

        // ---- Init, with and without a database.
        let (mut alone, mut bare, mut connected, mut one_connect) = (vec![], vec![], vec![], vec![]);
        let (mut alone_cpu, mut bare_cpu) = (vec![], vec![]);
        let mut resident = Vec::new();
        for _ in 0..stage.rounds().max(3) * 2 - 1 {
            let process = empty.start().await?;
            bare.push(milliseconds(process.init));
            bare_cpu.push(milliseconds(process.init_cpu));
            let process = detached.start().await?;
            alone.push(milliseconds(process.init));
            alone_cpu.push(milliseconds(process.init_cpu));
            let process = database.start().await?;
            one_connect.push(milliseconds(process.init));
            let process = program.start().await?;
            connected.push(milliseconds(process.init));
            resident.push(megabytes(process.resident_memory()?));
        }
        let figure = |what: &str| format!("{name}: {what}");
        rows.push(Row::alone(figure("memory at /next"), Unit::Megabytes, resident).at_most(9.0, Some(5.0)));
        rows.push(
            Row::difference(
                figure("init without database"),
                Unit::Milliseconds,
                alone,
                "empty function",
                bare,
            )
            .at_most(3.0, Some(1.5)),
        );
        rows.push(Row::difference(
            figure("the same, CPU"),
            Unit::Milliseconds,
            alone_cpu,
            "empty function",
            bare_cpu,
        ));
        // It signs in only when it is called.
        if name == "migrate" {
            continue;
        }
        rows.push(
            Row::difference(
                figure("init with database"),
                Unit::Milliseconds,
                connected,
                "empty function with a connection",
                one_connect,
            )
            .at_most(3.0, Some(1.5)),
        );

        // ---- The first invocation.
        let (mut first, mut warm) = (vec![], vec![]);
        for _ in 0..stage.rounds() {
            let mut process = program.start().await?;
            let measured = process.invoke(event(stage, name, &user).await?).await?;
            check(name, &measured.answer)?;
            first.push(milliseconds(measured.cpu));
            let mut later = Vec::new();
            for _ in 0..WARM {
                let measured = process.invoke(event(stage, name, &user).await?).await?;
                check(name, &measured.answer)?;
                later.push(milliseconds(measured.cpu));
            }
            warm.push(Summary::of(&later).median);
        }
        rows.push(
            Row::difference(
                figure("first invocation, CPU"),
                Unit::Milliseconds,
                first,
                "a warm one",
                warm,
            )
            .at_most(6.0, Some(3.0)),
        );

        // ---- With the CPU of a memory size.
        let mut points = Vec::new();
        for memory in MEMORY {
            let Some(took) = limited(stage, &program, name, &user, memory).await? else {
                notes = vec!["This machine lets no control groups be made, so nothing was measured with a memory size's CPU.".to_owned()];
                break;
            };
            points.push((f64::from(memory), Summary::of(&took).median));
            if memory == 256 {
                let row = Row::alone(
                    figure("first invocation with 256 MB's CPU"),
                    Unit::Milliseconds,
                    took,
                );
                rows.push(row.at_most(25.0, Some(8.0)));
            }
        }
        series.push(Series {
            name: name.to_owned(),
            points,
        });
    }
    drain(&services);
    Ok(Benchmark {
        name: "cold".to_owned(),
        about: "A new environment of each function, with TLS to S3, SQS, `@connections` and PostgreSQL. Init is from starting the process until it asks for its \
            first invocation, with all of a core, as on Lambda; the invocation is then measured with all of a core, and with as much as comes with a memory \
            size. An empty function is `lambda_runtime` with the same logging and nothing else."
            .to_owned(),
        rows,
        counts: Vec::new(),
        plot: Some(Plot {
            title: "First invocation by memory".to_owned(),
            x: "memory (MB)".to_owned(),
            y: "milliseconds".to_owned(),
            logarithmic: true,
            series,
        }),
        notes,
    })
}

/// What `event` has made to be sent.
fn drain(services: &Services) {
    while !services.sqs.receive(10).is_empty() {}
    services.posts.forget();
}

/// The first invocation with a memory size's CPU, in milliseconds.
async fn limited(
    stage: &Stage,
    program: &Program,
    name: &str,
    user: &User,
    memory: u32,
) -> Result<Option<Vec<f64>>> {
    let Some(quota) = Quota::of_memory(memory) else {
        return Ok(None);
    };
    let mut took = Vec::new();
    for _ in 0..stage.rounds() {
        let mut process = program.start().await?;
        process.limit(&quota)?;
        let measured = process.invoke(event(stage, name, user).await?).await?;
        check(name, &measured.answer)?;
        took.push(milliseconds(measured.wall));
    }
    Ok(Some(took))
}

/// Something that the function does in ordinary use.
async fn event(stage: &Stage, name: &str, user: &User) -> Result<Bytes> {
    let event: Value = match name {
        "complete-upload" => {
            let upload = stage.uploads(user, 1).await?;
            return stage.completing(user, *upload.first().context("no upload")?);
        }
        "create-upload" => {
            let mut event = stage.request("create-upload.post.json", &user.id)?;
            let body = json!({
                "path": format!("/bench/{}", edge::ids::new_id()),
                "size": crate::settings::SIZE,
                "sha256": crate::settings::SHA256,
            });
            event["body"] = json!(body.to_string());
            if let Some(headers) = event["headers"].as_object_mut() {
                headers.remove("idempotency-key");
            }
            event
        }
        "browse-files" => with_query(
            stage.request("browse-files.list.json", &user.id)?,
            &format!("spaceId={}", user.space_id),
        ),
        "list-changes" => with_query(
            stage.request("list-changes.get.json", &user.id)?,
            &format!("spaceId={}&after=0", user.space_id),
        ),
        "manage-spaces" => stage.request("manage-spaces.list.json", &user.id)?,
        "track-connections" => stage.request("track-connections.post-tickets.json", &user.id)?,
        "fan-out" => {
            let connection = format!("c{}=", edge::ids::new_id().simple());
            let sql = "INSERT INTO connections VALUES ($1, $2, NULL, now() - interval '1 hour', now() + interval '1 hour')";
            stage
                .client
                .execute("DELETE FROM connections WHERE user_id = $1", &[&user.id])
                .await?;
            stage.client.execute(sql, &[&connection, &user.id]).await?;
            let mut batch = stage.event("fan-out.batch.json")?;
            let records = batch["Records"]
                .as_array_mut()
                .context("the sample has no records")?;
            records.truncate(1);
            let record = records.first_mut().context("the sample has no record")?;
            let mut body: Value = serde_json::from_str(record["body"].as_str().unwrap_or_default())?;
            body["spaceId"] = json!(user.space_id);
            record["body"] = json!(body.to_string());
            batch
        }
        _ => stage.event("relay-events.schedule.json")?,
    };
    Ok(event.to_string().into())
}

fn with_query(mut event: Value, query: &str) -> Value {
    event["rawQueryString"] = json!(query);
    event
}

/// It did what it was asked for.
fn check(name: &str, answer: &[u8]) -> Result<()> {
    let answer: Value = serde_json::from_slice(answer).context("an answer is no JSON")?;
    let right = match name {
        "fan-out" => answer["batchItemFailures"].as_array().is_some_and(Vec::is_empty),
        "relay-events" => answer.is_object() || answer.is_null(),
        _ => answer["statusCode"].as_u64().is_some_and(|status| status < 300),
    };
    ensure!(right, "{name} answered {answer}");
    Ok(())
}

/// Of the binary, and of it in a zip as it is deployed.
fn sizes(stage: &Stage, name: &str) -> Result<[Row; 2]> {
    let binary = stage.options.binaries.join(name).join("bootstrap");
    let zip = stage.options.folder.join(format!("{name}.zip"));
    let length = |path: &std::path::Path| Ok::<_, anyhow::Error>(megabytes(fs::metadata(path)?.len()));
    // Python is there, since the tools are written in it.
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
