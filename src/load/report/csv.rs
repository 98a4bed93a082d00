//! The measured time as a table for programs: RFC 4180, one line for each part of it.

use std::fmt::Write as _;

use super::throughput;
use crate::load::record::Interval;

/// What stands in the columns, each with its unit.
const HEADER: &str = "start_seconds,seconds,messages,messages_per_second,p50_us,p99_us,max_us";

/// The whole table. Where no reply came in a part, its latencies are empty.
pub(in crate::load) fn timeline(intervals: &[Interval]) -> String {
    let mut csv = format!("{HEADER}\r\n");
    for interval in intervals {
        let Interval {
            start_seconds,
            seconds,
            messages,
            ..
        } = interval;
        let rate = decimal(throughput(interval));
        let [p50, p99, max] = [interval.p50_us, interval.p99_us, interval.max_us].map(decimal);
        let _ = write!(
            csv,
            "{start_seconds},{seconds},{messages},{rate},{p50},{p99},{max}\r\n"
        );
    }
    csv
}

/// With at most three decimals: a nanosecond of a microsecond.
fn decimal(number: Option<f64>) -> String {
    number.map_or_else(String::new, |number| super::numbers::plain(number, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_part_of_the_time() {
        let busy = Interval {
            start_seconds: 0.0,
            seconds: 0.5,
            messages: 1000,
            p50_us: Some(84.25),
            p99_us: Some(1204.0),
            max_us: Some(250_000.0),
        };
        let stalled = Interval {
            start_seconds: 0.5,
            messages: 0,
            p50_us: None,
            p99_us: None,
            max_us: None,
            ..busy.clone()
        };
        assert_eq!(
            timeline(&[busy, stalled]),
            "start_seconds,seconds,messages,messages_per_second,p50_us,p99_us,max_us\r\n\
             0,0.5,1000,2000,84.25,1204,250000\r\n\
             0.5,0.5,0,0,,,\r\n"
        );
        assert_eq!(timeline(&[]), format!("{HEADER}\r\n"));
    }
}
