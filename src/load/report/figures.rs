//! The figures of a run: latencies at percentiles, and what else came of it.

use super::numbers;
use crate::load::record::{Record, ServerUsage};

/// A latency that is told of a run.
pub(super) struct Percentile {
    pub(super) label: &'static str,
    us: fn(&Record) -> f64,
    /// With fewer messages, it is only the maximum under another name.
    messages_min: u64,
}

const fn percentile(label: &'static str, messages_min: u64, us: fn(&Record) -> f64) -> Percentile {
    Percentile {
        label,
        us,
        messages_min,
    }
}

/// The latencies that are told, from the lowest to the highest.
pub(super) const PERCENTILES: [Percentile; 6] = [
    percentile("p50", 1, |record| record.summary.latency_us.p50),
    percentile("p90", 10, |record| record.summary.latency_us.p90),
    percentile("p99", 100, |record| record.summary.latency_us.p99),
    percentile("p99.9", 1_000, |record| record.summary.latency_us.p99_9),
    percentile("p99.99", 10_000, |record| record.summary.latency_us.p99_99),
    percentile("max", 1, |record| record.summary.latency_us.max),
];

impl Percentile {
    /// In microseconds; `None` if there were too few messages to tell.
    pub(super) fn us(&self, record: &Record) -> Option<f64> {
        (record.summary.messages >= self.messages_min).then(|| (self.us)(record))
    }

    /// As text.
    pub(super) fn told(&self, record: &Record) -> String {
        self.us(record)
            .map_or_else(|| numbers::NONE.to_owned(), numbers::latency)
    }
}

/// Whether too few messages came for some of the latencies.
pub(super) fn lacks_messages(record: &Record) -> bool {
    PERCENTILES
        .iter()
        .any(|percentile| percentile.us(record).is_none())
}

/// What came of a run, under a label; as text, or `None` if it is not known.
pub(super) type Outcome = (&'static str, fn(&Record) -> Option<String>);

/// What came of a run beside percentiles.
pub(super) const OUTCOMES: [Outcome; 11] = [
    ("Messages", |record| {
        Some(numbers::count(record.summary.messages))
    }),
    ("Measured time", |record| {
        Some(numbers::seconds(record.summary.seconds))
    }),
    ("Data, both ways", |record| {
        Some(numbers::data_rate(record.summary.bytes_per_second))
    }),
    ("Mean latency", |record| {
        is_measured(record).then(|| numbers::latency(record.summary.latency_us.mean))
    }),
    ("Standard deviation", |record| {
        is_measured(record).then(|| numbers::latency(record.summary.latency_us.standard_deviation))
    }),
    ("Requests sent in time", |record| {
        record.summary.sent_in_time.map(numbers::share)
    }),
    ("Load generator's CPU time a message", |record| {
        is_measured(record).then(|| numbers::latency(record.summary.load_cpu_us_per_message))
    }),
    ("Server's CPU time", |record| {
        server(record).map(|server| numbers::seconds(server.cpu_seconds))
    }),
    ("Server's CPU time a message", |record| {
        let server = server(record).filter(|_| is_measured(record));
        server.map(|server| numbers::latency(server.cpu_us_per_message))
    }),
    ("Server's wait for a CPU", |record| {
        server(record)?.waited_seconds.map(numbers::seconds)
    }),
    ("Server's memory", |record| {
        server(record).map(|server| numbers::memory(server.resident_bytes))
    }),
];

/// Whether there are messages for a figure to be of.
fn is_measured(record: &Record) -> bool {
    record.summary.messages > 0
}

fn server(record: &Record) -> Option<&ServerUsage> {
    record.summary.server.as_ref()
}
