//! Renders the report for a terminal and as `docs/performance.md`.

use comfy_table::{ContentArrangement, Table, TableStyle, presets};

use super::{Benchmark, Machine, Report, Row, Verdict, text};

/// Width of tables on a terminal, in characters. Most terminals are at least this wide on half of the screen.
const WIDTH: u16 = 140;

const QUICK: &str = "Quick run: it checks that the benchmarks work. Its figures mean nothing.";

const ABOUT: &str = "\
`cargo xtask bench` runs every benchmark, and `cargo xtask bench fan-out` only the named one. `--quick` uses small numbers and few
rounds, to check that the benchmarks work. They measure the release binaries as they are deployed, under the benchmark's own
Lambda Runtime API, with a real PostgreSQL and fakes of S3, SQS and @connections. The control is a baseline or a reference
implementation that does the same work. It runs in the same run, in turn with ours. Figures are medians of the rounds, with the smallest
and the largest value in brackets. The result is ours ÷ control (×), or ours − control (+ or −). Compare ratios, because
absolute times depend on the machine. The value in brackets after a goal is its stretch goal. *Noisy* means that other
processes used the machine. *Server-bound* means that a fake was the bottleneck.";

/// Tables, counts and notes for a terminal.
pub(crate) fn terminal(report: &Report) -> String {
    let mut parts = Vec::new();
    if report.quick {
        parts.push(QUICK.to_owned());
    }
    for benchmark in &report.benchmarks {
        parts.push(benchmark.name.clone());
        parts.extend(tables(benchmark, presets::UTF8_FULL_CONDENSED, Some(WIDTH)));
        parts.extend(notes(benchmark));
    }
    parts.join("\n\n") + "\n"
}

/// The report as Markdown. It links to the plots as `performance/NAME.svg`.
pub(crate) fn page(report: &Report) -> String {
    let Machine {
        processor,
        cores,
        kernel,
    } = &report.machine;
    let mut parts = vec![
        "<!-- Written by `cargo xtask bench`: changes by hand are lost. -->".to_owned(),
        "# Performance".to_owned(),
        "This file is written by `cargo xtask bench`, not by hand.".to_owned(),
        ABOUT.to_owned(),
        format!("Measured on {processor}, {cores} core(s), {kernel}."),
    ];
    if report.quick {
        parts.push(format!("> **{QUICK}**"));
    }
    parts.push("## Goals".to_owned());
    parts.extend(goals(report));
    for benchmark in &report.benchmarks {
        parts.push(format!("## {}", benchmark.name));
        parts.push(benchmark.about.clone());
        if let Some(plot) = &benchmark.plot {
            parts.push(format!("![{}](performance/{}.svg)", plot.title, benchmark.name));
        }
        parts.extend(tables(benchmark, presets::ASCII_MARKDOWN, None));
        parts.extend(notes(benchmark));
    }
    parts.join("\n\n") + "\n"
}

/// Lists missed goals and exceeded counts, or states that there are none.
fn goals(report: &Report) -> Vec<String> {
    let rows = report.benchmarks.iter();
    let rows = rows.flat_map(|benchmark| benchmark.rows.iter().map(move |row| (benchmark, row)));
    let with_goal: Vec<_> = rows.filter(|(_, row)| row.goal.is_some()).collect();
    let missed = with_goal
        .iter()
        .filter(|(_, row)| row.verdict() == Some(Verdict::Missed));
    let missed: Vec<String> = missed
        .map(|(benchmark, row)| missed_goal(benchmark, row))
        .collect();
    let mut parts = if missed.is_empty() {
        vec![format!("Every goal is met ({0} of {0}).", with_goal.len())]
    } else {
        let heading = format!("Missed ({} of {}):", missed.len(), with_goal.len());
        vec![heading, missed.join("\n")]
    };
    let exceeded = report.exceeded();
    let exceeded = exceeded.map(|(benchmark, count)| {
        format!(
            "- [{0}](#{0}), {1}: {2}",
            benchmark.name,
            count.what,
            text::count(count)
        )
    });
    let exceeded: Vec<String> = exceeded.collect();
    if !exceeded.is_empty() {
        parts.push("Counts above their maximum:".to_owned());
        parts.push(exceeded.join("\n"));
    }
    parts
}

fn missed_goal(benchmark: &Benchmark, row: &Row) -> String {
    let doubts = text::doubts(row).fold(String::new(), |doubts, doubt| doubts + ", but " + doubt);
    let (result, goal) = (text::result(row), text::goal(row));
    format!(
        "- [{0}](#{0}), {1}: {result}, goal {goal}{doubts}",
        benchmark.name, row.figure
    )
}

/// The tables of the figures and of the counts, each if there are any.
fn tables(benchmark: &Benchmark, style: TableStyle, width: Option<u16>) -> Vec<String> {
    let rows = benchmark
        .rows
        .iter()
        .map(|row| text::cells(row).to_vec())
        .collect();
    let counts = benchmark.counts.iter();
    let counts = counts
        .map(|count| vec![count.what.clone(), text::count(count)])
        .collect();
    let tables: [(&[&str], Vec<Vec<String>>); 2] =
        [(&text::COLUMNS, rows), (&["Count", "Counted, at most"], counts)];
    let tables = tables.into_iter().filter(|(_, rows)| !rows.is_empty());
    let tables = tables.map(|(columns, rows)| {
        let mut table = Table::new();
        table.load_style(style).set_header(columns).add_rows(rows);
        if let Some(width) = width {
            table
                .set_width(width)
                .set_content_arrangement(ContentArrangement::Dynamic);
        }
        table.trim_fmt()
    });
    tables.collect()
}

fn notes(benchmark: &Benchmark) -> Option<String> {
    let notes = benchmark.notes.iter().map(|note| format!("- {note}"));
    (!benchmark.notes.is_empty()).then(|| notes.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Count, Unit};

    fn report(ours: f64, counted: u64) -> Report {
        let long = "one of the many words of a long name ".repeat(4);
        let row = Row::ratio("slow", Unit::PerSecond, vec![ours; 2], &long, vec![2e6, 4e6]);
        Report {
            machine: Machine {
                processor: "A processor".to_owned(),
                cores: 4,
                kernel: "a kernel".to_owned(),
            },
            quick: false,
            benchmarks: vec![Benchmark {
                name: "fan-out".to_owned(),
                about: "About fan-out.".to_owned(),
                rows: vec![
                    row.at_most(2.0, Some(1.3)),
                    Row::alone("short", Unit::Milliseconds, vec![1.0]),
                ],
                counts: vec![Count::new("statements", counted, 3)],
                plot: None,
                notes: vec!["one".to_owned(), "two".to_owned()],
            }],
        }
    }

    #[test]
    fn a_table_fits_the_terminal_and_breaks_no_number() {
        let text = terminal(&report(12_345_678.0, 3));
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= usize::from(WIDTH)),
            "{text}"
        );
        for whole in [
            "12,300,000/s",
            "×4.63 (3.09 to 6.17)",
            "≤ 2 (1.3)",
            "MISSED, noisy",
        ] {
            assert!(
                text.contains(&format!(" {whole} ")),
                "{whole} is not in one piece:\n{text}"
            );
        }
    }

    #[test]
    fn missed_goals_and_exceeded_counts_come_first() {
        let missed = page(&report(12e6, 4));
        let goals = "## Goals\n\nMissed (1 of 1):\n\n\
            - [fan-out](#fan-out), slow: ×4.5 (3 to 6), goal ≤ 2 (1.3), but noisy\n\n\
            Counts above their maximum:\n\n- [fan-out](#fan-out), statements: 4 > 3 EXCEEDED\n\n\
            ## fan-out\n\nAbout fan-out.\n\n| Figure ";
        assert!(missed.contains(goals), "{missed}");
        assert!(missed.ends_with("|\n\n- one\n- two\n"), "{missed}");
        assert!(page(&report(2e6, 3)).contains("\n\nEvery goal is met (1 of 1).\n\n## fan-out\n"));
    }

    #[test]
    fn a_quick_run_is_marked_before_any_figure() {
        let quick = Report {
            quick: true,
            ..report(2e6, 3)
        };
        assert!(terminal(&quick).starts_with("Quick run") && !page(&report(2e6, 3)).contains("Quick run"));
        assert!(
            page(&quick)
                .find("> **Quick run")
                .is_some_and(|at| at < page(&quick).find("## Goals").unwrap())
        );
    }
}
