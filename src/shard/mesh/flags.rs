//! The flags by which shards let one another know of messages and of room, and wake one another.
//!
//! Each works the same way. Of two shards, each writes one place, passes a fence, and reads the
//! place that the other writes:
//!
//! | who      | writes                 | reads, behind a `SeqCst` fence      |
//! |----------|------------------------|-------------------------------------|
//! | sender   | a message              | the receiver's `mail`: raised yet?  |
//! | receiver | `mail`: lowered        | the queues: a message?              |
//! | sender   | `mail`: raised         | the receiver's `asleep`             |
//! | receiver | `asleep`               | its `mail`                          |
//! | sender   | `wants_room`           | the queue: room?                    |
//! | receiver | a queue with more room | the sender's `wants_room`           |
//!
//! All such fences have one order, and whoever passes the later one sees what the other wrote in
//! front of the earlier one. So of two, never do both miss each other. Nothing but that is asked of
//! the flags, which is why they are read and written `Relaxed`; the bytes of messages are ordered by
//! the queues themselves.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::Doorbell;

/// What other shards see of one. In a block of cache lines of its own: 128 bytes, since CPUs fetch
/// lines in pairs.
#[repr(align(128))]
pub(super) struct Shared {
    /// Whether there may be messages for it, or room for its own.
    pub(super) mail: AtomicBool,
    /// Whether it is parked, or about to be.
    pub(super) asleep: AtomicBool,
    doorbell: Doorbell,
    /// By receiver: whether messages of this shard wait for room in the queue to that one.
    pub(super) wants_room: Box<[Flags]>,
}

/// A block of flags that are written by one shard and, now and then, by those that it sends to.
#[repr(align(128))]
pub(super) struct Flags([AtomicBool; Flags::COUNT]);

impl Flags {
    const COUNT: usize = 128;
}

impl Shared {
    pub(super) fn new(doorbell: &Doorbell, all: &[Doorbell]) -> Shared {
        let blocks = all.len().div_ceil(Flags::COUNT);
        let clear = || Flags([const { AtomicBool::new(false) }; Flags::COUNT]);
        Shared {
            mail: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            doorbell: doorbell.clone(),
            wants_room: (0..blocks).map(|_| clear()).collect(),
        }
    }

    pub(super) fn wants_room(&self, to: u16) -> &AtomicBool {
        let to = usize::from(to);
        &self.wants_room[to / Flags::COUNT].0[to % Flags::COUNT]
    }

    /// Raises `mail`. Gives back whether it was down.
    ///
    /// Behind a fence that is behind what the mail is about. Where `mail` is up, then either it
    /// stays so, or the shard lowers it later than it was read here, so passes its fence later, too,
    /// and sees what it is about. And whoever raised it, wakes it.
    pub(super) fn raise_mail(&self) -> bool {
        let was_down = !self.mail.load(Ordering::Relaxed);
        if was_down {
            self.mail.store(true, Ordering::Relaxed);
        }
        was_down
    }

    /// Wakes the shard if it is asleep. Behind a fence that is behind [`Shared::raise_mail`].
    ///
    /// Who finds that another one has woken it need not: before it sleeps again it raises `asleep`
    /// anew, later than this was read, so passes its fence later, too, and sees its mail.
    pub(super) fn wake_if_asleep(&self) {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.doorbell.ring();
        }
    }
}
