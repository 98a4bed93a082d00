//! Which plots a report has: latency by percentile, latency over time, throughput over time. The
//! lines of several runs lie over one another.

use std::fmt::Write as _;

use super::axis::{self, Axis};
use super::markup::{escape, section};
use super::plot::{COLOURS, Line, Plot};
use super::{Run, numbers, throughput};
use crate::load::record::Interval;

/// Steps of an axis, about: as many as can be read without looking crowded.
const STEPS_X: f64 = 10.0;
const STEPS_Y: f64 = 6.0;

/// A line has at most so many points: more would lie within one pixel.
const POINTS_MAX: usize = 600;

/// A part of the time that is shorter than this much of the first says too little of throughput:
/// it is what was left at the end.
const SHORT: f64 = 0.5;

/// What is drawn of a part's latencies.
struct Figure {
    name: &'static str,
    of: fn(&Interval) -> Option<f64>,
    /// Its colour where a plot has all three.
    colour: u8,
}

const MEDIAN: Figure = Figure {
    name: "median",
    of: |interval| interval.p50_us,
    colour: 0,
};
const P99: Figure = Figure {
    name: "p99",
    of: |interval| interval.p99_us,
    colour: 1,
};
const MAX: Figure = Figure {
    name: "max",
    of: |interval| interval.max_us,
    colour: 3,
};

/// The name of a run's colour, in classes.
pub(super) fn colour(index: usize) -> u8 {
    u8::try_from(index % usize::from(COLOURS)).unwrap_or_default()
}

/// A sample of a colour, to stand before the name of what has it.
pub(super) fn swatch(colour: u8) -> String {
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 96 16\" aria-hidden=\"true\">\
         <line class=\"line-{colour}\" x2=\"96\" y1=\"8\" y2=\"8\" stroke-width=\"16\"/></svg>"
    )
}

/// All plots of these runs, each in a section; none if nothing was measured in any of them.
pub(super) fn sections(runs: &[Run]) -> String {
    let is_empty = |run: &Run| run.record.distribution.is_empty() && run.record.timeline.is_empty();
    if runs.iter().all(is_empty) {
        return String::new();
    }
    let mut html = by_percentile(runs);
    if let [run] = runs {
        html += &latency_over_time(run);
    } else {
        for figure in [MEDIAN, P99, MAX] {
            html += &figure_over_time(runs, &figure);
        }
    }
    html + &throughput_over_time(runs)
}

/// The same for all messages of each run.
fn by_percentile(runs: &[Run]) -> String {
    let messages = |run: &Run| run.record.distribution.last().map_or(0, |last| last.count);
    let line = |(index, run): (usize, &Run)| {
        let points = run.record.distribution.iter();
        let place = |quantile| axis::percentile(quantile, messages(run));
        Line {
            colour: colour(index),
            pieces: vec![
                points
                    .map(|point| (place(point.quantile), point.us))
                    .collect(),
            ],
        }
    };
    let with_messages = runs.iter().enumerate().filter(|(_, run)| messages(run) > 0);
    let x = axis::percentiles(runs.iter().map(messages).max().unwrap_or_default());
    figure(
        "Latency by percentile",
        "Share of the messages that were answered within a time, with as much room for each further \
         nine.",
        &runs_legend(runs),
        with_latencies(x, with_messages.map(line).collect()),
    )
}

/// Median, p99 and maximum of one run.
fn latency_over_time(run: &Run) -> String {
    let figures = [MAX, P99, MEDIAN];
    let line = |figure: &Figure| Line {
        colour: figure.colour,
        pieces: over_time(run, figure.of, highest),
    };
    let entries = figures.iter().rev();
    let legend: Vec<_> = entries
        .map(|figure| (figure.colour, figure.name.to_owned()))
        .collect();
    figure(
        "Latency over time",
        "",
        &legend,
        with_latencies(
            time_of(std::slice::from_ref(run)),
            figures.iter().map(line).collect(),
        ),
    )
}

/// One figure of every run.
fn figure_over_time(runs: &[Run], of: &Figure) -> String {
    let line = |(index, run)| Line {
        colour: colour(index),
        pieces: over_time(run, of.of, highest),
    };
    let title = format!("Latency over time: {}", of.name);
    let lines = runs.iter().enumerate().map(line).collect();
    figure(
        &title,
        "",
        &runs_legend(runs),
        with_latencies(time_of(runs), lines),
    )
}

fn throughput_over_time(runs: &[Run]) -> String {
    let line = |(index, run)| Line {
        colour: colour(index),
        pieces: over_time(run, throughput, mean),
    };
    let lines: Vec<Line> = runs.iter().enumerate().map(line).collect();
    let high = values(&lines).fold(0.0, f64::max);
    figure(
        "Throughput over time",
        "Messages a second.",
        &runs_legend(runs),
        Plot {
            description: String::new(),
            x: time_of(runs),
            y: axis::throughput(high, STEPS_Y),
            lines,
        },
    )
}

/// A section with a plot, what its lines are, and a note.
fn figure(title: &str, note: &str, legend: &[(u8, String)], mut plot: Plot) -> String {
    if plot.lines.iter().all(|line| line.pieces.is_empty()) {
        return section(title, "<p class=\"note\">There is nothing to draw.</p>\n");
    }
    title.clone_into(&mut plot.description);
    let mut note = note.to_owned();
    if plot.y.is_logarithmic() {
        note += " The scale of latencies is logarithmic.";
    }
    let mut html = String::from("<figure>\n");
    if !legend.is_empty() {
        html.push_str("<ul class=\"legend\">");
        for (colour, name) in legend {
            let _ = write!(html, "<li>{}{}</li>", swatch(*colour), escape(name));
        }
        html.push_str("</ul>\n");
    }
    html += &plot.markup();
    if !note.is_empty() {
        let _ = writeln!(html, "<figcaption>{}</figcaption>", escape(note.trim()));
    }
    html.push_str("</figure>\n");
    section(title, &html)
}

/// Nothing for one run: there is nothing to tell apart.
fn runs_legend(runs: &[Run]) -> Vec<(u8, String)> {
    let entry = |(index, run): (usize, &Run)| (colour(index), run.name.clone());
    match runs {
        [_] => Vec::new(),
        runs => runs.iter().enumerate().map(entry).collect(),
    }
}

fn with_latencies(x: Axis, lines: Vec<Line>) -> Plot {
    let low = values(&lines)
        .filter(|&us| us > 0.0)
        .fold(f64::MAX, f64::min);
    let high = values(&lines).fold(0.0, f64::max);
    Plot {
        description: String::new(),
        x,
        y: axis::latencies(low, high, STEPS_Y),
        lines,
    }
}

fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    let points = lines.iter().flat_map(|line| line.pieces.iter().flatten());
    points.map(|&(_, y)| y)
}

/// As long as the longest of the runs.
fn time_of(runs: &[Run]) -> Axis {
    let ends = runs.iter().filter_map(|run| run.record.timeline.last());
    let end = ends
        .map(|last| last.start_seconds + last.seconds)
        .fold(0.0, f64::max);
    axis::time(end, STEPS_X)
}

/// A figure of a run in the middle of each part of its time, in pieces that are apart where there
/// is none; with the parts of a long run taken together.
fn over_time(
    run: &Run,
    of: fn(&Interval) -> Option<f64>,
    together: fn(&[f64]) -> f64,
) -> Vec<Vec<(f64, f64)>> {
    let mut timeline = run.record.timeline.as_slice();
    if let [first, .., last] = timeline
        && last.seconds < SHORT * first.seconds
    {
        timeline = &timeline[..timeline.len() - 1];
    }
    let parts = timeline.len().div_ceil(POINTS_MAX).max(1);
    let points: Vec<Option<(f64, f64)>> = timeline
        .chunks(parts)
        .map(|chunk| {
            let figures: Vec<f64> = chunk.iter().filter_map(of).collect();
            let (first, last) = (chunk.first()?, chunk.last()?);
            let middle = f64::midpoint(first.start_seconds, last.start_seconds + last.seconds);
            (!figures.is_empty()).then(|| (middle, together(&figures)))
        })
        .collect();
    points
        .split(Option::is_none)
        .map(|piece| piece.iter().flatten().copied().collect())
        .filter(|piece: &Vec<_>| !piece.is_empty())
        .collect()
}

fn highest(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(0.0, f64::max)
}

fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / numbers::float(figures.len() as u64)
}
