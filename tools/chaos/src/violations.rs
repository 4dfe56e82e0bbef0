//! The violations of a run, collected during the run and by the checker at its end.

use parking_lot::Mutex;
use serde::Serialize;

/// The maximum number of violations that are kept with their details. All are counted.
const KEPT: usize = 1_000;

/// The class of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// Something that was promised is missing.
    Lost,
    /// Something exists or happened that must not.
    Unexpected,
}

/// One violation of a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    pub(crate) class: Class,
    /// A fixed description, the same for every violation of this kind.
    pub(crate) what: &'static str,
    /// The identifiers of the affected item, for a search in the logs and the database.
    pub(crate) which: String,
}

#[derive(Default)]
struct Inner {
    kept: Vec<Violation>,
    lost: u64,
    unexpected: u64,
}

/// All violations of a run.
#[derive(Default)]
pub(crate) struct Violations(Mutex<Inner>);

impl Violations {
    /// Adds a violation for something that is missing.
    pub(crate) fn lost(&self, what: &'static str, which: impl Into<String>) {
        self.add(Class::Lost, what, which.into());
    }

    /// Adds a violation for something that must not be.
    pub(crate) fn unexpected(&self, what: &'static str, which: impl Into<String>) {
        self.add(Class::Unexpected, what, which.into());
    }

    fn add(&self, class: Class, what: &'static str, which: String) {
        let mut inner = self.0.lock();
        match class {
            Class::Lost => inner.lost += 1,
            Class::Unexpected => inner.unexpected += 1,
        }
        if inner.kept.len() < KEPT {
            inner.kept.push(Violation { class, what, which });
        }
    }

    /// The number of lost and of unexpected items, in that order.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let inner = self.0.lock();
        (inner.lost, inner.unexpected)
    }

    /// The first violations with their details, 1,000 at most.
    pub(crate) fn kept(&self) -> Vec<Violation> {
        let inner = self.0.lock();
        inner.kept.clone()
    }
}
