//! The log lines that functions write during a test, as Lambda gets them.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use serde_json::Value;
use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{DefaultGuard, set_default};
use tracing_subscriber::fmt::MakeWriter;

/// A second subscriber, which writes nothing. While there is only one, `tracing` asks the subscriber of the
/// thread that meets a line of code first, and other tests' threads have none: the line would be off for all
/// threads.
static SECOND: LazyLock<Dispatch> =
    LazyLock::new(|| Dispatch::new(platform::json_logs(LevelFilter::OFF, io::sink)));

/// Log lines written on this test's thread. All tasks of a test run on that thread.
#[derive(Clone, Default)]
pub struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    /// Collects the lines from a level until the guard is dropped.
    pub fn begin(&self, level: LevelFilter) -> DefaultGuard {
        LazyLock::force(&SECOND);
        set_default(platform::json_logs(level, self.clone()))
    }

    /// Removes the lines that were written since the last call.
    pub fn take(&self) -> Vec<Value> {
        let written = std::mem::take(&mut *self.0.lock().unwrap());
        let lines = String::from_utf8(written).unwrap();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logs {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
