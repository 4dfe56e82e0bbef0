//! Making a request again that failed for a reason that passes.

use std::time::Duration;

use reqwest::StatusCode;

use crate::Error;

/// The pause before the first repetition is at random up to this; each further one up to twice as much.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The most that it is doubled to.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often a request is made again unless the caller says otherwise: within some 15 s.
pub(crate) const RETRIES: u32 = 5;

/// What is left of a request's repetitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    left: u32,
    within: Duration,
}

impl Retries {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            left: count,
            within: FIRST_PAUSE,
        }
    }

    /// Waits for the next attempt. An error for which it would not help comes back, as does the last one.
    pub(crate) async fn after(&mut self, error: Error) -> Result<(), Error> {
        if self.left == 0 || !passes(&error) {
            return Err(error);
        }
        self.left -= 1;
        tokio::time::sleep(self.within.mul_f64(fastrand::f64())).await;
        self.within = (self.within * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// Whether the same request may succeed a little later.
fn passes(error: &Error) -> bool {
    match error {
        Error::Http(_) | Error::Silent => true,
        // How S3 says that a line was too slow (Amazon S3 API Reference, "Error responses").
        Error::Unexpected { status: 400, body } => body.contains("RequestTimeout"),
        other => other.status().is_some_and(|status| {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            status.is_server_error()
                || status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::REQUEST_TIMEOUT
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Problem;

    fn refused(status: u16) -> Error {
        Error::Refused(Problem {
            status,
            code: String::new(),
            detail: String::new(),
            request_id: String::new(),
            current: None,
        })
    }

    fn unexpected(status: u16, body: &str) -> Error {
        let body = body.to_owned();
        Error::Unexpected { status, body }
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        for error in [
            refused(503),
            refused(429),
            unexpected(502, ""),
            unexpected(400, "<Code>RequestTimeout</Code>"),
            Error::Silent,
        ] {
            assert!(passes(&error), "{error:?}");
        }
        for error in [
            refused(409),
            refused(404),
            refused(401),
            unexpected(400, "<Code>BadDigest</Code>"),
            unexpected(403, ""),
            Error::TooLarge,
            Error::SignedOut(String::new()),
        ] {
            assert!(!passes(&error), "{error:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_after_the_last_attempt_and_within_seconds() {
        let mut retries = Retries::new(RETRIES);
        let began = tokio::time::Instant::now();
        for _ in 0..RETRIES {
            retries.after(Error::Silent).await.unwrap();
        }
        assert!(retries.after(Error::Silent).await.is_err());
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
