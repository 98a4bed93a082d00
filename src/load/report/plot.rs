//! One plot as inline SVG: a grid, its labels, and lines.
//!
//! plotters draws it with colours that stand for roles; they become classes, so that the page's
//! style decides what they look like in light, in dark and on paper. Text is in the page's font. A
//! plot is drawn twice, for wide and for narrow screens, and the style shows one: scaling one
//! picture down would leave its text too small to read.

use std::io;

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, Circle, Color, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea,
    IntoFont, LineSeries, PathElement, RGBColor, SVGBackend, Text, TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::markup::escape;

/// What is to be drawn.
pub(super) struct Plot {
    /// What it shows, for those who do not see it.
    pub(super) description: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// In the order in which they are drawn: the last is on top.
    pub(super) lines: Vec<Line>,
}

/// A line, in values of the axes.
pub(super) struct Line {
    /// Which of the page's colours: `line-0` and so on.
    pub(super) colour: u8,
    /// Apart where there is nothing between; a piece of one point is a dot.
    pub(super) pieces: Vec<Vec<(f64, f64)>>,
}

/// Colours of lines; further lines begin again.
pub(super) const COLOURS: u8 = 18;

/// A size that a plot is drawn in. Lengths are in CSS pixels at full width.
struct Size {
    class: &'static str,
    width: u32,
    height: u32,
    left: u32,
    right: u32,
    top: u32,
    bottom: u32,
    font: u32,
}

const SIZES: [Size; 2] = [
    Size {
        class: "wide",
        width: 960,
        height: 320,
        left: 64,
        right: 30,
        top: 10,
        bottom: 30,
        font: 13,
    },
    Size {
        class: "narrow",
        width: 358,
        height: 240,
        left: 56,
        right: 26,
        top: 8,
        bottom: 26,
        font: 12,
    },
];

/// plotters has whole units only; so many of them to a pixel leave curves smooth.
const UNITS: u32 = 4;

/// Between a label and the grid, in pixels.
const GAP: i32 = 8;

/// Between two labels along an axis, in pixels.
const LABEL_GAP: i32 = 5;

/// Width of a character of a label in the page's font, as a part of its size: mostly digits.
const CHARACTER_WIDTH: f64 = 0.56;

/// Roles, each with a colour that nothing else has.
const GRID: RGBColor = RGBColor(0xC0, 0, 0);
const LABEL: RGBColor = RGBColor(0xC0, 0, 1);

const fn colour_of_line(index: u8) -> RGBColor {
    RGBColor(0xC1, 0, index % COLOURS)
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn<T> = Result<T, DrawingAreaErrorKind<io::Error>>;

impl Plot {
    /// As markup: a picture for each size.
    pub(super) fn markup(&self) -> String {
        let pictures = SIZES.iter().map(|size| self.draw(size));
        match pictures.collect::<Drawn<String>>() {
            Ok(pictures) => pictures,
            // Text cannot fail to be written, and a page that says so is better than none.
            Err(error) => format!(
                "<p class=\"bad\">This plot could not be drawn: {}</p>\n",
                escape(&error.to_string())
            ),
        }
    }

    fn draw(&self, size: &Size) -> Drawn<String> {
        let mut svg = String::new();
        let units = (size.width * UNITS, size.height * UNITS);
        let canvas = SVGBackend::with_string(&mut svg, units).into_drawing_area();
        let chart = ChartBuilder::on(&canvas)
            .margin_left(size.left * UNITS)
            .margin_right(size.right * UNITS)
            .margin_top(size.top * UNITS)
            .margin_bottom(size.bottom * UNITS)
            .build_cartesian_2d(self.x.low..self.x.high, self.y.low..self.y.high)?;
        self.draw_grid(&chart)?;
        self.draw_labels(&chart, &canvas, size)?;
        self.draw_lines(chart)?;
        canvas.present()?;
        drop(canvas);
        Ok(self.styled(&svg, size))
    }

    fn draw_grid(&self, chart: &Chart) -> Drawn<()> {
        let style = GRID.stroke_width(UNITS);
        let area = chart.plotting_area();
        for tick in &self.x.ticks {
            let ends = [(tick.at, self.y.low), (tick.at, self.y.high)];
            area.draw(&PathElement::new(ends, style))?;
        }
        // A logarithmic axis need not have a tick where it begins, but the plot has a floor.
        let ticks = self.y.ticks.iter().map(|tick| tick.at);
        for y in ticks.chain([self.y.low]) {
            let ends = [(self.x.low, y), (self.x.high, y)];
            area.draw(&PathElement::new(ends, style))?;
        }
        Ok(())
    }

    fn draw_labels(&self, chart: &Chart, canvas: &Canvas, size: &Size) -> Drawn<()> {
        let gap = GAP * UNITS.cast_signed();
        for tick in &self.y.ticks {
            let (x, y) = chart.backend_coord(&(self.x.low, tick.at));
            let style = size.label(HPos::Right, VPos::Center);
            canvas.draw(&Text::new(tick.label.as_str(), (x - gap, y), style))?;
        }
        let place = |at: f64| chart.backend_coord(&(at, self.y.low));
        let every = size.every(&self.x, |at| place(at).0);
        for tick in self.x.ticks.iter().step_by(every) {
            let (x, y) = place(tick.at);
            let style = size.label(HPos::Center, VPos::Top);
            canvas.draw(&Text::new(tick.label.as_str(), (x, y + gap), style))?;
        }
        Ok(())
    }

    fn draw_lines(&self, mut chart: Chart) -> Drawn<()> {
        for line in &self.lines {
            let colour = colour_of_line(line.colour);
            for piece in &line.pieces {
                let place = |&(x, y): &(f64, f64)| (self.x.place(x), self.y.place(y));
                let points: Vec<(f64, f64)> = piece.iter().map(place).collect();
                if let [dot] = points[..] {
                    let dot = Circle::new(dot, 3 * UNITS, colour.filled());
                    chart.plotting_area().draw(&dot)?;
                } else {
                    chart.draw_series(LineSeries::new(points, colour.stroke_width(2 * UNITS)))?;
                }
            }
        }
        Ok(())
    }

    /// The picture as the page wants it: classes in place of colours and fonts, and no size of its
    /// own.
    fn styled(&self, svg: &str, size: &Size) -> String {
        let (_, content) = svg.split_once('\n').unwrap_or_default();
        let lines = (0..COLOURS).map(|index| (colour_of_line(index), format!("line-{index}")));
        let roles = [(GRID, "grid".to_owned()), (LABEL, "label".to_owned())];
        let mut content = content
            .replace(" font-family=\"sans-serif\"", "")
            .replace(" opacity=\"1\"", "")
            .replace(" stroke=\"none\"", "");
        for (RGBColor(red, green, blue), class) in lines.chain(roles) {
            let colour = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
            content = content
                .replace(&format!("stroke={colour}"), &format!("class=\"{class}\""))
                .replace(
                    &format!("fill={colour}"),
                    &format!("class=\"{class} fill\""),
                );
        }
        format!(
            "<svg class=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\" \
             xmlns=\"http://www.w3.org/2000/svg\">\n{content}",
            size.class,
            size.width * UNITS,
            size.height * UNITS,
            escape(&self.description),
        )
    }
}

impl Size {
    fn label(&self, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
        // The backend divides by this again.
        let font = f64::from(self.font * UNITS) * 1.24;
        TextStyle::from(("sans-serif", font).into_font())
            .color(&LABEL)
            .pos(Pos::new(horizontal, vertical))
    }

    /// Every how many-th of the labels along an axis can be told without touching the next.
    fn every(&self, axis: &Axis, place: impl Fn(f64) -> i32) -> usize {
        let gap = LABEL_GAP * UNITS.cast_signed();
        let ends = axis.ticks.iter().map(|tick| {
            let (middle, half) = (place(tick.at), self.width_of(&tick.label) / 2);
            (middle - half, middle + half + gap)
        });
        let ends: Vec<(i32, i32)> = ends.collect();
        let fits = |&every: &usize| {
            let told: Vec<_> = ends.iter().step_by(every).collect();
            told.windows(2).all(|pair| pair[0].1 <= pair[1].0)
        };
        (1..ends.len()).find(fits).unwrap_or(ends.len().max(1))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "labels are short: a few hundred units"
    )]
    fn width_of(&self, label: &str) -> i32 {
        let characters = u16::try_from(label.chars().count()).unwrap_or(u16::MAX);
        (f64::from(characters) * CHARACTER_WIDTH * f64::from(self.font * UNITS)) as i32
    }
}
