//! How often events of one kind may come: a token bucket that many threads take from without a
//! lock. Pure: time comes in as an argument.
//!
//! Kept as the one time at which the bucket will be full again (the generic cell rate algorithm of
//! ATM, ITU-T I.371), so that one atomic number is all there is.

use std::sync::atomic::{AtomicU64, Ordering};

/// The rate that is allowed, and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Time that one event uses up.
    interval_ns: u64,
    /// Time that may be used up in advance: all but one of a burst.
    ahead_ns: u64,
}

impl Rate {
    /// So many events a second, and `burst` of them at once; `None` if any number is allowed,
    /// which is what 0 a second means.
    pub(super) fn new(per_second: u32, burst: u32) -> Option<Rate> {
        let interval_ns = 1_000_000_000_u64.checked_div(u64::from(per_second))?;
        Some(Rate {
            interval_ns,
            ahead_ns: interval_ns.saturating_mul(u64::from(burst.saturating_sub(1))),
        })
    }
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is logged.
    Logged,
    /// It is left out, the first since the count was last taken.
    FirstLeftOut,
    /// It is left out, too.
    LeftOut,
}

/// One kind's bucket, full at first, and how many events found it empty.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    full_at_ns: AtomicU64,
    left_out: AtomicU64,
}

impl Repeats {
    /// Forgets what was used up.
    pub(super) fn begin_anew(&self) {
        self.full_at_ns.store(0, Ordering::Relaxed);
    }

    /// Judges an event that comes now.
    pub(super) fn judge(&self, rate: Rate, now_ns: u64) -> Verdict {
        // Relaxed: nothing else is read by what these numbers say.
        let taken =
            self.full_at_ns
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at_ns| {
                    let full_at_ns = full_at_ns.max(now_ns);
                    (full_at_ns - now_ns <= rate.ahead_ns)
                        .then(|| full_at_ns.saturating_add(rate.interval_ns))
                });
        if taken.is_ok() {
            Verdict::Logged
        } else if self.left_out.fetch_add(1, Ordering::Relaxed) == 0 {
            Verdict::FirstLeftOut
        } else {
            Verdict::LeftOut
        }
    }

    /// Takes the count of what was left out since this was last called.
    pub(super) fn take_left_out(&self) -> u64 {
        self.left_out.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS_NS: u64 = 1_000_000;

    fn logged(repeats: &Repeats, rate: Rate, events: u32, now_ns: u64) -> usize {
        (0..events)
            .filter(|_| repeats.judge(rate, now_ns) == Verdict::Logged)
            .count()
    }

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let rate = Rate::new(10, 3).unwrap();
        let repeats = Repeats::default();
        assert_eq!(logged(&repeats, rate, 9, 5 * MS_NS), 3);
        assert_eq!(logged(&repeats, rate, 9, 104 * MS_NS), 0);
        assert_eq!(logged(&repeats, rate, 9, 105 * MS_NS), 1);
        assert_eq!(logged(&repeats, rate, 9, 305 * MS_NS), 2);
        let much_later = 100_000 * MS_NS;
        assert_eq!(logged(&repeats, rate, 9, much_later), 3, "never more");
        assert_eq!(repeats.take_left_out(), 5 * 9 - 9);
    }

    #[test]
    fn the_first_that_is_left_out_is_told_apart() {
        let rate = Rate::new(1, 1).unwrap();
        let repeats = Repeats::default();
        let judge = |now_ms: u64| repeats.judge(rate, now_ms * MS_NS);
        assert_eq!(judge(1), Verdict::Logged);
        assert_eq!(judge(1), Verdict::FirstLeftOut);
        assert_eq!(judge(2), Verdict::LeftOut);
        assert_eq!(repeats.take_left_out(), 2);
        assert_eq!(repeats.take_left_out(), 0);
        assert_eq!(repeats.judge(rate, 3 * MS_NS), Verdict::FirstLeftOut);
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(Rate::new(0, 100), None);
    }

    #[test]
    fn threads_together_get_no_more_than_one_alone() {
        let rate = Rate::new(1, 1000).unwrap();
        let repeats = Repeats::default();
        let together: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| logged(&repeats, rate, 1000, 1)))
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(together, 1000);
        assert_eq!(repeats.take_left_out(), 3000);
    }

    #[test]
    fn the_end_of_time_is_no_overflow() {
        let rate = Rate::new(1, u32::MAX).unwrap();
        let repeats = Repeats::default();
        assert_eq!(repeats.judge(rate, u64::MAX), Verdict::Logged);
        assert_eq!(repeats.judge(rate, u64::MAX), Verdict::Logged);
    }
}
