//! The crash sweep: a scenario, with a crash after each of its effects.

use super::hits::Hits;
use super::scenario::{Happening, Scenario};
use super::world;

/// Runs the scenario of a seed once for each call of its first disk, with a crash before this call, and by turns
/// with a loss of power. Returns the number of runs.
pub fn sweep(seed: u64, hits: &mut Hits) -> Result<u64, String> {
    let mut scenario = Scenario::random(seed);
    scenario
        .happenings
        .retain(|(_, it)| !matches!(it, Happening::PowerLoss(..) | Happening::Kill(..)));
    let outcome = world::run(&scenario, false);
    if let Some(failure) = outcome.failure {
        return Err(format!("seed {seed} without a crash: {failure}"));
    }
    let calls = outcome.calls.first().copied().unwrap_or_default();
    // The last looks of the quiet state are the same again and again.
    let calls = u32::try_from(calls).unwrap_or(u32::MAX).min(400);
    for call in 0..calls {
        let happening = if call % 2 == 0 {
            Happening::PowerLoss(0, call)
        } else {
            Happening::Kill(0, call)
        };
        let mut crashing = scenario.clone();
        crashing.happenings.insert(0, (0, happening));
        let outcome = world::run(&crashing, false);
        hits.merge(&outcome.hits);
        if let Some(failure) = outcome.failure {
            return Err(format!("seed {seed}, {happening:?}: {failure}"));
        }
    }
    Ok(u64::from(calls))
}
