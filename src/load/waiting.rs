//! How a thread waits for what comes next: it looks for it, or it sleeps.
//!
//! Waking takes the kernel some microseconds, and 100 or more on a virtual machine, which then count
//! as latency of the server, and on loopback it is the server's CPU that does the waking. So a thread
//! that has a CPU of its own looks for a while before it sleeps, and is awake again as long before
//! something is due.

/// How to wait, and until when at most.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It is due already.
    Not,
    Look {
        until_ns: u64,
    },
    Sleep {
        until_ns: u64,
    },
}

/// A thread's way to wait. Times are in nanoseconds of one clock.
#[derive(Debug)]
pub(super) struct Waiting {
    /// How long it looks.
    busy_poll_ns: u64,
    /// When something has happened the last time.
    active_at_ns: u64,
}

impl Waiting {
    pub(super) fn new(busy_poll_ns: u64) -> Waiting {
        Waiting {
            busy_poll_ns,
            active_at_ns: 0,
        }
    }

    /// Something has happened.
    pub(super) fn note_activity(&mut self, now_ns: u64) {
        self.active_at_ns = now_ns;
    }

    /// How to wait at this time for what may happen, when something is due at `due_at_ns`.
    pub(super) fn how(&self, now_ns: u64, due_at_ns: u64) -> Wait {
        if due_at_ns <= now_ns {
            return Wait::Not;
        }
        let look_until_ns = self.active_at_ns.saturating_add(self.busy_poll_ns);
        let wake_at_ns = due_at_ns.saturating_sub(self.busy_poll_ns);
        if wake_at_ns <= now_ns {
            Wait::Look {
                until_ns: due_at_ns,
            }
        } else if now_ns < look_until_ns {
            Wait::Look {
                until_ns: look_until_ns.min(due_at_ns),
            }
        } else {
            Wait::Sleep {
                until_ns: wake_at_ns,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE_NS: u64 = 1_000_000;

    fn active_at_1000(busy_poll_ns: u64) -> Waiting {
        let mut waiting = Waiting::new(busy_poll_ns);
        waiting.note_activity(1000);
        waiting
    }

    #[test]
    fn what_is_due_is_not_waited_for() {
        for busy_poll_ns in [0, 100] {
            let waiting = active_at_1000(busy_poll_ns);
            assert_eq!(waiting.how(1000, 1000), Wait::Not);
            assert_eq!(waiting.how(1000, 999), Wait::Not);
        }
    }

    #[test]
    fn who_does_not_look_sleeps_until_something_is_due() {
        let waiting = active_at_1000(0);
        let until_ns = 1001;
        assert_eq!(waiting.how(1000, until_ns), Wait::Sleep { until_ns });
        let until_ns = u64::MAX;
        assert_eq!(waiting.how(1000, until_ns), Wait::Sleep { until_ns });
    }

    #[test]
    fn it_looks_for_a_while_after_something_has_happened() {
        let waiting = active_at_1000(100);
        let until_ns = 1100;
        assert_eq!(waiting.how(1000, LATE_NS), Wait::Look { until_ns });
        assert_eq!(waiting.how(1099, LATE_NS), Wait::Look { until_ns });
        let until_ns = LATE_NS - 100;
        assert_eq!(waiting.how(1100, LATE_NS), Wait::Sleep { until_ns });
    }

    #[test]
    fn it_is_awake_before_something_is_due() {
        let waiting = active_at_1000(100);
        let until_ns = LATE_NS;
        assert_eq!(waiting.how(LATE_NS - 100, LATE_NS), Wait::Look { until_ns });
        let until_ns = LATE_NS - 100;
        assert_eq!(
            waiting.how(LATE_NS - 101, LATE_NS),
            Wait::Sleep { until_ns }
        );
        // Never beyond it.
        let until_ns = 1050;
        assert_eq!(waiting.how(1000, 1050), Wait::Look { until_ns });
        let until_ns = 1150;
        assert_eq!(waiting.how(1070, 1150), Wait::Look { until_ns });
    }

    #[test]
    fn who_always_looks_never_sleeps() {
        let waiting = active_at_1000(u64::MAX);
        let until_ns = u64::MAX;
        assert_eq!(waiting.how(2000, u64::MAX), Wait::Look { until_ns });
    }
}
