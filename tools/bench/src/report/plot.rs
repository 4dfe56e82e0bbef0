//! Renders a plot as SVG. The text uses the reader's fonts.

use std::{iter, ops::Range};

use anyhow::Result;
use plotters::{
    coord::{
        Shift,
        ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter},
    },
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{Plot, Series, text};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

// All in pixels.
const WIDTH: i32 = 720;
const HEIGHT: i32 = 420;
const MARGIN: i32 = 16;
const TITLE: i32 = 16;
const LABEL: i32 = 13;
/// Height of a line of text.
const LINE: i32 = 20;
/// Length of the line sample in a legend.
const SAMPLE: i32 = 28;

/// Maximum number of labels on an axis.
const MOST_LABELS: f64 = 7.0;

/// Palette by Okabe and Ito, which colour-blind people can distinguish, without yellow, which is faint on
/// white.
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const AXIS: RGBColor = RGBColor(110, 110, 110);
const BOLD_LINE: RGBColor = RGBColor(215, 215, 215);
const LIGHT_LINE: RGBColor = RGBColor(238, 238, 238);

/// Renders a plot. Points that cannot be drawn are omitted: non-finite values, and non-positive values on a
/// logarithmic axis.
pub(crate) fn svg(plot: &Plot) -> Result<String> {
    let lines: Vec<_> = plot.series.iter().map(|series| shown(plot, series)).collect();
    let x = Axis::new(plot.logarithmic, lines.iter().flatten().map(|&(x, _)| x));
    let y = Axis::new(plot.logarithmic_y, lines.iter().flatten().map(|&(_, y)| y));

    let size = (WIDTH.unsigned_abs(), HEIGHT.unsigned_abs());
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let (_, body) = root.split_vertically(heading(&root, plot)?);
        let widest_label = y.labelled.iter().map(|&value| width(&label(value), LABEL)).max();
        let mut chart = ChartBuilder::on(&body)
            .margin_right(MARGIN)
            .margin_left(MARGIN / 2)
            .margin_bottom(MARGIN / 2)
            .x_label_area_size(2 * LINE + MARGIN / 2)
            .y_label_area_size(widest_label.unwrap_or(0) + LINE + MARGIN)
            .build_cartesian_2d(x.inset(0.03), y)?;
        draw_axes(&mut chart, plot)?;
        for (i, line) in lines.iter().enumerate() {
            let line: Vec<_> = line.iter().map(|point| chart.backend_coord(point)).collect();
            draw_line(&root, i, line.clone())?;
            for point in line {
                draw_marker(&root, i, point)?;
            }
        }
        root.present()?;
    }
    Ok(svg)
}

fn shown(plot: &Plot, series: &Series) -> Vec<(f64, f64)> {
    let shown = |value: f64, logarithmic: bool| value.is_finite() && (value > 0.0 || !logarithmic);
    let points = series.points.iter().copied();
    points
        .filter(|&(x, y)| shown(x, plot.logarithmic) && shown(y, plot.logarithmic_y))
        .collect()
}

/// Draws the title and, below it, the legend, outside of the plot area. Returns the y coordinate of its lower
/// edge.
fn heading(area: &Area, plot: &Plot) -> Result<i32> {
    let left = Pos::new(HPos::Left, VPos::Center);
    let room = WIDTH - 2 * MARGIN;
    let title = font(fitting(&plot.title, TITLE, room), FontStyle::Bold).pos(left);
    area.draw(&Text::new(plot.title.as_str(), (MARGIN, MARGIN + 6), title))?;

    let (mut x, mut y) = (MARGIN, MARGIN + 6 + TITLE / 2);
    for (i, Series { name, .. }) in plot.series.iter().enumerate() {
        let size = fitting(name, LABEL, room - SAMPLE - 8);
        let item = SAMPLE + 8 + width(name, size);
        if i == 0 || x + item > WIDTH - MARGIN {
            (x, y) = (MARGIN, y + LINE);
        }
        draw_line(area, i, vec![(x, y), (x + SAMPLE, y)])?;
        draw_marker(area, i, (x + SAMPLE / 2, y))?;
        let style = font(size, FontStyle::Normal).pos(left);
        area.draw(&Text::new(name.as_str(), (x + SAMPLE + 8, y), style))?;
        x += item + MARGIN;
    }
    Ok(y + LINE)
}

fn draw_axes(chart: &mut Chart, plot: &Plot) -> Result<()> {
    let (wide, high) = chart.plotting_area().dim_in_pixel();
    let room = i32::try_from(wide.min(high))?;
    let longest = [&plot.x, &plot.y].map(|text| fitting(text, LABEL, room));
    chart
        .configure_mesh()
        .axis_style(AXIS)
        .bold_line_style(BOLD_LINE)
        .light_line_style(LIGHT_LINE)
        .set_all_tick_mark_size(4)
        .label_style(font(LABEL, FontStyle::Normal))
        .axis_desc_style(font(longest[0].min(longest[1]), FontStyle::Normal))
        .x_desc(&plot.x)
        .y_desc(&plot.y)
        .draw()?;
    Ok(())
}

fn draw_line(area: &Area, series: usize, points: Vec<(i32, i32)>) -> Result<()> {
    Ok(area.draw(&PathElement::new(points, color(series).stroke_width(2)))?)
}

/// Markers differ in shape too, so that they can be distinguished in greyscale prints.
fn draw_marker(area: &Area, series: usize, (x, y): (i32, i32)) -> Result<()> {
    let style = color(series).filled();
    let corners: &[(i32, i32)] = match series % 4 {
        0 => return Ok(area.draw(&Circle::new((x, y), 4, style))?),
        1 => &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
        2 => &[(0, -6), (5, 4), (-5, 4)],
        _ => &[(0, -6), (6, 0), (0, 6), (-6, 0)],
    };
    let corners: Vec<_> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
    Ok(area.draw(&Polygon::new(corners, style))?)
}

fn color(series: usize) -> RGBColor {
    COLORS.into_iter().cycle().nth(series).unwrap_or(BLACK)
}

fn font(size: i32, style: FontStyle) -> TextStyle<'static> {
    // The SVG backend divides by this.
    let size = f64::from(size) * 1.24;
    ("sans-serif", size, style).into_font().color(&BLACK)
}

/// Estimated width of a text in a wide font, because the reader's font is unknown.
fn width(text: &str, size: i32) -> i32 {
    let characters = i32::try_from(text.chars().count()).unwrap_or(i32::MAX);
    characters.saturating_mul(size).saturating_mul(6) / 10
}

/// Largest font size, up to `size`, at which the text fits.
fn fitting(text: &str, size: i32, room: i32) -> i32 {
    let mut sizes = (1..=size).rev();
    sizes.find(|&size| width(text, size) <= room).unwrap_or(1)
}

fn label(value: f64) -> String {
    // Enough digits to lose none, and few enough that 0.1 + 0.2 is shown as 0.3.
    text::trimmed(&text::significant(value, 9)).to_owned()
}

/// Range of an axis, and the values of its grid lines and labels.
struct Axis {
    ends: Range<f64>,
    logarithmic: bool,
    labelled: Vec<f64>,
    /// Values of grid lines without labels.
    light: Vec<f64>,
    /// Fraction of the axis that stays free at each end.
    inset: f64,
}

impl Axis {
    fn new(logarithmic: bool, values: impl Iterator<Item = f64>) -> Self {
        if logarithmic {
            Self::logarithmic(values)
        } else {
            Self::linear(values)
        }
    }

    /// Linear axis, which includes zero so that lengths can be compared.
    fn linear(values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = values.fold((0.0_f64, 0.0_f64), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        let most = if least < most { most } else { 1.0 };
        let rough = (most - least) / MOST_LABELS;
        let power = 10_f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough);
        let step = factor.unwrap_or(10.0) * power;
        let (start, end) = ((least / step).floor(), (most / step).ceil());
        Self {
            ends: start * step..end * step,
            logarithmic: false,
            labelled: steps(start, end, 1.0).map(|i| i * step).collect(),
            light: Vec::new(),
            inset: 0.0,
        }
    }

    /// Logarithmic axis; the values must be positive.
    fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let range = values.fold(None, |range: Option<(f64, f64)>, value| {
            let (least, most) = range.unwrap_or((value, value));
            Some((least.min(value), most.max(value)))
        });
        let (least, most) = match range {
            None => (1.0, 10.0),
            // A single value is placed in the middle.
            Some((least, most)) if least >= most => (least / 2.0, most * 2.0),
            Some(range) => range,
        };
        let from = least.log10().floor();
        let to = most.log10().ceil();
        let decades = to - from;
        let multiples = |factors: &[f64], each: f64| -> Vec<f64> {
            let powers = steps(from, to, each).map(|exponent| 10_f64.powf(exponent));
            powers
                .flat_map(|power| factors.iter().map(move |factor| factor * power))
                .collect()
        };
        let factors: &[f64] = if decades <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let ends = multiples(factors, 1.0);
        let start = ends.iter().copied().rfind(|&end| end <= least).unwrap_or(least);
        let end = ends.iter().copied().find(|&end| end >= most);
        let ends = start..end.unwrap_or(most);
        let within = |values: Vec<f64>| -> Vec<f64> {
            values
                .into_iter()
                .filter(|&value| value >= ends.start && value <= ends.end)
                .collect()
        };
        Self {
            labelled: within(multiples(factors, (decades / MOST_LABELS).ceil().max(1.0))),
            light: within(multiples(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 1.0)),
            ends,
            logarithmic: true,
            inset: 0.0,
        }
    }

    fn inset(self, inset: f64) -> Self {
        Self { inset, ..self }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    #[expect(clippy::cast_possible_truncation, reason = "pixels of a small picture")]
    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let scaled = |value: f64| if self.logarithmic { value.ln() } else { value };
        let (start, end) = (scaled(self.ends.start), scaled(self.ends.end));
        let share = ((scaled(*value) - start) / (end - start)).clamp(0.0, 1.0);
        let share = self.inset + share * (1.0 - 2.0 * self.inset);
        (f64::from(from) + share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            self.light.clone()
        } else {
            self.labelled.clone()
        }
    }

    fn range(&self) -> Range<f64> {
        self.ends.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        label(*value)
    }
}

/// Values from `first` to `last`; none if one of them is NaN.
fn steps(first: f64, last: f64, step: f64) -> impl Iterator<Item = f64> {
    iter::successors(Some(first), move |at| Some(at + step))
        .take_while(move |&at| at <= last)
        // Adding 1 to a very large number does not change it, so the number of steps is limited. No axis
        // needs this many.
        .take(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(logarithmic: bool, points: &[(f64, f64)]) -> Plot {
        Plot {
            title: "A title".to_owned(),
            x: "connections".to_owned(),
            y: "seconds".to_owned(),
            logarithmic,
            logarithmic_y: false,
            series: vec![Series {
                name: "ours & theirs".to_owned(),
                points: points.to_vec(),
            }],
        }
    }

    /// Values of a numeric attribute, in document order.
    fn numbers(svg: &str, attribute: &str) -> Vec<i32> {
        let attribute = format!(" {attribute}=\"");
        let values = svg.split(&attribute).skip(1);
        values
            .map(|value| value.split_once('"').unwrap().0.parse().unwrap())
            .collect()
    }

    /// Centres of the circles. The first circle belongs to the legend.
    fn markers(svg: &str) -> Vec<(i32, i32)> {
        let all = iter::zip(numbers(svg, "cx"), numbers(svg, "cy"));
        all.skip(1).collect()
    }

    /// Text lines of the plot.
    fn texts(svg: &str) -> Vec<&str> {
        let parts = svg.split("<text ").skip(1);
        parts.map(|part| part.lines().nth(1).unwrap()).collect()
    }

    #[test]
    fn shows_title_legend_and_descriptions_on_white() {
        let svg = svg(&plot(false, &[(1.0, 2.0), (3.0, 4.0)])).unwrap();
        assert!(svg.starts_with("<svg width=\"720\" height=\"420\""));
        assert!(svg.ends_with("</svg>\n"));
        assert!(svg.lines().nth(1).unwrap().contains("fill=\"#FFFFFF\""));
        for text in ["A title", "ours &amp; theirs", "connections", "seconds"] {
            assert!(texts(&svg).contains(&text), "{text}");
        }
    }

    #[test]
    fn logarithmic_spaces_powers_evenly_and_linear_does_not() {
        let points = [(10.0, 0.0), (100.0, 1.0), (1_000.0, 2.0), (10_000.0, 4.0)];
        let gaps = |logarithmic| -> Vec<i32> {
            let svg = svg(&plot(logarithmic, &points)).unwrap();
            markers(&svg)
                .windows(2)
                .map(|pair| pair[1].0 - pair[0].0)
                .collect()
        };
        let logarithmic = gaps(true);
        assert!(
            logarithmic.iter().all(|gap| (gap - logarithmic[0]).abs() <= 1),
            "{logarithmic:?}"
        );
        let linear = gaps(false);
        assert!(
            linear[2] > 9 * linear[1] && linear[1] > 8 * linear[0],
            "{linear:?}"
        );
    }

    #[test]
    fn both_axes_may_be_logarithmic() {
        let points = [(1.0, 1.0), (10.0, 10.0), (100.0, 100.0), (50.0, 0.0)];
        let plot = Plot {
            logarithmic_y: true,
            ..plot(true, &points)
        };
        let markers = markers(&svg(&plot).unwrap());
        let [low, middle, high] = markers[..] else {
            panic!("zero is shown: {markers:?}")
        };
        assert!((low.1 + high.1 - 2 * middle.1).abs() <= 1, "{markers:?}");
        assert!(low.1 > high.1 + 200, "{markers:?}");
    }

    #[test]
    fn higher_values_are_drawn_higher_and_zero_on_the_axis() {
        let svg = svg(&plot(false, &[(0.0, 0.0), (1.0, 5.0), (2.0, 10.0)])).unwrap();
        let markers = markers(&svg);
        let [low, middle, high] = [0, 1, 2].map(|i| markers[i].1);
        assert!(low > high + 200, "{markers:?}");
        assert!((low + high - 2 * middle).abs() <= 1, "{markers:?}");
    }

    #[test]
    fn axes_are_labelled_in_human_numbers() {
        let labels = |axis: Axis| {
            axis.labelled
                .iter()
                .map(|value| label(*value))
                .collect::<Vec<_>>()
        };
        let linear = |values: [f64; 2]| labels(Axis::linear(values.into_iter()));
        assert_eq!(
            linear([100.0, 12_900.0]),
            [
                "0", "2,000", "4,000", "6,000", "8,000", "10,000", "12,000", "14,000"
            ]
        );
        assert_eq!(
            linear([-0.25, 0.3]),
            ["−0.3", "−0.2", "−0.1", "0", "0.1", "0.2", "0.3"]
        );
        let logarithmic = |values: [f64; 2]| labels(Axis::logarithmic(values.into_iter()));
        assert_eq!(logarithmic([10.0, 10_000.0]), ["10", "100", "1,000", "10,000"]);
        assert_eq!(logarithmic([1.0, 64.0]), ["1", "2", "5", "10", "20", "50", "100"]);
        assert_eq!(
            logarithmic([0.003, 0.03]),
            ["0.002", "0.005", "0.01", "0.02", "0.05"]
        );
        assert_eq!(
            logarithmic([1.0, 1e9]),
            ["1", "100", "10,000", "1,000,000", "100,000,000"]
        );
    }

    #[test]
    fn a_single_point_is_drawn_inside_the_axes() {
        for logarithmic in [true, false] {
            for point in [(1.0, 1.0), (1_000.0, 0.0), (0.3, -5.0), (7.0, 1e-9)] {
                let svg = svg(&plot(logarithmic, &[point])).unwrap();
                let [(x, y)] = markers(&svg)[..] else {
                    panic!("{point:?}: {svg}")
                };
                assert!(
                    (50..=700).contains(&x) && (50..=400).contains(&y),
                    "{point:?}: {x}, {y}"
                );
            }
        }
    }

    #[test]
    fn nothing_to_show_is_an_empty_plot() {
        for logarithmic in [true, false] {
            let none = Plot {
                series: vec![],
                ..plot(logarithmic, &[])
            };
            assert!(texts(&svg(&none).unwrap()).contains(&"10") == logarithmic);
            let svg = svg(&plot(logarithmic, &[(f64::NAN, 1.0), (1.0, f64::INFINITY)])).unwrap();
            assert_eq!(markers(&svg), []);
        }
    }

    #[test]
    fn only_a_logarithmic_axis_leaves_out_zero() {
        let points = [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.0)];
        let shown = |logarithmic| markers(&svg(&plot(logarithmic, &points)).unwrap()).len();
        assert_eq!((shown(true), shown(false)), (1, 3));
    }

    #[test]
    fn numbers_at_the_end_of_their_range_are_no_reason_to_fail() {
        for points in [
            [(1e308, 1e308), (1e-308, -1e308)],
            [(5e-324, 5e-324), (1e16, 1e16)],
        ] {
            for logarithmic in [true, false] {
                svg(&plot(logarithmic, &points)).unwrap();
            }
        }
    }

    #[test]
    fn series_differ_in_colour_and_shape_and_long_names_go_on_another_line() {
        let series = |i| Series {
            name: format!("a name of some length, {i}"),
            points: vec![(1.0, 1.0)],
        };
        let plot = Plot {
            series: (0..5).map(series).collect(),
            ..plot(false, &[])
        };
        let svg = svg(&plot).unwrap();
        let lines: Vec<_> = svg
            .lines()
            .filter(|line| line.contains("stroke-width=\"2\""))
            .collect();
        for (i, color) in ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"]
            .iter()
            .enumerate()
        {
            assert!(lines[i].contains(color), "{}", lines[i]);
        }
        assert_eq!(svg.matches("<polygon").count(), 2 * 3);
        let names: Vec<_> = svg.match_indices(">\na name of").map(|(at, _)| at).collect();
        let rows = names
            .iter()
            .map(|&at| numbers(svg[..at].rsplit_once("<text").unwrap().1, "y")[0]);
        let rows: Vec<_> = rows.collect();
        assert!(rows[0] == rows[1] && rows[4] > rows[0], "{rows:?}");
    }

    #[test]
    fn long_texts_become_smaller() {
        assert_eq!(fitting("short", 16, 600), 16);
        let long = "a".repeat(100);
        let size = fitting(&long, 16, 600);
        assert_eq!(size, 10);
        assert!(width(&long, size) <= 600);
    }
}
