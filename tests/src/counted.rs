//! Recorder for the metrics that functions emit during a test.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, LocalRecorderGuard, Metadata, Recorder,
    SharedString, Unit,
};

/// Metrics emitted on this test's thread. All tasks of a test run on that thread.
#[derive(Default)]
pub struct Counted(Arc<Mutex<HashMap<String, Vec<f64>>>>);

impl Counted {
    /// Records metrics until the guard is dropped.
    pub fn begin(&self) -> LocalRecorderGuard<'_> {
        metrics::set_default_local_recorder(self)
    }

    /// Removes a metric's values and returns their sum as a whole number; `None` if nothing was recorded
    /// since the last call.
    #[expect(clippy::cast_possible_truncation, reason = "tests count little")]
    pub fn take(&self, name: &str) -> Option<i64> {
        let values = self.0.lock().unwrap().remove(name)?;
        Some(values.iter().sum::<f64>().round() as i64)
    }
}

struct Values {
    name: String,
    all: Arc<Mutex<HashMap<String, Vec<f64>>>>,
}

impl CounterFn for Values {
    #[expect(clippy::cast_precision_loss, reason = "tests count little")]
    fn increment(&self, value: u64) {
        self.record(value as f64);
    }

    fn absolute(&self, _: u64) {
        panic!("no function does this")
    }
}

impl HistogramFn for Values {
    fn record(&self, value: f64) {
        let mut all = self.all.lock().unwrap();
        all.entry(self.name.clone()).or_default().push(value);
    }
}

impl Counted {
    fn values(&self, key: &Key) -> Arc<Values> {
        Arc::new(Values {
            name: key.name().to_owned(),
            all: Arc::clone(&self.0),
        })
    }
}

impl Recorder for Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.values(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.values(key))
    }
}
