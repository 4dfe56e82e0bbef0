//! Duration and cost by memory size. Lambda bills a function's duration multiplied by its memory, and CPU is
//! proportional to memory.

use anyhow::Result;
use lambda::MEMORY;

use super::{each, number};
use crate::process::{Process, Program, Quota};
use crate::report::{Row, Summary, Unit};

/// Memory sizes in MB; each determines the CPU share.
pub(crate) const SIZES: [u32; 4] = [128, 256, 512, 1_769];

/// Note in the report if control groups are not available.
pub(crate) const NO_GROUPS: &str =
    "This machine lets no control groups be made, so nothing was measured with a memory size's CPU.";

/// A round with one memory size.
struct Round {
    /// Median duration of its invocations, in milliseconds.
    p50: f64,
    /// Billed GB-seconds per million invocations.
    billed: f64,
}

/// Duration and cost with each memory size, compared with the deployed size; `None` if this user may not
/// create control groups.
pub(crate) async fn costs(
    program: &Program,
    rounds: usize,
    invocations: usize,
    what: &str,
    invoke: impl AsyncFn(&mut Process) -> Result<f64>,
) -> Result<Option<Vec<Row>>> {
    let mut sizes = Vec::new();
    for memory in SIZES {
        let Some(quota) = Quota::of_memory(memory) else {
            return Ok(None);
        };
        let mut process = program.start().await?;
        invoke(&mut process).await?;
        process.limit(&quota)?;
        sizes.push((memory, process, quota, Vec::new()));
    }
    for _ in 0..rounds {
        for (memory, process, _, all) in &mut sizes {
            let mut took = Vec::new();
            for _ in 0..invocations {
                took.push(invoke(process).await?);
            }
            all.push(round(*memory, &took));
        }
    }
    let mut rounds_by_size = Vec::new();
    for (memory, process, _quota, rounds) in sizes {
        // The control group can be removed after its process has ended.
        process.end().await;
        rounds_by_size.push((memory, rounds));
    }
    Ok(Some(rows(&rounds_by_size, what)))
}

/// Lambda rounds the billed duration up to whole milliseconds (AWS Lambda pricing).
fn round(memory: u32, took: &[f64]) -> Round {
    let billed: f64 = took.iter().map(|took| took.ceil()).sum();
    let gigabytes = f64::from(memory) / 1_024.0;
    Round {
        p50: Summary::of(took).median,
        billed: billed / number(took.len()) * gigabytes * 1e3,
    }
}

fn rows(sizes: &[(u32, Vec<Round>)], what: &str) -> Vec<Row> {
    let Some((_, deployed)) = sizes.iter().find(|(memory, _)| *memory == MEMORY) else {
        return Vec::new();
    };
    let others = sizes.iter().filter(|(memory, _)| *memory != MEMORY);
    let control = format!("with {MEMORY} MB");
    others
        .flat_map(|(memory, rounds)| {
            let row = |figure: String, unit, of: fn(&Round) -> f64| {
                Row::ratio(
                    figure,
                    unit,
                    each(rounds, of),
                    control.clone(),
                    each(deployed, of),
                )
            };
            [
                row(
                    format!("{what} with {memory} MB, p50"),
                    Unit::Milliseconds,
                    |round| round.p50,
                ),
                row(
                    format!("GB-s of a million with {memory} MB"),
                    Unit::Number,
                    |round| round.billed,
                ),
            ]
        })
        .collect()
}
