//! The parts of a function that do not depend on its task: Lambda, AWS clients, configuration, logs and
//! metrics. This crate does not know uploads, spaces or devices.

#![warn(missing_docs)]

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
pub mod summary;
pub mod trace;

use std::io;
use std::path::Path;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use clock::Clock;
pub use runtime::Runtime;

/// Formats an error with all its sources, as `error: source: source`. JSON logs show an error without its
/// sources.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// Writes logs to standard output, in the format and from the level of Lambda's logging configuration (AWS
/// Lambda Developer Guide, "Configuring JSON and plain text log formats" and "Log-level filtering").
///
/// The Lambda runtime's own logging does the same but adds filters by pattern. Their regular expressions make
/// the binary larger and the cold start longer.
pub fn init_logs() {
    let vars = config::Vars::from_env();
    let level = match vars.of_lambda::<String>("AWS_LAMBDA_LOG_LEVEL").as_deref() {
        Some("TRACE") => LevelFilter::TRACE,
        Some("DEBUG") => LevelFilter::DEBUG,
        Some("WARN") => LevelFilter::WARN,
        Some("ERROR" | "FATAL") => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    match vars.of_lambda::<String>("AWS_LAMBDA_LOG_FORMAT") {
        Some(format) if format.eq_ignore_ascii_case("json") => json_logs(level, io::stdout).init(),
        _ => tracing_subscriber::fmt()
            .with_target(false)
            .without_time()
            .with_max_level(level)
            .with_ansi(false)
            .init(),
    }
}

/// Writes logs from a level as JSON, one object a line. The spans of a line are listed once, since logs are
/// paid by the byte. Details are those of this project's code: libraries log requests with their signatures.
pub fn json_logs<W>(level: LevelFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_target(false)
        .without_time()
        .with_max_level(level)
        .json()
        .with_current_span(false)
        .with_writer(writer)
        .finish()
        .with(filter_fn(|metadata| {
            metadata.target() != CONNECTION_POISONING
                && (*metadata.level() <= Level::INFO || is_own(metadata))
        }))
}

/// The part of the SDK that closes connections after failures. It logs an error for each failure if it finds no
/// connection; [`client`] manages its connections itself.
const CONNECTION_POISONING: &str = "aws_smithy_runtime::client::http::connection_poisoning";

/// Whether a line is from this workspace. Cargo compiles its packages with paths relative to its root, and all
/// others with absolute paths.
fn is_own(metadata: &Metadata<'_>) -> bool {
    metadata.file().is_some_and(|file| Path::new(file).is_relative())
}
