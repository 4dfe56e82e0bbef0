//! Limits the rate of posts.
//!
//! The account's quota of 10,000 requests per second in a region covers all its APIs (Amazon API Gateway
//! Developer Guide, "Amazon API Gateway quotas"). If posts used all of it, uploads would fail. Posts
//! therefore have a share of the quota, and each execution environment has an equal part of that share.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use tokio::sync::Mutex;
use tokio::time::{Duration, Instant, sleep_until};

/// The period of the quota.
const SECOND: Duration = Duration::from_secs(1);

/// A sliding window: at most `share` posts in any one second. Unlike a token bucket with the same bound, an
/// idle window admits a full second's posts at once. An audience smaller than that therefore never waits.
pub struct RateLimiter {
    share: usize,
    /// The times of the posts of the last second, oldest first. The lock is fair, so callers are admitted in
    /// order.
    last_second: Mutex<VecDeque<Instant>>,
}

impl RateLimiter {
    /// The limiter of one of `environments` execution environments, which share `posts_per_second` equally.
    /// Each may make at least one post per second.
    pub fn new(posts_per_second: NonZeroU32, environments: NonZeroU32) -> Self {
        let share = (posts_per_second.get() / environments).max(1);
        Self {
            share: share.try_into().unwrap_or(usize::MAX),
            last_second: Mutex::default(),
        }
    }

    /// Waits until the rate limit allows another post, and counts that post.
    pub(crate) async fn wait(&self) {
        let mut last_second = self.last_second.lock().await;
        loop {
            let now = Instant::now();
            while last_second.front().is_some_and(|oldest| now - *oldest >= SECOND) {
                last_second.pop_front();
            }
            match last_second.front() {
                Some(oldest) if last_second.len() >= self.share => sleep_until(*oldest + SECOND).await,
                _ => return last_second.push_back(now),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u32) -> NonZeroU32 {
        number.try_into().unwrap()
    }

    /// The times in milliseconds at which the limiter admits each of `posts` posts.
    async fn times(limiter: &RateLimiter, posts: usize) -> Vec<u128> {
        let started = Instant::now();
        let mut times = Vec::new();
        for _ in 0..posts {
            limiter.wait().await;
            times.push(started.elapsed().as_millis());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn environments_share_the_rate_and_none_waits_without_need() {
        let limiter = RateLimiter::new(number(4_000), number(10));
        assert_eq!(times(&limiter, 400).await, [0; 400]);
        tokio::time::advance(Duration::from_millis(600)).await;
        // The window of the first 400 posts has ended then, within the timer's resolution of 1 ms.
        let next = times(&limiter, 401).await;
        assert!((400..=401).contains(&next[0]), "{next:?}");
        assert_eq!(next[399], next[0]);
        assert!((1_000..=1_001).contains(&(next[400] - next[0])), "{next:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_than_the_rate() {
        let limiter = RateLimiter::new(number(50), number(1));
        let mut times = Vec::new();
        let started = Instant::now();
        for i in 0..1_000 {
            tokio::time::advance(Duration::from_millis(i * 7 % 31)).await;
            limiter.wait().await;
            times.push(started.elapsed());
        }
        for (first, after) in times.iter().zip(times.iter().skip(50)) {
            assert!(*after >= *first + SECOND, "{first:?} {after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_of_less_than_one_is_one() {
        let times = times(&RateLimiter::new(number(1), number(10)), 2).await;
        assert_eq!(times[0], 0);
        assert!((1_000..=1_001).contains(&times[1]), "{times:?}");
    }
}
