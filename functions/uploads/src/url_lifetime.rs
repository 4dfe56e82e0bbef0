//! The lifetime of presigned URLs.

use std::time::Duration as StdDuration;

use time::{Duration, OffsetDateTime};

/// The longest lifetime of a URL. A URL expires with the credentials that signed it, which Lambda renews
/// every few hours (Amazon S3 User Guide, "Download and upload objects with presigned URLs").
const URL_LIFETIME: Duration = Duration::hours(1);

/// The lifetime of a URL that is signed at `now`: [`URL_LIFETIME`], or the rest of its upload's lifetime if
/// that is shorter. At least 1 s.
pub(crate) fn url_lifetime(expires_at: OffsetDateTime, now: OffsetDateTime) -> StdDuration {
    let left = (expires_at - now).min(URL_LIFETIME).max(Duration::SECOND);
    StdDuration::from_secs(left.whole_seconds().unsigned_abs())
}
