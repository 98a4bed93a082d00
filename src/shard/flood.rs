//! How fast frames may come on one connection: a token bucket.
//!
//! Kept as the one time at which the bucket will be full again (the generic cell rate algorithm of
//! ATM, ITU-T I.371): nothing has to be refilled, and a connection costs eight bytes.

use std::num::NonZeroU64;

/// The rate that is allowed, and how much may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Time that one frame uses up.
    interval_ns: NonZeroU64,
    /// Time that may be used up in advance: all but one of a burst.
    ahead_ns: u64,
}

impl Flood {
    /// So many frames a second, and `burst` at once; a burst of 0 is one second's frames. `None`
    /// if any number is allowed, which is what 0 frames a second means.
    pub fn new(frames_per_second: u32, burst: u32) -> Option<Flood> {
        let interval_ns = 1_000_000_000_u64.checked_div(u64::from(frames_per_second))?;
        let burst = if burst == 0 { frames_per_second } else { burst };
        Some(Flood {
            // At most 2^32 frames come a second: then one a nanosecond is any number.
            interval_ns: NonZeroU64::new(interval_ns).unwrap_or(NonZeroU64::MIN),
            ahead_ns: interval_ns.saturating_mul(u64::from(burst.saturating_sub(1))),
        })
    }
}

/// One connection's bucket, full at first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// Whether a frame is one too many, which came at some time from `since_us` on. Takes it out of
    /// the bucket if not.
    #[inline]
    pub(super) fn floods(&mut self, flood: Option<Flood>, since_us: u64, now_us: u64) -> bool {
        flood.is_some_and(|flood| !self.take(flood, since_us, now_us))
    }

    /// Takes the worth of one frame out, which came at some time from `since_us` on. Gives back
    /// whether there was any.
    #[inline]
    pub(super) fn take(&mut self, flood: Flood, since_us: u64, now_us: u64) -> bool {
        let full_at_ns = self.full_at_ns.max(since_us.saturating_mul(1000));
        if full_at_ns.saturating_sub(now_us.saturating_mul(1000)) > flood.ahead_ns {
            return false;
        }
        self.full_at_ns = full_at_ns.saturating_add(flood.interval_ns.get());
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(bucket: &mut Bucket, flood: Flood, now_us: u64) -> u32 {
        let mut taken = 0;
        while bucket.take(flood, now_us, now_us) {
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let flood = Flood::new(10, 3).unwrap();
        let mut bucket = Bucket::default();
        assert_eq!(taken(&mut bucket, flood, 5), 3);
        assert_eq!(taken(&mut bucket, flood, 100_004), 0);
        assert_eq!(taken(&mut bucket, flood, 100_005), 1);
        assert_eq!(taken(&mut bucket, flood, 300_005), 2);
        assert_eq!(
            taken(&mut bucket, flood, 100_000_000),
            3,
            "never more than a burst"
        );
    }

    #[test]
    fn a_burst_of_nothing_is_a_second_of_the_rate() {
        let flood = Flood::new(7, 0).unwrap();
        assert_eq!(taken(&mut Bucket::default(), flood, 0), 7);
        let single = Flood::new(7, 1).unwrap();
        assert_eq!(taken(&mut Bucket::default(), single, 0), 1);
    }

    /// A peer that kept to the rate was once cut off when a handler had kept its frames waiting.
    #[test]
    fn frames_that_had_to_wait_came_over_all_that_time() {
        let flood = Flood::new(10, 3).unwrap();
        let mut bucket = Bucket::default();
        assert_eq!(taken(&mut bucket, flood, 1_000_000), 3);
        let mut waited = 0;
        while bucket.take(flood, 1_000_000, 3_000_000) {
            waited += 1;
        }
        assert_eq!(waited, 20, "two seconds of the rate, and the burst again");
        assert_eq!(taken(&mut bucket, flood, 3_000_000), 0);
        assert_eq!(taken(&mut bucket, flood, 3_100_000), 1);
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(Flood::new(0, 0), None);
        assert_eq!(Flood::new(0, 5), None);
    }

    proptest! {
        /// Against a bucket of real tokens, refilled in exact fractions.
        #[test]
        fn allows_what_a_bucket_of_tokens_allows(
            frames_per_second in prop::sample::select(vec![1_u32, 2, 5, 10, 100, 1_000, 1_000_000]),
            burst in 1_u32..20,
            gaps_us in prop::collection::vec(prop_oneof![Just(0_u64), 0..2_000_000_u64], 0..200),
        ) {
            let flood = Flood::new(frames_per_second, burst).unwrap();
            let mut bucket = Bucket::default();
            // In millionths of a token.
            let full = u64::from(burst) * 1_000_000;
            let (mut tokens, mut now_us) = (full, 1_000_000);
            for gap_us in gaps_us {
                now_us += gap_us;
                tokens = full.min(tokens + gap_us * u64::from(frames_per_second));
                let allowed = tokens >= 1_000_000;
                tokens -= if allowed { 1_000_000 } else { 0 };
                prop_assert_eq!(bucket.take(flood, now_us, now_us), allowed);
            }
        }
    }
}
