//! What connections send: when a send begins, and what its completion brings.
//!
//! All that a turn has queued for a connection is sent together, when the turn ends. But where that is
//! much, its beginning has left the nearer caches by then, and so has the memory for the next one's. So
//! as much as fills a receive buffer, for a peer that sends much at a time itself, is sent when it has
//! been queued: 5% less CPU for frames of 8 and 16 KiB that come eight at a time. That takes a system
//! call of its own, and for a single frame of 16 KiB gains nothing.
//!
//! Where one connection has something to send in turn after turn, and no other, that is sent as it ends,
//! too: the system call is the one that the submission would be, and as nothing completes later, there is
//! no turn for that. With one message at a time it is 0.5 to 1 us less CPU. Not from the first such turn
//! on: where several peers are served, a few of which are alone in a turn by chance, the shard would sleep
//! more often, and with eight of them it was 1% more.

use std::hint::cold_path;

use super::Shard;
use super::connection::Phase;
use super::io::{Failure, Io, Operation, SendBuffer};
use crate::handler::ConnectionId;
use crate::metrics::{CloseCause, MEASURES};

/// So many turns in a row had one send at most; the next is not taken for one by chance.
pub(super) const LONE_SENDS_MIN: u32 = 16;

impl<I: Io, S: 'static> Shard<I, S> {
    /// Starts a send for each connection that is listed for one.
    pub(super) fn start_sends(&mut self) {
        if let [id] = self.sending[..] {
            self.lone_sends = self.lone_sends.saturating_add(1);
            if self.lone_sends > LONE_SENDS_MIN && self.send_alone(id) {
                return self.sending.clear();
            }
        } else if !self.sending.is_empty() {
            self.lone_sends = 0;
        }
        for at in 0..self.sending.len() {
            let id = self.sending[at];
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            connection.listed = false;
            if !connection.outbound.is_ready() {
                continue;
            }
            self.counters.sends += 1;
            if connection.outbound.has_parts() {
                self.start_send_of_parts(id);
                continue;
            }
            let bytes = connection.outbound.start_send();
            self.io.send_all_of(bytes, id, &connection.socket);
        }
        self.sending.clear();
    }

    /// Sends what a connection has queued before the turn ends, if that is much.
    pub(super) fn send_much_at_once(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.may_send_much_at_once(self.settings.bulk_bytes) {
            self.send_at_once(id);
        }
    }

    /// Has the kernel take what a connection has queued, as much as it does at once, and send the rest
    /// when it can.
    fn send_at_once(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.progress_at_us = self.now_us;
        self.counters.sends += 1;
        let bytes = connection.outbound.start_send();
        let taken_bytes = self.io.send_at_once(bytes, &connection.socket);
        let buffer = SendBuffer::of(bytes);
        self.counters.sent_bytes += taken_bytes as u64;
        connection.traffic.sent_bytes += taken_bytes as u64;
        match connection
            .outbound
            .sent(buffer, taken_bytes, &mut self.spare)
        {
            // How long they took is known when the turn ends.
            None => connection.outbound.end_marks(&mut self.spare, |mark| {
                self.sent_at_once.push((id, mark));
            }),
            Some(rest) => {
                self.counters.short_sends += u64::from(taken_bytes > 0);
                self.io.submit(Operation::Send {
                    id,
                    socket: &connection.socket,
                    buffer: rest,
                });
            }
        }
    }

    /// Sends what a connection has queued where it is the only one of a turn that has something. Gives
    /// back whether it did: not where something is due when that is taken, on the connection or beside
    /// it, as accepting is that waits for memory. No turn may come by itself after this one.
    #[inline(never)]
    fn send_alone(&mut self, id: ConnectionId) -> bool {
        if !self.accepts_everywhere {
            return false;
        }
        let Some(connection) = self.connections.get_mut(id) else {
            return false;
        };
        if !connection.may_send_at_once() {
            return false;
        }
        connection.listed = false;
        // The call takes several times as long as what has been queued took.
        if MEASURES && let Some(now_us) = self.io.now_us() {
            self.recorder.end_queued(now_us);
        }
        self.send_at_once(id);
        self.settle(id);
        true
    }

    /// Records how long those took that were sent in this turn, which has ended now.
    #[cold]
    pub(super) fn record_sent_at_once(&mut self, now_us: u64) {
        for (id, mark) in self.sent_at_once.drain(..) {
            let took_us = self.recorder.sent(mark, now_us);
            if let Some(connection) = self.connections.get_mut(id) {
                let slowest_us = &mut connection.traffic.slowest_us;
                *slowest_us = (*slowest_us).max(took_us);
            }
        }
        self.recorder.end_turn(now_us);
    }

    /// Not in the same place as the sends of what is a connection's own: a buffer that may be of the
    /// one kind or the other is made in memory, and read from there.
    #[cold]
    fn start_send_of_parts(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let buffer = connection.outbound.start_send_of_parts(&mut self.spare);
        let held_bytes = connection.memory_bytes();
        self.ledger.charge(&mut connection.charge, held_bytes);
        self.io.submit(Operation::Send {
            id,
            socket: &connection.socket,
            buffer,
        });
    }

    /// A send has come back, with how much of it was taken.
    #[inline]
    pub(super) fn sent(
        &mut self,
        id: ConnectionId,
        buffer: SendBuffer,
        result: Result<usize, Failure>,
    ) {
        let Some(connection) = self.connections.get_mut(id) else {
            cold_path();
            self.counters.stale_completions += 1;
            return;
        };
        // Nothing taken is a failure, too: a send is never of nothing.
        let taken_bytes = result.unwrap_or(0);
        if taken_bytes == 0 {
            cold_path();
            connection.outbound.end_send(buffer, &mut self.spare);
            self.close(id, CloseCause::Reset);
            return self.settle(id);
        }
        self.counters.sent_bytes += taken_bytes as u64;
        connection.traffic.sent_bytes += taken_bytes as u64;
        connection.progress_at_us = self.now_us;
        if let Some(rest) = connection
            .outbound
            .sent(buffer, taken_bytes, &mut self.spare)
        {
            self.send_rest(id, rest);
            return self.go_on(id);
        }
        let slowest_us = &mut connection.traffic.slowest_us;
        connection.outbound.end_marks(&mut self.spare, |mark| {
            *slowest_us = (*slowest_us).max(self.recorder.sent(mark, self.now_us));
        });
        if connection.paused || connection.decoder.held_bytes() > 0 {
            return self.go_on(id);
        }
        self.settle(id);
    }

    /// A send was short.
    #[cold]
    fn send_rest(&mut self, id: ConnectionId, rest: SendBuffer) {
        self.counters.short_sends += 1;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if let Phase::Closing(_) = connection.phase {
            connection.outbound.end_send(rest, &mut self.spare);
        } else {
            self.io.submit(Operation::Send {
                id,
                socket: &connection.socket,
                buffer: rest,
            });
        }
    }
}
