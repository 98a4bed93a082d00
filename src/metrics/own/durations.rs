//! How long something took, counted into buckets by threads beside the shards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets in microseconds, 10 us to 10 s.
pub(crate) const BOUNDS_US: [u64; 19] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// A histogram of times, for [`Metric::durations`](super::Metric::durations). Any number of threads
/// may record into it.
///
/// It is one for all of them, so it is for threads of a program's own, a hash or a database thread
/// for example, and not for handlers: each record would take another core's cache line away. How long
/// requests take is counted by message code anyway.
#[derive(Debug, Default)]
pub struct Durations {
    /// One more than there are bounds: what takes longer than the last.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

/// What was recorded so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Recorded {
    /// By bucket, each without those below.
    pub(crate) counts: [u64; BOUNDS_US.len() + 1],
    pub(crate) sum_seconds: f64,
}

impl Durations {
    /// Nothing so far.
    pub fn new() -> Durations {
        Durations::default()
    }

    /// Something took so long.
    pub fn record(&self, took: Duration) {
        let within = |&bound_us: &u64| Duration::from_micros(bound_us) < took;
        let bucket = BOUNDS_US.partition_point(within);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(took_ns, Ordering::Relaxed);
    }

    /// Of what is recorded meanwhile, the sum may know and the counts may not, or the other way round.
    pub(crate) fn recorded(&self) -> Recorded {
        let sum = Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed));
        Recorded {
            counts: self
                .counts
                .each_ref()
                .map(|count| count.load(Ordering::Relaxed)),
            sum_seconds: sum.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_belongs_to_the_bucket_whose_bound_it_does_not_exceed() {
        let durations = Durations::new();
        for us in [0, 10, 11, 10_000_000, 10_000_001] {
            durations.record(Duration::from_micros(us));
        }
        durations.record(Duration::from_nanos(10_001));
        let Recorded {
            counts,
            sum_seconds,
        } = durations.recorded();
        assert_eq!((counts[0], counts[1], counts[18], counts[19]), (2, 2, 1, 1));
        assert_eq!(counts.iter().sum::<u64>(), 6);
        assert!((sum_seconds - 20.000_032_001).abs() < 1e-9, "{sum_seconds}");
    }
}
