//! The benchmarks.

mod backlog;
mod cold;
mod complete;
mod connect;
mod end_to_end;
mod fan_out;
mod feed;
mod memory;
mod queue;

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use runner::arguments::BENCHMARKS;

use crate::report::Benchmark;
use crate::stage::Stage;

/// Runs those that are named, or all.
pub(crate) async fn run(stage: &Stage, names: &[String]) -> Result<Vec<Benchmark>> {
    let mut benchmarks = Vec::new();
    for name in BENCHMARKS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        progress(&format!("… {name}"));
        benchmarks.push(match name {
            "complete" => complete::run(stage).await?,
            "fan-out" => fan_out::run(stage).await?,
            "cold" => cold::run(stage).await?,
            "feed" => feed::run(stage).await?,
            "connect" => connect::run(stage).await?,
            "backlog" => backlog::run(stage).await?,
            _ => end_to_end::run(stage).await?,
        });
    }
    Ok(benchmarks)
}

/// What AWS takes for an answer in some benchmarks.
pub(crate) const LATENCY_OF_AWS: Duration = Duration::from_millis(10);

/// A line for whoever waits.
pub(crate) fn progress(line: &str) {
    #[expect(clippy::print_stderr, reason = "talking to the developer")]
    {
        eprintln!("{line}");
    }
}

/// The stand-ins' part in what is measured.
pub(crate) struct Serving {
    begun: Instant,
    cpu: Duration,
    cores: f64,
}

impl Serving {
    pub(crate) fn begin() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            begun: Instant::now(),
            cpu: own_cpu(),
            cores: u32::try_from(cores).map_or(1.0, f64::from),
        }
    }

    /// Whether they were busy nearly all of the time, so that they may have been the limit.
    pub(crate) fn was_bound(&self) -> bool {
        let busy = own_cpu().saturating_sub(self.cpu).as_secs_f64();
        busy > 0.9 * self.begun.elapsed().as_secs_f64() * self.cores
    }
}

fn own_cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.try_into().unwrap_or_default())
}

/// A figure of each round.
pub(crate) fn each<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> Vec<f64> {
    rounds.iter().map(figure).collect()
}

/// As a number to calculate with.
pub(crate) fn number(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

/// Bytes in megabytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    u32::try_from(bytes / 1_000).map_or(f64::INFINITY, f64::from) / 1e3
}
