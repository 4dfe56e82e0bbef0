//! The HTTP API: requests, responses and problems, with all texts that users read.

#![warn(missing_docs)]

pub mod batch;
pub mod http;
mod metrics;
mod problem;
mod rejection;

pub use metrics::{METRICS, QUOTA_REFUSALS};
pub use problem::Problem;
