//! The last minutes in intervals, by message code.
//!
//! A histogram is 140 KiB and holds a few hundred different times in five seconds, so intervals of
//! the last minute are kept as lists of what was recorded, and older ones as the few figures that a
//! plot takes.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use super::requests;
use crate::metrics::latency::{Latencies, Latency};

/// The length of an interval, in microseconds.
pub(in crate::admin) const STEP_US: u64 = 5_000_000;
/// Intervals that points are kept of.
const POINTS_MAX: usize = 60;
/// Intervals of a minute.
pub(in crate::admin) const MINUTE_INTERVALS: usize = (60_000_000 / STEP_US) as usize;

const _: () = assert!(
    MINUTE_INTERVALS <= POINTS_MAX,
    "a minute is a part of the history"
);

/// One code in one interval; times are until replies were sent, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) struct Point {
    pub(in crate::admin) series: usize,
    pub(in crate::admin) requests: u64,
    pub(in crate::admin) p50_us: u64,
    pub(in crate::admin) p99_us: u64,
    pub(in crate::admin) max_us: u64,
}

/// The intervals, the latest first.
#[derive(Debug)]
pub(super) struct History {
    points: VecDeque<(u64, Vec<Point>)>,
    minute: VecDeque<Vec<Recorded>>,
}

/// What was recorded of a series in an interval.
#[derive(Debug)]
struct Recorded {
    series: usize,
    queued: Times,
    sent: Times,
    slow: u64,
}

/// Microseconds, and how many took so long.
type Times = Vec<(u64, u64)>;

impl History {
    pub(super) fn new() -> History {
        History {
            points: VecDeque::with_capacity(POINTS_MAX),
            minute: VecDeque::with_capacity(MINUTE_INTERVALS),
        }
    }

    /// An interval ends now; this is what was recorded in it.
    pub(super) fn close(&mut self, now_us: u64, series: usize, latencies: &Latencies) {
        let active = (0..series).filter_map(|series| {
            let latency = latencies.get(series)?;
            let is_active = !latency.queued.is_empty() || !latency.sent.is_empty();
            is_active.then_some((series, latency))
        });
        let (points, recorded) = active
            .map(|(series, latency)| (point(series, latency), recorded(series, latency)))
            .unzip();
        self.points.truncate(POINTS_MAX - 1);
        self.points.push_front((now_us, points));
        self.minute.truncate(MINUTE_INTERVALS - 1);
        self.minute.push_front(recorded);
    }

    /// The last minute of a series, with what was recorded since.
    pub(super) fn minute_with(&self, series: usize, open: Option<&Latency>) -> Latency {
        let mut sum = open.cloned().unwrap_or_default();
        let of_series = self.minute.iter().flatten();
        for recorded in of_series.filter(|recorded| recorded.series == series) {
            sum.slow += recorded.slow;
            put_back(&mut sum.queued, &recorded.queued);
            put_back(&mut sum.sent, &recorded.sent);
        }
        sum
    }

    /// Each interval's age, from its end, and what happened in it; the latest first.
    pub(super) fn points(&self, now_us: u64) -> impl Iterator<Item = (u64, &[Point])> {
        let intervals = self.points.iter();
        intervals.map(move |(ended_us, points)| (now_us.saturating_sub(*ended_us), &points[..]))
    }
}

fn point(series: usize, latency: &Latency) -> Point {
    Point {
        series,
        requests: requests(Some(latency)),
        p50_us: latency.sent.value_at_quantile(0.5),
        p99_us: latency.sent.value_at_quantile(0.99),
        max_us: latency.sent.max(),
    }
}

fn recorded(series: usize, latency: &Latency) -> Recorded {
    let times = |histogram: &Histogram<u64>| {
        let steps = histogram.iter_recorded();
        steps
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect()
    };
    Recorded {
        series,
        queued: times(&latency.queued),
        sent: times(&latency.sent),
        slow: latency.slow,
    }
}

fn put_back(histogram: &mut Histogram<u64>, times: &[(u64, u64)]) {
    for &(us, count) in times {
        // Each came out of the same place of a histogram with the same bounds.
        histogram.saturating_record_n(us, count);
    }
}
