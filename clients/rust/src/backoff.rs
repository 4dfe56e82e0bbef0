//! Exponential back-off.

use std::time::Duration;

use fastrand::Rng;

/// The delays before retries. The limit of the delay doubles with each retry, up to a maximum.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    base: Duration,
    pub(crate) max: Duration,
    limit: Duration,
}

impl Backoff {
    /// A back-off with the limit of the first delay, and the maximum of the limit.
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self {
            base,
            max,
            limit: base,
        }
    }

    /// Returns the limit of the next delay, and doubles it for the delay after that.
    pub fn next_limit(&mut self) -> Duration {
        let limit = self.limit;
        self.limit = limit.saturating_mul(2).min(self.max);
        limit
    }

    /// Returns the next delay: a random part of its limit. With this full jitter, clients that failed together
    /// do not retry together (Amazon Builders' Library, "Timeouts, retries, and backoff with jitter").
    pub(crate) fn next_delay(&mut self, random: &mut Rng) -> Duration {
        self.next_limit().mul_f64(random.f64())
    }

    /// Starts again with the first limit, after a success.
    pub fn reset(&mut self) {
        self.limit = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_double_up_to_the_maximum_and_start_again_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let mut limits = || [(); 5].map(|()| backoff.next_limit().as_secs());
        assert_eq!(limits(), [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.next_limit(), Duration::from_secs(1));
    }

    #[test]
    fn delays_are_spread_below_their_limit() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, second);
        let mut random = Rng::with_seed(1);
        let delays: Vec<Duration> = (0..100).map(|_| backoff.next_delay(&mut random)).collect();
        assert!(delays.iter().all(|delay| *delay <= second));
        let half = second / 2;
        assert!(delays.iter().any(|delay| *delay > half) && delays.iter().any(|delay| *delay < half));
    }
}
