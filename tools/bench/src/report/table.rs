//! Renders the report for a terminal.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, TableStyle, presets};

use super::{Benchmark, Report, text};

/// Width of the tables, in characters. Most terminals are at least this wide on half of the screen.
const WIDTH: u16 = 140;

/// Tables, counts and notes, with a blank line between benchmarks.
pub(crate) fn table(report: &Report) -> String {
    let mut parts = Vec::new();
    if report.quick {
        parts.push(text::QUICK.to_owned());
    }
    parts.extend(report.benchmarks.iter().map(benchmark));
    parts.join("\n\n") + "\n"
}

fn benchmark(benchmark: &Benchmark) -> String {
    let mut lines = vec![benchmark.name.clone()];
    if !benchmark.rows.is_empty() {
        lines.push(figures(benchmark));
    }
    if !benchmark.counts.is_empty() {
        let counts = benchmark.counts.iter();
        let counts = counts.map(|count| vec![format!("{}:", count.what), text::count(count)]);
        lines.push(list(counts));
    }
    if !benchmark.notes.is_empty() {
        let notes = benchmark.notes.iter();
        let notes = notes.map(|note| vec!["-".to_owned(), note.clone()]);
        lines.push(list(notes));
    }
    lines.join("\n")
}

fn figures(benchmark: &Benchmark) -> String {
    let rows = benchmark.rows.iter().map(|row| text::cells(row).to_vec());
    let mut table = arranged(presets::UTF8_FULL_CONDENSED, Some(&text::COLUMNS), rows);
    // Only the columns with the names of figures and controls are wrapped.
    for column in [1, 3, 4, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt()
}

/// A table without borders. Long text in the second column is wrapped.
fn list(rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = arranged(presets::NOTHING, None, rows);
    if let Some(column) = table.column_mut(0) {
        column.set_padding((2, 0));
    }
    table.trim_fmt()
}

fn arranged(style: TableStyle, header: Option<&[&str]>, rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(style).set_width(WIDTH);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(header) = header {
        table.set_header(header);
    }
    table.add_rows(rows);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Count, Machine, Row, Unit};

    fn report() -> Report {
        let long = "one of the many words that a long name is made of ".repeat(3);
        let row = Row::ratio(&long, Unit::PerSecond, vec![1e6; 3], &long, vec![2.5e6; 3]);
        Report {
            machine: Machine {
                processor: "processor".to_owned(),
                cores: 2,
                kernel: "kernel".to_owned(),
            },
            quick: false,
            benchmarks: vec![Benchmark {
                name: "fan-out".to_owned(),
                about: String::new(),
                rows: vec![
                    row.at_most(0.3, Some(0.2)),
                    Row::alone("short", Unit::Seconds, vec![1.0]),
                ],
                counts: vec![Count {
                    what: "statements".to_owned(),
                    counted: 4.0,
                    most: 3.0,
                }],
                plot: None,
                notes: vec!["a word ".repeat(60)],
            }],
        }
    }

    #[test]
    fn fits_and_breaks_no_number() {
        let text = table(&report());
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(usize::from(WIDTH)), "{text}");
        for whole in ["1,000,000/s", "×0.40 (0.40–0.40)", "≤ 0.3 (0.2)", "MISSED", "1 s"] {
            assert!(
                text.contains(&format!(" {whole} ")),
                "{whole} is not in one piece:\n{text}"
            );
        }
    }

    #[test]
    fn counts_and_notes_follow_the_figures() {
        let text = table(&report());
        let at = |part: &str| text.find(part).expect(part);
        assert!(text.starts_with("fan-out\n"));
        assert!(at("Figure") < at("statements:"));
        assert!(at("4 > 3 EXCEEDED") < at("- a word"));
    }

    #[test]
    fn a_quick_run_says_so_first() {
        let quick = Report {
            quick: true,
            ..report()
        };
        assert!(table(&quick).starts_with("Quick run"));
        assert!(!table(&report()).contains("Quick run"));
    }

    #[test]
    fn what_is_empty_is_left_out() {
        let mut report = report();
        let only = report.benchmarks.first_mut().expect("one");
        only.rows.clear();
        only.counts.clear();
        only.notes.clear();
        assert_eq!(table(&report), "fan-out\n");
    }
}
