//! Batches of 100: duration per file, and throughput of one space with several environments.

use std::time::Instant;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;
use uuid::Uuid;

use super::{Variables, alone, bare_commits};
use crate::benchmarks::{each, number, progress};
use crate::harness::{Harness, milliseconds};
use crate::process::Process;
use crate::report::{Row, Summary, Unit};
use crate::requests::{User, answered};

/// Files in a batch, the maximum of the API.
const FILES: usize = 100;

/// Concurrent environments that complete uploads of one space.
const ENVIRONMENTS: usize = 8;

/// A round of batches in one environment. Medians in milliseconds per file.
struct Round {
    ours: f64,
    /// The parts of a completion of one file, one after the other.
    alone: f64,
}

/// Duration per file of batches in one environment, compared with the parts of one file's completion.
pub(super) async fn per_file(
    harness: &Harness,
    variables: &Variables,
    user: &User,
    figure: &str,
) -> Result<Row> {
    progress(&format!("  {figure}"));
    let mut ours = harness
        .function("complete-upload", variables.clone())
        .start()
        .await?;
    let mut parts = harness
        .baseline("baseline-complete", variables.clone())?
        .start()
        .await?;
    let mut rounds = Vec::new();
    // The first round only opens connections and is not counted.
    for round in 0..=harness.rounds() {
        let uploads = harness.uploads(user, harness.size(50, 10)).await?;
        let alone = alone(&mut parts, user, uploads).await?;
        let batches = batches(harness, user, harness.size(10, 1)).await?;
        let took = complete(harness, &mut ours, user, batches).await?;
        if round > 0 {
            rounds.push(Round {
                ours: Summary::of(&took).median / number(FILES),
                alone: Summary::of(&alone).median,
            });
        }
    }
    Ok(Row::ratio(
        figure,
        Unit::Milliseconds,
        each(&rounds, |round| round.ours),
        "statement, HEAD and message of one file alone",
        each(&rounds, |round| round.alone),
    ))
}

/// Files per second of one space with all environments, compared with bare commits by as many clients.
pub(super) async fn one_space(harness: &Harness, variables: Variables) -> Result<Row> {
    progress("  8 environments, one space");
    let program = harness.everywhere(harness.function("complete-upload", variables.clone()));
    let bare = harness.everywhere(harness.baseline("baseline-commits", variables)?);
    let (mut bare, user) = (bare.start().await?, harness.user().await?);
    let mut environments = Vec::new();
    for _ in 0..ENVIRONMENTS {
        let mut process = program.start().await?;
        complete(harness, &mut process, &user, batches(harness, &user, 1).await?).await?;
        environments.push(process);
    }
    let (mut rates, mut commits) = (Vec::new(), Vec::new());
    for _ in 0..harness.rounds() {
        commits.push(bare_commits(harness, &mut bare, ENVIRONMENTS).await?);
        let mut shares = Vec::new();
        for _ in 0..ENVIRONMENTS {
            shares.push(batches(harness, &user, harness.size(10, 1)).await?);
        }
        let files: usize = shares.iter().flatten().map(Vec::len).sum();
        let begun = Instant::now();
        let all = environments
            .iter_mut()
            .zip(shares)
            .map(|(process, share)| complete(harness, process, &user, share));
        try_join_all(all).await?;
        rates.push(number(files) / begun.elapsed().as_secs_f64());
    }
    Ok(Row::ratio(
        "8 environments, files per second in one space, batches of 100",
        Unit::PerSecond,
        rates,
        "bare commits by 8 clients",
        commits,
    ))
}

/// Opens the uploads of `number` batches.
async fn batches(harness: &Harness, user: &User, number: usize) -> Result<Vec<Vec<Uuid>>> {
    let uploads = harness.uploads(user, number * FILES).await?;
    Ok(uploads.chunks(FILES).map(<[Uuid]>::to_vec).collect())
}

/// Completes the batches one after the other. Returns the duration of each, in milliseconds.
async fn complete(
    harness: &Harness,
    process: &mut Process,
    user: &User,
    batches: Vec<Vec<Uuid>>,
) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for uploads in batches {
        let measured = process.invoke(harness.completing_all(user, &uploads)?).await?;
        let answer = answered(&measured.answer, 200)?;
        let results = answer["results"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        ensure!(
            results.len() == uploads.len() && results.iter().all(|result: &Value| result["status"] == 200),
            "answered {answer}"
        );
        took.push(milliseconds(measured.wall));
    }
    Ok(took)
}
