//! All metrics of one program: what is registered, and what those who show it need to know of that.

use std::fmt;
use std::sync::Arc;

use super::conventions::{self, MetricError};
use super::{Durations, OfServer, OfShard, Published, Series, Source};

/// All metrics of a program, each fit for Prometheus.
pub(crate) struct Metrics<S> {
    published: Vec<Published<S>>,
    wrong: Option<MetricError>,
}

impl<S> Default for Metrics<S> {
    fn default() -> Self {
        Metrics {
            published: Vec::new(),
            wrong: None,
        }
    }
}

impl<S> Clone for Metrics<S> {
    fn clone(&self) -> Self {
        Metrics {
            published: self.published.clone(),
            wrong: self.wrong.clone(),
        }
    }
}

impl<S> Metrics<S> {
    /// Adds one, or keeps in mind what is wrong with it.
    pub(crate) fn add(&mut self, metric: Published<S>) {
        let others = self.published.iter().map(|published| &published.series);
        match conventions::check(&metric.series, others) {
            Ok(()) => self.published.push(metric),
            Err(error) => self.wrong = self.wrong.take().or(Some(error)),
        }
    }

    /// What is wrong with the first that was not added.
    pub(crate) fn wrong(&self) -> Option<&MetricError> {
        self.wrong.as_ref()
    }

    /// Those that are read off the state of a shard, in the order of their figures.
    pub(crate) fn of_shard(&self) -> impl Iterator<Item = (&Series, &OfShard<S>)> {
        self.published.iter().filter_map(|metric| {
            let Source::Shard(read) = &metric.source else {
                return None;
            };
            Some((&metric.series, read))
        })
    }

    /// What others need to know of them.
    pub(crate) fn catalogue(&self) -> Catalogue {
        let of_server = self.published.iter().filter_map(|metric| {
            let source = match &metric.source {
                Source::Shard(_) => return None,
                Source::Server(read) => OfWhole::Figures(Arc::clone(read)),
                Source::Durations(durations) => OfWhole::Durations(Arc::clone(durations)),
            };
            Some((metric.series.clone(), source))
        });
        Catalogue {
            of_shards: self.of_shard().map(|(series, _)| series.clone()).collect(),
            of_server: of_server.collect(),
        }
    }
}

/// What those who show the metrics of a server need to know of them.
#[derive(Default)]
pub(crate) struct Catalogue {
    /// Those whose figures the shards show, in that order.
    pub(crate) of_shards: Vec<Series>,
    pub(crate) of_server: Vec<(Series, OfWhole)>,
}

/// Where a figure of the server is read.
pub(crate) enum OfWhole {
    Figures(OfServer),
    Durations(Arc<Durations>),
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_server = self.of_server.iter().map(|(series, _)| series);
        f.debug_list()
            .entries(self.of_shards.iter().chain(of_server))
            .finish()
    }
}
