//! What ends a ring's waits in time.
//!
//! A timeout that is given with a wait has the kernel set a timer and clear it again, and where no
//! other is nearer, program the CPU's own each time; on a virtual machine that leaves the guest. A
//! sixth of the CPU time of a message that comes alone went there. So a timeout is an entry of the
//! ring, which stays when a wait ends before it: the next waits have it as well. As each wants to wait
//! for about as long, it lapses before they want to end; who finds nothing then waits anew.

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::Timespec;

use super::user_data::Kind;

/// The one timeout of a ring.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// When it goes off at the latest, in nanoseconds of the clock of whoever waits; `None` where it
    /// is not set.
    at_ns: Option<u64>,
    /// How long after the entry. The kernel reads it as it takes that, so it stays where it is.
    after: Box<Timespec>,
}

/// What the kernel is to be asked for.
#[derive(Debug)]
pub(super) enum Request {
    /// A new timeout, which completes.
    Set(Entry),
    /// To bring the one that there is forward.
    BringForward(Entry),
}

impl Alarm {
    /// Has it go off at this time, if it does not before.
    #[inline]
    pub(super) fn set(&mut self, now_ns: u64, at_ns: u64) -> Option<Request> {
        if self.at_ns.is_some_and(|set| set <= at_ns) {
            return None;
        }
        let after_ns = at_ns.saturating_sub(now_ns);
        *self.after = Timespec::new()
            .sec(after_ns / NS_PER_S)
            .nsec(u32::try_from(after_ns % NS_PER_S).unwrap_or(0));
        let data = Kind::Alarm.user_data(0);
        Some(if self.at_ns.replace(at_ns).is_none() {
            let timeout = opcode::Timeout::new(&raw const *self.after).build();
            Request::Set(timeout.user_data(data))
        } else {
            let update = opcode::TimeoutUpdate::new(data, &raw const *self.after).build();
            // That there is none, since it has gone off, is as good.
            let unwatched = Kind::Unwatched.user_data(0);
            Request::BringForward(update.flags(Flags::SKIP_SUCCESS).user_data(unwatched))
        })
    }

    /// It has gone off, or was never set.
    #[inline]
    pub(super) fn gone_off(&mut self) {
        self.at_ns = None;
    }
}

const NS_PER_S: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_set_once_and_again_when_it_has_gone_off() {
        let mut alarm = Alarm::default();
        assert!(matches!(alarm.set(5, 10), Some(Request::Set(_))));
        // It goes off before that is wanted.
        assert!(alarm.set(6, 10).is_none());
        assert!(alarm.set(7, 1000).is_none());
        alarm.gone_off();
        assert!(matches!(alarm.set(11, 1000), Some(Request::Set(_))));
    }

    #[test]
    fn it_is_brought_forward_and_never_put_off() {
        let mut alarm = Alarm::default();
        assert!(matches!(alarm.set(0, 10), Some(Request::Set(_))));
        assert!(matches!(alarm.set(1, 9), Some(Request::BringForward(_))));
        assert!(alarm.set(2, 10).is_none());
    }

    #[test]
    fn it_goes_off_so_long_from_now_on() {
        let mut alarm = Alarm::default();
        let _ = alarm.set(500, 3 * NS_PER_S + 502);
        let shown = |timeout: &Timespec| format!("{timeout:?}");
        assert_eq!(shown(&alarm.after), shown(&Timespec::new().sec(3).nsec(2)));
        // At once, where that is over.
        let _ = alarm.set(9, 8);
        assert_eq!(shown(&alarm.after), shown(&Timespec::new()));
    }
}
