//! Tables and numbers in Markdown.

use std::fmt::{self, Display, Formatter};

/// A table. Cells must not contain `|`.
pub(super) struct Table {
    columns: usize,
    lines: Vec<String>,
}

impl Table {
    pub(super) fn new<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Self {
        Self::with(header.map(str::to_owned).to_vec())
    }

    pub(super) fn with(header: Vec<String>) -> Self {
        let columns = header.len();
        let mut table = Self {
            columns,
            lines: Vec::new(),
        };
        table.add(header);
        table.lines.push("|---".repeat(columns) + "|");
        table
    }

    /// Adds a row. Missing cells are empty.
    pub(super) fn add(&mut self, mut cells: Vec<String>) {
        cells.resize(self.columns, String::new());
        let cells = cells.into_iter().map(|cell| match cell.as_str() {
            "" => " ".to_owned(),
            text => format!(" {text} "),
        });
        self.lines
            .push(format!("|{}|", cells.collect::<Vec<_>>().join("|")));
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

/// An amount in dollars with cents, or with a tenth of a cent if it is below one cent.
pub(super) fn dollars(amount: f64) -> String {
    if amount >= 0.01 || amount <= 0.0 {
        grouped(&format!("{amount:.2}"))
    } else {
        format!("{amount:.4}")
    }
}

/// A number with up to four significant digits below a thousand, and whole above.
pub(super) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 1_000.0 => 0,
        value if value >= 100.0 => 1,
        value if value >= 10.0 => 2,
        value if value >= 0.1 => 3,
        _ => 5,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    grouped(text)
}

/// Separates thousands by commas.
fn grouped(text: &str) -> String {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (text, String::new()),
    };
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_their_thousands_separated() {
        let texts = [0.0, 0.0123, 1.0, 4.5, 25.128, 1_234.5, 43_800_000.0].map(number);
        assert_eq!(texts, ["0", "0.0123", "1", "4.5", "25.13", "1,234", "43,800,000"]);
        assert_eq!(
            [0.004, 0.0, 5.4, 1_234.567].map(dollars),
            ["0.0040", "0.00", "5.40", "1,234.57"]
        );
    }

    #[test]
    fn a_table_has_a_cell_for_each_column() {
        let mut table = Table::new(["a", "b", "c"]);
        table.add(vec!["1".to_owned()]);
        assert_eq!(table.to_string(), "| a | b | c |\n|---|---|---|\n| 1 | | |");
    }
}
