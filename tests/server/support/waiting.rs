//! Waiting for events, with one deadline for all: generous, since it is only reached by a failure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How often something is looked at that nobody announces.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits until `look` gives back something. For what can only be looked at, like /proc.
///
/// # Panics
///
/// At the deadline.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(LOOK_EVERY);
    }
}

/// Makes another one until one fits. Those that do not fit stay until then: of connections that come and
/// go, the balance between the shards could place each on the same one.
///
/// # Panics
///
/// At the deadline.
#[allow(dead_code, reason = "those with connections of a certain shard use it")]
pub(crate) fn until_fits<T>(
    what: &str,
    mut make: impl FnMut() -> T,
    fits: impl Fn(&mut T) -> bool,
) -> T {
    let mut others = Vec::new();
    until(what, || {
        let mut made = make();
        if fits(&mut made) {
            return Some(made);
        }
        others.push(made);
        None
    })
}

/// How long a count must stand still to count as stalled. That nothing more will happen can't be
/// seen; should a slow host stall for so long by itself, the test goes on early and asks for less.
const STILL: Duration = Duration::from_millis(300);

/// Waits until this count has begun and stands still.
///
/// # Panics
///
/// At the deadline.
pub(crate) fn until_still(what: &str, count: &AtomicU64) -> u64 {
    let mut seen = 0;
    let mut since = Instant::now();
    until(what, || {
        let now = count.load(Ordering::Relaxed);
        if now != seen {
            seen = now;
            since = Instant::now();
        }
        (seen > 0 && since.elapsed() >= STILL).then_some(seen)
    })
}
