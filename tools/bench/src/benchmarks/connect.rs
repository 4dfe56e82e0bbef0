//! `connections`: from the ticket request to the stored connection.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use serde_json::json;

use super::{number, progress};
use crate::harness::Harness;
use crate::process::Process;
use crate::report::{Benchmark, Count, Plot, Row, Series, Summary, Unit};
use crate::requests::answered;

/// Numbers of concurrent environments.
const ENVIRONMENTS: [usize; 3] = [1, 2, 4];

/// Runs the `connections` benchmark.
pub(crate) async fn run(harness: &Harness) -> Result<Benchmark> {
    let services = harness.services(false).await?;
    let direct = harness.variables(&services, harness.direct_url());
    let many = harness.size(300, 20);
    let mut rows = Vec::new();

    let mut ours = harness.function("connections", direct.clone()).start().await?;
    let mut alone = harness
        .baseline("baseline-connect", direct.clone())?
        .start()
        .await?;
    let (mut own, mut theirs) = (vec![], vec![]);
    progress("  one environment");
    for round in 0..=harness.rounds() {
        let answer = alone.invoke(serde_json::to_vec(&users(many))?).await?.answer;
        let micros: f64 = serde_json::from_slice(&answer)?;
        let begun = Instant::now();
        for user in users(many) {
            connect(harness, &mut ours, &user).await?;
        }
        if round > 0 {
            theirs.push(number(many) / micros * 1e6);
            own.push(number(many) / begun.elapsed().as_secs_f64());
        }
    }
    rows.push(Row::ratio(
        "connections per second, one environment",
        Unit::PerSecond,
        own,
        "their two statements alone",
        theirs,
    ));

    let mut series = Series {
        name: "connections".to_owned(),
        points: Vec::new(),
    };
    let program = harness.everywhere(harness.function("connections", direct));
    for environments in ENVIRONMENTS {
        progress(&format!("  {environments} environments"));
        let mut crew = Vec::new();
        for _ in 0..environments {
            crew.push(program.start().await?);
        }
        let mut rates = Vec::new();
        for round in 0..=harness.rounds() {
            let begun = Instant::now();
            try_join_all(crew.iter_mut().map(async |process| {
                for user in users(many) {
                    connect(harness, process, &user).await?;
                }
                Ok::<_, anyhow::Error>(())
            }))
            .await?;
            if round > 0 {
                rates.push(number(environments * many) / begun.elapsed().as_secs_f64());
            }
        }
        series
            .points
            .push((number(environments), Summary::of(&rates).median));
    }

    progress("  counts");
    let relayed = harness.variables(&services, harness.relayed_url(&services));
    let mut counted = harness
        .counted(&harness.function("connections", relayed))
        .start()
        .await?;
    connect(harness, &mut counted, "warm").await?;
    connect(harness, &mut counted, "warm").await?;
    services.relay.take();
    connect(harness, &mut counted, "counted").await?;
    Ok(Benchmark {
        name: "connect".to_owned(),
        about: "`POST /tickets`, then `$connect` with the ticket: two invocations for one stored \
            connection. The control makes only their statements, with the same client in one process and \
            without the Runtime API."
            .to_owned(),
        rows,
        counts: vec![Count::new(
            "database round trips of a ticket and a connection",
            services.relay.take().round_trips,
            2,
        )],
        plot: Some(Plot {
            title: "Connections per second by environments".to_owned(),
            x: "environments".to_owned(),
            y: "connections per second".to_owned(),
            logarithmic: false,
            logarithmic_y: false,
            series: vec![series],
        }),
        notes: Vec::new(),
    })
}

/// Ids of users without connections.
fn users(many: usize) -> Vec<String> {
    (0..many)
        .map(|_| format!("u{}", platform::ids::new_id().simple()))
        .collect()
}

async fn connect(harness: &Harness, process: &mut Process, user: &str) -> Result<()> {
    let event = harness.request("connections.post-tickets.json", user)?;
    let answer = process.invoke(Bytes::from(event.to_string())).await?.answer;
    let body = answered(&answer, 201)?;
    let ticket = body["ticket"].as_str().context("no ticket")?;

    let mut event = harness.event("connections.connect.json")?;
    event["requestContext"]["connectionId"] = json!(format!("{}=", platform::ids::new_id().simple()));
    event["queryStringParameters"] = json!({ "ticket": ticket });
    event["multiValueQueryStringParameters"] = json!({ "ticket": [ticket] });
    let answer = process.invoke(Bytes::from(event.to_string())).await?.answer;
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    ensure!(answer["statusCode"] == 200, "$connect answered {answer}");
    Ok(())
}
