//! Progress bars, which are shown on a terminal only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use client::Progress;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

/// Size from which a file gets its own bar, in bytes. Bars of smaller files would disappear too fast to be
/// read.
const OWN_BAR: u64 = 8 * 1024 * 1024;

/// The progress bars of a command: one in total, and one for each large file in transfer.
pub(crate) struct Bars {
    all: MultiProgress,
    total: ProgressBar,
}

impl Bars {
    /// Shows the total bar for a number of bytes and files.
    pub(crate) fn new(bytes: u64, files: usize) -> Self {
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::new(bytes));
        total.set_style(style(
            "{bar:30} {bytes:>11} of {total_bytes:11} {binary_bytes_per_sec:>13}, {eta} left{msg}",
        ));
        total.enable_steady_tick(Duration::from_millis(250));
        if files > 1 {
            total.set_message(format!(", {files} files"));
        }
        Self { all, total }
    }

    pub(crate) fn file(&self, name: &str, bytes: u64) -> Bar<'_> {
        let own = (bytes >= OWN_BAR).then(|| {
            let own = self.all.insert_before(&self.total, ProgressBar::new(bytes));
            own.set_style(style("  {bar:28} {bytes:>11} of {total_bytes:11} {msg}"));
            own.set_message(name.to_owned());
            own
        });
        Bar {
            own,
            bars: self,
            name: name.to_owned(),
            counted: AtomicU64::new(0),
            digested: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// Writes a line above the bars.
    pub(crate) fn print_above<T>(&self, write: impl FnOnce() -> T) -> T {
        self.all.suspend(write)
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.total.finish_and_clear();
        let _ = self.all.clear();
    }
}

/// A line that counts bytes without a known total.
pub(crate) struct Spooling(ProgressBar);

impl Spooling {
    pub(crate) fn new() -> Self {
        let counter = ProgressBar::new_spinner();
        counter.set_style(style(
            "{spinner} read {bytes} of the standard input, {binary_bytes_per_sec}",
        ));
        Self(counter)
    }

    pub(crate) fn read(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Spooling {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

pub(crate) struct Bar<'a> {
    own: Option<ProgressBar>,
    bars: &'a Bars,
    name: String,
    /// Bytes of this file that the bars include.
    counted: AtomicU64,
    digested: AtomicU64,
    sent: AtomicU64,
}

impl Bar<'_> {
    /// Bytes sent or received, including repetitions.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn each(&self, act: impl Fn(&ProgressBar)) {
        self.own.iter().chain([&self.bars.total]).for_each(act);
    }

    fn count(&self, bytes: u64) {
        let before = self.counted.fetch_add(bytes, Ordering::Relaxed);
        self.each(|bar| bar.inc(bytes));
        if let Some(own) = self.own.as_ref().filter(|_| before == 0) {
            own.set_message(self.name.clone());
        }
    }
}

impl Progress for Bar<'_> {
    fn hashed(&self, bytes: u64) {
        let digested = bytes + self.digested.fetch_add(bytes, Ordering::Relaxed);
        if let Some(own) = &self.own {
            own.set_message(format!("{} (read {})", self.name, HumanBytes(digested)));
        }
    }

    fn skipped(&self, bytes: u64) {
        self.count(bytes);
        // These bytes took no time, so they must not affect the estimate for the rest.
        self.each(ProgressBar::reset_eta);
    }

    fn transferred(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.count(bytes);
    }

    fn reverted(&self, bytes: u64) {
        let take = |counted: u64| Some(counted.saturating_sub(bytes));
        let (order, counted) = (Ordering::Relaxed, &self.counted);
        let before = counted.fetch_update(order, order, take).unwrap_or_default();
        self.each(|bar| bar.dec(bytes.min(before)));
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            own.finish_and_clear();
            self.bars.all.remove(own);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ")
}
