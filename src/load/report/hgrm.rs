//! HdrHistogram's percentile text, as `outputPercentileDistribution` of the Java library writes it
//! and public plotters take it, in milliseconds.
//!
//! Two things differ, and plotters take both. A latency below ten seconds has six decimals in place
//! of three, since a microsecond's steps would lose its three digits; and the last line ends with
//! `inf`, as in the C library and wrk2, so that every line has four columns.

use std::fmt::Write as _;

use crate::load::latency::{BUCKETS, SUB_BUCKETS};
use crate::load::record::Record;

/// From here on a value would fill its column with six decimals, and readers want a space in front.
const SIX_DECIMALS_MS_MAX: f64 = 10_000.0;

/// The whole text.
pub(in crate::load) fn percentiles(record: &Record) -> String {
    let mut lines = Lines::new(ms(record.summary.latency_us.max));
    for point in &record.distribution {
        lines.add(ms(point.us), point.quantile, point.count);
    }
    if record.distribution.is_empty() {
        // As the libraries do where nothing was recorded.
        lines.add(0.0, 1.0, 0);
    }
    lines.end(record)
}

struct Lines {
    text: String,
    decimals: usize,
}

impl Lines {
    fn new(max_ms: f64) -> Lines {
        let decimals = if max_ms < SIX_DECIMALS_MS_MAX { 6 } else { 3 };
        let text = format!(
            "{:>12} {:>14} {:>10} {:>14}\n\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        );
        Lines { text, decimals }
    }

    fn add(&mut self, ms: f64, quantile: f64, count: u64) {
        let decimals = self.decimals;
        let _ = write!(self.text, "{ms:>12.decimals$} {quantile:.12} {count:>10} ");
        let _ = if quantile < 1.0 {
            writeln!(self.text, "{:>14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(self.text, "{:>14}", "inf")
        };
    }

    fn end(mut self, record: &Record) -> String {
        let latency = &record.summary.latency_us;
        let decimals = self.decimals;
        let _ = writeln!(
            self.text,
            "#[Mean    = {:>12.decimals$}, StdDeviation   = {:>12.decimals$}]\n\
             #[Max     = {:>12.decimals$}, Total count    = {:>12}]\n\
             #[Buckets = {BUCKETS:>12}, SubBuckets     = {SUB_BUCKETS:>12}]",
            ms(latency.mean),
            ms(latency.standard_deviation),
            ms(latency.max),
            record.distribution.last().map_or(0, |point| point.count),
        );
        self.text
    }
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
