//! Makes a failing scenario smaller.

use super::disk::Modes;
use super::scenario::Scenario;
use super::world;

/// Runs that shrinking may take.
const MAX_RUNS: u32 = 3_000;

/// What a failure is about: the invariant in its message.
fn kind(failure: &str) -> &str {
    let at = failure.rfind("(I");
    at.map_or(failure, |at| &failure[at..])
}

/// The smallest scenario that was found to fail for the same reason.
pub fn shrink(scenario: &Scenario, failure: &str) -> Scenario {
    let mut best = scenario.clone();
    let mut runs = 0;
    let mut fails = |candidate: &Scenario| {
        runs += 1;
        runs < MAX_RUNS
            && world::run(candidate, false)
                .failure
                .is_some_and(|other| kind(&other) == kind(failure))
    };
    loop {
        let before = best.clone();
        for candidate in simpler(&best) {
            if fails(&candidate) {
                best = candidate;
            }
        }
        best = without_steps(best, &mut fails);
        // Other delays may need fewer steps.
        for seed in 1..20 {
            let candidate = Scenario { seed, ..best.clone() };
            if best.seed != seed && fails(&candidate) {
                best = candidate;
                break;
            }
        }
        if best == before || size(&best) >= size(&before) {
            return best;
        }
    }
}

fn size(scenario: &Scenario) -> usize {
    let steps: usize = scenario.devices.iter().map(|device| device.steps.len()).sum();
    steps + scenario.web.len() + scenario.happenings.len() + 10 * scenario.devices.len()
}

/// Scenarios with one thing less, except steps.
fn simpler(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Scenario)| {
        let mut simpler = scenario.clone();
        change(&mut simpler);
        if simpler != *scenario {
            all.push(simpler);
        }
    };
    if scenario.devices.len() > 1 {
        for count in [1, 2] {
            add(&|it| {
                it.devices.truncate(count);
                it.happenings
                    .retain(|(_, it)| it.device().is_none_or(|device| device < count));
            });
        }
    }
    add(&|it| it.happenings.clear());
    add(&|it| it.web.clear());
    add(&|it| it.step_rate = 0);
    add(&|it| it.disk_faults = 0);
    add(&|it| it.net_faults = 0);
    add(&|it| it.watch_faults = 0);
    for device in 0..scenario.devices.len() {
        add(&|it| it.devices[device].modes = Modes::LINUX);
        let is = scenario.devices[device].modes;
        add(&|it| {
            it.devices[device].modes = Modes {
                is_hostile: false,
                ..is
            }
        });
        add(&|it| {
            it.devices[device].modes = Modes {
                ignores_case: false,
                ..is
            }
        });
        add(&|it| {
            it.devices[device].modes = Modes {
                exchanges: true,
                ..is
            }
        });
        add(&|it| {
            it.devices[device].modes = Modes {
                granularity: 1_000,
                ..is
            }
        });
        add(&|it| it.devices[device].steps.clear());
    }
    all
}

/// Removes steps, many at once first.
fn without_steps(mut best: Scenario, fails: &mut impl FnMut(&Scenario) -> bool) -> Scenario {
    for list in 0..best.devices.len() + 2 {
        let mut size = length(&best, list).max(1);
        while size > 0 {
            let mut at = 0;
            while at < length(&best, list) {
                let mut candidate = best.clone();
                remove(&mut candidate, list, at, size);
                if fails(&candidate) {
                    best = candidate;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
    }
    best
}

fn length(scenario: &Scenario, list: usize) -> usize {
    match list {
        0 => scenario.web.len(),
        1 => scenario.happenings.len(),
        _ => scenario
            .devices
            .get(list - 2)
            .map_or(0, |device| device.steps.len()),
    }
}

fn remove(scenario: &mut Scenario, list: usize, at: usize, size: usize) {
    let end = (at + size).min(length(scenario, list));
    match list {
        0 => drop(scenario.web.drain(at..end)),
        1 => drop(scenario.happenings.drain(at..end)),
        _ => drop(scenario.devices[list - 2].steps.drain(at..end)),
    }
}
