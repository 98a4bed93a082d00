//! Numbers as they stand in the tables: three significant digits and a unit, and no spaces in them,
//! so that a script finds the columns.

/// What stands where there is nothing to tell.
pub(super) const NONE: &str = "-";

/// Units by how many of the smallest they hold, the greatest first.
type Units = [(f64, &'static str)];

const LATENCY_US: &Units = &[(1e6, "s"), (1e3, "ms"), (1.0, "us")];
const DATA_BYTES: &Units = &[
    (1e12, "TB"),
    (1e9, "GB"),
    (1e6, "MB"),
    (1e3, "kB"),
    (1.0, "B"),
];
const SECONDS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];

/// `84us`, `1.20ms`
pub(super) fn latency(us: u64) -> String {
    in_units(float(us), LATENCY_US)
}

/// `65.0kB`
pub(super) fn bytes(bytes: u64) -> String {
    in_units(float(bytes), DATA_BYTES)
}

/// `1.32MB/s`
pub(super) fn bytes_rate(bytes_per_second: f64) -> String {
    in_units(bytes_per_second.round(), DATA_BYTES) + "/s"
}

/// `33056`, `84.2`
pub(super) fn rate(number: f64) -> String {
    significant(number)
}

/// `87%`; of little, but not of nothing, `<1%`.
pub(super) fn share(share: f64) -> String {
    if share > 0.0 && share < 0.01 {
        "<1%".to_owned()
    } else {
        format!("{:.0}%", share * 100.0)
    }
}

/// `12s`, `4h12min`: the greatest unit that it holds one of, and the next.
pub(super) fn time(seconds: f64) -> String {
    let seconds = whole(seconds);
    let first = SECONDS.iter().position(|(size, _)| seconds >= *size);
    let units = &SECONDS[first.unwrap_or(SECONDS.len() - 1)..];
    let [(size, unit), rest @ ..] = units else {
        return NONE.to_owned();
    };
    let text = format!("{}{unit}", seconds / size);
    match rest {
        [(small, unit), ..] => format!("{text}{}{unit}", seconds % size / small),
        [] => text,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "people read three digits of what is beyond 2^53"
)]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast keeps to the bounds: less than nothing is nothing"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// In the greatest unit that the number holds one of, after rounding: 999.9us are 1.00ms.
fn in_units(number: f64, units: &Units) -> String {
    let is_held = |&&(size, _): &&(f64, _)| number >= 0.9995 * size;
    let smallest = units.last().copied().unwrap_or((1.0, ""));
    let (size, unit) = units.iter().find(is_held).copied().unwrap_or(smallest);
    // What is counted one by one has no part of one.
    let text = if size > 1.0 {
        significant(number / size)
    } else {
        format!("{number:.0}")
    };
    text + unit
}

/// Three significant digits, and all of them before the point.
fn significant(number: f64) -> String {
    let decimals = match number.abs() {
        0.0 => 0,
        n if n >= 99.95 => 0,
        n if n >= 9.995 => 1,
        n if n >= 0.9995 => 2,
        _ => 3,
    };
    format!("{number:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_a_unit_and_no_space() {
        let cases = [
            (latency(0), "0us"),
            (latency(84), "84us"),
            (latency(1204), "1.20ms"),
            (latency(999_900), "1.00s"),
            (latency(60_000_000), "60.0s"),
            (bytes(999), "999B"),
            (bytes(8_400_000), "8.40MB"),
            (bytes_rate(0.4), "0B/s"),
            (bytes_rate(1_322_248.0), "1.32MB/s"),
            (rate(0.0), "0"),
            (rate(0.25), "0.250"),
            (rate(33_056.2), "33056"),
            (share(0.0), "0%"),
            (share(0.004), "<1%"),
            (share(0.561), "56%"),
        ];
        for (seen, text) in cases {
            assert_eq!(seen, text);
        }
    }

    #[test]
    fn times_have_two_units() {
        let cases = [
            (0.0, "0s"),
            (59.9, "59s"),
            (60.0, "1min0s"),
            (15_120.0, "4h12min"),
            (90_061.5, "1d1h"),
            (-1.0, "0s"),
        ];
        for (seconds, text) in cases {
            assert_eq!(time(seconds), text);
        }
    }
}
