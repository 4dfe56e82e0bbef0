//! Making a request again that failed for a reason that passes.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Error;

/// The pause before the first repetition is at random up to this; each further one up to twice as much.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The most that it is doubled to.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// For how long a failed request is made again unless the caller says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The same once content is on its way, which may have taken hours until then.
pub(crate) const TRANSFER_PATIENCE: Duration = Duration::from_mins(5);

/// The repetitions of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    patience: Duration,
    /// Since the first failure.
    until: Option<Instant>,
    within: Duration,
}

impl Retries {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            until: None,
            within: FIRST_PAUSE,
        }
    }

    /// Waits for the next attempt. An error for which it would not help comes back, as does the last one.
    pub(crate) async fn after(&mut self, error: Error) -> Result<(), Error> {
        if self.patience.is_zero() || !error.is_retryable() {
            return Err(error);
        }
        let pause = self.within.mul_f64(fastrand::f64());
        let until = *self.until.get_or_insert_with(|| Instant::now() + self.patience);
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
    async fn it_ends_when_patience_does() {
        let began = Instant::now();
        let mut retries = Retries::new(PATIENCE);
        let mut attempts = 1;
        while retries.after(Error::Silent).await.is_ok() {
            attempts += 1;
        }
        assert!(began.elapsed() <= PATIENCE, "{:?}", began.elapsed());
        assert!(attempts > 3, "{attempts}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_patience_each_failure_shows() {
        assert!(Retries::new(Duration::ZERO).after(Error::Silent).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_shows_at_once() {
        assert!(Retries::new(PATIENCE).after(Error::TooLarge).await.is_err());
    }
}
