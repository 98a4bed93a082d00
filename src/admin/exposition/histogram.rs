//! A recorded histogram in the buckets that Prometheus asks for.
//!
//! A time is kept with three digits, so one that lies within a thousandth of a bucket's bound may be
//! counted on its other side; always on the same, so that counts never fall.

use hdrhistogram::Histogram as Recorded;
use prometheus::proto::{Bucket, Histogram};

use crate::admin::totals::float;
use crate::metrics::own::{self, BOUNDS_US};

/// Times in microseconds in, times in seconds out.
pub(super) fn histogram(recorded: &Recorded<u64>) -> Histogram {
    let mut counts = [0_u64; BOUNDS_US.len()];
    let mut sum_us = 0_u64;
    for step in recorded.iter_recorded() {
        let (us, count) = (step.value_iterated_to(), step.count_at_value());
        sum_us = sum_us.saturating_add(recorded.median_equivalent(us).saturating_mul(count));
        let lowest_us = recorded.lowest_equivalent(us);
        let bucket = BOUNDS_US.partition_point(|&bound_us| bound_us < lowest_us);
        if let Some(counted) = counts.get_mut(bucket) {
            *counted += count;
        }
    }
    let mut histogram = Histogram::default();
    histogram.set_sample_count(recorded.len());
    histogram.set_sample_sum(float(sum_us) / 1e6);
    histogram.set_bucket(cumulative(&counts));
    histogram
}

/// What a program has recorded itself.
pub(super) fn of_durations(recorded: &own::Recorded) -> Histogram {
    let mut histogram = Histogram::default();
    histogram.set_sample_count(recorded.counts.iter().sum());
    histogram.set_sample_sum(recorded.sum_seconds);
    histogram.set_bucket(cumulative(&recorded.counts[..BOUNDS_US.len()]));
    histogram
}

/// Of the counts of each bucket alone.
fn cumulative(counts: &[u64]) -> Vec<Bucket> {
    let summed = counts.iter().scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    });
    let bounded = summed.zip(BOUNDS_US).map(|(count, bound_us)| {
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(count);
        bucket.set_upper_bound(float(bound_us) / 1e6);
        bucket
    });
    bounded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::latency::Latency;

    #[test]
    fn times_fall_into_buckets_up_to_their_bound() {
        let mut recorded = Latency::new().sent;
        for (us, count) in [
            (0, 1),
            (10, 2),
            (11, 4),
            (25_000, 8),
            (25_100, 16),
            (60_000_000, 32),
        ] {
            recorded.saturating_record_n(us, count);
        }
        let histogram = histogram(&recorded);
        let count_within = |bound: f64| {
            let mut buckets = histogram.get_bucket().iter();
            let bucket = buckets.find(|bucket| bucket.upper_bound().to_bits() == bound.to_bits());
            bucket.unwrap().cumulative_count()
        };
        assert_eq!(count_within(0.000_01), 3);
        assert_eq!(count_within(0.000_025), 7);
        assert_eq!(count_within(0.01), 7);
        assert_eq!(count_within(0.025), 15);
        assert_eq!(count_within(0.05), 31);
        assert_eq!(count_within(10.0), 31);
        assert_eq!(histogram.get_sample_count(), 63);
        let sum = 0.000_064 + 0.2 + 0.4016 + 1920.0;
        assert!((histogram.get_sample_sum() / sum - 1.0).abs() < 1e-3);
    }
}
