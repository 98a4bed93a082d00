//! The picture of a fit: what was measured, the law with its interval, and linear scaling.
//!
//! Both axes are logarithmic, so that linear scaling is a straight line and what is lost against
//! it is a distance, the same for a few shards as for many.

use std::ops::Range;
use std::path::Path;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::model::{Basis, CORES, Model};
use super::support::stats::{Spread, digits};
use super::support::{Failure, OrFailed as _};
use super::usl::Law;

const SIZE: (u32, u32) = (900, 600);
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0xe2, 0xe2, 0xe2);
const LINEAR: RGBColor = RGBColor(0x80, 0x80, 0x80);
/// Told apart by people who see fewer colours (Okabe and Ito), and by their dashes.
const LAWS: [RGBColor; 2] = [RGBColor(0x00, 0x72, 0xb2), RGBColor(0xd5, 0x5e, 0x00)];
/// Steps of a curve for each doubling.
const STEPS: u32 = 8;

/// Draws the model's fits into a file; there must be some.
pub(crate) fn draw(model: &Model, pipeline: usize, path: &Path) -> Result<(), Failure> {
    let svg = svg(model, pipeline).or_failed("the picture cannot be drawn")?;
    std::fs::write(path, svg).or_failed(path.display())
}

type Drawn<T> = Result<T, Box<dyn std::error::Error>>;

fn svg(model: &Model, pipeline: usize) -> Drawn<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (title, root) = root.split_vertically(64);
        draw_title(&title, model, pipeline)?;
        let points = points(model);
        let (x, y) = (across(&points), up(model, &points));
        let mut chart = ChartBuilder::on(&root)
            .margin_right(24)
            .margin_left(10)
            .margin_bottom(8)
            .x_label_area_size(48)
            .y_label_area_size(72)
            .build_cartesian_2d(Log::doubling(x), Log::decades(y))?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .x_labels(16)
            .y_labels(16)
            .x_label_formatter(&|cores| format!("{cores:.0}"))
            .y_label_formatter(&|per_second| digits(*per_second))
            .x_desc("shards, each on a core of its own")
            .y_desc("messages/s")
            .label_style((FONT, 14).into_font().color(&INK))
            .axis_desc_style((FONT, 15).into_font().color(&INK))
            .draw()?;
        draw_band(&mut chart, model)?;
        draw_linear(&mut chart, model)?;
        draw_laws(&mut chart, model)?;
        draw_points(&mut chart, &points)?;
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .margin(12)
            .legend_area_size(34)
            .background_style(WHITE.mix(0.9))
            .border_style(FAINT)
            .label_font((FONT, 14).into_font().color(&INK))
            .draw()?;
        root.present()?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Log, Log>>;

fn draw_title(area: &Area, model: &Model, pipeline: usize) -> Drawn<()> {
    let centred = |size: u32| {
        TextStyle::from((FONT, size).into_font())
            .color(&INK)
            .pos(Pos::new(HPos::Center, VPos::Top))
    };
    #[allow(clippy::cast_possible_wrap)] // a few hundred pixels
    let middle = SIZE.0 as i32 / 2;
    let title = format!("corelane: messages/s by shards, pipeline {pipeline}");
    area.draw(&Text::new(title, (middle, 14), centred(21)))?;
    let of = match model.basis {
        Basis::Throughput => "messages/s as measured, load on other CPUs",
        Basis::Own => "loss against as many servers of one shard: what the shards do to each other",
        Basis::Cost(_) if model.past => "shards / CPU time of a message, more shards than CPUs too",
        Basis::Cost(_) => "shards / CPU time of a message: what each with a core to itself gives",
    };
    area.draw(&Text::new(of, (middle, 42), centred(14)))?;
    Ok(())
}

/// What the law is fitted to, as messages a second.
fn points(model: &Model) -> Vec<(f64, Spread)> {
    let counts = model.costs.shards.iter().zip(model.costs.levelled());
    counts
        .map(|(&shards, us)| {
            let shards = shards as f64;
            (shards, Spread::of(us.iter().map(|us| shards * 1e6 / us)))
        })
        .collect()
}

fn across(points: &[(f64, Spread)]) -> Range<f64> {
    let furthest = CORES.iter().map(|&cores| f64::from(cores));
    let furthest = furthest.chain(points.iter().map(|(shards, _)| *shards));
    // A little room, so that no point lies on the frame.
    0.9..furthest.fold(1.0, f64::max) * 1.12
}

fn up(model: &Model, points: &[(f64, Spread)]) -> Range<f64> {
    let last = across(points).end;
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for (_, spread) in points {
        (low, high) = (low.min(spread.min), high.max(spread.max));
    }
    for cores in [1.0, last] {
        for (_, fitted) in model.fits() {
            high = high.max(cores * 1e6 / fitted.fit.law.us_alone);
        }
        if let Some(hull) = model.hull(|law| law.per_second(cores)) {
            (low, high) = (low.min(hull.low), high.max(hull.high));
        }
    }
    low * 0.85..high * 1.15
}

/// Counts, not only whole ones, at which curves are drawn.
fn steps() -> impl Iterator<Item = f64> + Clone {
    let last = CORES.into_iter().max().unwrap_or(1).ilog2() * STEPS;
    (0..=last).map(|step| (f64::from(step) / f64::from(STEPS)).exp2())
}

fn draw_band(chart: &mut Chart, model: &Model) -> Drawn<()> {
    let hull = |shards: f64| model.hull(|law| law.per_second(shards));
    let ends: Vec<(f64, f64, f64)> = steps()
        .filter_map(|shards| hull(shards).map(|hull| (shards, hull.low, hull.high)))
        .collect();
    let low = ends.iter().map(|&(shards, low, _)| (shards, low));
    let high = ends.iter().rev().map(|&(shards, _, high)| (shards, high));
    let band = Polygon::new(low.chain(high).collect::<Vec<_>>(), LAWS[0].mix(0.15));
    let what = match model.fits().len() {
        1 => "95% interval",
        _ => "between them, with 95% intervals",
    };
    chart
        .draw_series([band])?
        .label(what)
        .legend(|(x, y)| Rectangle::new([(x, y - 6), (x + 26, y + 6)], LAWS[0].mix(0.15).filled()));
    Ok(())
}

fn draw_linear(chart: &mut Chart, model: &Model) -> Drawn<()> {
    let Some((_, fitted)) = model.fits().into_iter().next() else {
        return Ok(());
    };
    let alone = fitted.fit.law.us_alone;
    let style = LINEAR.stroke_width(1);
    chart
        .draw_series(LineSeries::new(
            steps().map(|shards| (shards, shards * 1e6 / alone)),
            style,
        ))?
        .label("linear scaling")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 26, y)], style));
    Ok(())
}

fn draw_laws(chart: &mut Chart, model: &Model) -> Drawn<()> {
    for (index, (name, fitted)) in model.fits().into_iter().enumerate() {
        let style = LAWS[index % LAWS.len()].stroke_width(2);
        let law: Law = fitted.fit.law;
        let curve = steps().map(move |shards| (shards, law.per_second(shards)));
        let label = format!("fit, loss by {name}");
        if index == 0 {
            chart
                .draw_series(LineSeries::new(curve, style))?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 26, y)], style));
        } else {
            chart
                .draw_series(DashedLineSeries::new(curve, 8, 5, style))?
                .label(label)
                .legend(move |(x, y)| DashedPathElement::new([(x, y), (x + 26, y)], 8, 5, style));
        }
    }
    Ok(())
}

fn draw_points(chart: &mut Chart, points: &[(f64, Spread)]) -> Drawn<()> {
    let range = |&(shards, spread): &(f64, Spread)| {
        PathElement::new(
            [(shards, spread.min), (shards, spread.max)],
            INK.stroke_width(2),
        )
    };
    chart.draw_series(points.iter().map(range))?;
    let median =
        |&(shards, spread): &(f64, Spread)| Circle::new((shards, spread.median), 4, INK.filled());
    chart
        .draw_series(points.iter().map(median))?
        .label("measured: median, lowest to highest")
        .legend(|(x, y)| {
            EmptyElement::at((x + 13, y))
                + PathElement::new([(0, -7), (0, 7)], INK.stroke_width(2))
                + Circle::new((0, 0), 4, INK.filled())
        });
    Ok(())
}

/// A logarithmic axis with marks at round numbers.
#[derive(Clone)]
struct Log {
    range: Range<f64>,
    marks: Vec<f64>,
}

impl Log {
    /// Marks at 1, 2, 4, ...
    fn doubling(range: Range<f64>) -> Log {
        let marks = std::iter::successors(Some(1.0), |mark| Some(mark * 2.0));
        Log::within(range, marks)
    }

    /// Marks at 1, 2 and 5 of each power of ten.
    fn decades(range: Range<f64>) -> Log {
        let first = 10_f64.powf(range.start.log10().floor());
        let decades = std::iter::successors(Some(first), |decade| Some(decade * 10.0));
        let marks = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * decade));
        Log::within(range, marks)
    }

    fn within(range: Range<f64>, marks: impl Iterator<Item = f64>) -> Log {
        let marks = marks
            .take_while(|mark| *mark <= range.end)
            .filter(|mark| *mark >= range.start)
            .collect();
        Log { range, marks }
    }
}

impl Ranged for Log {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range.start.ln()..self.range.end.ln()).map(&value.ln(), limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl From<Log> for Range<f64> {
    fn from(log: Log) -> Range<f64> {
        log.range
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{series, tests::rows};
    use super::*;

    fn models(cpus: usize, past: usize) -> Vec<Model> {
        let rows = rows(cpus, past, 0.5);
        let models = |series: &super::super::model::Series| series.models(0, 1);
        series(&rows).iter().flat_map(models).collect()
    }

    #[test]
    fn all_that_was_fitted_is_drawn() {
        let between = svg(&models(2, 0)[1], 1).unwrap();
        let circles = |svg: &str| svg.matches("<circle").count();
        // Two counts, and the one in the legend.
        assert_eq!(circles(&between), 3);
        for label in [
            "loss by contention",
            "loss by coherency",
            "linear scaling",
            "pipeline 1",
        ] {
            assert!(between.contains(label), "{label}");
        }
        let law = svg(&models(8, 0)[2], 32).unwrap();
        assert_eq!(circles(&law), 5);
        assert!(law.contains("95% interval") && law.contains("contention and coherency"));
        assert!(!law.contains("NaN") && !between.contains("NaN"));
    }

    #[test]
    fn marks_are_round_and_within() {
        assert_eq!(
            Log::doubling(0.9..72.0).marks,
            [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
        );
        assert_eq!(Log::decades(0.9e5..1.2e6).marks, [1e5, 2e5, 5e5, 1e6]);
    }
}
