//! What a shard shows all the time of what it is at, for somebody on another core who watches over
//! it: a handler that holds its shard can't tell of itself.
//!
//! The shard is the only writer but for the suspect, and never waits: to the processor each of its
//! stores is an ordinary one. The watcher looks a hundred times a second at most.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::handler::ConnectionId;
use crate::metrics::MEASURES;

/// One shard's.
#[derive(Debug, Default)]
#[repr(align(128))] // Two lines of cache: no other core's writes are in them.
pub struct Pulse {
    /// The number of the turn; even between turns.
    turn: AtomicU64,
    /// Slot and generation of the connection that is served.
    connection: AtomicU64,
    /// The code of the request that is handled, or [`NO_CODE`].
    code: AtomicU32,
    /// Whom the watcher saw last.
    suspect: Watched,
}

/// In place of a code: no handler is at work.
const NO_CODE: u32 = u32::MAX;

/// What a watcher has seen.
#[derive(Debug, Default)]
struct Watched {
    turn: AtomicU64,
    connection: AtomicU64,
    code: AtomicU32,
}

/// Whom a watcher has found at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The turn.
    pub turn: u64,
    /// The connection that was being served.
    pub connection: ConnectionId,
    /// The code of its request.
    pub code: u16,
}

impl Pulse {
    /// A turn begins.
    #[inline]
    pub(super) fn begin_turn(&self) {
        self.rest();
        self.turn
            .store(self.turn.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
    }

    /// It has ended.
    #[inline]
    pub(super) fn end_turn(&self) {
        let turn = self.turn.load(Ordering::Relaxed) | 1;
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
    }

    /// No handler is at work.
    #[inline]
    pub(super) fn rest(&self) {
        if MEASURES {
            self.code.store(NO_CODE, Ordering::Relaxed);
        }
    }

    /// A connection is served from here on.
    #[inline]
    pub(super) fn serve(&self, id: ConnectionId) {
        if !MEASURES {
            return;
        }
        let number = u64::from(id.slot) << u32::BITS | u64::from(id.generation);
        self.connection.store(number, Ordering::Relaxed);
    }

    /// A request with this code is handled from here on.
    #[inline]
    pub(super) fn handle(&self, code: u16) {
        if !MEASURES {
            return;
        }
        self.code.store(code.into(), Ordering::Relaxed);
    }

    /// The number of the turn, and of what is between two: it changes as long as the shard turns.
    pub(crate) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// Looks which handler is at work in a shard, and leaves word of it for the shard itself; none
    /// between two turns, and while the shard does something else. For one watcher. Who is named was at work at that moment or right before it.
    pub fn look(&self, shard: u16) -> Option<Suspect> {
        let turn = self.turn.load(Ordering::Relaxed);
        if turn.is_multiple_of(2) {
            return None;
        }
        let connection = self.connection.load(Ordering::Relaxed);
        let code = self.code.load(Ordering::Relaxed);
        if code == NO_CODE {
            return None;
        }
        self.suspect.connection.store(connection, Ordering::Relaxed);
        self.suspect.code.store(code, Ordering::Relaxed);
        self.suspect.turn.store(turn, Ordering::Release);
        Some(suspect(shard, turn, connection, code))
    }

    /// Who was seen at work in this turn, which has lasted for long.
    pub(super) fn suspect(&self, shard: u16) -> Option<Suspect> {
        let turn = self.suspect.turn.load(Ordering::Acquire);
        (turn == self.turn.load(Ordering::Relaxed) | 1).then(|| {
            let connection = self.suspect.connection.load(Ordering::Relaxed);
            suspect(
                shard,
                turn,
                connection,
                self.suspect.code.load(Ordering::Relaxed),
            )
        })
    }
}

fn suspect(shard: u16, turn: u64, connection: u64, code: u32) -> Suspect {
    #[expect(clippy::cast_possible_truncation, reason = "each half is one number")]
    let connection = ConnectionId {
        shard,
        slot: (connection >> u32::BITS) as u32,
        generation: connection as u32,
    };
    Suspect {
        turn,
        connection,
        code: u16::try_from(code).unwrap_or(u16::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_at_work_is_seen_and_only_in_its_turn() {
        let id = ConnectionId {
            shard: 4,
            slot: 7,
            generation: 9,
        };
        let pulse = Pulse::default();
        assert_eq!(pulse.look(4), None);
        pulse.begin_turn();
        assert_eq!((pulse.suspect(4), pulse.look(4)), (None, None));
        pulse.serve(id);
        pulse.handle(1000);
        let seen = pulse.look(4).unwrap();
        assert_eq!((seen.connection, seen.code), (id, 1000));
        assert_eq!(pulse.suspect(4), Some(seen));
        assert_eq!(pulse.turn(), seen.turn);
        pulse.end_turn();
        assert_eq!(pulse.turn(), seen.turn + 1);
        assert_eq!(pulse.look(4), None);
        pulse.begin_turn();
        assert_eq!((pulse.suspect(4), pulse.look(4)), (None, None));
        pulse.handle(1);
        let next = pulse.look(4).unwrap();
        assert_eq!(next.turn, seen.turn + 2);
        pulse.rest();
        assert_eq!(pulse.look(4), None);
    }
}
