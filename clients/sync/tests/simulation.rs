//! The simulations, as far as each test run needs them. `cargo xtask simulate` runs more seeds.
#![cfg(feature = "simulation")]

use sync::planted::{Bug, plant};
use sync::simulation::hits::Hits;
use sync::simulation::scenario::Scenario;
use sync::simulation::sweep::sweep;
use sync::simulation::world;

/// Seeds within which each planted defect must be found.
const SEEDS: u64 = 20_000;

fn failure(seed: u64) -> Option<String> {
    world::run(&Scenario::random(seed), false).failure
}

#[test]
fn every_invariant_holds_for_random_scenarios() {
    for seed in 0..3_000 {
        assert_eq!(failure(seed), None, "seed {seed}");
    }
}

#[test]
fn equal_seeds_have_equal_traces() {
    for seed in (0..2_000).step_by(100) {
        let scenario = Scenario::random(seed);
        let (one, other) = (world::run(&scenario, true), world::run(&scenario, true));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.log, other.log, "seed {seed}");
    }
}

#[test]
fn a_crash_before_any_call_of_the_disk_loses_nothing() {
    let mut hits = Hits::default();
    for seed in 0..4 {
        sweep(seed, &mut hits).unwrap_or_else(|what| panic!("{what}"));
    }
    assert!(
        hits.count("crash before commit") > 0 && hits.count("crash before rename") > 0,
        "{hits}"
    );
}

#[test]
fn planted_defects_are_found() {
    let missed: Vec<Bug> = std::thread::scope(|scope| {
        let halves = Bug::ALL.chunks(Bug::ALL.len().div_ceil(2));
        let threads: Vec<_> = halves
            .map(|bugs| {
                scope.spawn(|| {
                    let missed = bugs.iter().filter(|bug| {
                        plant(Some(**bug));
                        (0..SEEDS).all(|seed| failure(seed).is_none())
                    });
                    missed.copied().collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
}
