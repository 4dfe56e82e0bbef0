//! The metrics of changes.

use platform::metrics::Metric;
use queue::PUBLISHED;

/// Changes that were committed.
pub const COMMITTED: &str = "EventsCommitted";

/// The metrics that functions with commands write.
pub const METRICS: [Metric; 2] = [Metric::Count(COMMITTED), Metric::Count(PUBLISHED)];
