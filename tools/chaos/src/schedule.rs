//! The scheduled faults: their times, kinds and targets, all derived from the seed.

use std::time::Duration;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::faults;

/// The random stream of the schedule.
const STREAM: u64 = 0;

/// A dependency of the functions. Each has its own proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dependency {
    Database,
    Storage,
    Queue,
    /// The API for posting to WebSocket connections.
    Connections,
}

/// A scheduled fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScheduledFault {
    /// PostgreSQL crashes and is restarted.
    CrashDatabase,
    /// Every open connection to a dependency is closed.
    Cut(Dependency),
    /// Each chunk of data to or from a dependency is delayed by the first duration, for the second duration.
    Slow(Dependency, Duration, Duration),
    /// A dependency accepts connections, but no data passes for this long.
    Hang(Dependency, Duration),
    /// A dependency accepts no connections for this long.
    Refuse(Dependency, Duration),
    /// SQS answers 503 for this long.
    QueueOutage(Duration),
    /// `@connections` answers every post with 403 for this long.
    Forbid(Duration),
    /// The WebSocket of a device is closed.
    DropSocket,
    /// A message that no function can decode is sent to the queue.
    Poison,
}

/// A fault with its start relative to the start of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// The time since the start of the fault before, or since the start of the run.
    pub(crate) after: Duration,
    /// The fault to inject.
    pub(crate) fault: ScheduledFault,
}

/// The infinite schedule of a seed, as an iterator.
pub(crate) struct Schedule {
    random: ChaCha8Rng,
    gap: Duration,
}

impl Schedule {
    /// A schedule with a mean time of `gap` between faults.
    pub(crate) fn new(seed: u64, gap: Duration) -> Self {
        Self {
            random: faults::stream(seed, STREAM),
            gap,
        }
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.random.random_range(least..most))
    }

    fn dependency(&mut self) -> Dependency {
        let all = [
            Dependency::Database,
            Dependency::Storage,
            Dependency::Queue,
            Dependency::Connections,
        ];
        all[self.random.random_range(0..all.len())]
    }
}

impl Iterator for Schedule {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        let gap = u64::try_from(self.gap.as_millis()).unwrap_or(u64::MAX).max(1);
        let after = self.millis(0, 2 * gap);
        let fault = match self.random.random_range(0..100) {
            0..6 => ScheduledFault::CrashDatabase,
            6..32 => ScheduledFault::Cut(self.dependency()),
            32..44 => ScheduledFault::Slow(self.dependency(), self.millis(2, 80), self.millis(200, 1_500)),
            44..52 => ScheduledFault::Hang(self.dependency(), self.millis(500, 4_000)),
            52..60 => ScheduledFault::Refuse(self.dependency(), self.millis(200, 2_000)),
            60..66 => ScheduledFault::QueueOutage(self.millis(1_000, 5_000)),
            66..69 => ScheduledFault::Forbid(self.millis(100, 1_000)),
            69..92 => ScheduledFault::DropSocket,
            _ => ScheduledFault::Poison,
        };
        Some(Planned { after, fault })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_plans_the_same_each_time_and_another_one_something_else() {
        let plan = |seed| -> Vec<Planned> {
            Schedule::new(seed, Duration::from_millis(250))
                .take(200)
                .collect()
        };
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn gaps_are_as_long_as_asked_for_on_average() {
        let gap = Duration::from_millis(250);
        let total: Duration = Schedule::new(1, gap)
            .take(1_000)
            .map(|planned| planned.after)
            .sum();
        assert!((total / 1_000).abs_diff(gap) < gap / 10, "{total:?}");
    }
}
