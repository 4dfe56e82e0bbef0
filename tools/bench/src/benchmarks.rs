//! All benchmarks.

mod backlog;
mod cold;
mod complete;
mod connect;
mod end_to_end;
mod fan_out;
mod feed;
mod memory;
mod purge;
mod queue;
mod upload;

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use runner::arguments::BENCHMARKS;

use crate::harness::Harness;
use crate::report::Benchmark;

/// Runs the named benchmarks; all if `names` is empty.
pub(crate) async fn run(harness: &Harness, names: &[String]) -> Result<Vec<Benchmark>> {
    let mut benchmarks = Vec::new();
    for name in BENCHMARKS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        progress(&format!("… {name}"));
        benchmarks.push(match name {
            "complete" => complete::run(harness).await?,
            "fan-out" => fan_out::run(harness).await?,
            "cold" => cold::run(harness).await?,
            "feed" => feed::run(harness).await?,
            "connect" => connect::run(harness).await?,
            "backlog" => backlog::run(harness).await?,
            "purge" => purge::run(harness).await?,
            "upload" => upload::run(harness).await?,
            _ => end_to_end::run(harness).await?,
        });
    }
    Ok(benchmarks)
}

/// Simulated latency of AWS services in some benchmarks.
pub(crate) const LATENCY_OF_AWS: Duration = Duration::from_millis(10);

/// Prints a progress line.
pub(crate) fn progress(line: &str) {
    #[expect(clippy::print_stderr, reason = "talking to the developer")]
    {
        eprintln!("{line}");
    }
}

/// CPU time of this process, and so of the fakes, during a measurement.
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

    /// Whether the fakes used more than 90 % of the CPU available to them, so that they may have limited the
    /// result.
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

/// One figure of each round.
pub(crate) fn each<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> Vec<f64> {
    rounds.iter().map(figure).collect()
}

/// Converts a count to a float.
pub(crate) fn number(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

/// Converts bytes to megabytes (1,000,000 bytes).
pub(crate) fn megabytes(bytes: u64) -> f64 {
    u32::try_from(bytes / 1_000).map_or(f64::INFINITY, f64::from) / 1e3
}
