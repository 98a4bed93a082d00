//! Other settings, while the shard runs: no connection is closed or paused for it.
//!
//! What is looked up when it is needed holds at once. What follows from settings and was computed
//! before, the connections' timers and whether each counts for its address, is brought in line
//! connection by connection, a bounded number a turn. So a deadline that comes nearer may be kept a
//! few turns late.

use super::io::Io;
use super::settings::Settings;
use super::{Shard, Shutdown};
use crate::handler::ConnectionId;

/// The most that any settings so far have allowed: what was begun under them may still be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Widest {
    pub(super) connections: usize,
    pub(super) handlers: usize,
    /// That may be queued for one connection.
    pub(super) queued_bytes: usize,
}

impl Widest {
    pub(super) fn of(settings: &Settings) -> Widest {
        Widest {
            connections: settings.connections_max,
            handlers: settings.handlers_max,
            queued_bytes: settings.queued_bytes_max(),
        }
    }

    fn or(self, other: Widest) -> Widest {
        Widest {
            connections: self.connections.max(other.connections),
            handlers: self.handlers.max(other.handlers),
            queued_bytes: self.queued_bytes.max(other.queued_bytes),
        }
    }
}

impl<I: Io, S: 'static> Shard<I, S> {
    /// Goes by these settings from now on. A connection beyond a new limit stays; a peer that more is
    /// queued for than it may now be is paused when more comes from it, and closed if it gets another
    /// reply on top. Another limit of frames begins anew for everybody. A shard that drains or stops
    /// keeps its settings. Goes on with the turns that follow.
    pub fn reload(&mut self, settings: Settings) {
        if self.shutdown != Shutdown::None {
            return;
        }
        self.connections.set_max(settings.connections_max);
        self.timers.reserve(settings.connections_max);
        self.ledger.set_max(settings.memory_bytes_max);
        self.deadline_us_min = settings.deadline_us_min();
        if settings.flood != self.settings.flood {
            self.flood_limit = self.flood_limit.wrapping_add(1);
        }
        self.widest = self.widest.or(Widest::of(&settings));
        self.desk.set_frame_bytes_max(settings.frame_bytes_max);
        self.settings = settings;
        self.unrevised = Some(0);
        for at in 0..self.waiting.len() {
            let (counted, peer) = (self.waiting[at].counted, self.waiting[at].peer);
            self.waiting[at].counted = self.counted_by_now(counted, peer);
        }
    }

    /// Whether a connection is still to be brought in line with the settings.
    pub(super) fn is_unrevised(&self, id: ConnectionId) -> bool {
        self.unrevised
            .is_some_and(|first| id.slot as usize >= first)
    }

    /// Goes on with what [`Shard::reload`] began. Gives back whether more can be
    /// done at once.
    pub(super) fn revise(&mut self) -> bool {
        let Some(first) = self.unrevised else {
            return false;
        };
        // Each connection may make a message. Room for more of them wakes the shard.
        if self.io.is_congested() {
            return false;
        }
        let end = first.saturating_add(self.settings.turn_slots_max.max(1));
        for slot in first..end.min(self.connections.slots()) {
            let id = u32::try_from(slot).ok();
            let Some(id) = id.and_then(|slot| self.connections.id_at(slot)) else {
                continue;
            };
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            let (counted, peer) = (connection.counted, connection.peer);
            let counted = self.counted_by_now(counted, peer);
            if let Some(connection) = self.connections.get_mut(id) {
                connection.counted = counted;
            }
            self.set_timer(id);
        }
        if end < self.connections.slots() {
            self.unrevised = Some(end);
            return true;
        }
        self.unrevised = None;
        false
    }
}
