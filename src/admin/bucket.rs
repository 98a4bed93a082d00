//! A token bucket: so many a second, and some more at once after a pause.

/// Full at first. Time comes in as an argument, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    per_second: u64,
    burst: u64,
    /// In millionths of a token.
    filled: u64,
    at_us: u64,
}

const MILLION: u64 = 1_000_000;

impl Bucket {
    /// So many tokens a second, and so many at once.
    pub(super) fn new(per_second: u32, burst: u32) -> Bucket {
        Bucket {
            per_second: per_second.into(),
            burst: u64::from(burst) * MILLION,
            filled: u64::from(burst) * MILLION,
            at_us: 0,
        }
    }

    /// Takes a token; gives back whether there was one.
    pub(super) fn take(&mut self, now_us: u64) -> bool {
        let passed_us = now_us.saturating_sub(self.at_us);
        self.at_us = now_us;
        // A token a second is a millionth of one a microsecond.
        let came = passed_us.saturating_mul(self.per_second);
        self.filled = self.filled.saturating_add(came).min(self.burst);
        let is_there = self.filled >= MILLION;
        if is_there {
            self.filled -= MILLION;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let mut bucket = Bucket::new(50, 100);
        assert_eq!((0..200).filter(|_| bucket.take(0)).count(), 100);
        assert!(!bucket.take(19_999));
        assert!(bucket.take(20_000));
        assert!(!bucket.take(39_999));
        let taken = (40_000..1_040_000).filter(|&now_us| bucket.take(now_us));
        assert_eq!(taken.count(), 50);
        // After a long pause, no more than the burst.
        assert_eq!((0..200).filter(|_| bucket.take(u64::MAX)).count(), 100);
    }
}
