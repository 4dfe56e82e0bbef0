//! Retries with exponential back-off and full jitter.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Error;

/// Upper limit of the random pause before the first retry. The limit doubles with each retry.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Upper limit to which the pause doubles.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long a request is retried after its first failure, unless the caller sets another limit.
pub(crate) const RETRY_BUDGET: Duration = Duration::from_secs(15);

/// The same during a transfer, which may already have taken hours.
pub(crate) const TRANSFER_RETRY_BUDGET: Duration = Duration::from_mins(5);

/// The retry state of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    retry_budget: Duration,
    /// The time after which no retry starts; `None` before the first failure.
    until: Option<Instant>,
    within: Duration,
}

impl Retries {
    pub(crate) fn new(retry_budget: Duration) -> Self {
        Self {
            retry_budget,
            until: None,
            within: FIRST_PAUSE,
        }
    }

    /// Waits until the next attempt. Returns the error if it is not retryable, or if the time for retries is
    /// over.
    pub(crate) async fn after(&mut self, error: Error) -> Result<(), Error> {
        if self.retry_budget.is_zero() || !error.is_retryable() {
            return Err(error);
        }
        let pause = self.within.mul_f64(fastrand::f64());
        let until = *self
            .until
            .get_or_insert_with(|| Instant::now() + self.retry_budget);
        if Instant::now() + pause > until {
            return Err(error);
        }
        sleep(pause).await;
        self.within = (self.within * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn retries_end_with_the_budget() {
        let began = Instant::now();
        let mut retries = Retries::new(RETRY_BUDGET);
        let mut attempts = 1;
        while retries.after(Error::Timeout).await.is_ok() {
            attempts += 1;
        }
        assert!(began.elapsed() <= RETRY_BUDGET, "{:?}", began.elapsed());
        assert!(attempts > 3, "{attempts}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_budget_each_failure_is_returned() {
        assert!(Retries::new(Duration::ZERO).after(Error::Timeout).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lasting_error_is_returned_at_once() {
        assert!(Retries::new(RETRY_BUDGET).after(Error::TooLarge).await.is_err());
    }
}
