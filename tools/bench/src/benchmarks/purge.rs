//! Purge: what `maintenance` costs uploads while it purges many versions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::complete::{complete, percentile};
use super::{LATENCY_OF_AWS, number, progress};
use crate::harness::{Harness, Variables};
use crate::process::Process;
use crate::report::{Benchmark, Row, Unit};
use crate::requests::User;
use crate::settings::{SHA256_SQL, SIZE};

/// The number of versions of each file that is purged.
const VERSIONS: usize = 100;

/// The number of spaces whose files are purged.
const SPACES: usize = 10;

/// The durations of completions in milliseconds.
#[derive(Default)]
struct Completions {
    /// In a space without anything to purge.
    other: Vec<f64>,
    /// In one of the spaces that are purged.
    purged: Vec<f64>,
}

/// Runs the purge benchmark.
pub(crate) async fn run(harness: &Harness) -> Result<Benchmark> {
    let services = harness.services(false).await?;
    let files = harness.size(10_000, 20);
    let versions = files * VERSIONS;
    let other = harness.user().await?;
    let mut spaces = Vec::new();
    for _ in 0..SPACES {
        spaces.push(harness.user().await?);
    }
    progress(&format!("  making {versions} versions"));
    for user in &spaces {
        harness.trash(user, files / SPACES).await?;
    }
    for server in [&services.s3.server, &services.sqs.server] {
        server.set_latency(LATENCY_OF_AWS);
    }
    let variables = harness.variables(&services, harness.direct_url());
    let mut completing = harness
        .function("complete-upload", variables.clone())
        .start()
        .await?;
    let users = [&other, spaces.first().context("no space")?];
    round(harness, &mut completing, users).await?;

    progress("  without purging");
    let mut still = Completions::default();
    for _ in 0..harness.rounds() {
        still.add(round(harness, &mut completing, users).await?);
    }
    progress("  purging");
    let mut meanwhile = Completions::default();
    let is_over = AtomicBool::new(false);
    let begun = Instant::now();
    let uploading = async {
        while !is_over.load(Ordering::Relaxed) {
            meanwhile.add(round(harness, &mut completing, users).await?);
        }
        Ok(())
    };
    let purging = async {
        let purged = purge(harness, variables).await;
        is_over.store(true, Ordering::Relaxed);
        purged
    };
    let (purged, ()) = futures_util::try_join!(purging, uploading)?;
    let took = begun.elapsed().as_secs_f64();
    ensure!(purged == versions, "{purged} of {versions} versions were purged");
    progress("  after purging");
    for _ in 0..harness.rounds() {
        still.add(round(harness, &mut completing, users).await?);
    }

    let mut rows = Vec::new();
    for (space, meanwhile, still) in [
        ("another space", meanwhile.other, still.other),
        ("a space that is purged", meanwhile.purged, still.purged),
    ] {
        for percent in [50, 99] {
            let row = Row::ratio(
                format!("completing in {space} while versions are purged, p{percent}"),
                Unit::Milliseconds,
                vec![percentile(&meanwhile, percent)],
                "without purging",
                vec![percentile(&still, percent)],
            );
            rows.push(row.at_most(1.2, None));
        }
    }
    rows.push(Row::alone(
        "versions purged per second",
        Unit::PerSecond,
        vec![number(versions) / took],
    ));
    Ok(Benchmark {
        name: "purge".to_owned(),
        about: format!(
            "`maintenance` purges {versions} versions of {files} files in {SPACES} spaces while one environment of \
                `complete-upload` completes uploads, with a latency of 10 ms for S3 and SQS. The control completes \
                uploads before and after. Environments, PostgreSQL and fakes share the machine's cores."
        ),
        rows,
        counts: Vec::new(),
        plot: None,
        notes: Vec::new(),
    })
}

impl Completions {
    fn add(&mut self, more: Self) {
        self.other.extend(more.other);
        self.purged.extend(more.purged);
    }
}

/// Completes some uploads of both users.
async fn round(harness: &Harness, process: &mut Process, [other, purged]: [&User; 2]) -> Result<Completions> {
    let many = harness.size(200, 20);
    let uploads = harness.uploads(other, many).await?;
    let other = complete(harness, process, other, uploads).await?;
    let uploads = harness.uploads(purged, many).await?;
    let purged = complete(harness, process, purged, uploads).await?;
    Ok(Completions { other, purged })
}

/// Invokes `maintenance` until nothing is left to purge. Returns the number of purged versions.
async fn purge(harness: &Harness, variables: Variables) -> Result<usize> {
    let program = harness.everywhere(harness.function("maintenance", variables));
    let mut process = program.start().await?;
    let mut purged = 0;
    loop {
        let measured = process.invoke("{}").await?;
        let report: Value = serde_json::from_slice(&measured.answer).context("a report is no JSON")?;
        let now = report["purged"].as_u64().context("a report without a number")?;
        if now == 0 {
            return Ok(purged);
        }
        purged += usize::try_from(now)?;
        progress(&format!("    {purged} versions"));
    }
}

impl Harness {
    /// Puts files into the trash of a user whose time there is over, with all of their versions and uploads.
    async fn trash(&self, user: &User, files: usize) -> Result<()> {
        let sql = format!(
            "WITH f AS (
                INSERT INTO files (id, space_id, path, version, created_at, deleted_at)
                SELECT uuidv7(), $1, '/trash/' || i, {VERSIONS}, now() - interval '60 days', now() - interval '50 days'
                FROM generate_series(1, $3) i
                RETURNING id
            ), u AS (
                SELECT f.id AS file_id, version, uuidv7() AS id, row_number() OVER () AS sequence
                FROM f, generate_series(1, {VERSIONS}) version
            ), changed AS (
                INSERT INTO changes
                    (space_id, sequence, event_id, event_type, user_id, file_id, path, version, size, sha256, occurred_at)
                SELECT $1, sequence, id, 'FILE_UPDATED', $2, file_id, '/trash', version, {SIZE}, {SHA256_SQL},
                    now() - interval '60 days'
                FROM u
            ), uploaded AS (
                INSERT INTO uploads (id, space_id, user_id, path, size, sha256, created_at, expires_at, state, event_id)
                SELECT id, $1, $2, '/trash', {SIZE}, {SHA256_SQL}, now() - interval '60 days',
                    now() - interval '59 days', 'completed', id
                FROM u
            ), numbered AS (
                UPDATE spaces
                SET last_sequence = (SELECT count(*) FROM u)
                WHERE id = $1
            )
            INSERT INTO versions (file_id, version, size, sha256, object_key, user_id, created_at)
            SELECT file_id, version, {SIZE}, {SHA256_SQL}, 'objects/' || id, $2, now() - interval '60 days'
            FROM u"
        );
        let files = i32::try_from(files)?;
        self.client
            .execute(&sql, &[&user.space_id, &user.id, &files])
            .await
            .context("cannot fill the trash")?;
        Ok(())
    }
}
