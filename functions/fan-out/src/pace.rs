//! How fast this environment may post.
//!
//! An account's quota of 10,000 requests per second in a region covers all its APIs (Amazon API Gateway Developer Guide, "Amazon
//! API Gateway quotas"), so posts that took all of it would make uploads fail. Notifying has a share of it, and each environment
//! an equal part of the share.

use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Mutex;
use tokio::time::sleep;

/// Lets posts through at an even rate, after a burst of half a second's: the quota's own burst is half of its rate.
pub struct Pace {
    clock: DefaultClock,
    limiter: RateLimiter<NotKeyed, InMemoryState, DefaultClock>,
    /// Those who wait do so in turn.
    turn: Mutex<()>,
}

impl Pace {
    /// The pace of one of `environments` that have `posts_per_second` together, and at least one each.
    pub fn new(posts_per_second: NonZeroU32, environments: NonZeroU32) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let share = at_least_one(posts_per_second.get() / environments);
        let quota = Quota::per_second(share).allow_burst(at_least_one(share.get() / 2));
        let clock = DefaultClock::default();
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
            turn: Mutex::new(()),
        }
    }

    /// Waits until the next post may go.
    pub(crate) async fn wait(&self) {
        let _turn = self.turn.lock().await;
        while let Err(early) = self.limiter.check() {
            sleep(early.wait_time_from(self.clock.now())).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn number(number: u32) -> NonZeroU32 {
        number.try_into().unwrap()
    }

    /// Says how long is waited at least, never how long at most, so it cannot fail by chance.
    #[tokio::test]
    async fn environments_share_the_rate_evenly() {
        let pace = Pace::new(number(4_000), number(10));
        let started = Instant::now();
        // The burst of 200, and 100 more at 400 per second.
        for _ in 0..300 {
            pace.wait().await;
        }
        assert!(
            started.elapsed() >= Duration::from_millis(245),
            "{:?}",
            started.elapsed()
        );
    }

    #[tokio::test]
    async fn a_share_of_less_than_one_is_one() {
        Pace::new(number(1), number(10)).wait().await;
    }
}
