//! A monotonic clock.

use std::time::Instant;

/// Counts from its own start, monotonically.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Microseconds since its start.
    #[inline]
    pub(crate) fn now_us(self) -> u64 {
        // 2^64 microseconds are half a million years.
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Nanoseconds since its start.
    #[inline]
    pub(crate) fn now_ns(self) -> u64 {
        // 2^64 nanoseconds are 584 years.
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
