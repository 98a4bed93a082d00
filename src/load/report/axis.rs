//! Axes: where a value stands, and which values are told along the way.

use super::numbers::{self, LATENCY_US, SPACE, Units};

/// An axis from its lowest to its highest place.
pub(super) struct Axis {
    /// In places, not in values: a logarithmic axis has logarithms here.
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<Tick>,
    scale: Scale,
}

/// A value that is told.
pub(super) struct Tick {
    /// Its place.
    pub(super) at: f64,
    pub(super) label: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

/// Units of the time of a run, in seconds.
const TIME_SECONDS: &Units = &[(3600.0, "h"), (60.0, "min"), (1.0, "s")];

/// Units of a throughput on an axis, where room is scarce.
const THROUGHPUT: &Units = &[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];

/// From this ratio of the highest to the lowest latency on, a linear axis would show the lower ones
/// as a line along the bottom.
const LINEAR_RATIO_MAX: f64 = 20.0;

/// Up to so many powers of ten on a logarithmic axis, 2 and 5 times each are told, too.
const FINE_DECADES_MAX: f64 = 2.4;

/// Latencies in microseconds: from zero, or logarithmic if the range asks for it.
pub(super) fn latencies(low_us: f64, high_us: f64, ticks: f64) -> Axis {
    if low_us > 0.0 && high_us / low_us > LINEAR_RATIO_MAX {
        logarithmic(low_us, high_us)
    } else {
        from_zero(high_us, ticks, LATENCY_US, SPACE.encode_utf8(&mut [0; 4]))
    }
}

/// Messages a second, from zero.
pub(super) fn throughput(high: f64, ticks: f64) -> Axis {
    from_zero(high, ticks, THROUGHPUT, "")
}

/// The measured time, from zero to its end.
pub(super) fn time(seconds: f64, ticks: f64) -> Axis {
    let end = if seconds > 0.0 { seconds } else { 1.0 };
    let (size, unit) = match TIME_SECONDS {
        // A unit of which there are few would be told in fractions.
        [(hour, h), _, _] if end >= 4.0 * hour => (*hour, *h),
        [_, (minute, min), _] if end >= 4.0 * minute => (*minute, *min),
        _ => (1.0, "s"),
    };
    let mut axis = stepped(end, ticks, (size, unit), SPACE.encode_utf8(&mut [0; 4]));
    // A tick that only rounding puts beyond the end is the end.
    axis.ticks.retain(|tick| tick.at <= end * (1.0 + 1e-6));
    axis.high = axis.ticks.last().map_or(end, |last| last.at.max(end));
    axis
}

/// The share of the messages, with as much room for each further nine, as far as so many messages
/// tell anything.
pub(super) fn percentiles(messages: u64) -> Axis {
    let high = last_percentile(messages).max(1.0);
    let ticks = (0..=16_u8)
        .take_while(|&nines| f64::from(nines) <= high)
        .map(|nines| Tick {
            at: f64::from(nines),
            label: percentile_label(usize::from(nines)),
        })
        .collect();
    Axis {
        low: 0.0,
        high,
        ticks,
        scale: Scale::Linear,
    }
}

/// Where a quantile stands on the axis of percentiles.
pub(super) fn percentile(quantile: f64, messages: u64) -> f64 {
    (-(1.0 - quantile).log10()).clamp(0.0, last_percentile(messages))
}

/// The place of the last message: beyond it nothing is known.
fn last_percentile(messages: u64) -> f64 {
    numbers::float(messages.max(1)).log10()
}

/// `0%`, `90%`, `99%`, `99.9%`
fn percentile_label(nines: usize) -> String {
    match nines {
        0 => "0%".to_owned(),
        1 => "90%".to_owned(),
        2 => "99%".to_owned(),
        _ => format!("99.{}%", "9".repeat(nines - 2)),
    }
}

impl Axis {
    /// Where a value stands; within the axis.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => value,
            // The logarithm of nothing is below everything, and stands at the bottom.
            Scale::Logarithmic => value.log10(),
        };
        place.clamp(self.low, self.high)
    }

    pub(super) fn is_logarithmic(&self) -> bool {
        self.scale == Scale::Logarithmic
    }
}

/// From zero to a whole step beyond the highest value.
fn from_zero(high: f64, ticks: f64, units: &'static Units, space: &str) -> Axis {
    let high = if high > 0.0 { high } else { 1.0 };
    // The unit of the highest tick, so that it is not 1000 of a smaller one.
    let step = step(high / ticks);
    let unit = numbers::unit_of(steps_to(high, step) * step, units);
    stepped(high, ticks, unit, space)
}

fn stepped(high: f64, ticks: f64, (size, unit): (f64, &str), space: &str) -> Axis {
    let step = step(high / size / ticks);
    let steps = steps_to(high / size, step);
    let label = |at: f64| {
        let number = numbers::plain(at, 6);
        match unit {
            "" => number,
            _ if number == "0" => number,
            unit => format!("{number}{space}{unit}"),
        }
    };
    let at = |index: u64| numbers::float(index) * step;
    Axis {
        low: 0.0,
        high: steps * step * size,
        ticks: (0..=numbers::whole(steps))
            .map(|index| Tick {
                at: at(index) * size,
                label: label(at(index)),
            })
            .collect(),
        scale: Scale::Linear,
    }
}

/// Whole steps to the highest value; not one more for what only rounding takes over.
fn steps_to(high: f64, step: f64) -> f64 {
    (high / step - 1e-9).ceil()
}

/// The least of 1, 2, 2.5 and 5 times a power of ten that is not below.
fn step(at_least: f64) -> f64 {
    let power = 10_f64.powf(at_least.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0];
    let fits = |factor: &f64| factor * power >= at_least * (1.0 - 1e-9);
    factors.into_iter().find(fits).unwrap_or(10.0) * power
}

/// From 1, 2 or 5 times a power of ten below the lowest to one above the highest.
fn logarithmic(low: f64, high: f64) -> Axis {
    let marks: Vec<f64> = marks(low, high);
    let first = marks.first().copied().unwrap_or(low).log10();
    let last = marks.last().copied().unwrap_or(high).log10();
    let is_told = |mark: &f64| last - first <= FINE_DECADES_MAX || is_power_of_ten(*mark);
    let ticks = marks
        .iter()
        .copied()
        .filter(is_told)
        .map(|mark| Tick {
            at: mark.log10(),
            label: latency_label(mark),
        })
        .collect();
    Axis {
        low: first,
        high: last,
        ticks,
        scale: Scale::Logarithmic,
    }
}

/// 1, 2 and 5 times the powers of ten, from the last that is not above `low` to the first that is
/// not below `high`.
fn marks(low: f64, high: f64) -> Vec<f64> {
    let mut marks = Vec::new();
    let mut power = 10_f64.powf(low.log10().floor());
    while marks.last().is_none_or(|&last| last < high) {
        for factor in [1.0, 2.0, 5.0] {
            let mark = factor * power;
            if mark * (1.0 + 1e-9) <= low {
                marks.clear();
            }
            if marks.last().is_none_or(|&last| last < high) {
                marks.push(mark);
            }
        }
        power *= 10.0;
    }
    marks
}

fn is_power_of_ten(number: f64) -> bool {
    let power = number.log10();
    (power - power.round()).abs() < 1e-6
}

/// `10 µs`, `0.5 µs`, `2 ms`
fn latency_label(us: f64) -> String {
    let (size, unit) = numbers::unit_of(us, LATENCY_US);
    format!("{}{SPACE}{unit}", numbers::plain(us / size, 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        let label = |tick: &Tick| tick.label.replace(SPACE, " ");
        axis.ticks.iter().map(label).collect()
    }

    #[test]
    fn percentiles_go_as_far_as_the_messages_tell() {
        assert_eq!(labels(&percentiles(9_999)), ["0%", "90%", "99%", "99.9%"]);
        assert_eq!(labels(&percentiles(100_000)).last().unwrap(), "99.999%");
        assert_eq!(labels(&percentiles(0)), ["0%", "90%"]);
        assert!((percentile(0.99, 1_000_000) - 2.0).abs() < 1e-9);
        assert!((percentile(1.0, 1000) - 3.0).abs() < 1e-9);
        assert!(percentile(1.0, 0).abs() < 1e-9);
    }

    #[test]
    fn a_narrow_range_is_linear_from_zero() {
        let axis = latencies(50.0, 940.0, 5.0);
        assert!(!axis.is_logarithmic());
        let expected = ["0", "0.2 ms", "0.4 ms", "0.6 ms", "0.8 ms", "1 ms"];
        assert_eq!(labels(&axis), expected);
        let axis = latencies(50.0, 501.0, 6.0);
        assert_eq!(labels(&axis).last().unwrap(), "600 µs");
        assert!((axis.place(470.0) - 470.0).abs() < 1e-9);
        assert_eq!(labels(&latencies(0.0, 0.0, 5.0)).len(), 6);
    }

    #[test]
    fn a_wide_range_is_logarithmic() {
        let axis = latencies(60.0, 1900.0, 5.0);
        assert!(axis.is_logarithmic());
        let expected = ["50 µs", "100 µs", "200 µs", "500 µs", "1 ms", "2 ms"];
        assert_eq!(labels(&axis), expected);
        assert!((axis.place(100.0) - 2.0).abs() < 1e-9);
        assert!((axis.place(0.0) - axis.low).abs() < 1e-9);

        let axis = latencies(60.0, 250_000.0, 5.0);
        assert_eq!(labels(&axis), ["100 µs", "1 ms", "10 ms", "100 ms"]);
        let axis = latencies(100.0, 100_000.0, 5.0);
        assert_eq!(labels(&axis), ["100 µs", "1 ms", "10 ms", "100 ms"]);
    }

    #[test]
    fn time_is_told_in_a_unit_of_which_there_are_some() {
        assert_eq!(
            labels(&time(10.0, 5.0)),
            ["0", "2 s", "4 s", "6 s", "8 s", "10 s"]
        );
        assert_eq!(labels(&time(3.2, 5.0)), ["0", "1 s", "2 s", "3 s"]);
        assert_eq!(labels(&time(600.0, 5.0)).last().unwrap(), "10 min");
        assert_eq!(labels(&time(86_400.0, 5.0)).last().unwrap(), "20 h");
        assert_eq!(labels(&time(0.0, 5.0)).last().unwrap(), "1 s");
    }

    #[test]
    fn throughput_is_short() {
        let expected = ["0", "50k", "100k", "150k"];
        assert_eq!(labels(&throughput(131_205.0, 4.0)), expected);
        assert_eq!(
            labels(&throughput(1_310_000.0, 4.0)).last().unwrap(),
            "1.5M"
        );
    }
}
