//! Progress messages for the developer: one line per step, with its duration. They go to standard error,
//! because standard output is for results.

use std::fmt::Display;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The interval of progress messages for a long step when there is no terminal.
const REPORT_EVERY: Duration = Duration::from_secs(15);

/// The spinners of concurrent steps, one per line.
static SPINNERS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A running step, with a spinner on a terminal.
pub struct Step {
    bar: ProgressBar,
    name: String,
    started: Instant,
    reported: Mutex<Instant>,
}

impl Step {
    /// Starts a step.
    pub fn begin(name: impl Into<String>) -> Self {
        Self::with(name.into(), SPINNERS.add(ProgressBar::new_spinner()))
    }

    /// Starts a step that runs beside programs with output of their own. It prints whole lines and has no
    /// spinner, which would overwrite theirs.
    pub fn beside(name: impl Into<String>) -> Self {
        Self::with(name.into(), ProgressBar::hidden())
    }

    fn with(name: String, bar: ProgressBar) -> Self {
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed:>4} {wide_msg:.dim}") {
            bar.set_style(style);
        }
        bar.set_prefix(name.clone());
        bar.enable_steady_tick(Duration::from_millis(100));
        if bar.is_hidden() {
            line(format_args!("… {name}"));
        }
        let now = Instant::now();
        Self {
            bar,
            name,
            started: now,
            reported: Mutex::new(now),
        }
    }

    /// Shows a progress message of the step.
    pub fn note(&self, message: &str) {
        let message = message.trim();
        if !self.bar.is_hidden() {
            self.bar.set_message(message.to_owned());
            return;
        }
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.elapsed() >= REPORT_EVERY {
            *reported = Instant::now();
            let seconds = self.started.elapsed().as_secs();
            line(format_args!("  {} {seconds} s: {message}", self.name));
        }
    }

    /// Ends the step and prints its final line with `result`.
    pub fn done(self, result: impl Display) {
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f64();
        let result = result.to_string();
        let result = if result.is_empty() {
            result
        } else {
            format!("  {result}")
        };
        line(format_args!("✓ {:<34} {seconds:>7.2} s{result}", self.name));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        SPINNERS.remove(&self.bar);
    }
}

/// Runs `work` as a step that has no progress messages.
pub async fn step<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let step = Step::begin(name);
    let value = work.await?;
    step.done("");
    Ok(value)
}

/// Writes a line to standard error, above all spinners.
pub fn line(text: impl Display) {
    SPINNERS.suspend(|| {
        #[expect(clippy::print_stderr, reason = "talking to the developer")]
        {
            eprintln!("{text}");
        }
    });
}

/// Writes a line of the result to standard output.
pub fn output(text: impl Display) {
    SPINNERS.suspend(|| {
        #[expect(clippy::print_stdout, reason = "the program's result")]
        {
            println!("{text}");
        }
    });
}

/// Writes an error and its causes to standard error, as one paragraph.
pub fn failure(error: &Error) {
    line(format_args!("✗ {error:#}"));
}
