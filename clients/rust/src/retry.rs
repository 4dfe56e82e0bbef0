//! Retries of requests.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::{Backoff, Error};

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

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
    backoff: Backoff,
}

impl Retries {
    pub(crate) fn new(retry_budget: Duration) -> Self {
        Self {
            retry_budget,
            until: None,
            backoff: BACKOFF,
        }
    }

    /// Waits until the next attempt. Returns the error if it is not retryable, or if the time for retries is
    /// over. If the service has named a time, the attempt begins after it. Callers that were told the same time
    /// do not come back together.
    pub(crate) async fn after(&mut self, error: Error) -> Result<(), Error> {
        if self.retry_budget.is_zero() || !error.is_retryable() {
            return Err(error);
        }
        let delay = error.retry_after().unwrap_or_default() + self.backoff.next_delay(&mut Rng::new());
        let until = *self
            .until
            .get_or_insert_with(|| Instant::now() + self.retry_budget);
        if Instant::now() + delay > until {
            return Err(error);
        }
        sleep(delay).await;
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
    async fn an_attempt_waits_for_the_time_that_the_service_named() {
        let busy = |seconds: u64| {
            let problem = format!(
                r#"{{"status":429,"code":"quota-exceeded","detail":"","requestId":"","retryAfter":{seconds}}}"#
            );
            Error::Refused(Box::new(serde_json::from_str(&problem).unwrap()))
        };
        let began = Instant::now();
        Retries::new(RETRY_BUDGET).after(busy(7)).await.unwrap();
        assert!(began.elapsed() >= Duration::from_secs(7), "{:?}", began.elapsed());
        // The budget ends before that time.
        assert!(Retries::new(RETRY_BUDGET).after(busy(60)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lasting_error_is_returned_at_once() {
        assert!(Retries::new(RETRY_BUDGET).after(Error::TooLarge).await.is_err());
    }
}
