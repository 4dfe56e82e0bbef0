//! The simulations, as far as each test run needs them. `cargo xtask simulate` runs more seeds.
#![cfg(feature = "simulation")]

use sync::planted::{Bug, plant};
use sync::simulation::actors::Step;
use sync::simulation::disk::Modes;
use sync::simulation::hits::Hits;
use sync::simulation::scenario::{Happening, Scenario, Setup, WebStep};
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

/// A scenario without faults. The numbers of paths and folders are those of `PATHS` and `FOLDERS`.
fn scenario(seed: u64, step_rate: u32, users: &[&[(u64, Step)]], web: &[(u64, WebStep)]) -> Scenario {
    let devices = users.iter().map(|steps| Setup {
        modes: Modes::LINUX,
        steps: steps.to_vec(),
    });
    Scenario {
        seed,
        devices: devices.collect(),
        web: web.to_vec(),
        happenings: Vec::new(),
        step_rate,
        disk_faults: 0,
        net_faults: 0,
        watch_faults: 0,
        makes_others: false,
        is_guard_tight: false,
    }
}

#[test]
fn an_executable_bit_and_another_content_are_no_conflict() {
    let user = [(4_236, Step::Touch(2)), (6_606, Step::Executable(0))];
    let web = [(2_725, WebStep::Write(0)), (5_701, WebStep::Write(0))];
    assert_eq!(world::run(&scenario(3, 40, &[&user], &web), false).failure, None);
}

#[test]
fn files_of_an_excluded_folder_survive_a_restore_that_the_device_does_not_know_yet() {
    let users: [&[_]; 2] = [&[(9_983, Step::Write(2))], &[(8_586, Step::Write(8))]];
    let happenings = vec![
        (7_952, Happening::Backup),
        (47_149, Happening::RestoreBackup),
        (47_210, Happening::Exclude(1, 0)),
    ];
    let scenario = scenario(2, 0, &users, &[]);
    let scenario = Scenario {
        happenings,
        ..scenario
    };
    assert_eq!(world::run(&scenario, false).failure, None);
}

#[test]
fn a_sync_that_is_ended_while_it_works_ends() {
    let mut ends = 0;
    for seed in 0..500 {
        let mut scenario = Scenario::random(seed);
        let steps = scenario.devices[0].steps.iter();
        let ended = steps.map(|(at, _)| (at + 1_500, Happening::Stop(0)));
        scenario.happenings.extend(ended);
        let outcome = world::run(&scenario, false);
        assert_eq!(outcome.failure, None, "seed {seed}");
        ends += outcome.hits.count("stopped: Asked");
    }
    assert!(ends > 500, "{ends}");
}

#[test]
fn two_files_that_get_one_path_at_the_same_time_are_a_conflict() {
    let user = [
        (9_912, Step::Write(9)),
        (25_065, Step::Write(2)),
        (31_073, Step::Rename(9, 6)),
    ];
    let web = [(27_807, WebStep::Move(2, 7))];
    let outcome = world::run(&scenario(16, 8, &[&user], &web), false);
    assert_eq!(outcome.failure, None);
    assert!(outcome.hits.count("told Conflict") > 0, "{}", outcome.hits);
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
