//! Formatting of numbers and words in reports.

use super::{By, Count, Goal, Row, Summary, Unit, Verdict};

pub(crate) const COLUMNS: [&str; 6] = ["Figure", "Ours", "Control", "Result", "Goal", "Mark"];

/// Cells of a row, in the order of [`COLUMNS`].
pub(crate) fn cells(row: &Row) -> [String; 6] {
    let ours = Summary::of(&row.ours).median;
    let (ours, control, result) = match &row.control {
        Some(control) => {
            let median = Summary::of(&control.values).median;
            let control = format!("{}: {}", control.name, measured(median, row.unit));
            (measured(ours, row.unit), control, result(row))
        }
        None => (result(row), String::new(), String::new()),
    };
    [row.figure.clone(), ours, control, result, goal(row), mark(row)]
}

/// The row's result with its spread: the comparison with the control, or the figure itself without a control.
pub(crate) fn result(row: &Row) -> String {
    let Summary { median, least, most } = row.result();
    let median = match row.control.as_ref().map(|control| control.by) {
        Some(By::Ratio) => format!("×{}", number(median)),
        Some(By::Difference) if median > 0.0 => format!("+{}", measured(median, row.unit)),
        Some(By::Difference) | None => measured(median, row.unit),
    };
    if row.ours.len() < 2 {
        return median;
    }
    format!("{median} ({} to {})", number(least), number(most))
}

/// The goal, with the stretch goal in parentheses; empty without a goal.
pub(crate) fn goal(row: &Row) -> String {
    let is_ratio = row
        .control
        .as_ref()
        .is_some_and(|control| control.by == By::Ratio);
    let bound = |value: f64| exact(value) + if is_ratio { "" } else { suffix(row.unit) };
    let one_sided = |sign: &str, goal: f64, stretch: Option<f64>| {
        let stretch = stretch.map(|stretch| format!(" ({})", bound(stretch)));
        format!("{sign} {}{}", bound(goal), stretch.unwrap_or_default())
    };
    match row.goal {
        None => String::new(),
        Some(Goal::AtMost { goal, stretch }) => one_sided("≤", goal, stretch),
        Some(Goal::AtLeast { goal, stretch }) => one_sided("≥", goal, stretch),
        Some(Goal::Between { least, most }) => format!("{} to {}", bound(least), bound(most)),
    }
}

/// Whether the goal is met, and reasons to doubt the figure.
fn mark(row: &Row) -> String {
    let goal = row.verdict().map(|verdict| match verdict {
        Verdict::Stretch => "stretch",
        Verdict::Met => "met",
        Verdict::Missed => "MISSED",
    });
    goal.into_iter().chain(doubts(row)).collect::<Vec<_>>().join(", ")
}

/// Reasons to doubt a figure.
pub(crate) fn doubts(row: &Row) -> impl Iterator<Item = &'static str> {
    let noisy = row.noisy().then_some("noisy");
    noisy
        .into_iter()
        .chain(row.server_bound.then_some("server-bound"))
}

/// Formats a count as `3 ≤ 4` or `5 > 4 EXCEEDED`.
pub(crate) fn count(count: &Count) -> String {
    let (counted, most) = (exact(count.counted), exact(count.most));
    if count.exceeded() {
        format!("{counted} > {most} EXCEEDED")
    } else {
        format!("{counted} ≤ {most}")
    }
}

/// Formats a measured number with three significant digits and thousands separators.
pub(crate) fn number(value: f64) -> String {
    // The formatter rounds first, so that 9.996 is shown with the decimals of 10.0.
    let scientific = format!("{value:.2e}");
    let exponent = scientific
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse().ok());
    let decimals = 2_usize.saturating_add_signed(-exponent.unwrap_or(0_isize));
    let rounded: f64 = scientific.parse().unwrap_or(value);
    grouped(&format!("{rounded:.decimals$}"))
}

/// Formats a counted or configured number with all of its digits, so that 1,001 is not shown as 1,000.
fn exact(value: f64) -> String {
    grouped(&format!("{value:.3}"))
}

fn measured(value: f64, unit: Unit) -> String {
    number(value) + suffix(unit)
}

fn suffix(unit: Unit) -> &'static str {
    match unit {
        Unit::PerSecond => "/s",
        Unit::Microseconds => " µs",
        Unit::Milliseconds => " ms",
        Unit::Megabytes => " MB",
        Unit::Number => "",
    }
}

/// Separates thousands, and removes trailing zeros of the fraction.
fn grouped(digits: &str) -> String {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("−", whole));
    let mut text = sign.to_owned();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) && digit.is_ascii_digit() {
            text.push(',');
        }
        text.push(digit);
    }
    match fraction.trim_end_matches('0') {
        "" => text,
        fraction => format!("{text}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_numbers_have_three_significant_digits_and_counts_all() {
        let values = [
            0.0,
            0.001_234,
            0.5,
            9.996,
            12.34,
            999.6,
            1_234_567.0,
            -12.34,
            f64::NAN,
        ];
        let texts = [
            "0",
            "0.00123",
            "0.5",
            "10",
            "12.3",
            "1,000",
            "1,230,000",
            "−12.3",
            "NaN",
        ];
        assert_eq!(values.map(number), texts);
        assert_eq!([1_001.0, 10.0 / 3.0].map(exact), ["1,001", "3.333"]);
    }

    #[test]
    fn cells_name_the_comparison_and_the_verdict() {
        let row = |ours, values| Row::ratio("x", Unit::PerSecond, ours, "c", values).at_most(2.0, Some(0.5));
        let expected = [
            "x",
            "1.24/s",
            "c: 2/s",
            "×0.62 (0.6 to 0.667)",
            "≤ 2 (0.5)",
            "met, noisy",
        ];
        assert_eq!(cells(&row(vec![0.6, 1.24, 2.0], vec![1.0, 2.0, 3.0])), expected);
        assert_eq!(mark(&row(vec![0.5], vec![1.0])), "stretch");
        assert_eq!(mark(&row(vec![2.5], vec![1.0])), "MISSED");
        let alone = Row::alone("x", Unit::Megabytes, vec![20.0, 21.0, 22.0]).at_least(1500.0, None);
        assert_eq!(
            cells(&alone),
            ["x", "21 MB (20 to 22)", "", "", "≥ 1,500 MB", "MISSED"]
        );
    }

    #[test]
    fn differences_have_sign_and_unit() {
        let of = |ours, values| result(&Row::difference("x", Unit::Milliseconds, ours, "c", values));
        assert_eq!(of(vec![2.3, 3.0], vec![1.0, 1.7]), "+1.3 ms (1.3 to 1.3)");
        assert_eq!(
            of(vec![1.0, 3.0, 0.0], vec![1.25, 1.0, 1.0]),
            "−0.25 ms (−1 to 2)"
        );
    }
}
