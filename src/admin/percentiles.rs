//! The latencies of the whole server as HdrHistogram's percentile text, in microseconds.

use super::totals::{Totals, float};
use crate::metrics::hgrm::{self, Row, Whole};
use crate::metrics::latency::Latency;

/// Points of the distribution in each halving of the distance to 100%, as in HdrHistogram's own
/// percentile text.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// From requests' arrival until the kernel had taken their replies, of all codes, since the start.
pub(super) fn text(totals: &Totals) -> String {
    let mut sum = Latency::new().sent;
    for (series, _) in totals.series() {
        if let Some(latency) = totals.latency(series) {
            // They have the same bounds, so it can't fail.
            let _ = sum.add(&latency.sent);
        }
    }
    let points = sum.iter_quantiles(TICKS_PER_HALF_DISTANCE);
    let rows = points.scan(0, |count, point| {
        *count += point.count_since_last_iteration();
        Some(Row {
            value: float(point.value_iterated_to()),
            quantile: point.quantile_iterated_to(),
            count: *count,
        })
    });
    let whole = Whole {
        mean: sum.mean(),
        standard_deviation: sum.stdev(),
        max: float(sum.max()),
        buckets: sum.buckets().into(),
        // As HdrHistogram works them out from the digits.
        sub_buckets: (2 * 10_u64.pow(sum.sigfig().into())).next_power_of_two(),
    };
    hgrm::text(rows, &whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::latency::{Codes, Latencies};
    use crate::shard::Snapshot;

    #[test]
    fn all_codes_are_in_it() {
        let mut totals = Totals::new(Codes::new([1]), 1);
        let empty = text(&totals);
        assert!(empty.contains("Total count    =            0]"), "{empty}");
        let mut snapshot = Snapshot {
            latencies: Latencies::new(2),
            ..Snapshot::default()
        };
        snapshot.latencies.record_sent(1, 100, 3);
        snapshot.latencies.record_sent(0, 400, 1);
        totals.add(&snapshot);
        assert_eq!(
            text(&totals),
            "       Value     Percentile TotalCount 1/(1-Percentile)

  100.000000 0.000000000000          3           1.00
  100.000000 0.100000000000          3           1.11
  100.000000 0.200000000000          3           1.25
  100.000000 0.300000000000          3           1.43
  100.000000 0.400000000000          3           1.67
  100.000000 0.500000000000          3           2.00
  100.000000 0.550000000000          3           2.22
  100.000000 0.600000000000          3           2.50
  100.000000 0.650000000000          3           2.86
  100.000000 0.700000000000          3           3.33
  400.000000 0.750000000000          4           4.00
  400.000000 1.000000000000          4            inf
#[Mean    =   175.000000, StdDeviation   =   129.903811]
#[Max     =   400.000000, Total count    =            4]
#[Buckets =           16, SubBuckets     =         2048]
"
        );
    }
}
