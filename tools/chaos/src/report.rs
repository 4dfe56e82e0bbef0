//! The report of a run, as a table, as one line and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::violations::{Class, Violation};
use runner::ui;

/// The maximum number of violations that are printed.
const SHOWN: usize = 20;

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// The seed of all random decisions.
    pub(crate) seed: u64,
    /// Uploads that were started.
    pub(crate) attempted: u64,
    /// Uploads whose completion was answered with a 2xx.
    pub(crate) acknowledged: u64,
    /// Uploads that were refused for an expected reason.
    pub(crate) refused: u64,
    /// Changes in the database.
    pub(crate) committed: u64,
    /// Events that were sent to the queue at least once.
    pub(crate) sent_events: u64,
    /// Changes that devices received in WebSocket frames.
    pub(crate) received: u64,
    /// Changes that devices read from the feed.
    pub(crate) pulled: u64,
    /// Changes in WebSocket frames that the device had already.
    pub(crate) duplicated: u64,
    /// The number of items that were promised and are missing.
    pub(crate) lost: u64,
    /// The number of items or events that must not be.
    pub(crate) unexpected: u64,
    /// The number of function processes that were started.
    pub(crate) environments: u64,
    /// Injected faults by kind.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// The time from the last fault until the system was idle.
    pub(crate) settling_seconds: f64,
    /// The duration of the run.
    pub(crate) seconds: f64,
    /// The first violations with their details.
    pub(crate) violations: Vec<Violation>,
    /// The folder of the logs, relative to the checkout.
    pub(crate) logs: String,
}

impl Report {
    /// Whether nothing was lost and nothing was unexpected.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.unexpected == 0
    }

    /// The number of injected faults of all kinds.
    pub(crate) fn fault_count(&self) -> u64 {
        self.faults.values().sum()
    }

    /// A summary in one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} of {} acknowledged, {} committed, {} faults, lost {}, unexpected {}",
            self.acknowledged,
            self.attempted,
            self.committed,
            self.fault_count(),
            self.lost,
            self.unexpected
        )
    }

    /// Prints the whole report.
    pub(crate) fn show(&self) {
        let rows = [
            ("uploads attempted", self.attempted),
            ("acknowledged", self.acknowledged),
            ("refused", self.refused),
            ("changes committed", self.committed),
            ("events sent", self.sent_events),
            ("received in frames", self.received),
            ("pulled", self.pulled),
            ("duplicated", self.duplicated),
            ("lost", self.lost),
            ("unexpected", self.unexpected),
        ];
        ui::line(format_args!("\nseed {}", self.seed));
        for (name, count) in rows {
            ui::line(format_args!("  {name:<26} {count:>9}"));
        }
        ui::line(format_args!("  {:<26} {:>9}", "faults", self.fault_count()));
        for (name, count) in self.faults.iter().filter(|(_, count)| **count > 0) {
            ui::line(format_args!("    {name:<24} {count:>9}"));
        }
        ui::line(format_args!(
            "  {:<26} {:>9.1} s, {:.1} s of them until quiet\n  {:<26} {:>9}",
            "took", self.seconds, self.settling_seconds, "environments started", self.environments
        ));
        self.show_violations();
    }

    /// Prints the first violations and the folder of the logs.
    pub(crate) fn show_violations(&self) {
        for violation in self.violations.iter().take(SHOWN) {
            let class = match violation.class {
                Class::Lost => "lost",
                Class::Unexpected => "unexpected",
            };
            ui::line(format_args!("  {class}: {}: {}", violation.what, violation.which));
        }
        if !self.is_clean() {
            ui::line(format_args!("  logs are in {}", self.logs));
        }
    }
}
