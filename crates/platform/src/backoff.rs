//! Exponential back-off with full jitter.

use std::time::Duration;

/// The parameters of the waits before retries. With full jitter, each wait is a random part of its limit, so
/// that callers that failed together do not retry together (Amazon Builders' Library, "Timeouts, retries, and
/// backoff with jitter").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The limit of the first wait; a wait is never longer than its limit.
    pub base: Duration,
    /// The factor by which the limit grows with each attempt.
    pub factor: u32,
    /// The maximum of the limit.
    pub cap: Duration,
}

impl Backoff {
    /// The longest wait after this many attempts, at least 1; 0 counts as 1.
    pub fn limit(&self, attempts: u32) -> Duration {
        let growth = self.factor.saturating_pow(attempts.saturating_sub(1));
        self.base.saturating_mul(growth).min(self.cap)
    }

    /// A random wait after this many attempts, from 0 to [`Self::limit`].
    pub fn jittered(&self, attempts: u32) -> Duration {
        self.limit(attempts).mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_to_the_cap() {
        let backoff = Backoff {
            base: Duration::from_millis(4),
            factor: 7,
            cap: Duration::from_secs(1),
        };
        let limits: Vec<u128> = (0..6)
            .map(|attempts| backoff.limit(attempts).as_millis())
            .collect();
        assert_eq!(limits, [4, 4, 28, 196, 1_000, 1_000]);
        assert_eq!(backoff.limit(u32::MAX).as_millis(), 1_000);
        let waits: Vec<Duration> = (0..100).map(|_| backoff.jittered(3)).collect();
        let half = backoff.limit(3) / 2;
        assert!(waits.iter().all(|wait| *wait <= backoff.limit(3)));
        // The probability that 100 random waits are all on the same side of the middle is 2^-99.
        assert!(waits.iter().any(|wait| *wait > half) && waits.iter().any(|wait| *wait < half));
    }
}
