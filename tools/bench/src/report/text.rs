//! Formatting of numbers and words for the terminal and the page.

use super::{By, Count, Goal, Row, Summary, Unit};

pub(crate) const COLUMNS: [&str; 6] = ["Figure", "Ours", "Control", "Result", "Goal", "Mark"];
pub(crate) const MISSED: &str = "MISSED";
pub(crate) const EXCEEDED: &str = "EXCEEDED";
pub(crate) const QUICK: &str = "Quick run: it shows that the benchmarks work; its figures mean nothing.";

/// Cells of a row, in the order of [`COLUMNS`].
pub(crate) fn cells(row: &Row) -> [String; 6] {
    let control = row.control.as_ref().map_or_else(String::new, |control| {
        let median = Summary::of(&control.values).median;
        format!("{}: {}", control.name, measured(median, row.unit))
    });
    let ours = Summary::of(&row.ours);
    let (ours, result) = if row.control.is_some() {
        (measured(ours.median, row.unit), result(row))
    } else {
        (result(row), String::new())
    };
    [row.figure.clone(), ours, control, result, goal(row), mark(row)]
}

/// The row's result with its spread: the comparison with the control, or the figure itself without a control.
pub(crate) fn result(row: &Row) -> String {
    let Summary { median, least, most } = row.result();
    let (median, spread) = match row.control.as_ref().map(|control| control.by) {
        Some(By::Ratio) => (
            format!("×{}", ratio(median)),
            span(least, &ratio(least), &ratio(most)),
        ),
        Some(By::Difference) => {
            let median = format!("{}{}", signed(median), suffix(row.unit));
            let spread = if least < 0.0 {
                span(least, &signed(least), &signed(most))
            } else {
                span(least, &number(least), &number(most))
            };
            (median, spread)
        }
        None => (
            measured(median, row.unit),
            span(least, &number(least), &number(most)),
        ),
    };
    if row.ours.len() < 2 {
        return median;
    }
    format!("{median} ({spread})")
}

/// The goal, with the stretch goal in parentheses; empty without a goal.
pub(crate) fn goal(row: &Row) -> String {
    let bound = |value: f64| {
        let text = exact(value);
        if row
            .control
            .as_ref()
            .is_some_and(|control| control.by == By::Ratio)
        {
            if text.contains('.') { text } else { text + ".0" }
        } else {
            text + suffix(row.unit)
        }
    };
    let one_sided = |sign: &str, goal: f64, stretch: Option<f64>| {
        let stretch = stretch.map_or_else(String::new, |stretch| format!(" ({})", bound(stretch)));
        format!("{sign} {}{stretch}", bound(goal))
    };
    match row.goal {
        None => String::new(),
        Some(Goal::AtMost { goal, stretch }) => one_sided("≤", goal, stretch),
        Some(Goal::AtLeast { goal, stretch }) => one_sided("≥", goal, stretch),
        Some(Goal::Between { least, most }) => span(least, &bound(least), &bound(most)),
    }
}

/// Whether the goal is met, and reasons to doubt the figure.
pub(crate) fn mark(row: &Row) -> String {
    let goal = row.met().map(|met| match met {
        true if stretched(row) => "stretch",
        true => "met",
        false => MISSED,
    });
    let doubts = [
        row.noisy().then_some("noisy"),
        row.server_bound.then_some("server-bound"),
    ];
    let marks = goal.into_iter().chain(doubts.into_iter().flatten());
    marks.collect::<Vec<_>>().join(", ")
}

/// Formats a count as `3 ≤ 4` or `5 > 4 EXCEEDED`.
pub(crate) fn count(count: &Count) -> String {
    let (counted, most) = (exact(count.counted), exact(count.most));
    if count.exceeded() {
        format!("{counted} > {most} {EXCEEDED}")
    } else {
        format!("{counted} ≤ {most}")
    }
}

/// Formats with this number of significant digits and with thousands separators.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return "?".to_owned();
    }
    let sign = if value < 0.0 { "−" } else { "" };
    if value.is_infinite() {
        return format!("{sign}∞");
    }
    let precision = digits.saturating_sub(1);
    // The formatter rounds first, so that 9.996 is shown with the decimals of 10.0.
    let scientific = format!("{:.precision$e}", value.abs());
    let exponent = scientific
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse().ok());
    let decimals = precision.saturating_add_signed(-exponent.unwrap_or(0_isize));
    let rounded = scientific.parse().unwrap_or(value.abs());
    format!("{sign}{}", grouped(&format!("{rounded:.decimals$}")))
}

/// Removes trailing zeros of the fraction.
pub(crate) fn trimmed(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

fn stretched(row: &Row) -> bool {
    let median = row.result().median;
    match row.goal {
        Some(Goal::AtMost { stretch, .. }) => stretch.is_some_and(|stretch| median <= stretch),
        Some(Goal::AtLeast { stretch, .. }) => stretch.is_some_and(|stretch| median >= stretch),
        Some(Goal::Between { .. }) | None => false,
    }
}

fn measured(value: f64, unit: Unit) -> String {
    number(value) + suffix(unit)
}

fn suffix(unit: Unit) -> &'static str {
    match unit {
        Unit::PerSecond => "/s",
        Unit::Microseconds => " µs",
        Unit::Milliseconds => " ms",
        Unit::Seconds => " s",
        Unit::Megabytes => " MB",
        Unit::Number => "",
    }
}

fn number(value: f64) -> String {
    trimmed(&significant(value, 3)).to_owned()
}

fn signed(value: f64) -> String {
    let sign = if value > 0.0 { "+" } else { "" };
    sign.to_owned() + &number(value)
}

/// Two digits are enough below 1. Trailing zeros stay, so that ratios are aligned.
fn ratio(value: f64) -> String {
    significant(value, if value.abs() < 1.0 { 2 } else { 3 })
}

/// Formats a counted or configured number with all of its digits, so that 1,001 is not shown as 1,000.
fn exact(value: f64) -> String {
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{}", grouped(trimmed(&format!("{:.3}", value.abs()))))
}

/// Formats a range. Before a negative number, a dash would look like a minus sign.
fn span(least: f64, from: &str, to: &str) -> String {
    let between = if least < 0.0 { " to " } else { "–" };
    format!("{from}{between}{to}")
}

fn grouped(digits: &str) -> String {
    let whole = digits.find('.').unwrap_or(digits.len());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && i < whole && (whole - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_numbers_have_three_significant_digits() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.001_234, "0.00123"),
            (0.5, "0.5"),
            (1.3, "1.3"),
            (9.996, "10"),
            (12.34, "12.3"),
            (999.6, "1,000"),
            (12_345.6, "12,300"),
            (1_234_567.0, "1,230,000"),
            (-12.34, "−12.3"),
            (f64::NAN, "?"),
            (f64::NEG_INFINITY, "−∞"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn ratios_keep_their_zeros() {
        let texts = [0.05, 0.617, 0.7, 1.0, 1.044, 12.34].map(ratio);
        assert_eq!(texts, ["0.050", "0.62", "0.70", "1.00", "1.04", "12.3"]);
    }

    #[test]
    fn counts_lose_no_digit() {
        let of = |counted, most| {
            count(&Count {
                what: String::new(),
                counted,
                most,
            })
        };
        assert_eq!(of(1000.0, 1000.0), "1,000 ≤ 1,000");
        assert_eq!(of(1001.0, 1000.0), "1,001 > 1,000 EXCEEDED");
        assert_eq!(of(10.0 / 3.0, 3.5), "3.333 ≤ 3.5");
    }

    #[test]
    fn cells_say_what_was_compared_and_how() {
        let row = Row::ratio(
            "x",
            Unit::PerSecond,
            vec![0.6, 1.24, 2.0],
            "limit",
            vec![1.0, 2.0, 3.0],
        );
        let row = row.at_most(2.0, Some(0.5));
        let cells = cells(&row);
        assert_eq!(
            cells,
            [
                "x",
                "1.24/s",
                "limit: 2/s",
                "×0.62 (0.60–0.67)",
                "≤ 2.0 (0.5)",
                "met, noisy"
            ]
        );
    }

    #[test]
    fn differences_carry_sign_and_unit() {
        let of = |ours, values| result(&Row::difference("x", Unit::Milliseconds, ours, "c", values));
        assert_eq!(of(vec![2.3, 3.0], vec![1.0, 1.7]), "+1.3 ms (1.3–1.3)");
        assert_eq!(
            of(vec![1.0, 3.0, 0.0], vec![1.25, 1.0, 1.0]),
            "−0.25 ms (−1 to +2)"
        );
    }

    #[test]
    fn a_figure_alone_has_its_spread_beside_it_and_no_result() {
        let cells = cells(&Row::alone("x", Unit::Megabytes, vec![20.0, 21.0, 22.0]).at_most(1500.0, None));
        assert_eq!(cells, ["x", "21 MB (20–22)", "", "", "≤ 1,500 MB", "met"]);
        assert_eq!(result(&Row::alone("x", Unit::Microseconds, vec![20.0])), "20 µs");
        assert_eq!(result(&Row::alone("x", Unit::Seconds, vec![])), "? s");
    }

    #[test]
    fn goals_say_their_direction() {
        let row = |goal| Row {
            goal: Some(goal),
            ..Row::alone("x", Unit::Number, vec![1.0, 1.0])
        };
        let at_least = row(Goal::AtLeast {
            goal: 50_000.0,
            stretch: Some(80_000.0),
        });
        assert_eq!(goal(&at_least), "≥ 50,000 (80,000)");
        let between = |least, most| goal(&row(Goal::Between { least, most }));
        assert_eq!(between(0.9, 1.1), "0.9–1.1");
        assert_eq!(between(-1.0, 1.0), "−1 to 1");
    }

    #[test]
    fn marks_say_which_goal_is_met() {
        let row = |ours| Row::alone("x", Unit::Seconds, vec![ours]);
        assert_eq!(mark(&row(1.0)), "");
        for (ours, at_most, at_least) in [
            (1.0, "stretch", "MISSED"),
            (2.0, "stretch", "MISSED"),
            (3.0, "met", "met"),
            (4.0, "MISSED", "stretch"),
            (f64::NAN, "MISSED", "MISSED"),
        ] {
            assert_eq!(mark(&row(ours).at_most(3.0, Some(2.0))), at_most);
            assert_eq!(mark(&row(ours).at_least(3.0, Some(4.0))), at_least);
        }
        let bound = Row {
            server_bound: true,
            ..row(1.0)
        };
        assert_eq!(mark(&bound), "server-bound");
        assert_eq!(mark(&bound.at_most(0.5, None)), "MISSED, server-bound");
    }
}
