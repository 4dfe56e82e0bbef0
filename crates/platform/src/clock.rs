//! A clock that tests can set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use time::{Duration, OffsetDateTime};

/// A clock in UTC with whole milliseconds, the precision that JSON, PostgreSQL and SQS all keep.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The system clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until a test advances it. Clones share the same time.
    pub fn manual(start: OffsetDateTime) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(milliseconds(start)))))
    }

    /// The current time, truncated to milliseconds.
    pub fn now(&self) -> OffsetDateTime {
        let milliseconds = match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "the one place where the time is read")]
            Source::System => milliseconds(OffsetDateTime::now_utc()),
            Source::Manual(milliseconds) => milliseconds.load(Ordering::SeqCst),
        };
        OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(milliseconds)
    }

    /// Advances a manual clock. Has no effect on the system clock.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(milliseconds) = &self.0 {
            let by = i64::try_from(by.whole_milliseconds()).unwrap_or(i64::MAX);
            milliseconds.fetch_add(by, Ordering::SeqCst);
        }
    }
}

fn milliseconds(time: OffsetDateTime) -> i64 {
    time.unix_timestamp() * 1_000 + i64::from(time.millisecond())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_manual_clock_stands_until_it_is_advanced() {
        let clock = Clock::manual(datetime!(2026-01-02 03:04:05.678_9 UTC));
        clock.clone().advance(Duration::seconds(2));
        assert_eq!(clock.now(), datetime!(2026-01-02 03:04:07.678 UTC));
    }
}
