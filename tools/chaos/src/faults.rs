//! Faults that strike at random while something is done: whether each does, for how long, and how many did.
//!
//! Every kind of fault draws from its own stream of the seed, so that the n-th chance of a kind comes out the same in every
//! run with that seed, whatever the other kinds do.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Streams below this number belong to the kinds of faults, others to whoever else draws from the seed.
const FIRST_FREE_STREAM: u64 = 1_000;

/// A generator of the seed that nobody else draws from.
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

            /// What reports call it.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// How likely it is at each chance, for kills how many times as likely as the run's chance says; 0 for those that are planned instead.
            fn chance(self) -> f64 {
                match self { $(Self::$kind => $chance,)* }
            }
        }
    };
}

kinds! {
    /// The process of a function that answers requests gets a SIGKILL in the middle of an invocation. The chance is scaled to
    /// the run's length.
    Killed "API function killed" 1.0,
    /// The same of `fan-out`.
    FanOutKilled "fan-out killed" 2.0,
    /// The same of `relay-events`.
    RelayKilled "relay-events killed" 5.0,
    /// Storage answers 503.
    StorageUnavailable "S3 503" 0.01,
    /// Storage does what it is asked to, and its answer is lost.
    StorageAnswerLost "S3 answer lost" 0.01,
    /// The queue answers 503.
    QueueUnavailable "SQS 503" 0.01,
    /// The queue does what it is asked to, and its answer is lost.
    QueueAnswerLost "SQS answer lost" 0.02,
    /// A message is there twice.
    Duplicated "SQS duplicate" 0.03,
    /// A message overtakes others.
    Reordered "SQS reordering" 0.2,
    /// A message comes again although it was deleted.
    Undeleted "SQS undeleted" 0.01,
    /// Posting to a connection answers 429.
    Throttled "@connections 429" 0.02,
    /// Posting to a connection answers 500.
    PostFailed "@connections 500" 0.01,
    /// Posting to a connection answers 503.
    PostUnavailable "@connections 503" 0.01,
    /// Posting to a connection takes seconds.
    PostHung "@connections hang" 0.002,
    /// Posting to a connection takes long.
    PostSlow "@connections slow" 0.02,
    /// The frame is delivered, and the answer is lost.
    PostAnswerLost "@connections answer lost" 0.02,
    /// A post comes while `$connect` still runs, and is answered with 410.
    NotYetConnected "410 during $connect" 0.0,
    /// A handshake takes 50 to 1,500 ms.
    HandshakeSlow "slow handshake" 0.5,
    /// `$disconnect` is not delivered.
    DisconnectLost "$disconnect lost" 0.5,
    /// Two invocations of `relay-events` run at once.
    RelayedTwice "two relays at once" 0.2,
    /// PostgreSQL crashes.
    DatabaseCrashed "PostgreSQL crash" 0.0,
    /// The connections to a dependency are cut.
    Cut "connections cut" 0.0,
    /// A dependency is slow.
    Slowed "dependency slow" 0.0,
    /// A dependency hangs.
    Hung "dependency hung" 0.0,
    /// A dependency takes no connections.
    Refused "dependency refusing" 0.0,
    /// The queue is out.
    QueueOutage "SQS outage" 0.0,
    /// Every post is forbidden.
    Forbidden "@connections 403" 0.0,
    /// A socket is closed.
    SocketDropped "socket dropped" 0.0,
    /// Something undecodable is in the queue.
    Poisoned "poison message" 0.0,
}

/// Decides over every chance, and counts.
pub(crate) struct FaultInjector {
    on: AtomicBool,
    excused: AtomicBool,
    kill_chance: f64,
    kinds: Vec<(Mutex<ChaCha8Rng>, AtomicU64)>,
}

impl FaultInjector {
    /// Calm until it is turned on.
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

    /// From now on faults strike, or none does.
    pub(crate) fn turn(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }

    /// From now on something is broken on purpose, without any fault that strikes at random; or nothing is.
    pub(crate) fn expect_errors(&self, excused: bool) {
        self.excused.store(excused, Ordering::SeqCst);
    }

    /// Whether a function may say that it could not do its work.
    pub(crate) fn excuses(&self) -> bool {
        self.is_on() || self.excused.load(Ordering::SeqCst)
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// Whether a fault strikes here and now; if so, it is counted.
    pub(crate) fn inject(&self, kind: Kind) -> bool {
        let struck = self.decides(kind);
        if struck {
            self.count(kind);
        }
        struck
    }

    /// Whether a fault is to strike here and now; whoever asks counts it if it does.
    pub(crate) fn decides(&self, kind: Kind) -> bool {
        if !self.is_on() {
            return false;
        }
        let chance = match kind {
            Kind::Killed | Kind::FanOutKilled | Kind::RelayKilled => {
                (kind.chance() * self.kill_chance).min(1.0)
            }
            _ => kind.chance(),
        };
        self.draw(kind, |random| random.random_bool(chance))
    }

    /// A number for a fault that strikes.
    pub(crate) fn number(&self, kind: Kind, range: Range<usize>) -> usize {
        self.draw(kind, |random| random.random_range(range))
    }

    /// How long a fault that strikes lasts, in milliseconds.
    pub(crate) fn millis(&self, kind: Kind, range: Range<u64>) -> Duration {
        Duration::from_millis(self.draw(kind, |random| random.random_range(range)))
    }

    fn draw<T>(&self, kind: Kind, draw: impl FnOnce(&mut ChaCha8Rng) -> T) -> T {
        let (random, _) = &self.kinds[kind as usize];
        draw(&mut random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a fault that was planned.
    pub(crate) fn count(&self, kind: Kind) {
        self.kinds[kind as usize].1.fetch_add(1, Ordering::Relaxed);
    }

    /// How many faults of each kind there were, by name.
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
