//! HdrHistogram's percentile text, as `outputPercentileDistribution` of the Java library writes it
//! and public plotters take it, in a unit of the caller's choice.
//!
//! Two things differ, and plotters take both. A short latency has six decimals in place of three,
//! since a microsecond's steps would lose its three digits in milliseconds; and the last line ends
//! with `inf`, as in the C library and wrk2, so that every line has four columns.

use std::fmt::Write as _;

/// From here on a value would fill its column with so many decimals, and readers want a space in
/// front.
const DECIMALS: [(f64, usize); 2] = [(10_000.0, 6), (10_000_000.0, 3)];
/// Decimals of what is longer still.
const DECIMALS_MIN: usize = 0;

/// One line: how many were within a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) value: f64,
    /// The share of all, from 0 to 1.
    pub(crate) quantile: f64,
    pub(crate) count: u64,
}

/// What the last lines tell of all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole {
    pub(crate) mean: f64,
    pub(crate) standard_deviation: f64,
    pub(crate) max: f64,
    /// The histogram's parts, each twice as wide as the one before.
    pub(crate) buckets: u32,
    /// The linear parts of each.
    pub(crate) sub_buckets: u64,
}

/// The whole text.
pub(crate) fn text(rows: impl IntoIterator<Item = Row>, whole: &Whole) -> String {
    let mut lines = Lines::new(whole.max);
    let mut total = None;
    for row in rows {
        lines.add(row);
        total = Some(row.count);
    }
    if total.is_none() {
        // As the libraries do where nothing was recorded.
        lines.add(Row {
            value: 0.0,
            quantile: 1.0,
            count: 0,
        });
    }
    lines.end(whole, total.unwrap_or(0))
}

struct Lines {
    text: String,
    decimals: usize,
}

impl Lines {
    fn new(max: f64) -> Lines {
        let fitting = DECIMALS.iter().find(|&&(below, _)| max < below);
        let text = format!(
            "{:>12} {:>14} {:>10} {:>14}\n\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        );
        Lines {
            text,
            decimals: fitting.map_or(DECIMALS_MIN, |&(_, decimals)| decimals),
        }
    }

    fn add(&mut self, row: Row) {
        let decimals = self.decimals;
        let Row {
            value,
            quantile,
            count,
        } = row;
        let _ = write!(
            self.text,
            "{value:>12.decimals$} {quantile:.12} {count:>10} "
        );
        let _ = if quantile < 1.0 {
            writeln!(self.text, "{:>14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(self.text, "{:>14}", "inf")
        };
    }

    fn end(mut self, whole: &Whole, total: u64) -> String {
        let decimals = self.decimals;
        let _ = writeln!(
            self.text,
            "#[Mean    = {:>12.decimals$}, StdDeviation   = {:>12.decimals$}]\n\
             #[Max     = {:>12.decimals$}, Total count    = {total:>12}]\n\
             #[Buckets = {:>12}, SubBuckets     = {:>12}]",
            whole.mean, whole.standard_deviation, whole.max, whole.buckets, whole.sub_buckets,
        );
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_never_fills_its_column() {
        for (max, first) in [
            (9_999.5, " 9999.500000 "),
            (10_000.0, "   10000.000 "),
            (60_000_000.0, "    60000000 "),
        ] {
            let row = Row {
                value: max,
                quantile: 1.0,
                count: 1,
            };
            let whole = Whole {
                mean: max,
                standard_deviation: 0.0,
                max,
                buckets: 1,
                sub_buckets: 2048,
            };
            let text = text([row], &whole);
            assert!(text.lines().nth(2).unwrap().starts_with(first), "{text}");
        }
    }
}
