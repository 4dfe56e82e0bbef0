//! Metrics of a function in CloudWatch's embedded metric format. The macros of the `metrics` crate record
//! them; each invocation writes them to the log, where CloudWatch reads them (Amazon CloudWatch User Guide,
//! "Embedded metric format specification"). Lambda treats lines without a level as INFO, so a function with a
//! higher log level has no metrics (AWS Lambda Developer Guide, "Log-level filtering").

use std::io;

use metrics::{Unit, describe_counter, describe_histogram};
use metrics_cloudwatch_embedded::{Builder, Collector};
use thiserror::Error;
use tracing::warn;

/// The maximum number of values of one metric in one log entry (Amazon CloudWatch User Guide, same page).
pub const MAX_VALUES: usize = 100;

/// The name of a metric with its kind and unit.
#[derive(Clone, Copy, Debug)]
pub enum Metric {
    /// A counter of events.
    Count(&'static str),
    /// A quantity at the time of measurement. It is written only for invocations that measured it.
    Gauge(&'static str),
    /// An age in seconds.
    Seconds(&'static str),
    /// A duration in milliseconds; at most [`MAX_VALUES`] values in an invocation.
    Milliseconds(&'static str),
}

/// The process already has a metrics recorder.
#[derive(Clone, Copy, Debug, Error)]
#[error("metrics were set up twice")]
pub struct AlreadySetUp;

/// Collects the recorded metrics.
pub struct Metrics(&'static Collector);

impl Metrics {
    /// Installs the process's recorder, which writes metrics under `namespace`. Without a recorder, as in
    /// tests, recording has no effect.
    pub fn init<'a>(
        namespace: String,
        metrics: impl IntoIterator<Item = &'a Metric>,
    ) -> Result<Self, AlreadySetUp> {
        let builder = Builder::new().cloudwatch_namespace(namespace);
        let collector = builder.init().map_err(|_| AlreadySetUp)?;
        for metric in metrics {
            match *metric {
                Metric::Count(name) => describe_counter!(name, Unit::Count, ""),
                // Registered as histograms, because a gauge would repeat its last value in every invocation.
                Metric::Gauge(name) => describe_histogram!(name, Unit::Count, ""),
                Metric::Seconds(name) => describe_histogram!(name, Unit::Seconds, ""),
                Metric::Milliseconds(name) => describe_histogram!(name, Unit::Milliseconds, ""),
            }
        }
        Ok(Self(collector))
    }

    /// Writes the metrics recorded since the last call to standard output.
    pub(crate) fn flush(&self) {
        if let Err(error) = self.0.flush(io::stdout()) {
            warn!(?error, "metrics were not written");
        }
    }
}
