//! Comparison with the baseline and the references, by number of recipients.

use anyhow::{Result, bail};

use super::fixture::{Audience, Delivered, Fixture, bound};
use super::subjects::{Round, Subjects};
use crate::benchmarks::{each, megabytes, number, progress};
use crate::report::{Row, Series, Summary, Unit};

/// Measurements for one number of recipients.
struct Size {
    recipients: usize,
    rounds: Vec<Round>,
}

/// The rows describe the largest audience, which is the last one.
pub(super) async fn by_size(
    fixture: &Fixture<'_>,
    subjects: &mut Subjects,
    audiences: &[Audience],
) -> Result<(Vec<Row>, Vec<Series>)> {
    progress("  by number of recipients");
    let mut sizes = Vec::new();
    for audience in audiences {
        subjects.round(fixture, audience).await?;
        sizes.push(Size {
            recipients: audience.size(),
            rounds: subjects.rounds(fixture, audience).await?,
        });
    }
    let [.., smaller, largest] = sizes.as_slice() else {
        bail!("there are not two sizes");
    };
    let mut rows = vec![posts_per_second(largest)];
    rows.extend(cpu_per_post(subjects, &largest.rounds));
    rows.push(growth(smaller, largest));
    rows.extend(peak_memory(subjects)?);
    Ok((rows, series(subjects, &sizes)))
}

fn posts_per_second(size: &Size) -> Row {
    let row = Row::ratio(
        format!("posts per second, {} recipients", size.recipients),
        Unit::PerSecond,
        each(&size.rounds, |round| round.ours.per_second()),
        "plain hyper",
        each(&size.rounds, |round| round.baseline.per_second()),
    );
    let all = size
        .rounds
        .iter()
        .flat_map(|round| [&round.ours, &round.baseline]);
    bound(row, all).at_least(0.5, Some(0.8))
}

fn cpu_per_post(subjects: &Subjects, rounds: &[Round]) -> Vec<Row> {
    let row = |control: &str, of: &dyn Fn(&Round) -> &Delivered| {
        Row::ratio(
            "CPU per post",
            Unit::Microseconds,
            each(rounds, |round| round.ours.cpu_per_post()),
            control,
            each(rounds, |round| of(round).cpu_per_post()),
        )
    };
    let mut rows = vec![row("plain hyper", &|round| &round.baseline).at_most(2.0, Some(1.3))];
    for (i, reference) in subjects.references.iter().enumerate() {
        let row = row(reference.name, &|round| &round.references[i]);
        rows.push(row.at_most(1.0 / reference.goal, Some(1.0 / 40.0)));
    }
    rows
}

/// Ten times as many recipients should take ten times as long.
fn growth(smaller: &Size, larger: &Size) -> Row {
    Row::ratio(
        format!("time for {}", larger.recipients),
        Unit::Milliseconds,
        each(&larger.rounds, |round| round.ours.milliseconds()),
        format!("ten times that for {}", smaller.recipients),
        each(&smaller.rounds, |round| 10.0 * round.ours.milliseconds()),
    )
    .at_most(1.1, None)
}

fn peak_memory(subjects: &Subjects) -> Result<Vec<Row>> {
    let ours = vec![megabytes(subjects.ours.peak_memory()?)];
    let mut rows = vec![Row::alone("peak memory", Unit::Megabytes, ours.clone()).at_most(24.0, Some(14.0))];
    for reference in &subjects.references {
        let theirs = vec![megabytes(reference.process.peak_memory()?)];
        rows.push(Row::ratio(
            "peak memory",
            Unit::Megabytes,
            ours.clone(),
            reference.name,
            theirs,
        ));
    }
    Ok(rows)
}

/// Posts per second by number of recipients.
fn series(subjects: &Subjects, sizes: &[Size]) -> Vec<Series> {
    let line = |name: &str, of: &dyn Fn(&Round) -> &Delivered| {
        let points = sizes.iter().map(|size| {
            let rates = each(&size.rounds, |round| of(round).per_second());
            (number(size.recipients), Summary::of(&rates).median)
        });
        Series {
            name: name.to_owned(),
            points: points.collect(),
        }
    };
    let mut lines = vec![
        line("plain hyper", &|round| &round.baseline),
        line("fan-out", &|round| &round.ours),
    ];
    for (i, reference) in subjects.references.iter().enumerate() {
        lines.push(line(reference.name, &|round| &round.references[i]));
    }
    lines
}
