//! A monotonic clock.

use rustix::time::{ClockId, clock_gettime};

/// Counts from its own start, monotonically.
///
/// It is what [`std::time::Instant`] counts, too, whose differences take several times the code: a
/// shard looks at the clock in every turn, with cold caches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started_ns: u64,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Clock {
        Clock {
            started_ns: monotonic_ns(),
        }
    }

    /// Microseconds since its start.
    #[inline]
    pub(crate) fn now_us(self) -> u64 {
        self.now_ns() / 1000
    }

    /// Nanoseconds since its start.
    #[inline]
    pub(crate) fn now_ns(self) -> u64 {
        monotonic_ns().saturating_sub(self.started_ns)
    }
}

/// Nanoseconds since some moment before this program began: there is room for 584 years of them.
#[inline]
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative, see clock_gettime(2).
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
