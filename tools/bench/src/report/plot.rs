//! Renders a plot as SVG. The text uses the reader's fonts.

use std::ops::Range;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::{Plot, text};

/// Width and height in pixels.
const SIZE: (u32, u32) = (720, 420);

/// Width of the legend on the right, in pixels.
const LEGEND_WIDTH: u32 = 180;

const FONT: (&str, i32) = ("sans-serif", 15);

/// Palette by Okabe and Ito, which colour-blind people can distinguish, without yellow, which is faint on
/// white.
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    BLACK,
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// Renders a plot. It omits non-finite values, and non-positive values on a logarithmic axis.
pub(crate) fn svg(plot: &Plot) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let points = || plot.series.iter().flat_map(|series| shown(plot, &series.points));
        let x = range(plot.logarithmic, points().map(|(x, _)| x));
        let y = range(plot.logarithmic_y, points().map(|(_, y)| y));
        match (plot.logarithmic, plot.logarithmic_y) {
            (false, false) => draw(&area, plot, x, y)?,
            (false, true) => draw(&area, plot, x, y.log_scale())?,
            (true, false) => draw(&area, plot, x.log_scale(), y)?,
            (true, true) => draw(&area, plot, x.log_scale(), y.log_scale())?,
        }
        area.present()?;
    }
    Ok(svg)
}

fn shown(plot: &Plot, points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    let (x_above, y_above) = [plot.logarithmic, plot.logarithmic_y]
        .map(|log| if log { 0.0 } else { f64::MIN })
        .into();
    let points = points.iter().copied();
    points.filter(move |(x, y)| x.is_finite() && y.is_finite() && *x > x_above && *y > y_above)
}

/// The range of an axis. A linear axis includes zero, so that lengths can be compared.
fn range(logarithmic: bool, values: impl Iterator<Item = f64>) -> Range<f64> {
    let all: Vec<f64> = values.chain((!logarithmic).then_some(0.0)).collect();
    let least = all.iter().copied().reduce(f64::min).unwrap_or(1.0);
    let most = all.iter().copied().reduce(f64::max).unwrap_or(1.0);
    match (logarithmic, least < most) {
        (true, _) => least * 0.9..most * 1.1,
        (false, true) => least..most * 1.05,
        (false, false) => least..least + 1.0,
    }
}

fn draw<X, Y>(area: &DrawingArea<SVGBackend<'_>, Shift>, plot: &Plot, x: X, y: Y) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    area.fill(&WHITE)?;
    let (body, legend) = area.split_horizontally(SIZE.0 - LEGEND_WIDTH);
    let mut chart = ChartBuilder::on(&body)
        .caption(&plot.title, (FONT.0, FONT.1 + 3))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(FONT)
        .y_labels(6)
        .x_desc(&plot.x)
        .y_desc(&plot.y)
        .x_label_formatter(&|value| text::number(*value))
        .y_label_formatter(&|value| text::number(*value))
        .draw()?;
    for ((number, series), color) in (0..).zip(&plot.series).zip(COLORS.into_iter().cycle()) {
        let points: Vec<_> = shown(plot, &series.points).collect();
        // Where colours repeat, markers are hollow.
        let marker = if number < COLORS.len() {
            color.filled()
        } else {
            color.stroke_width(2)
        };
        let markers = points.iter().map(|point| Circle::new(*point, 4, marker));
        chart.draw_series(markers)?;
        chart.draw_series([PathElement::new(points, color.stroke_width(2))])?;
        let y = 50 + 20 * i32::try_from(number)?;
        legend.draw(&Circle::new((6, y + 6), 6, marker))?;
        legend.draw(&Text::new(series.name.as_str(), (18, y), FONT))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Series;

    fn circles(logarithmic: bool, points: &[(f64, f64)]) -> Vec<(i32, i32)> {
        let series = Series {
            name: "ours & theirs".to_owned(),
            points: points.to_vec(),
        };
        let plot = Plot {
            title: "A title".to_owned(),
            x: "connections".to_owned(),
            y: "seconds".to_owned(),
            logarithmic,
            logarithmic_y: logarithmic,
            series: vec![series],
        };
        let svg = svg(&plot).unwrap();
        for text in ["A title", "ours &amp; theirs", "connections", "seconds"] {
            assert!(svg.contains(text), "{text}");
        }
        let number = |text: &str, name: &str| {
            let (_, rest) = text.split_once(&format!(" {name}=\"")).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        let circles = svg.split("<circle").filter(|circle| circle.contains(" r=\"4\""));
        circles
            .map(|circle| (number(circle, "cx"), number(circle, "cy")))
            .collect()
    }

    #[test]
    fn logarithmic_axes_space_powers_evenly_and_leave_out_zero() {
        let circles = circles(true, &[(1.0, 1.0), (10.0, 10.0), (100.0, 100.0), (0.0, 5.0)]);
        let [low, middle, high] = circles[..] else {
            panic!("{circles:?}")
        };
        assert!(
            (low.0 + high.0 - 2 * middle.0).abs() <= 1 && high.0 > low.0 + 200,
            "{circles:?}"
        );
        assert!(
            (low.1 + high.1 - 2 * middle.1).abs() <= 1 && low.1 > high.1 + 200,
            "{circles:?}"
        );
    }

    #[test]
    fn linear_axes_start_at_zero() {
        let circles = circles(false, &[(0.0, 0.0), (50.0, 5.0), (100.0, 10.0), (f64::NAN, 1.0)]);
        let [low, middle, high] = circles[..] else {
            panic!("{circles:?}")
        };
        assert!(
            (low.1 + high.1 - 2 * middle.1).abs() <= 1 && low.1 > high.1 + 200,
            "{circles:?}"
        );
    }

    #[test]
    fn no_point_and_a_single_point_can_be_drawn() {
        for logarithmic in [true, false] {
            assert_eq!(circles(logarithmic, &[]), []);
            assert_eq!(circles(logarithmic, &[(3.0, 7.0)]).len(), 1);
        }
    }
}
