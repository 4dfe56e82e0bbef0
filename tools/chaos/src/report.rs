//! What a run came to, as a table, as a line and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::findings::{Class, Finding};
use runner::ui;

/// How many findings are shown.
const SHOWN: usize = 20;

/// The account of a run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// The seed.
    pub(crate) seed: u64,
    /// Uploads begun.
    pub(crate) attempted: u64,
    /// Uploads answered with a 2xx.
    pub(crate) acknowledged: u64,
    /// Uploads refused for a reason.
    pub(crate) refused: u64,
    /// Changes in the database.
    pub(crate) committed: u64,
    /// Events that reached the queue.
    pub(crate) announced: u64,
    /// Changes that devices got in frames.
    pub(crate) received: u64,
    /// Changes that devices pulled.
    pub(crate) pulled: u64,
    /// Changes in frames that the device knew already.
    pub(crate) duplicated: u64,
    /// What was promised and is not there.
    pub(crate) lost: u64,
    /// What must not be and is.
    pub(crate) unexpected: u64,
    /// Processes of functions that were started.
    pub(crate) environments: u64,
    /// Faults by kind.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// How long it took after the last fault until everything was quiet.
    pub(crate) settling_seconds: f64,
    /// How long the run took.
    pub(crate) seconds: f64,
    /// What was lost or unexpected, in detail.
    pub(crate) findings: Vec<Finding>,
    /// Where the logs are, in the checkout.
    pub(crate) logs: String,
}

impl Report {
    /// Whether nothing was lost and nothing unexpected.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.unexpected == 0
    }

    /// How many faults there were.
    pub(crate) fn fault_count(&self) -> u64 {
        self.faults.values().sum()
    }

    /// The gist.
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

    /// Shows the whole account.
    pub(crate) fn show(&self) {
        let rows = [
            ("uploads attempted", self.attempted),
            ("acknowledged", self.acknowledged),
            ("refused", self.refused),
            ("changes committed", self.committed),
            ("announced", self.announced),
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
        self.show_findings();
    }

    /// Shows the first findings, and where to look.
    pub(crate) fn show_findings(&self) {
        for finding in self.findings.iter().take(SHOWN) {
            let class = match finding.class {
                Class::Lost => "lost",
                Class::Unexpected => "unexpected",
            };
            ui::line(format_args!("  {class}: {}: {}", finding.what, finding.which));
        }
        if !self.is_clean() {
            ui::line(format_args!("  logs are in {}", self.logs));
        }
    }
}
