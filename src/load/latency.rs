//! Latencies: a histogram with three significant digits, and what is read off it.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Significant decimal digits that the histogram keeps of a latency.
pub const SIGNIFICANT_DIGITS: u8 = 3;

/// The highest latency that is told apart, in nanoseconds: an hour. Longer ones count as this.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// Points of the distribution in each halving of the distance to 100%, as in HdrHistogram's own
/// percentile text.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// The histogram's linear parts in each of its [`BUCKETS`], as HdrHistogram works them out from the
/// digits.
pub(crate) const SUB_BUCKETS: u64 = (2 * 10_u64.pow(SIGNIFICANT_DIGITS as u32)).next_power_of_two();

/// The histogram's parts, each twice as wide as the one before: enough to tell the highest latency
/// apart.
pub(crate) const BUCKETS: u32 = (LATENCY_NS_MAX / SUB_BUCKETS).ilog2() + 2;

/// Latencies of messages, in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// What is read off the latencies of a run, in microseconds; all zero if there are none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// 90% were within this.
    pub p90: f64,
    /// 99% were within this.
    pub p99: f64,
    /// 99.9% were within this.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// 99.99% were within this.
    #[serde(rename = "p99.99")]
    pub p99_99: f64,
    /// The highest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub standard_deviation: f64,
}

/// A point of the distribution of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantilePoint {
    /// The share of the messages, from 0 to 1, that were within `us`.
    pub quantile: f64,
    /// Microseconds.
    pub us: f64,
    /// How many messages were within `us`.
    pub count: u64,
}

impl Latencies {
    pub(crate) fn new() -> Latencies {
        #[expect(
            clippy::expect_used,
            reason = "the bounds are constants, and a test tries them"
        )]
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
            .expect("1 ns to an hour with 3 digits are valid bounds");
        Latencies(histogram)
    }

    /// Takes one in.
    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Takes all of another's in.
    pub(crate) fn add(&mut self, other: &Latencies) {
        // The bounds are the same, so it can't fail: nothing has to be made to fit.
        let added = self.0.add(&other.0);
        debug_assert!(added.is_ok());
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that so much of them, from 0 to 1, is within, in microseconds.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        us(self.0.value_at_quantile(quantile))
    }

    pub(crate) fn max_us(&self) -> f64 {
        us(self.0.max())
    }

    pub(crate) fn summary(&self) -> Latency {
        Latency {
            p50: self.quantile_us(0.5),
            p90: self.quantile_us(0.9),
            p99: self.quantile_us(0.99),
            p99_9: self.quantile_us(0.999),
            p99_99: self.quantile_us(0.9999),
            max: self.max_us(),
            mean: self.0.mean() / NS_PER_US,
            standard_deviation: self.0.stdev() / NS_PER_US,
        }
    }

    /// The distribution, from the lowest to the highest.
    pub(crate) fn distribution(&self) -> Vec<QuantilePoint> {
        self.0
            .iter_quantiles(TICKS_PER_HALF_DISTANCE)
            .scan(0, |count, value| {
                *count += value.count_since_last_iteration();
                Some(QuantilePoint {
                    quantile: value.quantile_iterated_to(),
                    us: us(value.value_iterated_to()),
                    count: *count,
                })
            })
            .collect()
    }
}

const NS_PER_US: f64 = 1000.0;

#[expect(
    clippy::cast_precision_loss,
    reason = "latencies are far below 2^53 ns, 104 days"
)]
fn us(ns: u64) -> f64 {
    ns as f64 / NS_PER_US
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_kept_from_a_nanosecond_to_an_hour() {
        let mut latencies = Latencies::new();
        for ns in [1, 1234, 5_678_000, LATENCY_NS_MAX, u64::MAX] {
            latencies.record(ns);
        }
        assert_eq!(latencies.count(), 5);
        let near = |quantile, us: f64| {
            let seen = latencies.quantile_us(quantile);
            assert!((seen / us - 1.0).abs() < 1e-3, "{seen} for {us}");
        };
        near(0.2, 0.001);
        near(0.4, 1.234);
        near(0.6, 5678.0);
        near(0.8, 3.6e9);
        near(1.0, 3.6e9);
    }

    #[test]
    fn the_histogram_has_the_buckets_that_are_told() {
        let latencies = Latencies::new();
        assert_eq!(u32::from(latencies.0.buckets()), BUCKETS);
        // Two values fall into one part just where there are twice as many to a unit of it.
        let resolution = |value| latencies.0.equivalent_range(value);
        assert_eq!(
            (resolution(SUB_BUCKETS - 1), resolution(SUB_BUCKETS)),
            (1, 2)
        );
    }

    #[test]
    fn a_distribution_counts_all_of_them() {
        let mut latencies = Latencies::new();
        (1..=1000).for_each(|us| latencies.record(us * 1000));
        let mut other = Latencies::new();
        other.record(2_000_000);
        latencies.add(&other);
        let points = latencies.distribution();
        assert!(points.is_sorted_by(|a, b| a.quantile <= b.quantile && a.us <= b.us));
        let last = points.last().unwrap();
        assert_eq!((last.quantile, last.count), (1.0, 1001));
        assert!((last.us / 2000.0 - 1.0).abs() < 1e-3);
        assert!((latencies.summary().p50 / 501.0 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn no_latencies_are_all_zero() {
        let latencies = Latencies::new();
        let summary = latencies.summary();
        assert_eq!((summary.p50, summary.max, summary.mean), (0.0, 0.0, 0.0));
        assert!(
            latencies
                .distribution()
                .iter()
                .all(|point| point.count == 0)
        );
    }
}
