//! Results of a run as numbers. `plot` and `page` render them.

mod page;
mod plot;
mod text;

use serde::Serialize;

pub(crate) use page::{page, terminal};
pub(crate) use plot::svg;

/// A row is noisy if its control's spread (largest ÷ smallest) is above this: other programs used the
/// machine.
pub(crate) const NOISY: f64 = 1.3;

/// Results of one run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Whether the run only checked that the benchmarks work, with small numbers and few rounds.
    pub(crate) quick: bool,
    pub(crate) benchmarks: Vec<Benchmark>,
}

/// The machine of the run.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
}

/// Results of one benchmark.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Benchmark {
    /// Name on the command line.
    pub(crate) name: String,
    /// The measured quantity and the method, in a few sentences.
    pub(crate) about: String,
    pub(crate) rows: Vec<Row>,
    /// Deterministic counts with a limit.
    pub(crate) counts: Vec<Count>,
    pub(crate) plot: Option<Plot>,
    /// Notes needed to interpret the figures.
    pub(crate) notes: Vec<String>,
}

/// A figure, with the control that it is compared with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) figure: String,
    pub(crate) unit: Unit,
    /// One value per round.
    pub(crate) ours: Vec<f64>,
    /// `None` for a figure without a control.
    pub(crate) control: Option<Control>,
    pub(crate) goal: Option<Goal>,
    /// Whether the fake limited the result, rather than the measured program.
    pub(crate) server_bound: bool,
}

/// Control of a figure, measured alternately with it in the same rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Control {
    pub(crate) name: String,
    /// One value per round.
    pub(crate) values: Vec<f64>,
    pub(crate) by: By,
}

/// Comparison of a figure with its control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum By {
    /// Figure ÷ control.
    Ratio,
    /// Figure − control.
    Difference,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Unit {
    PerSecond,
    Microseconds,
    Milliseconds,
    /// 1,000,000 bytes.
    Megabytes,
    /// Dimensionless.
    Number,
}

/// Goal for the result: the figure, or its comparison with the control.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Goal {
    AtMost { goal: f64, stretch: Option<f64> },
    AtLeast { goal: f64, stretch: Option<f64> },
    Between { least: f64, most: f64 },
}

/// Whether a figure meets its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Missed,
    Met,
    /// The stretch goal is met too.
    Stretch,
}

/// A count with its maximum. The command fails if the count is larger.
#[derive(Debug, Serialize)]
pub(crate) struct Count {
    pub(crate) what: String,
    pub(crate) counted: f64,
    pub(crate) most: f64,
}

impl Count {
    /// Count of an integer quantity.
    pub(crate) fn new(what: impl Into<String>, counted: u64, most: u32) -> Self {
        Self {
            what: what.into(),
            counted: float(counted),
            most: most.into(),
        }
    }

    /// Whether the count is above its maximum or NaN.
    pub(crate) fn exceeded(&self) -> bool {
        let within = self.counted <= self.most;
        !within
    }
}

/// Converts a count to a float.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53, and nothing is counted so often"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// Series of points with common axes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    /// Whether the x axis is logarithmic.
    pub(crate) logarithmic: bool,
    /// Whether the y axis is logarithmic.
    pub(crate) logarithmic_y: bool,
    pub(crate) series: Vec<Series>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Median, minimum and maximum over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Summary {
    /// Summary of the values; NaN if there are none.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            at(middle)
        } else {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        };
        Self {
            median,
            least: at(0),
            most: at(sorted.len().saturating_sub(1)),
        }
    }
}

impl Row {
    /// A figure without a control.
    pub(crate) fn alone(figure: impl Into<String>, unit: Unit, ours: Vec<f64>) -> Self {
        Self {
            figure: figure.into(),
            unit,
            ours,
            control: None,
            goal: None,
            server_bound: false,
        }
    }

    /// A figure divided by its control.
    pub(crate) fn ratio(
        figure: impl Into<String>,
        unit: Unit,
        ours: Vec<f64>,
        control: impl Into<String>,
        values: Vec<f64>,
    ) -> Self {
        Self {
            control: Some(Control {
                name: control.into(),
                values,
                by: By::Ratio,
            }),
            ..Self::alone(figure, unit, ours)
        }
    }

    /// A figure minus its control.
    pub(crate) fn difference(
        figure: impl Into<String>,
        unit: Unit,
        ours: Vec<f64>,
        control: impl Into<String>,
        values: Vec<f64>,
    ) -> Self {
        let mut row = Self::ratio(figure, unit, ours, control, values);
        if let Some(control) = &mut row.control {
            control.by = By::Difference;
        }
        row
    }

    pub(crate) fn at_most(mut self, goal: f64, stretch: Option<f64>) -> Self {
        self.goal = Some(Goal::AtMost { goal, stretch });
        self
    }

    pub(crate) fn at_least(mut self, goal: f64, stretch: Option<f64>) -> Self {
        self.goal = Some(Goal::AtLeast { goal, stretch });
        self
    }

    /// The values that the goal applies to: the figure of each round, compared with the control if there is
    /// one.
    pub(crate) fn result(&self) -> Summary {
        let Some(control) = &self.control else {
            return Summary::of(&self.ours);
        };
        let compared = self
            .ours
            .iter()
            .zip(&control.values)
            .map(|(ours, control_value)| match control.by {
                By::Ratio => ours / control_value,
                By::Difference => ours - control_value,
            });
        Summary::of(&compared.collect::<Vec<_>>())
    }

    /// Whether the control's spread is too large to rely on one run.
    pub(crate) fn noisy(&self) -> bool {
        self.control.as_ref().is_some_and(|control| {
            let Summary { least, most, .. } = Summary::of(&control.values);
            most > least * NOISY
        })
    }

    /// The verdict on the median; `None` without a goal.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let median = self.result().median;
        let (met, stretched) = match self.goal? {
            Goal::AtMost { goal, stretch } => {
                (median <= goal, stretch.is_some_and(|stretch| median <= stretch))
            }
            Goal::AtLeast { goal, stretch } => {
                (median >= goal, stretch.is_some_and(|stretch| median >= stretch))
            }
            Goal::Between { least, most } => ((least..=most).contains(&median), false),
        };
        Some(match (met, stretched) {
            (false, _) => Verdict::Missed,
            (true, false) => Verdict::Met,
            (true, true) => Verdict::Stretch,
        })
    }
}

impl Report {
    /// Counts above their maximum, with their benchmarks.
    pub(crate) fn exceeded(&self) -> impl Iterator<Item = (&Benchmark, &Count)> {
        self.benchmarks.iter().flat_map(|benchmark| {
            let counts = benchmark.counts.iter().filter(|count| count.exceeded());
            counts.map(move |count| (benchmark, count))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_compared_one_by_one() {
        let row = Row::ratio(
            "x",
            Unit::Milliseconds,
            vec![2.0, 9.0, 4.0],
            "c",
            vec![1.0, 3.0, 2.0],
        );
        let summary = Summary {
            median: 2.0,
            least: 2.0,
            most: 3.0,
        };
        assert_eq!(row.result(), summary);
        assert!(row.noisy());
        assert_eq!(row.at_most(1.9, None).verdict(), Some(Verdict::Missed));
        let row = Row::difference("x", Unit::Milliseconds, vec![2.0, 3.0], "c", vec![1.0, 1.1]);
        assert!((row.result().median - 1.45).abs() < 1e-9);
        assert!(!row.noisy());
        assert_eq!(row.at_least(1.0, Some(1.4)).verdict(), Some(Verdict::Stretch));
    }

    #[test]
    fn what_is_no_number_is_counted_too_often() {
        let of = |counted| Count {
            what: String::new(),
            counted,
            most: 3.0,
        };
        let exceeded = [2.0, 3.0, 3.5, f64::NAN].map(|counted| of(counted).exceeded());
        assert_eq!(exceeded, [false, false, true, true]);
    }
}
