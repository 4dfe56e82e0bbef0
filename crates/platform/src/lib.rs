//! Lambda and AWS, the same for every function. Knows nothing of uploads, spaces or devices.

pub mod aws;
pub mod backoff;
pub mod batch;
pub mod client;
pub mod clock;
pub mod config;
pub mod custom_resource;
pub mod digest;
pub mod ids;
pub mod metrics;
pub mod panics;
pub mod rds;
mod runtime;
pub mod secret;
pub mod signed;
pub mod trace;

use tracing_subscriber::filter::LevelFilter;

pub use clock::Clock;
pub use runtime::Runtime;

/// An error with all its sources, `this: because: because`. JSON logs show an error without them.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// Writes logs to standard output, in the format and from the level that Lambda's logging configuration asks for (AWS Lambda Developer Guide,
/// "Configuring JSON and plain text log formats" and "Log-level filtering").
///
/// As the runtime would, but without filters by pattern, whose regular expressions take a function space and a cold start time.
pub fn init_logs() {
    let vars = config::Vars::from_env();
    let level = match vars.of_lambda::<String>("AWS_LAMBDA_LOG_LEVEL").as_deref() {
        Some("TRACE") => LevelFilter::TRACE,
        Some("DEBUG") => LevelFilter::DEBUG,
        Some("WARN") => LevelFilter::WARN,
        Some("ERROR" | "FATAL") => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    let logs = tracing_subscriber::fmt()
        .with_target(false)
        .without_time()
        .with_max_level(level);
    match vars.of_lambda::<String>("AWS_LAMBDA_LOG_FORMAT") {
        Some(format) if format.eq_ignore_ascii_case("json") => logs.json().init(),
        _ => logs.with_ansi(false).init(),
    }
}
