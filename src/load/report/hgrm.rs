//! HdrHistogram's percentile text of a run, in milliseconds.

use crate::load::latency::{BUCKETS, SUB_BUCKETS};
use crate::load::record::Record;
use crate::metrics::hgrm::{self, Row, Whole};

/// The whole text.
pub(in crate::load) fn percentiles(record: &Record) -> String {
    let latency = &record.summary.latency_us;
    let whole = Whole {
        mean: ms(latency.mean),
        standard_deviation: ms(latency.standard_deviation),
        max: ms(latency.max),
        buckets: BUCKETS,
        sub_buckets: SUB_BUCKETS,
    };
    let rows = record.distribution.iter().map(|point| Row {
        value: ms(point.us),
        quantile: point.quantile,
        count: point.count,
    });
    hgrm::text(rows, &whole)
}

fn ms(us: f64) -> f64 {
    us / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::latency::Latencies;
    use crate::load::report::sample;

    /// By hand: with three digits, 2 ms stand for 1.999872 to 2.000895 ms and 4 ms for 3.999744 to
    /// 4.001791 ms; a line has the highest of those, and the mean is that of their middles, 2.000384
    /// and 4.000768 ms. Both go as in the test of HdrHistogram's C library with 2 and ten times 4.
    #[test]
    fn a_small_histogram_is_as_by_hand() {
        let mut latencies = Latencies::new();
        latencies.record(2_000_000);
        (0..10).for_each(|_| latencies.record(4_000_000));
        assert_eq!(
            percentiles(&sample::of(&latencies)),
            "       Value     Percentile TotalCount 1/(1-Percentile)

    2.000895 0.000000000000          1           1.00
    4.001791 0.100000000000         11           1.11
    4.001791 1.000000000000         11            inf
#[Mean    =     3.818915, StdDeviation   =     0.575070]
#[Max     =     4.001791, Total count    =           11]
#[Buckets =           32, SubBuckets     =         2048]
"
        );
    }

    #[test]
    fn nothing_recorded_has_its_line() {
        let text = percentiles(&sample::of(&Latencies::new()));
        let line = "    0.000000 1.000000000000          0            inf";
        assert_eq!(text.lines().nth(2).unwrap(), line);
        assert!(text.contains("Total count    =            0]"), "{text}");
    }

    #[test]
    fn long_latencies_keep_the_columns_apart() {
        let mut latencies = Latencies::new();
        latencies.record(u64::MAX);
        let text = percentiles(&sample::of(&latencies));
        let line = text.lines().nth(2).unwrap();
        // An hour and what three digits add.
        assert_eq!(
            line,
            " 3601330.078 0.000000000000          1           1.00"
        );
    }
}
