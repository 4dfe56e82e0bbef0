//! The counts of a workload: everything that AWS bills by number, duration or size.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use platform::Clock;
use runner::project::Project;
use serde::{Deserialize, Serialize};

/// Unit in which API Gateway meters WebSocket messages, in bytes (Amazon API Gateway pricing: "Messages are
/// metered in 32 KB increments").
const MESSAGE_UNIT: usize = 32 * 1024;

/// Unit in which SQS meters payloads, in bytes (Amazon SQS pricing: "Every 64 KB chunk of a payload is billed
/// as 1 request").
const PAYLOAD_UNIT: usize = 64 * 1024;

/// The counts of one workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Counts {
    /// Requests to the HTTP API, by route.
    pub(crate) http: BTreeMap<String, u64>,
    /// Invocations of each function.
    pub(crate) invocations: BTreeMap<String, Invocations>,
    /// Requests to S3, by method.
    pub(crate) s3: BTreeMap<String, u64>,
    /// Requests to SQS, by action, in units of 64 KB.
    pub(crate) sqs: BTreeMap<String, u64>,
    /// Round trips to PostgreSQL. Everything that a function sends before the next answer counts as one.
    pub(crate) database: u64,
    /// WebSocket messages to devices, in units of 32 KB.
    pub(crate) messages_out: u64,
    /// WebSocket messages from devices, in units of 32 KB.
    pub(crate) messages_in: u64,
    /// Bytes of log lines, by the name of the function or of the API.
    pub(crate) log_bytes: BTreeMap<String, u64>,
    /// Bytes of the bodies of HTTP responses and of WebSocket messages, to the internet.
    pub(crate) bytes_out: u64,
}

/// The invocations of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Invocations {
    pub(crate) count: u64,
    /// Sum of the durations, each rounded up to whole milliseconds, without the init phase.
    pub(crate) milliseconds: u64,
}

/// Converts a count to a float.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53, and nothing is counted so often"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// The number of units of a payload; at least one.
fn units(bytes: usize, unit: usize) -> u64 {
    u64::try_from(bytes.div_ceil(unit).max(1)).unwrap_or(u64::MAX)
}

impl Counts {
    /// The invocations of all functions.
    pub(crate) fn all_invocations(&self) -> Invocations {
        let all = self.invocations.values();
        all.fold(Invocations::default(), |sum, one| Invocations {
            count: sum.count + one.count,
            milliseconds: sum.milliseconds + one.milliseconds,
        })
    }

    /// What must not depend on the duration of the run: all requests, without durations and sizes.
    fn requests(&self) -> BTreeMap<String, u64> {
        let mut requests = BTreeMap::new();
        for (kind, by_name) in [("HTTP", &self.http), ("S3", &self.s3), ("SQS", &self.sqs)] {
            for (name, count) in by_name {
                requests.insert(format!("{kind} {name}"), *count);
            }
        }
        for (name, all) in &self.invocations {
            requests.insert(format!("invocations of {name}"), all.count);
        }
        requests.insert("messages to devices".to_owned(), self.messages_out);
        requests.insert("messages from devices".to_owned(), self.messages_in);
        requests
    }
}

/// Counts while a workload runs.
#[derive(Default)]
pub(crate) struct Meter(Mutex<Counts>, Mutex<Vec<String>>);

impl Meter {
    /// Ends a workload and returns its counts. Fails if an operation failed: clients would have repeated its
    /// requests.
    pub(crate) fn take(&self) -> Result<Counts> {
        let failures = std::mem::take(&mut *self.1.lock());
        ensure!(
            failures.is_empty(),
            "an operation failed: {}",
            failures.join("; ")
        );
        Ok(std::mem::take(&mut *self.0.lock()))
    }

    /// Records a failure.
    pub(crate) fn fail(&self, failure: String) {
        self.1.lock().push(failure);
    }

    pub(crate) fn http(&self, route: &str, response_bytes: usize) {
        let mut counts = self.0.lock();
        *counts.http.entry(route.to_owned()).or_default() += 1;
        counts.bytes_out += bytes(response_bytes);
    }

    pub(crate) fn invoked(&self, function: &str, milliseconds: u64) {
        let mut counts = self.0.lock();
        let all = counts.invocations.entry(function.to_owned()).or_default();
        all.count += 1;
        all.milliseconds += milliseconds;
    }

    pub(crate) fn s3(&self, method: &str) {
        *self.0.lock().s3.entry(method.to_owned()).or_default() += 1;
    }

    pub(crate) fn sqs(&self, action: &str, payload_bytes: usize) {
        let mut counts = self.0.lock();
        *counts.sqs.entry(action.to_owned()).or_default() += units(payload_bytes, PAYLOAD_UNIT);
    }

    pub(crate) fn message_out(&self, length: usize) {
        let mut counts = self.0.lock();
        counts.messages_out += units(length, MESSAGE_UNIT);
        counts.bytes_out += bytes(length);
    }

    pub(crate) fn message_in(&self, length: usize) {
        self.0.lock().messages_in += units(length, MESSAGE_UNIT);
    }

    pub(crate) fn logged(&self, group: &str, length: u64) {
        if length > 0 {
            *self.0.lock().log_bytes.entry(group.to_owned()).or_default() += length;
        }
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The counts of a workload, and the number of times that it did the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Workload {
    pub(crate) times: u64,
    pub(crate) counts: Counts,
}

/// The workloads of a run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Workloads {
    /// A file is uploaded alone by the client library, and one device is notified.
    pub(crate) single: Workload,
    /// A file of a folder is uploaded by `syncsphere upload`, and one device is notified.
    pub(crate) folder: Workload,
    /// `maintenance` purges a file with one version.
    pub(crate) purge: Workload,
    /// A device connects, lists its spaces, and closes its connection.
    pub(crate) connection: Workload,
    /// A device sends a heartbeat.
    pub(crate) heartbeat: Workload,
    /// `maintenance` runs, and nothing is due.
    pub(crate) maintenance: Workload,
}

impl Workloads {
    /// All workloads with their names.
    pub(crate) fn all(&self) -> [(&'static str, &Workload); 6] {
        [
            ("single", &self.single),
            ("folder", &self.folder),
            ("purge", &self.purge),
            ("connection", &self.connection),
            ("heartbeat", &self.heartbeat),
            ("maintenance", &self.maintenance),
        ]
    }
}

/// The counts of the run from which the document is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Recorded {
    /// The day of the run, such as 2026-11-29.
    pub(crate) day: String,
    /// The profile of the functions: `release` or `development`. Durations mean something only with
    /// `release`.
    pub(crate) profile: String,
    pub(crate) workloads: Workloads,
}

impl Recorded {
    pub(crate) fn new(profile: &str, workloads: Workloads) -> Self {
        Self {
            day: Clock::system().now().date().to_string(),
            profile: profile.to_owned(),
            workloads,
        }
    }

    fn file(project: &Project) -> PathBuf {
        project.root.join("tools/cost/counts.json")
    }

    /// Reads the counts that the document is written from.
    pub(crate) fn read(project: &Project) -> Result<Self> {
        let file = Self::file(project);
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is of another version; write it again: cargo xtask cost",
                file.display()
            )
        })
    }

    pub(crate) fn write(&self, project: &Project) -> Result<()> {
        let file = Self::file(project);
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Compares the requests of one operation of each workload. The workloads `folder` and `purge` are left
    /// out, because the number of files decides how many of them share a request.
    pub(crate) fn differences(&self, recorded: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for ((name, ours), (_, theirs)) in self.workloads.all().into_iter().zip(recorded.workloads.all()) {
            if ["folder", "purge"].contains(&name) {
                continue;
            }
            let (now, then) = (ours.counts.requests(), theirs.counts.requests());
            let requests: BTreeSet<&String> = now.keys().chain(then.keys()).collect();
            for request in requests {
                let [now, then] =
                    [&now, &then].map(|counts| counts.get(request).copied().unwrap_or_default());
                // Without a division, and therefore exact.
                if now * theirs.times != then * ours.times {
                    differences.push(format!(
                        "{name}: {request}: {now} in {} times, recorded {then} in {}",
                        ours.times, theirs.times
                    ));
                }
            }
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_with_a_failure_has_no_counts() {
        let meter = Meter::default();
        meter.s3("PUT");
        assert_eq!(meter.take().unwrap().s3["PUT"], 1);
        meter.fail("SQS is down".to_owned());
        assert!(meter.take().unwrap_err().to_string().contains("SQS is down"));
    }

    #[test]
    fn payloads_are_metered_in_whole_units_and_at_least_one() {
        let metered = [0, 1, MESSAGE_UNIT, MESSAGE_UNIT + 1].map(|bytes| units(bytes, MESSAGE_UNIT));
        assert_eq!(metered, [1, 1, 1, 2]);
    }

    fn recorded(times: u64, http: u64) -> Recorded {
        let counts = Counts {
            http: [("POST /uploads".to_owned(), http)].into(),
            ..Counts::default()
        };
        let workload = Workload { times, counts };
        Recorded::new(
            "release",
            Workloads {
                single: workload.clone(),
                folder: workload.clone(),
                purge: workload.clone(),
                connection: workload.clone(),
                heartbeat: workload.clone(),
                maintenance: workload,
            },
        )
    }

    #[test]
    fn a_run_differs_only_by_the_requests_of_an_operation() {
        assert_eq!(
            recorded(10, 20).differences(&recorded(200, 400)),
            Vec::<String>::new()
        );
        let differences = recorded(10, 21).differences(&recorded(200, 400));
        assert_eq!(differences.len(), 4, "{differences:?}");
        assert_eq!(
            differences[0],
            "single: HTTP POST /uploads: 21 in 10 times, recorded 400 in 200"
        );
    }
}
