//! Metrics of a program's own, which the [admin server](crate::admin) shows beside those of corelane.
//!
//! A metric is described once, and then read where its figure is kept:
//! [of each shard](Metric::of_shard) from the shard's state, a sample for each with the label `shard`;
//! or [of the server](Metric::of_server) from wherever. Handlers count in plain cells that are theirs
//! alone. Nothing on the way of a message knows of metrics: a shard reads its figures when it is asked
//! for them, four times a second at most, and those of the server are read on the control thread.
//!
//! ```
//! use std::cell::Cell;
//! use std::io::{Read, Write};
//! use std::net::{TcpListener, TcpStream};
//!
//! use corelane::admin::Plane;
//! use corelane::client::Client;
//! use corelane::metrics::own::Metric;
//! use corelane::{Config, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut config = Config::default();
//! # config.server.listen = vec!["127.0.0.1:0".parse()?];
//! # config.shards.count = corelane::config::ShardCount::Exactly(std::num::NonZeroU16::MIN);
//! # config.shards.pin = false;
//! let orders = Metric::counter("shop_orders_total", "Orders that were taken.");
//! let server = Server::builder_with_state(config, |_local| Cell::new(0_u64))
//!     .handler(1000, |orders, context, _body| {
//!         orders.set(orders.get() + 1);
//!         context.reply(b"")
//!     })
//!     .metric(orders.of_shard(|orders: &Cell<u64>| orders.get()))
//!     .start()?;
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let plane = Plane::new(server.handle(), listener)?;
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! std::thread::spawn(move || runtime.block_on(plane.run()));
//!
//! let mut client = Client::connect(server.addresses()[0], std::time::Duration::from_secs(10))?;
//! client.request(1000, b"a chair")?;
//! let mut text = String::new();
//! let mut scrape = TcpStream::connect(address)?;
//! scrape.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
//! scrape.read_to_string(&mut text)?;
//! assert!(text.contains("# TYPE shop_orders_total counter\nshop_orders_total{shard=\"0\"} 1\n"));
//! # Ok(())
//! # }
//! ```
//!
//! What is registered is judged at the server's start, by the [conventions of
//! Prometheus](https://prometheus.io/docs/practices/naming/): see [`MetricError`]. Names, labels and
//! their values are text of the program, so the number of series is fixed before the first request.

mod catalogue;
mod conventions;
mod durations;

pub(crate) use self::catalogue::{Catalogue, Metrics, OfWhole};
pub use self::conventions::MetricError;
pub use self::durations::Durations;
pub(crate) use self::durations::{BOUNDS_US, Recorded};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Series that a program may register at most, which each shard of the server may have: what more of
/// them cost is not the server's, but Prometheus' memory.
pub(crate) const SERIES_MAX: usize = 1000;

/// A figure as Prometheus has it. Counts are exact up to 2^53; a time is in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value(f64);

impl From<f64> for Value {
    /// What is not a number is not shown.
    fn from(value: f64) -> Value {
        Value(value)
    }
}

impl From<u64> for Value {
    #[expect(clippy::cast_precision_loss, reason = "the format has no integers")]
    fn from(value: u64) -> Value {
        Value(value as f64)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Value {
        Value(f64::from(value))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Value {
        Value::from(value as u64)
    }
}

impl From<Duration> for Value {
    fn from(value: Duration) -> Value {
        Value(value.as_secs_f64())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric of one figure, of each shard or of the server.
#[derive(Clone, Copy, Debug)]
pub struct Metric(Description);

/// A metric of several figures that one label tells apart.
#[derive(Clone, Debug)]
pub struct MetricBy<const N: usize> {
    description: Description,
    label: &'static str,
    values: [&'static str; N],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Description {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    /// One of corelane's own, with its prefix.
    is_shipped: bool,
}

impl Metric {
    /// A count that only grows, and begins anew with the server. Its name ends in `_total`.
    pub const fn counter(name: &'static str, help: &'static str) -> Metric {
        Metric::new(name, help, Kind::Counter)
    }

    /// How much there is now.
    pub const fn gauge(name: &'static str, help: &'static str) -> Metric {
        Metric::new(name, help, Kind::Gauge)
    }

    const fn new(name: &'static str, help: &'static str, kind: Kind) -> Metric {
        Metric(Description {
            name,
            help,
            kind,
            is_shipped: false,
        })
    }

    /// The same as one of corelane's own.
    pub(crate) const fn shipped(mut self) -> Metric {
        self.0.is_shipped = true;
        self
    }

    /// One figure for each of these values of a label, in their order.
    #[must_use]
    pub fn by<const N: usize>(self, label: &'static str, values: [&'static str; N]) -> MetricBy<N> {
        MetricBy {
            description: self.0,
            label,
            values,
        }
    }

    /// Read off the state of each shard, on the shard's own thread. What it takes, messages wait for:
    /// look at a cell, and go over nothing long.
    ///
    /// A panic in it is logged, and the figure is not shown.
    pub fn of_shard<S, V: Into<Value>>(
        self,
        read: impl Fn(&S) -> V + Send + Sync + 'static,
    ) -> Published<S> {
        let read = move |state: &S, out: &mut Vec<f64>| out.push(read(state).into().0);
        Published::new(self.0, None, Source::Shard(Arc::new(read)))
    }

    /// Read on the thread of the admin server, at each request for metrics. It must not wait: that
    /// holds up the control of the server.
    ///
    /// A panic in it is logged, and the figure is not shown. It lives as long as any handle to the
    /// server.
    pub fn of_server<S, V: Into<Value>>(
        self,
        read: impl Fn() -> V + Send + Sync + 'static,
    ) -> Published<S> {
        let read = move |out: &mut Vec<f64>| out.push(read().into().0);
        Published::new(self.0, None, Source::Server(Arc::new(read)))
    }

    /// How long something takes, as a histogram of the server, in seconds. Its name ends in
    /// `_seconds`.
    pub fn durations<S>(
        name: &'static str,
        help: &'static str,
        durations: &Arc<Durations>,
    ) -> Published<S> {
        Metric::histogram(name, help).reading(durations)
    }

    /// A histogram, which is read off [durations](Self::reading).
    pub(crate) const fn histogram(name: &'static str, help: &'static str) -> Metric {
        Metric::new(name, help, Kind::Histogram)
    }

    /// A histogram of these.
    pub(crate) fn reading<S>(self, durations: &Arc<Durations>) -> Published<S> {
        Published::new(self.0, None, Source::Durations(Arc::clone(durations)))
    }
}

impl<const N: usize> MetricBy<N> {
    /// As [`Metric::of_shard`].
    pub fn of_shard<S, V: Into<Value>>(
        self,
        read: impl Fn(&S) -> [V; N] + Send + Sync + 'static,
    ) -> Published<S> {
        let read = move |state: &S, out: &mut Vec<f64>| out.extend(read(state).map(|v| v.into().0));
        self.published(Source::Shard(Arc::new(read)))
    }

    /// As [`Metric::of_server`].
    pub fn of_server<S, V: Into<Value>>(
        self,
        read: impl Fn() -> [V; N] + Send + Sync + 'static,
    ) -> Published<S> {
        let read = move |out: &mut Vec<f64>| out.extend(read().map(|value| value.into().0));
        self.published(Source::Server(Arc::new(read)))
    }

    fn published<S>(self, source: Source<S>) -> Published<S> {
        let label = Label {
            name: self.label,
            values: self.values.to_vec(),
        };
        Published::new(self.description, Some(label), source)
    }
}

type OfShard<S> = Arc<dyn Fn(&S, &mut Vec<f64>) + Send + Sync>;
pub(crate) type OfServer = Arc<dyn Fn(&mut Vec<f64>) + Send + Sync>;

enum Source<S> {
    Shard(OfShard<S>),
    Server(OfServer),
    Durations(Arc<Durations>),
}

impl<S> Clone for Source<S> {
    fn clone(&self) -> Self {
        match self {
            Source::Shard(read) => Source::Shard(Arc::clone(read)),
            Source::Server(read) => Source::Server(Arc::clone(read)),
            Source::Durations(durations) => Source::Durations(Arc::clone(durations)),
        }
    }
}

/// A metric, and how it is read: for [`ServerBuilder::metric`](crate::ServerBuilder::metric).
pub struct Published<S> {
    series: Series,
    source: Source<S>,
}

impl<S> Published<S> {
    fn new(description: Description, label: Option<Label>, source: Source<S>) -> Published<S> {
        Published {
            series: Series { description, label },
            source,
        }
    }
}

impl<S> Clone for Published<S> {
    fn clone(&self) -> Self {
        Published {
            series: self.series.clone(),
            source: self.source.clone(),
        }
    }
}

impl<S> fmt::Debug for Published<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Published").field(&self.series).finish()
    }
}

/// A metric and what tells its figures apart, beside the shard.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) description: Description,
    pub(crate) label: Option<Label>,
}

#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<&'static str>,
}

impl Series {
    /// How many figures it has.
    pub(crate) fn len(&self) -> usize {
        self.label.as_ref().map_or(1, |label| label.values.len())
    }

    /// How many series these make in Prometheus, those of one shard.
    fn samples(&self) -> usize {
        match self.description.kind {
            // With that of no bound, the sum and the count.
            Kind::Histogram => self.len() * (BOUNDS_US.len() + 3),
            Kind::Counter | Kind::Gauge => self.len(),
        }
    }
}
