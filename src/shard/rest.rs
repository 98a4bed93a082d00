//! When a drain is over: as soon as no shard has anything left, and no sooner for any of them.
//!
//! A shard that drains and has nothing left rests, and stays: others may want a function run on it,
//! or have handed it a connection that is still on its way. It is for all of them together to end.
//!
//! One number says when, a [`Remainder`]. A shard that does not rest has its part in it; one that goes
//! to rest takes that out, and adds how many more messages it has told others than it has taken. From
//! the first moment of a turn to its last, a shard does not rest. So where the number is 0, all rest at
//! once, nobody is in the middle of a turn, and all that was told was taken: there is nobody left who
//! could want anything. (All changes of one atomic number are in one order, so there is such a moment,
//! and whose change it was sees it.) That shard tells the others, and all end.
//!
//! A shard whose own time is over ends while others may have something left. It takes its part out for
//! good, so that they do not wait for it: it may have had less time than they, since a reload and a
//! drain may reach two shards in different orders.
//!
//! A shard that fails does not rest, and what it was told is not taken, nor is what one was told that
//! has ended: the others then wait as long as their drain may last, unless somebody stops them.
//!
//! The number is touched by shards that rest or have just done so, never on the way of a message.

use std::mem;
use std::sync::atomic::{AtomicI64, Ordering::AcqRel};

use super::Shard;
use super::io::{Io, Message, Operation};
use crate::config::bounds;

/// The part of a shard that does not rest: more than messages are ever on their way.
const SHARD: i64 = 1 << 48;
const _: () = assert!(*bounds::SHARDS.end() < (i64::MAX / SHARD) as u64);

/// What all shards together have left. On cache lines of its own, as each of their loads is.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Remainder(AtomicI64);

impl Remainder {
    /// That of so many shards, none of which rests.
    pub(super) fn new(shards: u16) -> Remainder {
        Remainder(AtomicI64::new(i64::from(shards) * SHARD))
    }

    /// A shard rests no more.
    fn stir(&self) {
        self.0.fetch_add(SHARD, AcqRel);
    }

    /// A shard goes to rest, which has told others so many more messages than it has taken since it
    /// did so last. Gives back whether nobody has anything left.
    fn rest(&self, more_told: i64) -> bool {
        let change = more_told - SHARD;
        self.0.fetch_add(change, AcqRel) + change == 0
    }
}

/// One shard's part in it.
#[derive(Debug, Default)]
pub(super) struct Rest {
    is_resting: bool,
    /// Messages that it has told others, less those that it has taken, since it went to rest last.
    more_told: i64,
    /// Nobody has anything left.
    is_everywhere: bool,
}

impl Rest {
    /// A message of another shard was taken.
    #[inline]
    pub(super) fn note_taken(&mut self) {
        self.more_told -= 1;
    }

    /// Nobody has anything left, as another shard has found.
    pub(super) fn note_everywhere(&mut self) {
        self.is_everywhere = true;
    }
}

impl<I: Io, S: 'static> Shard<I, S> {
    /// Tells another shard something.
    pub(super) fn post(&mut self, shard: u16, message: Message<I::Socket>) {
        self.rest.more_told += 1;
        self.io.submit(Operation::Tell { shard, message });
    }

    /// A turn begins, which may bring anything.
    #[inline]
    pub(super) fn stir(&mut self) {
        if mem::take(&mut self.rest.is_resting) {
            self.loads.remainder().stir();
        }
    }

    /// A turn ends, and this shard has nothing left. Gives back whether nobody has.
    pub(super) fn go_to_rest(&mut self) -> bool {
        if self.rest.is_everywhere {
            return true;
        }
        self.rest.is_resting = true;
        let more_told = mem::take(&mut self.rest.more_told);
        if self.loads.remainder().rest(more_told) {
            self.rest.is_everywhere = true;
            for shard in (0..self.loads.shards()).filter(|&shard| shard != self.number) {
                self.io.submit(Operation::Tell {
                    shard,
                    message: Message::Drained,
                });
            }
        }
        self.rest.is_everywhere
    }

    /// This shard ends, whatever the others have left.
    pub(super) fn rest_for_good(&mut self) {
        self.go_to_rest();
        // No turn that follows stirs it.
        self.rest.is_resting = false;
    }
}
