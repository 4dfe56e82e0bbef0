//! Output for people or, with `--json`, for scripts.

use std::fmt::Display;
use std::io::{self, Write as _};

use comfy_table::{Table, presets};
use indicatif::HumanBytes;
use model::ByteCount;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::failure;

#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// One JSON value a line instead of text.
    pub json: bool,
}

impl Output {
    /// Writes a line: `value` as JSON for scripts, or `text` for people.
    pub fn line(self, value: &impl Serialize, text: impl Display) -> io::Result<()> {
        let line = if self.json {
            serde_json::to_string(value)?
        } else {
            text.to_string()
        };
        print(&line)
    }

    /// Writes entries: one JSON value a line for scripts, or a table for people.
    pub fn table<T: Serialize, const N: usize>(
        self,
        header: [&str; N],
        entries: &[T],
        row: impl Fn(&T) -> [String; N],
    ) -> io::Result<()> {
        if self.json {
            for entry in entries {
                print(&serde_json::to_string(entry)?)?;
            }
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header);
        table.add_rows(entries.iter().map(row));
        for line in table.lines() {
            print(line.trim())?;
        }
        Ok(())
    }

    /// Writes an error to the standard error.
    pub fn failure(self, error: &anyhow::Error) {
        if self.json {
            warn(failure::json(error));
        } else {
            warn(format_args!("syncsphere: {}", failure::sentence(error)));
        }
    }
}

/// Writes a line to the standard output and flushes it, so that a reader gets it immediately.
pub fn print(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

/// Writes a line to the standard error. Write errors are ignored.
pub fn warn(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A size in binary units, for people.
pub fn size(size: ByteCount) -> String {
    bytes(size.get())
}

/// A number of bytes in binary units, for people. The content of a space is not limited to the size of a file.
pub fn bytes(count: i64) -> String {
    HumanBytes(count.unsigned_abs()).to_string()
}

/// A time in UTC, with seconds, for people.
pub fn time(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    time.format(&format).unwrap_or_default()
}
