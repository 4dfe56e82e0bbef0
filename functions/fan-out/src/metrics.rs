//! The metrics of this function. Counts are connections, posts or messages, as the name says.

use platform::metrics::Metric;

/// Time in milliseconds from the commit of a change to the last delivery to a connection in this invocation.
pub(crate) const LATENCY: &str = "NotificationLatency";

/// Connections that all frames were delivered to.
pub(crate) const NOTIFIED: &str = "ConnectionsNotified";

/// Connections that no longer existed and are deleted from the database.
pub(crate) const GONE: &str = "ConnectionsGone";

/// Connections that took no posts and were closed.
pub(crate) const CLOSED: &str = "ConnectionsClosed";

/// Posts that API Gateway answered with 429.
pub(crate) const THROTTLED: &str = "PostsThrottled";

/// Retries of posts within an invocation.
pub(crate) const RETRIED: &str = "PostsRetried";

/// Posts that API Gateway refused. Each needs an operator.
pub(crate) const REFUSED: &str = "PostsRefused";

/// Connections that were not reached and are queued again.
pub(crate) const CARRIED_OVER: &str = "ConnectionsCarriedOver";

/// Messages that were sent to the dead-letter queue because they cannot be read or were refused.
pub(crate) const DEAD_LETTERED: &str = "MessagesDeadLettered";

/// All metrics with their units.
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
