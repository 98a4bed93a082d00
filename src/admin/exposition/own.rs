//! The metrics that a program, or an application that ships, has registered itself.
//!
//! A figure that is not a number is left out: it could not be read, or its shard has not answered yet.

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::families::{family, label, sample};
use super::histogram::of_durations;
use crate::admin::totals::Totals;
use crate::handler::read_figures;
use crate::metrics::own::{Catalogue, Kind, OfWhole, Series};

/// What each shard has shown.
pub(super) fn of_shards(own: &Catalogue, totals: &Totals) -> Vec<MetricFamily> {
    let mut first = 0;
    let of_series = |series: &Series| {
        let range = first..first + series.len();
        first = range.end;
        let shards = totals.shards().iter().enumerate();
        let samples = shards.flat_map(|(number, shard)| {
            let figures = shard.own.get(range.clone()).unwrap_or_default();
            samples(series, &[label("shard", &number)], figures)
        });
        in_family(series, samples.collect())
    };
    own.of_shards.iter().map(of_series).collect()
}

/// What there is once. Read here and now.
pub(super) fn of_server(own: &Catalogue) -> Vec<MetricFamily> {
    let of_series = |(series, source): &(Series, OfWhole)| {
        let metrics = match source {
            OfWhole::Figures(read) => {
                let mut figures = Vec::new();
                read_figures(series, &mut figures, |figures| read(figures));
                samples(series, &[], &figures)
            }
            OfWhole::Durations(durations) => {
                let mut metric = Metric::default();
                metric.set_histogram(of_durations(&durations.recorded()));
                vec![metric]
            }
        };
        in_family(series, metrics)
    };
    own.of_server.iter().map(of_series).collect()
}

fn in_family(series: &Series, metrics: Vec<Metric>) -> MetricFamily {
    let description = &series.description;
    let kind = kind_of(description.kind);
    family(description.name, description.help, kind, metrics)
}

fn kind_of(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    }
}

/// The figures of a metric, in the order of its label's values.
fn samples(series: &Series, labels: &[LabelPair], figures: &[f64]) -> Vec<Metric> {
    let kind = kind_of(series.description.kind);
    let figures = figures.iter().enumerate();
    let shown = figures.filter(|(_, figure)| !figure.is_nan());
    let samples = shown.map(|(number, &figure)| {
        let own = series.label.as_ref().and_then(|own| {
            let value = own.values.get(number)?;
            Some(label(own.name, value))
        });
        let labels = labels.iter().cloned().chain(own).collect();
        sample(kind, figure, labels)
    });
    samples.collect()
}
