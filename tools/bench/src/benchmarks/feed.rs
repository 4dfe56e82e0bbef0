//! `GET /changes`: reads the same page of a short feed and of a long feed.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::json;

use super::{megabytes, number, progress};
use crate::harness::{Harness, milliseconds};
use crate::process::Process;
use crate::report::{Benchmark, Count, Plot, Row, Series, Summary, Unit};
use crate::requests::{User, answered};
use crate::settings::{SHA256_SQL, SIZE};

/// Changes per page: the maximum of a request, and a typical number after a short absence.
const PAGES: [usize; 2] = [1_000, 10];

/// Runs the feed benchmark.
pub(crate) async fn run(harness: &Harness) -> Result<Benchmark> {
    let services = harness.services(false).await?;
    let lengths: &[usize] = if harness.options.quick {
        &[2_000, 20_000]
    } else {
        &[10_000, 100_000, 1_000_000, 10_000_000]
    };
    let mut feeds = Vec::new();
    for length in lengths {
        progress(&format!("  making {length} changes"));
        feeds.push((*length, fill(harness, *length).await?));
    }
    harness.client.batch_execute("VACUUM ANALYZE changes").await?;

    let relayed = harness.variables(&services, harness.relayed_url(&services));
    let mut process = harness
        .function("changes", harness.variables(&services, harness.direct_url()))
        .start()
        .await?;
    let (mut rows, mut series) = (Vec::new(), Vec::new());
    for page in PAGES {
        progress(&format!("  pages of {page}"));
        let mut by_length: Vec<Vec<f64>> = vec![Vec::new(); feeds.len()];
        for round in 0..=harness.rounds() {
            for (medians, (length, user)) in by_length.iter_mut().zip(&feeds) {
                let mut took = Vec::new();
                for i in 0..harness.size(40, 5) {
                    let after = (length / 2 + i * 7_919) % (length - page);
                    took.push(read(harness, &mut process, user, after, page).await?);
                }
                if round > 0 {
                    medians.push(Summary::of(&took).median);
                }
            }
        }
        let points = feeds
            .iter()
            .zip(&by_length)
            .map(|((length, _), medians)| (number(*length), Summary::of(medians).median));
        series.push(Series {
            name: format!("pages of {page}"),
            points: points.collect(),
        });
        let (Some(shortest), Some(longest)) = (by_length.first().cloned(), by_length.last().cloned()) else {
            continue;
        };
        let (first, last) = (lengths[0], lengths[lengths.len() - 1]);
        let row = Row::ratio(
            format!("page of {page} of {last} changes"),
            Unit::Milliseconds,
            longest,
            format!("of {first}"),
            shortest,
        );
        rows.push(row.at_most(1.2, None));
    }
    rows.push(
        Row::alone(
            "peak memory",
            Unit::Megabytes,
            vec![megabytes(process.peak_memory()?)],
        )
        .at_most(24.0, None),
    );

    let mut counted = harness
        .counted(&harness.function("changes", relayed))
        .start()
        .await?;
    let (_, user) = feeds.first().context("no feed")?;
    read(harness, &mut counted, user, 0, 10).await?;
    services.relay.take();
    read(harness, &mut counted, user, 0, 10).await?;
    Ok(Benchmark {
        name: "feed".to_owned(),
        about: "`GET /changes` from the middle of feeds of different lengths, from passing the request to \
            the function until its answer."
            .to_owned(),
        rows,
        counts: vec![Count::new(
            "database round trips of a page",
            services.relay.take().round_trips,
            1,
        )],
        plot: Some(Plot {
            title: "Time of a page by the feed's length".to_owned(),
            x: "changes in the space".to_owned(),
            y: "milliseconds".to_owned(),
            logarithmic: true,
            logarithmic_y: false,
            series,
        }),
        notes: Vec::new(),
    })
}

/// Creates a user whose personal space has `length` changes.
async fn fill(harness: &Harness, length: usize) -> Result<User> {
    let user = harness.user().await?;
    let (space, file) = (user.space_id, platform::ids::new_id());
    let sql = format!(
        "INSERT INTO files (id, space_id, path, version, created_at) VALUES ('{file}', '{space}', '/bench/file', {length}, now());
        INSERT INTO changes (space_id, sequence, event_id, event_type, user_id, file_id, path, version, size, sha256, occurred_at)
        SELECT '{space}', n, uuidv7(), 'FILE_UPDATED', '{user}', '{file}', '/bench/file', n, {SIZE}, {SHA256_SQL}, now()
        FROM generate_series(1, {length}) n;
        UPDATE spaces SET last_sequence = {length} WHERE id = '{space}'",
        user = user.id,
    );
    harness
        .client
        .batch_execute(&sql)
        .await
        .context("cannot make changes")?;
    Ok(user)
}

/// Duration of reading a page, in milliseconds.
async fn read(
    harness: &Harness,
    process: &mut Process,
    user: &User,
    after: usize,
    limit: usize,
) -> Result<f64> {
    let mut event = harness.request("changes.get.json", &user.id)?;
    event["rawQueryString"] = json!(format!("spaceId={}&after={after}&limit={limit}", user.space_id));
    let measured = process.invoke(Bytes::from(event.to_string())).await?;
    let body = answered(&measured.answer, 200)?;
    let changes = body["changes"].as_array().context("no changes")?;
    ensure!(changes.len() == limit, "{} changes", changes.len());
    ensure!(changes[0]["sequence"] == after + 1, "the feed has a gap");
    Ok(milliseconds(measured.wall))
}
