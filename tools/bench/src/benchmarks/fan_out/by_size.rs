//! Comparison with the baseline and the peers, by number of recipients.

use anyhow::{Result, bail};

use super::fixture::{Audience, Delivered, Fixture, bound};
use super::subjects::{Cast, Turn};
use crate::benchmarks::{each, megabytes, number, progress};
use crate::report::{Row, Series, Summary, Unit};

/// Measurements for one number of recipients.
struct Size {
    recipients: usize,
    turns: Vec<Turn>,
}

/// The rows describe the largest audience, which is the last one.
pub(super) async fn by_size(
    fixture: &Fixture<'_>,
    cast: &mut Cast,
    audiences: &[Audience],
) -> Result<(Vec<Row>, Vec<Series>)> {
    progress("  by number of recipients");
    let mut sizes = Vec::new();
    for audience in audiences {
        cast.turn(fixture, audience).await?;
        sizes.push(Size {
            recipients: audience.size(),
            turns: cast.turns(fixture, audience).await?,
        });
    }
    let [.., smaller, largest] = sizes.as_slice() else {
        bail!("there are not two sizes");
    };
    let mut rows = vec![posts_per_second(largest)];
    rows.extend(cpu_per_post(cast, &largest.turns));
    rows.push(growth(smaller, largest));
    rows.extend(peak_memory(cast)?);
    Ok((rows, series(cast, &sizes)))
}

fn posts_per_second(size: &Size) -> Row {
    let row = Row::ratio(
        format!("posts per second, {} recipients", size.recipients),
        Unit::PerSecond,
        each(&size.turns, |turn| turn.ours.per_second()),
        "plain hyper",
        each(&size.turns, |turn| turn.limit.per_second()),
    );
    let all = size.turns.iter().flat_map(|turn| [&turn.ours, &turn.limit]);
    bound(row, all).at_least(0.5, Some(0.8))
}

fn cpu_per_post(cast: &Cast, turns: &[Turn]) -> Vec<Row> {
    let row = |control: &str, of: &dyn Fn(&Turn) -> &Delivered| {
        Row::ratio(
            "CPU per post",
            Unit::Microseconds,
            each(turns, |turn| turn.ours.cpu_per_post()),
            control,
            each(turns, |turn| of(turn).cpu_per_post()),
        )
    };
    let mut rows = vec![row("plain hyper", &|turn| &turn.limit).at_most(2.0, Some(1.3))];
    for (i, peer) in cast.peers.iter().enumerate() {
        let row = row(peer.name, &|turn| &turn.peers[i]);
        rows.push(row.at_most(1.0 / peer.goal, Some(1.0 / 40.0)));
    }
    rows
}

/// Ten times as many recipients should take ten times as long.
fn growth(smaller: &Size, larger: &Size) -> Row {
    Row::ratio(
        format!("time for {}", larger.recipients),
        Unit::Milliseconds,
        each(&larger.turns, |turn| turn.ours.milliseconds()),
        format!("ten times that for {}", smaller.recipients),
        each(&smaller.turns, |turn| 10.0 * turn.ours.milliseconds()),
    )
    .at_most(1.1, None)
}

fn peak_memory(cast: &Cast) -> Result<Vec<Row>> {
    let ours = vec![megabytes(cast.ours.peak_memory()?)];
    let mut rows = vec![Row::alone("peak memory", Unit::Megabytes, ours.clone()).at_most(24.0, Some(14.0))];
    for peer in &cast.peers {
        let theirs = vec![megabytes(peer.process.peak_memory()?)];
        rows.push(Row::ratio(
            "peak memory",
            Unit::Megabytes,
            ours.clone(),
            peer.name,
            theirs,
        ));
    }
    Ok(rows)
}

/// Posts per second by number of recipients.
fn series(cast: &Cast, sizes: &[Size]) -> Vec<Series> {
    let line = |name: &str, of: &dyn Fn(&Turn) -> &Delivered| {
        let points = sizes.iter().map(|size| {
            let rates = each(&size.turns, |turn| of(turn).per_second());
            (number(size.recipients), Summary::of(&rates).median)
        });
        Series {
            name: name.to_owned(),
            points: points.collect(),
        }
    };
    let mut lines = vec![
        line("plain hyper", &|turn| &turn.limit),
        line("fan-out", &|turn| &turn.ours),
    ];
    for (i, peer) in cast.peers.iter().enumerate() {
        lines.push(line(peer.name, &|turn| &turn.peers[i]));
    }
    lines
}
