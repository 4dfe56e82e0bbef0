//! What stands between AWS and a handler, the same for every function. Knows nothing of uploads, spaces or devices.

pub mod aws;
pub mod batch;
pub mod clock;
pub mod config;
pub mod digest;
pub mod http;
pub mod ids;
pub mod lambda;
pub mod metrics;
pub mod panics;
pub mod problem;
pub mod rds;
pub mod secret;
pub mod trace;

pub use clock::Clock;
pub use problem::Problem;

/// An error with all its sources, `this: because: because`. JSON logs show an error without them.
pub fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// Writes logs to standard output, in the format and from the level that Lambda's logging configuration asks for. Call it
/// first, once.
pub fn init_logs() {
    lambda_runtime::tracing::init_default_subscriber();
}
