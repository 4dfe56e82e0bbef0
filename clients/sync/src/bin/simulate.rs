//! Runs seeds of the simulations of the sync engine, and prints the first failure.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::{Parser, ValueEnum};
use sync::planted::{Bug, plant};
use sync::simulation::hits::Hits;
use sync::simulation::scenario::Scenario;
use sync::simulation::shrink::shrink;
use sync::simulation::sweep::sweep;
use sync::simulation::{planner, world};

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layer {
    /// The planner alone.
    Planner,
    /// All small cases of the planner.
    Exhaustive,
    /// Engines, disks, users and the service.
    Engine,
    /// The same, with a crash after each effect of each scenario.
    Crash,
}

/// Runs seeds of the simulations of the sync engine.
#[derive(Parser)]
struct Arguments {
    #[arg(long, value_enum, default_value = "engine")]
    layer: Layer,
    /// The number of seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// The number of threads.
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// A defect to plant: the name of a `Bug`. The run fails if no seed finds it.
    #[arg(long)]
    planted: Option<String>,
    /// Print how often each rule and each fault was met.
    #[arg(long)]
    hits: bool,
    /// The number of lines of the log of a failure.
    #[arg(long, default_value_t = 60)]
    lines: usize,
    /// Print only the failure, and not its scenario.
    #[arg(long)]
    brief: bool,
    /// Go on after failures, and print one line for each.
    #[arg(long)]
    all: bool,
}

fn bug(name: &str) -> Option<Bug> {
    Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let planted = arguments.planted.as_deref().map(bug);
    if planted == Some(None) {
        eprint(&format!("no such defect; there are {:?}", Bug::ALL));
        return ExitCode::FAILURE;
    }
    let planted = planted.flatten();
    let began = Instant::now();
    let next = AtomicU64::new(arguments.first);
    let end = arguments.first + arguments.seeds;
    let is_over = AtomicBool::new(false);
    let failures: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());
    let hits = Mutex::new(Hits::default());
    if arguments.layer == Layer::Exhaustive {
        let mut hits = Hits::default();
        match planner::exhaustive(&mut hits) {
            Ok(cases) => print(&format!("{hits}{cases} cases in {:?}", began.elapsed())),
            Err(what) => {
                print(&what);
                return ExitCode::FAILURE;
            }
        }
        return ExitCode::SUCCESS;
    }
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                plant(planted);
                let mut mine = Hits::default();
                while !is_over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let failure = match arguments.layer {
                        Layer::Planner => planner::random(seed, &mut mine).err(),
                        Layer::Crash => sweep(seed, &mut mine).err(),
                        Layer::Engine | Layer::Exhaustive => {
                            let outcome = world::run(&Scenario::random(seed), false);
                            mine.merge(&outcome.hits);
                            outcome.failure
                        }
                    };
                    if let Some(failure) = failure {
                        if let Ok(mut failures) = failures.lock() {
                            failures.push((seed, failure));
                        }
                        if !arguments.all {
                            is_over.store(true, Ordering::Relaxed);
                        }
                    }
                }
                if let Ok(mut hits) = hits.lock() {
                    hits.merge(&mine);
                }
            });
        }
    });
    let elapsed = began.elapsed();
    if arguments.hits
        && let Ok(hits) = hits.lock()
    {
        print(&hits.to_string());
    }
    let mut failures = failures.into_inner().unwrap_or_default();
    failures.sort();
    let done = next.into_inner().min(end) - arguments.first;
    if arguments.all {
        for (seed, failure) in &failures {
            print(&format!("{seed}: {}", failure.lines().next().unwrap_or_default()));
        }
        print(&format!(
            "{} of {done} seeds failed in {elapsed:?}",
            failures.len()
        ));
    } else if let Some((seed, failure)) = failures.first() {
        print(&format!("seed {seed} after {elapsed:?}: {failure}"));
        if arguments.layer == Layer::Engine && !arguments.brief {
            plant(planted);
            let scenario = shrink(&Scenario::random(*seed), failure);
            print(&scenario.text());
            let outcome = world::run(&scenario, true);
            let from = outcome.log.len().saturating_sub(arguments.lines);
            print(&outcome.log[from..].join("\n"));
            print(&outcome.failure.unwrap_or_default());
        }
    } else {
        print(&format!("{done} seeds without a failure in {elapsed:?}"));
    }
    if failures.is_empty() == planted.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[expect(clippy::print_stdout, reason = "the output of a command")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the output of a command")]
fn eprint(text: &str) {
    eprintln!("{text}");
}
