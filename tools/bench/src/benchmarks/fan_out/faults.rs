//! Delivery with latency, with throttling and to connections that are gone.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::fixture::{Audience, Delivered, Fixture, bound};
use super::subjects::Subjects;
use super::{IN_FLIGHT, SOME_GONE};
use crate::benchmarks::{LATENCY_OF_AWS, each, number, progress};
use crate::harness::milliseconds;
use crate::posts::{Faults, bucket};
use crate::report::{Row, Unit};

/// 5 % of the connections are throttled at their first post.
const SOME_THROTTLED: Faults = Faults {
    throttled: 5,
    gone: 0,
};

/// 1 % of the connections are gone, as on a typical day.
const FEW_GONE: Faults = Faults {
    throttled: 0,
    gone: 1,
};

/// Deliveries of one round.
struct Round {
    slow_baseline: Delivered,
    slow: Delivered,
    clean: Delivered,
    throttled: Delivered,
    few_gone: Delivered,
    gone: Delivered,
}

/// Measures latency and each fault in turn, once a round.
pub(super) async fn latency_and_faults(
    fixture: &Fixture<'_>,
    subjects: &mut Subjects,
    audience: &Audience,
) -> Result<Vec<Row>> {
    progress("  latency and faults");
    let mut rounds = Vec::new();
    for _ in 0..fixture.harness.rounds() {
        rounds.push(round(fixture, subjects, audience).await?);
    }
    Ok(rows(&rounds, audience))
}

async fn round(fixture: &Fixture<'_>, subjects: &mut Subjects, audience: &Audience) -> Result<Round> {
    let posts = &fixture.services.posts.fake.server;
    posts.set_latency(LATENCY_OF_AWS);
    let slow_baseline = fixture.baseline(&mut subjects.baseline, audience).await?;
    let slow = fixture.one(&mut subjects.ours, audience).await?;
    posts.set_latency(Duration::ZERO);
    let clean = fixture.one(&mut subjects.ours, audience).await?;
    let throttled = fixture
        .deliver_with_faults(&mut subjects.ours, audience, SOME_THROTTLED)
        .await?;
    let few_gone = gone(fixture, subjects, audience, FEW_GONE).await?;
    let gone = gone(fixture, subjects, audience, SOME_GONE).await?;
    Ok(Round {
        slow_baseline,
        slow,
        clean,
        throttled,
        few_gone,
        gone,
    })
}

/// Measures a delivery with gone connections and checks that exactly those were deleted. Then restores them.
async fn gone(
    fixture: &Fixture<'_>,
    subjects: &mut Subjects,
    audience: &Audience,
    faults: Faults,
) -> Result<Delivered> {
    let delivered = fixture
        .deliver_with_faults(&mut subjects.ours, audience, faults)
        .await?;
    let left = fixture.connected(audience).await?;
    let alive = audience.listeners().filter(|id| bucket(id) >= faults.gone);
    ensure!(left == alive.count(), "{left} connections are left");
    fixture.connect(audience).await?;
    Ok(delivered)
}

fn rows(rounds: &[Round], audience: &Audience) -> Vec<Row> {
    let row = |figure: &str, ours: fn(&Round) -> &Delivered, control: &str, values: Vec<f64>| {
        let ours = each(rounds, |round| ours(round).milliseconds());
        Row::ratio(figure, Unit::Milliseconds, ours, control, values)
    };
    let ideal = milliseconds(LATENCY_OF_AWS) * number(audience.size()) / number(IN_FLIGHT);
    let slow_baseline = each(rounds, |round| round.slow_baseline.milliseconds());
    let clean = each(rounds, |round| round.clean.milliseconds());
    vec![
        bound(
            row(
                "time with 10 ms latency",
                |round| &round.slow,
                "n × latency ÷ in flight",
                vec![ideal; rounds.len()],
            ),
            rounds.iter().map(|round| &round.slow),
        )
        .at_most(1.3, Some(1.15)),
        bound(
            row(
                "time with 10 ms latency",
                |round| &round.slow,
                "plain hyper",
                slow_baseline,
            ),
            rounds
                .iter()
                .flat_map(|round| [&round.slow, &round.slow_baseline]),
        ),
        row(
            "time, 5 % throttled once",
            |round| &round.throttled,
            "none throttled",
            clean.clone(),
        )
        .at_most(1.5, Some(1.2)),
        row(
            "time, 1 % gone",
            |round| &round.few_gone,
            "none gone",
            clean.clone(),
        ),
        row("time, 30 % gone", |round| &round.gone, "none gone", clean).at_most(1.1, None),
    ]
}
