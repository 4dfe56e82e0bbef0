//! The metrics of the functions, read from their logs as CloudWatch reads them (embedded metric format).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// A line of metrics in a log, with only the metrics that the report needs.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    #[serde(rename = "_aws")]
    _aws: serde::de::IgnoredAny,
    #[serde(default)]
    events_committed: u64,
    #[serde(default)]
    events_published: u64,
    #[serde(default)]
    notification_latency: Vec<f64>,
}

/// The metrics of all functions together.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Changes that were committed.
    pub(crate) committed: u64,
    /// Events that were sent from the outbox to the queue.
    pub(crate) published: u64,
    /// The times from a commit to the last post of its notification, in milliseconds.
    pub(crate) latencies: Vec<f64>,
}

impl Counted {
    /// Reads all logs in a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut counted = Self::default();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let file =
                    fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
                for line in BufReader::new(file).split(b'\n') {
                    counted.add(&line.with_context(|| format!("cannot read {}", path.display()))?);
                }
            }
        }
        counted.latencies.sort_unstable_by(f64::total_cmp);
        Ok(counted)
    }

    fn add(&mut self, line: &[u8]) {
        if !line.starts_with(br#"{"_aws""#) {
            return;
        }
        // The last line of a function that was killed may be incomplete.
        if let Ok(line) = serde_json::from_slice::<Line>(line) {
            self.committed += line.events_committed;
            self.published += line.events_published;
            self.latencies.extend(line.notification_latency);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_metrics_add_up_and_others_do_not_count() {
        let mut counted = Counted::default();
        for line in [
            r#"{"_aws":{"Timestamp":1},"EventsCommitted":1,"EventsPublished":1}"#,
            r#"{"_aws":{"Timestamp":2},"EventsPublished":3,"EventsWaiting":0.0}"#,
            r#"{"_aws":{"Timestamp":3},"NotificationLatency":[5.0,7.5]}"#,
            r#"{"_aws":{"Timest"#,
            r#"{"level":"INFO","EventsCommitted":9}"#,
            "",
        ] {
            counted.add(line.as_bytes());
        }
        assert_eq!((counted.committed, counted.published), (1, 4));
        assert_eq!(counted.latencies, [5.0, 7.5]);
    }
}
