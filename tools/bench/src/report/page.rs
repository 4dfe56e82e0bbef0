//! Renders the report as `docs/performance.md`.

use super::{Benchmark, Machine, Report, Row, text};

const ABOUT: &str = "\
`cargo xtask bench` runs every benchmark, and `cargo xtask bench fan-out` only the named one. `--quick` uses small numbers and few
rounds, to check that the benchmarks work. They measure the release binaries as they are deployed, under the benchmark's own
Lambda Runtime API, with a real PostgreSQL and fakes of S3, SQS and @connections. The control is a baseline or a reference
implementation that does the same work. It runs in the same run, in turn with ours. Figures are medians of the rounds, with the smallest
and the largest value in brackets. The result is ours ÷ control (×), or ours − control (+ or −). Compare ratios, because
absolute times depend on the machine. The value in brackets after a goal is its stretch goal. *Noisy* means that other
processes used the machine. *Server-bound* means that a fake was the bottleneck.";

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
    ];
    if report.quick {
        parts.push(format!("> **{}**", text::QUICK));
    }
    parts.push(ABOUT.to_owned());
    let plural = if *cores == 1 { "" } else { "s" };
    parts.push(format!(
        "Measured on {processor}, {cores} core{plural}, {kernel}."
    ));
    parts.push("## Goals".to_owned());
    parts.extend(goals(report));
    parts.extend(report.benchmarks.iter().flat_map(benchmark));
    parts.join("\n\n") + "\n"
}

/// Lists missed goals and exceeded counts, or says that there are none.
fn goals(report: &Report) -> Vec<String> {
    let rows = || {
        let benchmarks = report.benchmarks.iter();
        benchmarks.flat_map(|benchmark| benchmark.rows.iter().map(move |row| (benchmark, row)))
    };
    let all = rows().filter(|(_, row)| row.goal.is_some()).count();
    let missed = rows().filter(|(_, row)| row.met() == Some(false));
    let missed = missed.map(|(benchmark, row)| missed_goal(benchmark, row));
    let missed: Vec<_> = missed.collect();
    let exceeded = report.exceeded().map(|(benchmark, count)| {
        let what = format!("{}, {}", linked(benchmark), on_one_line(&count.what));
        format!("- {what}: {}", text::count(count))
    });
    let exceeded: Vec<_> = exceeded.collect();

    let mut parts = Vec::new();
    if missed.is_empty() {
        parts.push(format!("Every goal is met ({all} of {all})."));
    } else {
        parts.push(format!("Missed ({} of {all}):", missed.len()));
        parts.push(missed.join("\n"));
    }
    if !exceeded.is_empty() {
        parts.push("Counted more than there may be:".to_owned());
        parts.push(exceeded.join("\n"));
    }
    parts
}

fn missed_goal(benchmark: &Benchmark, row: &Row) -> String {
    let noisy = if row.noisy() { ", but noisy" } else { "" };
    let bound = if row.server_bound {
        ", but server-bound"
    } else {
        ""
    };
    format!(
        "- {}, {}: {}, goal {}{noisy}{bound}",
        linked(benchmark),
        on_one_line(&row.figure),
        text::result(row),
        text::goal(row)
    )
}

fn benchmark(benchmark: &Benchmark) -> Vec<String> {
    let mut parts = vec![format!("## {}", benchmark.name), benchmark.about.clone()];
    if let Some(plot) = &benchmark.plot {
        let title = on_one_line(&plot.title).replace('[', "\\[").replace(']', "\\]");
        parts.push(format!("![{title}](performance/{}.svg)", benchmark.name));
    }
    if !benchmark.rows.is_empty() {
        let rows = benchmark.rows.iter().map(|row| text::cells(row).to_vec());
        parts.push(table(&text::COLUMNS, rows));
    }
    if !benchmark.counts.is_empty() {
        let counts = benchmark.counts.iter();
        let counts = counts.map(|count| vec![count.what.clone(), text::count(count)]);
        parts.push(table(&["Count", "Counted, at most"], counts));
    }
    if !benchmark.notes.is_empty() {
        let notes = benchmark.notes.iter();
        let notes = notes.map(|note| format!("- {}", on_one_line(note)));
        parts.push(notes.collect::<Vec<_>>().join("\n"));
    }
    parts
}

fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines = vec![line(columns.iter().copied()), "|---".repeat(columns.len()) + "|"];
    lines.extend(rows.map(|row| line(row.iter().map(String::as_str))));
    lines.join("\n")
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let cells = cells.map(|cell| format!(" {} |", loud(&on_one_line(cell).replace('|', "\\|"))));
    format!("|{}", cells.collect::<String>())
}

/// Emphasises missed goals and exceeded counts, so that they stand out in a long table.
fn loud(cell: &str) -> String {
    [text::MISSED, text::EXCEEDED]
        .iter()
        .fold(cell.to_owned(), |cell, word| {
            cell.replace(word, &format!("**{word}**"))
        })
}

fn linked(benchmark: &Benchmark) -> String {
    format!("[{0}](#{0})", benchmark.name)
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Count, Plot, Unit};

    fn benchmark_of(name: &str, rows: Vec<Row>) -> Benchmark {
        Benchmark {
            name: name.to_owned(),
            about: format!("About {name}."),
            rows,
            counts: vec![],
            plot: None,
            notes: vec![],
        }
    }

    fn report_of(benchmarks: Vec<Benchmark>) -> Report {
        Report {
            machine: Machine {
                processor: "A processor".to_owned(),
                cores: 4,
                kernel: "a kernel".to_owned(),
            },
            quick: false,
            benchmarks,
        }
    }

    fn row(figure: &str, ours: f64) -> Row {
        Row::ratio(
            figure,
            Unit::Milliseconds,
            vec![ours, ours],
            "limit",
            vec![2.0, 2.0],
        )
    }

    #[test]
    fn says_first_that_it_is_written_by_the_command() {
        let page = page(&report_of(vec![]));
        let first: Vec<_> = page.lines().filter(|line| !line.is_empty()).take(3).collect();
        assert!(first[0].starts_with("<!-- Written by `cargo xtask bench`"));
        assert_eq!(first[1], "# Performance");
        assert_eq!(
            first[2],
            "This file is written by `cargo xtask bench`, not by hand."
        );
        assert!(page.contains("\n\nMeasured on A processor, 4 cores, a kernel.\n\n"));
    }

    #[test]
    fn a_quick_run_says_so_before_any_figure() {
        let mut report = report_of(vec![]);
        assert!(!page(&report).contains("> **"));
        report.quick = true;
        let page = page(&report);
        assert!(page.find("> **Quick run") < page.find("## Goals"));
        assert!(page.contains("> **Quick run"));
    }

    #[test]
    fn missed_goals_are_listed_before_the_benchmarks() {
        let rows = vec![
            row("fast", 1.0).at_most(2.0, None),
            row("slow", 5.0).at_most(2.0, Some(1.3)),
            row("no goal", 5.0),
        ];
        let noisy = Row::ratio("n", Unit::Seconds, vec![1.0, 1.0], "c", vec![1.0, 2.0]);
        let noisy = Row {
            server_bound: true,
            ..noisy.at_least(1.0, None)
        };
        let mut other = benchmark_of("other", vec![noisy]);
        other.counts.push(Count {
            what: "statements".to_owned(),
            counted: 4.0,
            most: 3.0,
        });
        let page = page(&report_of(vec![benchmark_of("fan-out", rows), other]));
        let goals = "## Goals\n\n\
            Missed (2 of 3):\n\n\
            - [fan-out](#fan-out), slow: ×2.50 (2.50–2.50), goal ≤ 2.0 (1.3)\n\
            - [other](#other), n: ×0.75 (0.50–1.00), goal ≥ 1.0, but noisy, but server-bound\n\n\
            Counted more than there may be:\n\n\
            - [other](#other), statements: 4 > 3 EXCEEDED\n\n\
            ## fan-out\n";
        assert!(page.contains(goals), "{page}");
    }

    #[test]
    fn says_that_every_goal_is_met() {
        let rows = vec![row("fast", 1.0).at_most(2.0, None), row("no goal", 5.0)];
        let page = page(&report_of(vec![benchmark_of("fan-out", rows)]));
        assert!(
            page.contains("## Goals\n\nEvery goal is met (1 of 1).\n\n## fan-out\n"),
            "{page}"
        );
    }

    #[test]
    fn a_benchmark_has_its_plot_figures_counts_and_notes() {
        let mut fan_out = benchmark_of("fan-out", vec![row("a|b\nc", 5.0).at_most(2.0, None)]);
        fan_out.plot = Some(Plot {
            title: "Posts [per second]".to_owned(),
            x: String::new(),
            y: String::new(),
            logarithmic: false,
            logarithmic_y: false,
            series: vec![],
        });
        fan_out.counts = vec![Count {
            what: "either|or".to_owned(),
            counted: 2.0,
            most: 1.0,
        }];
        fan_out.notes = vec!["one\ntwo".to_owned(), "three".to_owned()];
        let page = page(&report_of(vec![fan_out]));
        let expected = "## fan-out\n\n\
            About fan-out.\n\n\
            ![Posts \\[per second\\]](performance/fan-out.svg)\n\n\
            | Figure | Ours | Control | Result | Goal | Mark |\n\
            |---|---|---|---|---|---|\n\
            | a\\|b c | 5 ms | limit: 2 ms | ×2.50 (2.50–2.50) | ≤ 2.0 | **MISSED** |\n\n\
            | Count | Counted, at most |\n\
            |---|---|\n\
            | either\\|or | 2 > 1 **EXCEEDED** |\n\n\
            - one two\n\
            - three\n";
        assert!(page.ends_with(expected), "{page}");
    }
}
