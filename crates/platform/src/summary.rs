//! The summary of an invocation: the identifiers and counts that its one line in the log shows. Code anywhere
//! below the handler records them, and whoever answers the invocation writes the line.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;

use tokio::time::Instant;

tokio::task_local! {
    static RECORDED: RefCell<BTreeMap<&'static str, Vec<String>>>;
}

/// The values that an invocation has recorded, by field.
#[derive(Debug, Default)]
pub struct Summary(BTreeMap<&'static str, Vec<String>>);

impl Summary {
    /// Removes a field. Returns its distinct values in the order of recording, separated by spaces; `None` if
    /// it has none.
    pub fn take(&mut self, field: &str) -> Option<String> {
        self.0.remove(field).map(|values| values.join(" "))
    }

    /// The fields that were not taken, as `field=value value`, separated by commas; `None` if all were taken.
    pub fn rest(self) -> Option<String> {
        let fields: Vec<String> = self
            .0
            .into_iter()
            .map(|(field, values)| format!("{field}={}", values.join(" ")))
            .collect();
        (!fields.is_empty()).then(|| fields.join(", "))
    }
}

/// Runs a future, and returns what it recorded with its output.
pub async fn of<T>(work: impl Future<Output = T>) -> (T, Summary) {
    let recording = async {
        let output = work.await;
        (output, Summary(RECORDED.with(RefCell::take)))
    };
    RECORDED.scope(RefCell::default(), recording).await
}

/// Adds a value to a field of the summary. A value that the field has already is not added again. Outside of
/// [`of`], as in functions that write their line themselves, recording has no effect.
pub fn record(field: &'static str, value: impl Display) {
    let _ = RECORDED.try_with(|recorded| {
        let mut recorded = recorded.borrow_mut();
        let (values, value) = (recorded.entry(field).or_default(), value.to_string());
        if !values.contains(&value) {
            values.push(value);
        }
    });
}

/// The milliseconds since the beginning of an invocation, for its line.
pub fn milliseconds_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_summary_has_each_recorded_value_once() {
        let work = async {
            for id in [7, 8, 7] {
                record("ids", id);
            }
            record("limit", "bytes");
            "done"
        };
        let (output, mut summary) = of(work).await;
        assert_eq!(output, "done");
        assert_eq!(summary.take("ids").as_deref(), Some("7 8"));
        assert_eq!(summary.take("ids"), None);
        assert_eq!(summary.rest().as_deref(), Some("limit=bytes"));
    }

    #[tokio::test]
    async fn invocations_record_apart_and_nothing_outside_of_them() {
        record("ids", 1);
        let ((), first) = of(async { record("ids", 2) }).await;
        let ((), second) = of(async {}).await;
        assert_eq!(first.rest().as_deref(), Some("ids=2"));
        assert_eq!(second.rest(), None);
    }
}
