//! How connections end, one by one and all together: deadlines, drain, stop, and the join at the
//! end of each.

use super::connection::{Phase, QUIET_US, Receiving};
use super::io::{Arrival, Io, Operation};
use super::{Shard, Shutdown};
use crate::handler::ConnectionId;
use crate::metrics::CloseCause;
use crate::protocol::{HEADER_BYTES, Reason, codes, encode};

/// How long a connection that the server ends has to take what is queued and to end its own side,
/// in microseconds.
pub(super) const CLOSE_US: u64 = 5_000_000;

/// How long what is queued may take to leave when a drain's time is over, in microseconds. The
/// peers had all of the drain for it; this is for the last words.
const FLUSH_US: u64 = 500_000;

/// A GOAWAY frame, in bytes.
pub(super) const GOAWAY_BYTES: usize = HEADER_BYTES + size_of::<u32>();

impl<I: Io, S: 'static> Shard<I, S> {
    /// Begins to drain: nobody is let in but who is on the way already, everybody is told with GOAWAY,
    /// requests are still answered, connections that go quiet are closed, and what is left after
    /// [`Settings::drain_us`](super::Settings::drain_us) is stopped. Goes on with the turns that
    /// follow, until one says that the shard has stopped: all shards do at the same time, unless they
    /// are stopped. Until then, one that has nothing left still does what the others want of it.
    pub fn drain(&mut self, now_us: u64) {
        if self.shutdown != Shutdown::None {
            return;
        }
        self.now_us = now_us;
        self.shutdown = Shutdown::Draining {
            since_us: now_us,
            until_us: now_us + self.settings.drain_us,
        };
        self.turn_all_away(CloseCause::Drain);
        self.deadline_us_min = self.deadline_us_min.min(QUIET_US);
        // GOAWAY may come on top of as much as may be queued: nobody is closed for it.
        let max = &mut self.settings.outbound_bytes_max;
        *max = max.saturating_add(GOAWAY_BYTES);
        for id in self.open_connections() {
            self.say_goaway(id);
            self.settle(id);
        }
    }

    /// Tells a peer that the shard drains, if it does.
    pub(super) fn say_goaway(&mut self, id: ConnectionId) {
        let Shutdown::Draining { until_us, .. } = self.shutdown else {
            return;
        };
        if !self.settings.reply_errors {
            return;
        }
        let left_ms = until_us.saturating_sub(self.now_us) / 1000;
        let left_ms = u32::try_from(left_ms).unwrap_or(u32::MAX);
        self.answer(id, |answers, out| {
            // Four bytes fit every frame there can be, or else nobody is told.
            if encode(out, codes::GOAWAY, &left_ms.to_be_bytes()).is_ok() {
                answers.counters.frames_sent += 1;
            }
        });
    }

    /// Begins to stop: no new connections, what is queued is still sent, within
    /// [`Settings::stop_us`](super::Settings::stop_us) from `now_us`. Goes on with the turns that
    /// follow, until one says that it has stopped.
    pub fn stop(&mut self, now_us: u64) {
        if let Shutdown::Stopping { until_us } = &mut self.shutdown {
            // The last words of a drain may have had longer.
            *until_us = (*until_us).min(now_us + self.settings.stop_us);
            return;
        }
        self.now_us = now_us;
        self.stop_for(CloseCause::Stop, self.settings.stop_us);
    }

    /// Stops without waiting: what is still queued is lost.
    pub fn stop_at_once(&mut self, now_us: u64) {
        self.stop(now_us);
        self.shutdown = Shutdown::Stopping { until_us: now_us };
    }

    fn stop_for(&mut self, cause: CloseCause, flush_us: u64) {
        self.shutdown = Shutdown::Stopping {
            until_us: self.now_us + flush_us,
        };
        self.turn_all_away(cause);
        for id in self.open_connections() {
            let handling = self.connections.get_mut(id).and_then(|c| c.handling);
            if let Some(code) = handling {
                self.answer(id, |answers, out| {
                    let text = "the server stops before this is done";
                    answers.last_word(out, code, Reason::ShuttingDown, text);
                });
            }
            self.end(id, cause);
            self.settle(id);
        }
    }

    fn turn_all_away(&mut self, cause: CloseCause) {
        for arrival in std::mem::take(&mut self.waiting) {
            self.turn_away(arrival, cause);
        }
    }

    fn open_connections(&self) -> Vec<ConnectionId> {
        self.connections
            .iter()
            .filter(|(_, connection)| connection.phase == Phase::Open)
            .map(|(id, _)| id)
            .collect()
    }

    /// Goes on with what [`Shard::drain`] and [`Shard::stop`] began.
    #[cold]
    pub(super) fn go_down(&mut self) {
        match self.shutdown {
            Shutdown::Draining { until_us, .. } if until_us <= self.now_us => {
                self.stop_for(CloseCause::Drain, FLUSH_US);
            }
            Shutdown::Stopping { until_us } if until_us <= self.now_us => {
                let ids: Vec<_> = self.connections.ids().collect();
                for id in ids {
                    self.close(id, CloseCause::Stop);
                    self.settle(id);
                }
            }
            _ => {}
        }
    }

    /// Whether it is over, which it stays: nobody is left, and what handlers and others were told is
    /// on its way has been done, in a drain on all shards, or its time is over.
    #[cold]
    pub(super) fn has_stopped(&mut self) -> bool {
        if self.is_over || !self.is_deserted() {
            return self.is_over;
        }
        let is_done = self.has_nothing_to_pass_on();
        self.is_over = match self.shutdown {
            Shutdown::None => false,
            Shutdown::Draining { .. } => is_done && self.go_to_rest(),
            Shutdown::Stopping { until_us } => is_done || until_us <= self.now_us,
        };
        if self.is_over && self.is_stopping() {
            self.rest_for_good();
        }
        if self.is_over && !is_done {
            self.tell_what_is_left();
        }
        self.is_over
    }

    /// No socket is open.
    fn is_deserted(&self) -> bool {
        self.connections.len() == 0
            && self.waiting.is_empty()
            && self.listeners.iter().all(super::Listener::is_closed)
    }

    /// Looks after the connections whose timer has lapsed.
    #[cold]
    pub(super) fn see_to_timers(&mut self) {
        let mut lapsed = std::mem::take(&mut self.lapsed);
        self.timers
            .lapsed(self.timers_now_us, super::TIMERS_PER_TURN, &mut lapsed);
        for slot in lapsed.drain(..) {
            if let Some(id) = self.connections.id_at(slot) {
                self.look_after(id);
            }
        }
        self.lapsed = lapsed;
    }

    /// Ends a connection if its deadline has come; if that has moved on, the timer follows.
    fn look_after(&mut self, id: ConnectionId) {
        let draining_since_us = self.draining_since_us();
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.timer_at_us = u64::MAX;
        let due = connection
            .deadline(&self.settings, draining_since_us)
            .filter(|&(at_us, _)| at_us <= self.timers_now_us);
        match due {
            Some((_, cause)) if connection.phase != Phase::Open => self.close(id, cause),
            // Who takes nothing would not take an ERROR either.
            Some((_, cause @ CloseCause::WriteTimeout)) => self.close(id, cause),
            Some((_, cause @ CloseCause::Drain)) => self.end(id, cause),
            Some((_, cause)) => {
                self.answer(id, |answers, out| {
                    answers.last_word(out, codes::ERROR, Reason::TimedOut, timed_out(cause));
                });
                self.end(id, cause);
            }
            None => {}
        }
        self.settle(id);
    }

    pub(super) fn draining_since_us(&self) -> Option<u64> {
        match self.shutdown {
            Shutdown::Draining { since_us, .. } => Some(since_us),
            _ => None,
        }
    }

    /// The server ends this connection: what is queued is still sent.
    pub(super) fn end(&mut self, id: ConnectionId, cause: CloseCause) {
        let is_stopping = self.is_stopping();
        if let Some(connection) = self.connections.get_mut(id) {
            connection.phase = Phase::Ending(cause);
            connection.decoder.discard();
            // A stop gives queued replies as long as it has itself.
            if !is_stopping {
                connection.close_by_us = self.now_us + CLOSE_US;
            }
        }
    }

    fn is_stopping(&self) -> bool {
        matches!(self.shutdown, Shutdown::Stopping { .. })
    }

    /// Closes a connection that more replies are queued for than may be. That may have been less
    /// when they were queued, so it is for those that have got another one. One that ends gets none
    /// after its last, and has the time of its end to take them all.
    pub(super) fn close_beyond_max(&mut self, id: ConnectionId) {
        let bytes_max = self.settings.outbound_bytes_max;
        let is_beyond_max = self.connections.get_mut(id).is_some_and(|connection| {
            connection.phase == Phase::Open && connection.outbound.bytes() > bytes_max
        });
        if is_beyond_max {
            self.close(id, CloseCause::SlowConsumer);
        }
    }

    /// Bytes that its peer has not taken yet.
    pub(super) fn queued_bytes(&mut self, id: ConnectionId) -> usize {
        let connection = self.connections.get_mut(id);
        connection.map_or(0, |connection| connection.outbound.bytes())
    }

    /// The connection is over: nothing more is sent.
    pub(super) fn close(&mut self, id: ConnectionId, cause: CloseCause) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let cause = match connection.phase {
            Phase::Open => cause,
            Phase::Ending(first) | Phase::Lingering(first) => first,
            Phase::Closing(_) => return,
        };
        connection.phase = Phase::Closing(cause);
        connection.decoder.discard();
        connection.outbound.discard(&mut self.spare);
        if let Receiving::As(_) = connection.receive {
            connection.receive = Receiving::Cancelling;
            self.io.submit(Operation::CancelReceive { id });
        }
        if connection.outbound.is_sending() {
            self.io.submit(Operation::CancelSend { id });
        }
    }

    /// Has a connection enter the phase that it has come to, which is never its own.
    pub(super) fn enter(&mut self, id: ConnectionId, phase: Phase) {
        if let Phase::Closing(cause) = phase {
            self.close(id, cause);
            return self.settle_closing(id);
        }
        let is_stopping = self.is_stopping();
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.phase = phase;
        self.io.submit(Operation::ShutdownSend {
            socket: &connection.socket,
        });
        if is_stopping {
            connection.close_by_us = self.now_us + CLOSE_US;
        }
        // Once: no phase is over as soon as it is entered.
        self.settle(id);
    }

    /// The join at the end of a connection: frees it when nothing is in flight any more.
    pub(super) fn settle_closing(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let Phase::Closing(cause) = connection.phase else {
            return;
        };
        if connection.is_in_flight() {
            let held_bytes = connection.memory_bytes();
            return self.ledger.charge(&mut connection.charge, held_bytes);
        }
        if let Some(mut connection) = self.connections.remove(id) {
            self.timers.cancel(id.slot);
            self.ledger.charge(&mut connection.charge, 0);
            tracing::debug!(connection = %id, peer = %connection.peer, %cause, "closed");
            self.counters.count_close(cause);
            self.tell_closed(id, cause);
            let arrival = Arrival {
                socket: connection.socket,
                peer: connection.peer,
                counted: connection.counted,
            };
            self.depart(&arrival);
            self.io.submit(Operation::Close {
                socket: arrival.socket,
                // What the kernel still holds for a peer that takes nothing would stay for minutes.
                reset: matches!(cause, CloseCause::WriteTimeout | CloseCause::SlowConsumer),
            });
        }
        self.resume_accepting();
        self.admit();
    }
}

/// What a peer that is timed out is told.
fn timed_out(cause: CloseCause) -> &'static str {
    match cause {
        CloseCause::FirstFrame => "no whole frame came in time after the connection",
        _ => "no whole frame came for too long: a PING now and then keeps the connection",
    }
}
