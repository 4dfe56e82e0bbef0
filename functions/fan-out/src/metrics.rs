//! The metrics of this function.

use platform::metrics::Metric;

/// From a change's commit to the last of the connections that heard of it in this invocation.
pub(crate) const LATENCY: &str = "NotificationLatency";

/// Connections that heard of changes.
pub(crate) const NOTIFIED: &str = "ConnectionsNotified";

/// Connections that were gone, and are forgotten.
pub(crate) const GONE: &str = "ConnectionsGone";

/// Connections that took no posts, and were closed.
pub(crate) const CLOSED: &str = "ConnectionsClosed";

/// Posts that API Gateway answered with 429.
pub(crate) const THROTTLED: &str = "PostsThrottled";

/// Posts that were tried again within the invocation.
pub(crate) const RETRIED: &str = "PostsRetried";

/// Posts that were refused, which somebody has to look into.
pub(crate) const REFUSED: &str = "PostsRefused";

/// Connections that are left to a later invocation.
pub(crate) const CARRIED_OVER: &str = "ConnectionsCarriedOver";

/// Messages that were put into the dead-letter queue: unreadable or refused.
pub(crate) const DEAD_LETTERED: &str = "MessagesDeadLettered";

/// All of these.
pub const METRICS: [Metric; 9] = [
    Metric::Milliseconds(LATENCY),
    Metric::Count(NOTIFIED),
    Metric::Count(GONE),
    Metric::Count(CLOSED),
    Metric::Count(THROTTLED),
    Metric::Count(RETRIED),
    Metric::Count(REFUSED),
    Metric::Count(CARRIED_OVER),
    Metric::Count(DEAD_LETTERED),
];
