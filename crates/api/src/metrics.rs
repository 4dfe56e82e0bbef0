//! The metrics of requests.

use platform::metrics::Metric;

/// Requests that were refused by a limit under which the use does not fall by itself, so that users must give
/// something up or an operator raises the limit. A request counts once.
pub const QUOTA_REFUSALS: &str = "QuotaRefusals";

/// The metrics that functions whose requests have limits write.
pub const METRICS: [Metric; 1] = [Metric::Count(QUOTA_REFUSALS)];
