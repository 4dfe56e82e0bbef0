//! Random fault injection: decides whether a fault happens, chooses its duration, and counts the faults.
//!
//! Each kind of fault draws from its own random stream of the seed. The n-th decision about a kind is
//! therefore the same in every run with that seed, whatever the other kinds do.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Streams below this number belong to the kinds of faults; the numbers from here on are for other uses.
const FIRST_FREE_STREAM: u64 = 1_000;

/// A random generator for a stream that no kind of fault uses.
pub(crate) fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(FIRST_FREE_STREAM + number);
    random
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $chance:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The name in reports.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// Probability per opportunity. For kills it is a multiple of the run's kill chance. Zero for
            /// faults that are scheduled.
            fn chance(self) -> f64 {
                match self { $(Self::$kind => $chance,)* }
            }
        }
    };
}

kinds! {
    /// A SIGKILL ends the process of an API function during an invocation. The probability is scaled to the
    /// length of the run.
    Killed "API function killed" 1.0,
    /// A SIGKILL ends the process of `fan-out` during an invocation.
    FanOutKilled "fan-out killed" 2.0,
    /// A SIGKILL ends the process of `maintenance` during an invocation.
    MaintenanceKilled "maintenance killed" 5.0,
    /// S3 answers 503.
    StorageUnavailable "S3 503" 0.01,
    /// S3 carries out a request, but its answer is lost.
    StorageAnswerLost "S3 answer lost" 0.01,
    /// SQS answers 503.
    QueueUnavailable "SQS 503" 0.01,
    /// SQS carries out a request, but its answer is lost.
    QueueAnswerLost "SQS answer lost" 0.02,
    /// A message is in the queue twice.
    Duplicated "SQS duplicate" 0.03,
    /// A message is received before older ones.
    Reordered "SQS reordering" 0.2,
    /// A message is received again after it was deleted.
    Undeleted "SQS undeleted" 0.01,
    /// Posting to a connection answers 429.
    Throttled "@connections 429" 0.02,
    /// Posting to a connection answers 500.
    PostFailed "@connections 500" 0.01,
    /// Posting to a connection answers 503.
    PostUnavailable "@connections 503" 0.01,
    /// Posting to a connection takes seconds.
    PostHung "@connections hang" 0.002,
    /// Posting to a connection is slow.
    PostSlow "@connections slow" 0.02,
    /// The frame is delivered, but the answer to the post is lost.
    PostAnswerLost "@connections answer lost" 0.02,
    /// A post arrives while `$connect` is still running and is answered with 410.
    NotYetConnected "410 during $connect" 0.0,
    /// A handshake takes 50 to 1,500 ms.
    HandshakeSlow "slow handshake" 0.5,
    /// `$disconnect` is not delivered.
    DisconnectLost "$disconnect lost" 0.5,
    /// Two invocations of `maintenance` run at once.
    MaintenanceTwice "maintenance twice at once" 0.2,
    /// PostgreSQL crashes.
    DatabaseCrashed "PostgreSQL crash" 0.0,
    /// All open connections to a dependency are closed.
    Cut "connections cut" 0.0,
    /// A dependency is slow.
    Slowed "dependency slow" 0.0,
    /// A dependency accepts connections, but no data passes.
    Hung "dependency hung" 0.0,
    /// A dependency accepts no connections.
    Refused "dependency refusing" 0.0,
    /// SQS answers every request with 503 for a while.
    QueueOutage "SQS outage" 0.0,
    /// Every post is answered with 403 for a while.
    Forbidden "@connections 403" 0.0,
    /// The WebSocket of a device is closed.
    SocketDropped "socket dropped" 0.0,
    /// A message that no function can decode is in the queue.
    Poisoned "poison message" 0.0,
    /// EventBridge answers 503.
    BusUnavailable "EventBridge 503" 0.05,
    /// EventBridge carries out a request, but its answer is lost.
    BusAnswerLost "EventBridge answer lost" 0.05,
    /// EventBridge does not take an entry of a request.
    BusRefused "EventBridge entry failed" 0.02,
    /// A SIGKILL ends the process of a function that completes a batch, after it has asked S3 for an object and
    /// before it commits.
    KilledBeforeCommit "batch killed before commit" 0.2,
    /// A SIGKILL ends the process of a function that completes a batch, after it has committed and before the
    /// queue has the message.
    KilledBeforeSend "batch killed before sending" 0.2,
}

/// Decides about each opportunity for a fault, and counts the faults.
pub(crate) struct FaultInjector {
    on: AtomicBool,
    excused: AtomicBool,
    kill_chance: f64,
    kinds: Vec<(Mutex<ChaCha8Rng>, AtomicU64)>,
}

impl FaultInjector {
    /// An injector that is turned off.
    pub(crate) fn new(seed: u64, kill_chance: f64) -> Self {
        let kinds = (0..).zip(Kind::ALL).map(|(number, _)| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(number);
            (Mutex::new(random), AtomicU64::new(0))
        });
        Self {
            on: AtomicBool::new(false),
            excused: AtomicBool::new(false),
            kill_chance,
            kinds: kinds.collect(),
        }
    }

    /// Turns the injection of random faults on or off.
    pub(crate) fn turn(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }

    /// Sets whether errors are expected because something is broken on purpose while no random faults are
    /// injected.
    pub(crate) fn expect_errors(&self, excused: bool) {
        self.excused.store(excused, Ordering::SeqCst);
    }

    /// Whether functions may report errors: random faults are on, or errors are expected.
    pub(crate) fn excuses(&self) -> bool {
        self.is_on() || self.excused.load(Ordering::SeqCst)
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// Decides whether a fault happens now, and counts it if so.
    pub(crate) fn inject(&self, kind: Kind) -> bool {
        let struck = self.decides(kind);
        if struck {
            self.count(kind);
        }
        struck
    }

    /// Decides whether a fault is to happen now. The caller counts it when it has happened.
    pub(crate) fn decides(&self, kind: Kind) -> bool {
        if !self.is_on() {
            return false;
        }
        let chance = match kind {
            Kind::Killed | Kind::FanOutKilled | Kind::MaintenanceKilled => {
                (kind.chance() * self.kill_chance).min(1.0)
            }
            _ => kind.chance(),
        };
        self.draw(kind, |random| random.random_bool(chance))
    }

    /// Draws a random number for a fault, such as which message it affects.
    pub(crate) fn number(&self, kind: Kind, range: Range<usize>) -> usize {
        self.draw(kind, |random| random.random_range(range))
    }

    /// Draws the duration of a fault; `range` is in milliseconds.
    pub(crate) fn millis(&self, kind: Kind, range: Range<u64>) -> Duration {
        Duration::from_millis(self.draw(kind, |random| random.random_range(range)))
    }

    fn draw<T>(&self, kind: Kind, draw: impl FnOnce(&mut ChaCha8Rng) -> T) -> T {
        let (random, _) = &self.kinds[kind as usize];
        draw(&mut random.lock())
    }

    /// Counts a fault that has happened.
    pub(crate) fn count(&self, kind: Kind) {
        self.kinds[kind as usize].1.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of faults of each kind, by the kind's name.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        Kind::ALL
            .iter()
            .map(|kind| (kind.name(), self.kinds[*kind as usize].1.load(Ordering::Relaxed)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(seed: u64, other: usize) -> Vec<bool> {
        let faults = FaultInjector::new(seed, 0.5);
        faults.turn(true);
        for _ in 0..other {
            faults.inject(Kind::Throttled);
        }
        (0..100).map(|_| faults.inject(Kind::Killed)).collect()
    }

    #[test]
    fn a_seed_repeats_each_kind_whatever_the_others_do() {
        assert_eq!(draws(7, 0), draws(7, 1_000));
        assert_ne!(draws(7, 0), draws(8, 0));
    }

    #[test]
    fn nothing_strikes_while_it_is_calm() {
        let faults = FaultInjector::new(7, 1.0);
        assert!(!faults.inject(Kind::Killed));
        faults.turn(true);
        assert!(faults.inject(Kind::Killed));
        assert_eq!(faults.counts()["API function killed"], 1);
    }
}
