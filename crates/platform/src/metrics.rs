//! Metrics of a function: counted anywhere by the `metrics` crate's macros, written to the log once for each invocation, where
//! CloudWatch reads them (Amazon CloudWatch User Guide, "Embedded metric format specification"). Lambda takes lines without a level
//! for INFO, so a function whose log level is above that has no metrics (AWS Lambda Developer Guide, "Log-level filtering").

use std::io;

use metrics::{Unit, describe_counter, describe_histogram};
use metrics_cloudwatch_embedded::{Builder, Collector};
use thiserror::Error;
use tracing::warn;

/// How many values of one metric fit into what is written at once (as above).
pub const MAX_VALUES: usize = 100;

/// What a metric counts, and in what.
#[derive(Clone, Copy, Debug)]
pub enum Metric {
    /// Things that happened, added up.
    Count(&'static str),
    /// How much of something there is; written only when it was looked at.
    Gauge(&'static str),
    /// How old something is, in seconds.
    Seconds(&'static str),
    /// How long something took, in milliseconds; at most [`MAX_VALUES`] in an invocation.
    Milliseconds(&'static str),
}

/// There is a recorder already.
#[derive(Clone, Copy, Debug, Error)]
#[error("metrics were set up twice")]
pub struct AlreadySetUp;

/// Collects what is counted.
pub struct Metrics(&'static Collector);

impl Metrics {
    /// Collects from now on, under a namespace. Without, as in tests, counting does nothing.
    pub fn init(namespace: String, metrics: &[Metric]) -> Result<Self, AlreadySetUp> {
        let builder = Builder::new().cloudwatch_namespace(namespace);
        let collector = builder.init().map_err(|_| AlreadySetUp)?;
        for metric in metrics {
            match *metric {
                Metric::Count(name) => describe_counter!(name, Unit::Count, ""),
                // As histograms: a gauge would be written again and again with its last value.
                Metric::Gauge(name) => describe_histogram!(name, Unit::Count, ""),
                Metric::Seconds(name) => describe_histogram!(name, Unit::Seconds, ""),
                Metric::Milliseconds(name) => describe_histogram!(name, Unit::Milliseconds, ""),
            }
        }
        Ok(Self(collector))
    }

    /// Writes what was counted since the last time.
    pub(crate) fn flush(&self) {
        if let Err(error) = self.0.flush(io::stdout()) {
            warn!(?error, "metrics were not written");
        }
    }
}
