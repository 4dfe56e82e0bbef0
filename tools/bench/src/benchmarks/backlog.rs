//! Backlog: the rate at which several environments of `fan-out` drain a full queue.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use parking_lot::Mutex;

use super::queue::{BATCH, Batches, hand_over, take};
use super::{LATENCY_OF_AWS, number, progress};
use crate::harness::Harness;
use crate::report::{Benchmark, Plot, Row, Series, Unit};

/// Number of spaces with events; each has one connection.
const SPACES: usize = 100;

/// Runs the backlog benchmark.
pub(crate) async fn run(harness: &Harness) -> Result<Benchmark> {
    let services = harness.services(false).await?;
    let batches = Batches::new(harness)?;
    let events = harness.size(100_000, 500);
    let mut users = Vec::new();
    for _ in 0..SPACES {
        let user = harness.user().await?;
        harness.listener(&user).await?;
        users.push(user);
    }
    services.posts.fake.server.set_latency(LATENCY_OF_AWS);
    let program =
        harness.everywhere(harness.function("fan-out", harness.variables(&services, harness.direct_url())));
    let mut points: Vec<(f64, f64)> = Vec::new();
    for environments in 1..=harness.cores {
        progress(&format!("  {environments} environments"));
        let mut crew = Vec::new();
        for _ in 0..environments {
            let mut process = program.start().await?;
            hand_over(
                &mut process,
                batches.of(&[batches.message(users[0].space_id, 1)?]),
            )
            .await?;
            crew.push(process);
        }
        services.posts.discard();
        // Consecutive messages are about different spaces, so that no two changes share a frame.
        let messages: Result<_> = (0..events)
            .map(|i| batches.message(users[i % SPACES].space_id, i + 1))
            .collect();
        let pile = Arc::new(Mutex::new(messages?));
        let begun = Instant::now();
        try_join_all(crew.iter_mut().map(async |process| {
            loop {
                let messages = take(&pile);
                if messages.is_empty() {
                    return Ok::<_, anyhow::Error>(());
                }
                hand_over(process, batches.of(&messages)).await?;
            }
        }))
        .await?;
        let rate = number(events) / begun.elapsed().as_secs_f64();
        ensure!(
            services.posts.answered() == events,
            "{} of {events} were posted",
            services.posts.answered()
        );
        services.posts.take()?;
        points.push((number(environments), rate));
    }
    let one = points.first().map_or(f64::NAN, |(_, rate)| *rate);
    let rows = points.iter().skip(1).map(|(environments, rate)| {
        let figure = format!("events per second, {environments} environments");
        let control = format!("{environments} times one's");
        Row::ratio(
            figure,
            Unit::PerSecond,
            vec![*rate],
            control,
            vec![environments * one],
        )
        .at_least(0.9, None)
    });
    Ok(Benchmark {
        name: "backlog".to_owned(),
        about: format!(
            "{events} queued events, each for one connection and of another space than the events \
                before and after it. They are drained in batches of {BATCH}, with a latency of 10 ms for \
                each post. Environments, PostgreSQL and fakes share the machine's cores."
        ),
        rows: rows.collect(),
        counts: Vec::new(),
        plot: Some(Plot {
            title: "Events drained per second by environments".to_owned(),
            x: "environments".to_owned(),
            y: "events per second".to_owned(),
            logarithmic: false,
            logarithmic_y: false,
            series: vec![Series {
                name: "fan-out".to_owned(),
                points,
            }],
        }),
        notes: Vec::new(),
    })
}
