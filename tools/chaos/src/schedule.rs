//! The faults that are planned: when what happens to which dependency, all from the seed.

use std::time::Duration;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::faults;

/// The stream of the seed that plans.
const STREAM: u64 = 0;

/// What functions depend on, each behind a proxy of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dependency {
    /// PostgreSQL.
    Database,
    /// S3.
    Storage,
    /// SQS.
    Queue,
    /// `@connections`.
    Connections,
}

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// PostgreSQL crashes and is started again.
    CrashDatabase,
    /// Every connection to a dependency is cut.
    Cut(Dependency),
    /// Every piece of what travels to a dependency and back is late.
    Slow(Dependency, Duration, Duration),
    /// Nothing travels to a dependency for this long.
    Hang(Dependency, Duration),
    /// A dependency takes no connections for this long.
    Refuse(Dependency, Duration),
    /// SQS answers 503 for this long.
    QueueOutage(Duration),
    /// `@connections` forbids every post for this long.
    Forbid(Duration),
    /// A device's socket is closed.
    DropSocket,
    /// Something undecodable is sent to the queue.
    Poison,
}

/// A disturbance and how long after the one before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Since the one before, or since the beginning.
    pub(crate) after: Duration,
    /// What happens.
    pub(crate) disturbance: Disturbance,
}

/// The endless plan of a seed.
pub(crate) struct Schedule {
    random: ChaCha8Rng,
    gap: Duration,
}

impl Schedule {
    /// Plans a disturbance every `gap` on average.
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
        let disturbance = match self.random.random_range(0..100) {
            0..6 => Disturbance::CrashDatabase,
            6..32 => Disturbance::Cut(self.dependency()),
            32..44 => Disturbance::Slow(self.dependency(), self.millis(2, 80), self.millis(200, 1_500)),
            44..52 => Disturbance::Hang(self.dependency(), self.millis(500, 4_000)),
            52..60 => Disturbance::Refuse(self.dependency(), self.millis(200, 2_000)),
            60..66 => Disturbance::QueueOutage(self.millis(1_000, 5_000)),
            66..69 => Disturbance::Forbid(self.millis(100, 1_000)),
            69..92 => Disturbance::DropSocket,
            _ => Disturbance::Poison,
        };
        Some(Planned { after, disturbance })
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
