//! How long to wait before the next attempt to connect: doubling, bounded, and with chance in it, so
//! that the clients of a server that comes back don't all come at once.

use std::time::Duration;

/// The pauses between attempts to connect. Each is between half and the whole of a time that starts
/// at `first` and doubles up to `max`; the first attempt is made at once. Once the server has sent a
/// frame, it starts over.
///
/// The half that is left to chance is the "equal jitter" of Marc Brooker, "Exponential Backoff And
/// Jitter", AWS Architecture Blog, 2015.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest that the first pause can be.
    pub first: Duration,
    /// The longest that any pause can be.
    pub max: Duration,
    /// How many attempts are made in a row before whoever waits is told that they failed; at least
    /// one.
    pub attempts_max: u32,
}

impl Default for Backoff {
    /// 100 ms at first, 10 s at most, and 8 attempts.
    fn default() -> Backoff {
        Backoff {
            first: Duration::from_millis(100),
            max: Duration::from_secs(10),
            attempts_max: 8,
        }
    }
}

impl Backoff {
    /// The pause after so many attempts that failed, by a random number. None before the first.
    pub(super) fn pause(&self, failed: u32, random: u64) -> Duration {
        let Some(doublings) = failed.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(factor).min(self.max);
        // Between one and two halves, by 20 bits of chance.
        let share = u32::try_from(random >> 44).unwrap_or(CHANCES);
        whole / 2 + (whole / 2 / CHANCES).saturating_mul(share)
    }
}

/// In how many parts chance divides a pause.
const CHANCES: u32 = (1 << 20) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_chance_takes_up_to_half() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            max: Duration::from_millis(500),
            attempts_max: 8,
        };
        assert_eq!(backoff.pause(0, u64::MAX), Duration::ZERO);
        let longest = [1, 2, 3, 4, 40, u32::MAX].map(|failed| {
            let (shortest, longest) = (backoff.pause(failed, 0), backoff.pause(failed, u64::MAX));
            // Up to what dividing by so much leaves over, in nanoseconds.
            assert!(longest.abs_diff(shortest * 2) < Duration::from_millis(2));
            let between = backoff.pause(failed, u64::MAX / 3);
            assert!(shortest < between && between < longest);
            longest.as_secs_f64()
        });
        for (longest, expected) in longest.into_iter().zip([0.1, 0.2, 0.4, 0.5, 0.5, 0.5]) {
            assert!(
                (expected - 0.002..=expected).contains(&longest),
                "{longest}"
            );
        }
    }

    #[test]
    fn no_pause_is_too_long_to_be_counted() {
        let backoff = Backoff {
            first: Duration::MAX,
            max: Duration::MAX,
            attempts_max: 1,
        };
        assert!(backoff.pause(7, 0) <= Duration::MAX);
    }
}
