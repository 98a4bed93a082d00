//! Numbers for people: three significant digits, a unit, thousands set apart.

/// Between a number and its unit: a space where no line breaks.
pub(super) const SPACE: char = '\u{a0}';

/// What stands where there is no number.
pub(super) const NONE: &str = "\u{2013}";

/// Units by how many of the smallest they hold, the greatest first.
pub(super) type Units = [(f64, &'static str)];

/// Units of a latency, in microseconds.
pub(super) const LATENCY_US: &Units = &[(1e6, "s"), (1e3, "ms"), (1.0, "\u{b5}s")];

/// Units of an amount of data that is sent, in bytes.
const DATA_BYTES: &Units = &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")];

/// Units of memory, in bytes.
const MEMORY_BYTES: &Units = &[
    (1_073_741_824.0, "GiB"),
    (1_048_576.0, "MiB"),
    (1024.0, "KiB"),
    (1.0, "B"),
];

/// `1,234,567`
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `84.2 µs`, `1.20 ms`
pub(super) fn latency(us: f64) -> String {
    in_units(us, LATENCY_US)
}

/// `131,205`, `84.2`
pub(super) fn rate(number: f64) -> String {
    if number.is_finite() && number >= 999.5 {
        count(whole(number))
    } else {
        in_units(number, &[(1.0, "")])
    }
}

/// `10.5 MB/s`
pub(super) fn data_rate(bytes_per_second: f64) -> String {
    match in_units(bytes_per_second, DATA_BYTES) {
        none if none == NONE => none,
        rate => rate + "/s",
    }
}

/// `12.3 MiB`
pub(super) fn memory(bytes: u64) -> String {
    in_units(float(bytes), MEMORY_BYTES)
}

/// `10 s`, `0.25 s`
pub(super) fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() {
        return NONE.to_owned();
    }
    let text = plain(seconds, 3);
    format!("{text}{SPACE}s")
}

/// `87.25%`; never `100%` for less than all.
pub(super) fn share(share: f64) -> String {
    let percent = share * 100.0;
    match plain(percent, 2) {
        text if text == "100" && percent < 100.0 => "99.99%".to_owned(),
        text => format!("{text}%"),
    }
}

/// How much `number` is of `first`: `1.25×`; nothing if that says nothing.
pub(super) fn ratio(number: f64, first: f64) -> Option<String> {
    let ratio = number / first;
    (ratio.is_finite() && number > 0.0).then(|| match ratio {
        0.01..100.0 => format!("{ratio:.2}\u{d7}"),
        _ => format!("{}\u{d7}", significant(ratio)),
    })
}

/// At most so many decimals, and none of them a zero at the end.
pub(super) fn plain(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => text,
    }
}

/// `1 connection`, `1,000 connections`
pub(super) fn counted(number: usize, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{}{SPACE}{word}", count(number as u64))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a report are far below 2^53, and people read three digits"
)]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast keeps to the bounds: less than nothing is nothing"
)]
pub(super) fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// The greatest unit that the number holds one of, after rounding: 999.9 µs are 1.00 ms.
pub(super) fn unit_of(number: f64, units: &'static Units) -> (f64, &'static str) {
    let is_held = |&&(size, _): &&(f64, _)| number >= 0.9995 * size;
    let smallest = units.last().copied().unwrap_or((1.0, ""));
    units.iter().find(is_held).copied().unwrap_or(smallest)
}

fn in_units(number: f64, units: &'static Units) -> String {
    if !number.is_finite() {
        return NONE.to_owned();
    }
    let (size, unit) = unit_of(number, units);
    let text = significant(number / size);
    if unit.is_empty() {
        text
    } else {
        format!("{text}{SPACE}{unit}")
    }
}

/// Three significant digits, and all of them before the point.
fn significant(number: f64) -> String {
    let decimals = match number.abs() {
        0.0 => 0,
        n if n >= 99.95 => 0,
        n if n >= 9.995 => 1,
        n if n >= 0.9995 => 2,
        n if n >= 0.09995 => 3,
        _ => 4,
    };
    format!("{number:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ];
        for (number, text) in cases {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn latencies_have_three_digits_and_a_unit() {
        let cases = [
            (0.0, "0 µs"),
            (0.25, "0.250 µs"),
            (8.0, "8.00 µs"),
            (84.25, "84.2 µs"),
            (999.4, "999 µs"),
            (999.6, "1.00 ms"),
            (1204.0, "1.20 ms"),
            (250_000.0, "250 ms"),
            (999_900.0, "1.00 s"),
            (75e6, "75.0 s"),
            (f64::NAN, NONE),
        ];
        for (us, text) in cases {
            assert_eq!(latency(us), text.replace(' ', "\u{a0}"));
        }
    }

    #[test]
    fn other_numbers_have_their_units() {
        let cases = [
            (rate(131_204.6), "131,205"),
            (rate(999.6), "1,000"),
            (rate(84.2), "84.2"),
            (rate(0.0), "0"),
            (data_rate(10_500_000.0), "10.5 MB/s"),
            (data_rate(f64::INFINITY), NONE),
            (memory(12_897_485), "12.3 MiB"),
            (seconds(10.0), "10 s"),
            (seconds(0.25), "0.25 s"),
            (share(0.8725), "87.25%"),
            (share(1.0), "100%"),
            (share(0.999_999), "99.99%"),
            (counted(1, "connection", "connections"), "1 connection"),
            (
                counted(1000, "connection", "connections"),
                "1,000 connections",
            ),
        ];
        for (seen, text) in cases {
            assert_eq!(seen, text.replace(' ', "\u{a0}"));
        }
    }

    #[test]
    fn ratios_are_to_something() {
        assert_eq!(ratio(125.0, 100.0).unwrap(), "1.25×");
        assert_eq!(ratio(1234.0, 1.0).unwrap(), "1234×");
        assert_eq!(ratio(1.0, 0.0), None);
        assert_eq!(ratio(0.0, 1.0), None);
    }
}
