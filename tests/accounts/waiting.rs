//! Waiting for events, with one deadline for all: generous, since it is only reached by a failure.
//!
//! More generous than that of other tests: hash threads run when nothing else wants the CPU, so on a
//! host that is busy with other things a single hash can take many seconds.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_mins(5);

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
