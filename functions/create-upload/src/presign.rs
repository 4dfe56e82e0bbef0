//! How long presigned URLs are valid.

use std::time::Duration as StdDuration;

use time::{Duration, OffsetDateTime};

/// The longest lifetime of a URL. It cannot outlive the credentials that signed it, which Lambda renews every few hours
/// (Amazon S3 User Guide, "Download and upload objects with presigned URLs").
const URL_LIFETIME: Duration = Duration::hours(1);

/// The lifetime of a URL that is made now: [`URL_LIFETIME`], but no longer than its upload has left.
pub(crate) fn url_lifetime(expires_at: OffsetDateTime, now: OffsetDateTime) -> StdDuration {
    let left = (expires_at - now).min(URL_LIFETIME).max(Duration::SECOND);
    StdDuration::from_secs(left.whole_seconds().unsigned_abs())
}
