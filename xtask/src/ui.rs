//! What the developer sees: a line per step with its time. On standard error, so that standard output is for results.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};

/// A step under way: a spinner on a terminal.
pub(crate) struct Step {
    bar: ProgressBar,
    name: String,
    started: Instant,
}

impl Step {
    /// Begins a step.
    pub(crate) fn begin(name: impl Into<String>) -> Self {
        let name = name.into();
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed:>4} {wide_msg:.dim}") {
            bar.set_style(style);
        }
        bar.set_prefix(name.clone());
        bar.enable_steady_tick(Duration::from_millis(100));
        if bar.is_hidden() {
            line(format_args!("… {name}"));
        }
        Self {
            bar,
            name,
            started: Instant::now(),
        }
    }

    /// Shows what it is doing.
    pub(crate) fn note(&self, message: &str) {
        self.bar.set_message(message.trim().to_owned());
    }

    /// Ends the step and leaves its line.
    pub(crate) fn done(self, result: impl Display) {
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
    }
}

/// Runs a step that has nothing to report while it runs.
pub(crate) async fn step<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let step = Step::begin(name);
    let value = work.await?;
    step.done("");
    Ok(value)
}

/// A line for the developer.
pub(crate) fn line(text: impl Display) {
    #[expect(clippy::print_stderr, reason = "talking to the developer")]
    {
        eprintln!("{text}");
    }
}

/// A line for whoever called this program.
pub(crate) fn output(text: impl Display) {
    #[expect(clippy::print_stdout, reason = "the program's result")]
    {
        println!("{text}");
    }
}

/// Why it did not work, in one paragraph.
pub(crate) fn failure(error: &Error) {
    line(format_args!("✗ {error:#}"));
}
