//! What should not be: collected while it happens and when it is all over.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// How many findings are kept with their details; all are counted.
const KEPT: usize = 1_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// Something that was promised is not there.
    Lost,
    /// Something is there, or happened, that must not.
    Unexpected,
}

/// One thing that should not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) class: Class,
    /// What it is, the same words each time.
    pub(crate) what: &'static str,
    /// Which one, with the identifiers that find it in the logs and the database.
    pub(crate) which: String,
}

#[derive(Default)]
struct Inner {
    kept: Vec<Finding>,
    lost: u64,
    unexpected: u64,
}

/// All findings of a run.
#[derive(Default)]
pub(crate) struct Findings(Mutex<Inner>);

impl Findings {
    /// Adds something that is missing.
    pub(crate) fn lost(&self, what: &'static str, which: impl Into<String>) {
        self.add(Class::Lost, what, which.into());
    }

    /// Adds something that must not be.
    pub(crate) fn unexpected(&self, what: &'static str, which: impl Into<String>) {
        self.add(Class::Unexpected, what, which.into());
    }

    fn add(&self, class: Class, what: &'static str, which: String) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match class {
            Class::Lost => inner.lost += 1,
            Class::Unexpected => inner.unexpected += 1,
        }
        if inner.kept.len() < KEPT {
            inner.kept.push(Finding { class, what, which });
        }
    }

    /// How many things were lost, and how many were unexpected.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.lost, inner.unexpected)
    }

    /// The first ones, with their details.
    pub(crate) fn kept(&self) -> Vec<Finding> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.kept.clone()
    }
}
