//! One shard: everything that one core does.
//!
//! [`Shard::turn`] is the whole event loop body, and it is ordinary synchronous code over the
//! trait [`Io`]: no socket, no clock, no executor. Production plugs io_uring and glommio in;
//! a simulation plugs in whatever it likes, with a clock of its own, and so tries thousands of
//! connection lifetimes a second.
//!
//! One turn: take the completions that are there (a bounded number), handle each, then start one
//! send for every connection that has something to send and none in flight. Nothing recurses:
//! completions are collected first and handled after.

mod answers;
mod connection;
mod dispatch;
mod io;
#[cfg_attr(not(test), expect(dead_code, reason = "run.rs is to pass it on"))]
mod mesh;
mod outbound;
pub(crate) mod run;
mod settings;
mod slab;
mod stats;
pub mod timer;

use std::collections::VecDeque;
use std::rc::Rc;

pub use self::io::{Completion, Failure, Io, Operation, SendBuffer};
pub use self::settings::Settings;

use self::answers::Answers;
use self::connection::{Connection, Multishot, Phase};
use self::outbound::SpareBuffers;
use self::slab::Slab;
use crate::handler::{ConnectionId, HandlerOutcome, Router};
use crate::metrics::{CloseCause, Counters};

/// Completions handled in one turn. Bounds how long the sends of the first wait for the last.
const COMPLETIONS_PER_TURN: usize = 512;

/// How long a connection that the server ends has to take what is queued and to end its own side,
/// in microseconds.
const CLOSE_US: u64 = 5_000_000;

/// So many deadlines are no trouble, whosever they are.
const DEADLINES_KEPT: usize = 1024;

/// How long accepting pauses when the host has no room for another connection, unless one closes
/// before, in microseconds.
const ACCEPT_PAUSE_US: u64 = 100_000;

/// One core's share of the server: its connections, buffers, handlers and their state.
pub struct Shard<I: Io, S> {
    io: I,
    settings: Settings,
    router: Router<S>,
    state: Rc<S>,
    listeners: Vec<Listener>,
    /// Accepted beyond the limit, because an accept can't be stopped at once; they come next.
    waiting: VecDeque<I::Socket>,
    connections: Slab<Connection<I::Socket>>,
    /// Asynchronous handlers at work.
    handlers: usize,
    completions: Vec<Completion<I::Socket, I::Received>>,
    /// The connections that have something to send.
    sending: Vec<ConnectionId>,
    spare: SpareBuffers,
    /// When the connections that the server ends are closed at the latest, in order of time.
    deadlines: VecDeque<(u64, ConnectionId)>,
    /// When everything is closed at the latest; set once the shard is to stop.
    stop_at_us: Option<u64>,
    counters: Counters,
    now_us: u64,
}

#[derive(Debug)]
struct Listener {
    accept: Multishot,
    /// The shard stops, and nobody is listened for any more.
    closed: bool,
    /// The last accept failed for want of room, which has been logged.
    failing: bool,
    /// Accepting goes on at this time.
    resume_at_us: Option<u64>,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Something happened, so the next turn may find more.
    pub worked: bool,
    /// The latest time for the next turn, even if nothing happens; in the microseconds of
    /// [`Shard::turn`].
    pub wake_at_us: Option<u64>,
    /// The shard has stopped: no socket is open, none has an operation in flight. Asynchronous
    /// handlers may still be at work; nobody waits for their replies.
    pub stopped: bool,
}

impl<I: Io, S: 'static> Shard<I, S> {
    /// The shard of this number, with so many listeners.
    pub fn new(
        io: I,
        number: u16,
        listeners: usize,
        settings: Settings,
        router: Router<S>,
        state: Rc<S>,
    ) -> Shard<I, S> {
        Shard {
            io,
            router,
            state,
            listeners: (0..listeners)
                .map(|_| Listener {
                    accept: Multishot::Idle,
                    closed: false,
                    failing: false,
                    resume_at_us: None,
                })
                .collect(),
            waiting: VecDeque::new(),
            connections: Slab::new(number, settings.connections_max),
            handlers: 0,
            completions: Vec::new(),
            sending: Vec::new(),
            spare: SpareBuffers::default(),
            deadlines: VecDeque::new(),
            stop_at_us: None,
            counters: Counters::default(),
            now_us: 0,
            settings,
        }
    }

    /// Does everything that there is to do at this time (microseconds since any fixed moment).
    pub fn turn(&mut self, now_us: u64) -> Turn {
        self.now_us = now_us;
        let mut completions = std::mem::take(&mut self.completions);
        self.io.reap(&mut completions, COMPLETIONS_PER_TURN);
        let worked = !completions.is_empty();
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions = completions;
        self.close_overdue();
        self.accept_where_there_is_room();
        self.start_sends();
        Turn {
            worked,
            wake_at_us: self.wake_at_us(),
            stopped: self.has_stopped(),
        }
    }

    /// Begins to stop: no new connections, what is queued is still sent, within
    /// [`Settings::stop_us`] from `now_us`. Goes on with the turns that follow, until one says that
    /// it has stopped.
    pub fn stop(&mut self, now_us: u64) {
        if self.stop_at_us.is_some() {
            return;
        }
        self.now_us = now_us;
        self.stop_at_us = Some(now_us + self.settings.stop_us);
        for socket in self.waiting.drain(..) {
            self.io.submit(Operation::Close { socket });
        }
        let ids: Vec<_> = self.connections.ids().collect();
        for id in ids {
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            if connection.phase != Phase::Open {
                continue;
            }
            self.end(id, CloseCause::Stop);
            self.settle(id);
        }
    }

    /// Stops without waiting: what is still queued is lost.
    pub fn stop_at_once(&mut self, now_us: u64) {
        self.stop(now_us);
        self.stop_at_us = Some(now_us);
    }

    /// What has been counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Connections that are open, or not quite closed yet.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Asynchronous handlers at work.
    pub fn handlers(&self) -> usize {
        self.handlers
    }

    /// The shard's way to the world.
    pub fn io_mut(&mut self) -> &mut I {
        &mut self.io
    }

    fn complete(&mut self, completion: Completion<I::Socket, I::Received>) {
        match completion {
            Completion::Received { id, result, more } => self.received(id, result, more),
            Completion::Sent { id, buffer, result } => self.sent(id, buffer, result),
            Completion::Handled { id, outcome } => self.handled(id, outcome),
            Completion::Accepted {
                listener,
                result,
                more,
            } => self.accepted(listener, result, more),
        }
    }

    fn accepted(&mut self, listener: usize, result: Result<I::Socket, Failure>, more: bool) {
        let Some(listener) = self.listeners.get_mut(listener) else {
            return;
        };
        if !more {
            listener.accept = Multishot::Idle;
        }
        match result {
            Ok(socket) if self.stop_at_us.is_some() => {
                self.io.submit(Operation::Close { socket });
            }
            Ok(socket) => {
                listener.failing = false;
                self.waiting.push_back(socket);
                self.admit();
            }
            Err(Failure::Cancelled) => {}
            Err(failure) => {
                // A broken connection is the peer's affair. Anything else could come again at
                // once, for as long as it lasts: wait, do not spin.
                if !failure.is_of_one_connection() {
                    listener.resume_at_us = Some(self.now_us + ACCEPT_PAUSE_US);
                    self.counters.accept_failures += 1;
                    if !std::mem::replace(&mut listener.failing, true) {
                        tracing::warn!(%failure, "accepting pauses until there is room");
                    }
                }
            }
        }
    }

    /// Opens the connections that wait, as far as there is room.
    fn admit(&mut self) {
        while self.connections.has_room() {
            let Some(socket) = self.waiting.pop_front() else {
                return;
            };
            self.counters.accepted += 1;
            if let Ok(id) = self.connections.insert(Connection::new(socket)) {
                tracing::debug!(connection = %id, "accepted");
                self.settle(id);
            }
        }
    }

    fn received(&mut self, id: ConnectionId, result: Result<I::Received, Failure>, more: bool) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if !more {
            connection.receive = Multishot::Idle;
        }
        match result {
            Ok(bytes) if bytes.is_empty() => connection.peer_done = true,
            Ok(bytes) => {
                self.counters.received_bytes += bytes.len() as u64;
                if connection.may_handle() {
                    self.handle_frames(id, &bytes);
                } else if connection.phase == Phase::Open {
                    connection.decoder.hold(&bytes);
                }
            }
            Err(Failure::Cancelled) => {}
            Err(Failure::NoBuffers) => self.counters.buffers_exhausted += 1,
            Err(Failure::NoRoom(_) | Failure::Broken(_)) => self.close(id, CloseCause::Reset),
        }
        self.settle(id);
    }

    fn sent(&mut self, id: ConnectionId, buffer: SendBuffer, result: Result<usize, Failure>) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        // Nothing taken is a failure, too: a send is never of nothing.
        let taken_bytes = result.unwrap_or(0);
        if taken_bytes == 0 {
            connection.outbound.end_send(buffer, &mut self.spare);
            self.close(id, CloseCause::Reset);
            return self.settle(id);
        }
        self.counters.sent_bytes += taken_bytes as u64;
        if let Some(rest) = connection
            .outbound
            .sent(buffer, taken_bytes, &mut self.spare)
        {
            self.counters.short_sends += 1;
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
        self.go_on(id);
    }

    fn handled(&mut self, id: ConnectionId, outcome: HandlerOutcome) {
        self.handlers -= 1;
        let Some(connection) = self
            .connections
            .get_mut(id)
            .filter(|connection| connection.phase == Phase::Open)
        else {
            self.counters.late_replies += 1;
            return;
        };
        connection.handling = false;
        let mut out = connection.outbound.take_queue(&mut self.spare);
        let mut answers = Answers {
            bad_frames: &mut connection.bad_frames,
            counters: &mut self.counters,
            settings: &self.settings,
        };
        let end = match outcome.result {
            Ok(reply) => answers.reply(&mut out, outcome.code, reply),
            Err(panicked) => Some(answers.panicked(&mut out, outcome.code, &panicked)),
        };
        connection.outbound.put_queue(out, &mut self.spare);
        if let Some(cause) = end {
            self.end(id, cause);
        }
        self.go_on(id);
    }

    /// Handles the frames that wait, if what kept them waiting is over.
    fn go_on(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.outbound.bytes() < self.settings.outbound_low_bytes {
            connection.paused = false;
        }
        if connection.may_handle() && connection.decoder.held_bytes() > 0 {
            self.handle_frames(id, &[]);
        }
        self.settle(id);
    }

    /// The server ends this connection: what is queued is still sent.
    fn end(&mut self, id: ConnectionId, cause: CloseCause) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.phase = Phase::Ending(cause);
            connection.decoder.discard();
            // A stop gives queued replies as long as it has itself.
            if self.stop_at_us.is_none() {
                self.set_deadline(id);
            }
        }
    }

    fn set_deadline(&mut self, id: ConnectionId) {
        self.forget_stale_deadlines();
        self.deadlines.push_back((self.now_us + CLOSE_US, id));
    }

    /// Keeps connections that end before their time from piling up in the queue of deadlines: it
    /// is cleared of them whenever half of it must be such.
    fn forget_stale_deadlines(&mut self) {
        if self.deadlines.len() > 2 * self.connections.len() + DEADLINES_KEPT {
            let connections = &mut self.connections;
            self.deadlines
                .retain(|&(_, id)| connections.get_mut(id).is_some());
        }
    }

    /// The connection is over: nothing more is sent.
    fn close(&mut self, id: ConnectionId, cause: CloseCause) {
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
        if connection.receive == Multishot::Armed {
            connection.receive = Multishot::Cancelling;
            self.io.submit(Operation::CancelReceive { id });
        }
        if connection.outbound.in_flight_bytes() > 0 {
            self.io.submit(Operation::CancelSend { id });
        }
    }

    /// Brings a connection's operations in line with its state; frees it when it is done with.
    fn settle(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if let Some(phase) = connection.next_phase() {
            return self.enter(id, phase);
        }
        if let Phase::Closing(_) = connection.phase {
            return self.settle_closing(id);
        }
        match (connection.wants_bytes(), connection.receive) {
            (true, Multishot::Idle) => {
                connection.receive = Multishot::Armed;
                self.io.submit(Operation::Receive {
                    id,
                    socket: &connection.socket,
                });
            }
            (false, Multishot::Armed) => {
                connection.receive = Multishot::Cancelling;
                self.counters.receive_pauses += 1;
                self.io.submit(Operation::CancelReceive { id });
            }
            _ => {}
        }
        if connection.outbound.is_ready() && !connection.listed {
            connection.listed = true;
            self.sending.push(id);
        }
    }

    /// Has a connection enter the phase that it has come to, which is never its own.
    fn enter(&mut self, id: ConnectionId, phase: Phase) {
        if let Phase::Closing(cause) = phase {
            self.close(id, cause);
            return self.settle_closing(id);
        }
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.phase = phase;
        self.io.submit(Operation::ShutdownSend {
            socket: &connection.socket,
        });
        if self.stop_at_us.is_some() {
            self.set_deadline(id);
        }
        // Once: no phase is over as soon as it is entered.
        self.settle(id);
    }

    /// The join at the end of a connection: frees it when nothing is in flight any more.
    fn settle_closing(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let Phase::Closing(cause) = connection.phase else {
            return;
        };
        if connection.is_in_flight() {
            return;
        }
        if let Some(connection) = self.connections.remove(id) {
            tracing::debug!(connection = %id, %cause, "closed");
            self.counters.count_close(cause);
            self.io.submit(Operation::Close {
                socket: connection.socket,
            });
        }
        for listener in &mut self.listeners {
            listener.resume_at_us = None;
        }
        self.admit();
    }

    fn start_sends(&mut self) {
        for id in self.sending.drain(..) {
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            connection.listed = false;
            if connection.outbound.is_ready() {
                let buffer = connection.outbound.start_send();
                self.io.submit(Operation::Send {
                    id,
                    socket: &connection.socket,
                    buffer,
                });
            }
        }
    }

    fn accept_where_there_is_room(&mut self) {
        let room =
            self.stop_at_us.is_none() && self.waiting.is_empty() && self.connections.has_room();
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.resume_at_us.is_some_and(|at| at <= self.now_us) {
                listener.resume_at_us = None;
            }
            let wanted = room && listener.resume_at_us.is_none();
            match (wanted, listener.accept) {
                (true, Multishot::Idle) => {
                    listener.accept = Multishot::Armed;
                    self.io.submit(Operation::Accept { listener: index });
                }
                (false, Multishot::Armed) => {
                    listener.accept = Multishot::Cancelling;
                    self.io.submit(Operation::CancelAccept { listener: index });
                }
                (false, Multishot::Idle) if self.stop_at_us.is_some() && !listener.closed => {
                    listener.closed = true;
                    self.io.submit(Operation::StopListening { listener: index });
                }
                _ => {}
            }
        }
    }

    /// Closes what has had its time: connections that do not end, and at the end of a stop all.
    fn close_overdue(&mut self) {
        while let Some(&(at_us, id)) = self.deadlines.front() {
            if at_us > self.now_us && self.connections.get_mut(id).is_some() {
                break;
            }
            self.deadlines.pop_front();
            self.close(id, CloseCause::Stop);
            self.settle(id);
        }
        if self.stop_at_us.is_some_and(|at_us| at_us <= self.now_us) {
            let ids: Vec<_> = self.connections.ids().collect();
            for id in ids {
                self.close(id, CloseCause::Stop);
                self.settle(id);
            }
        }
    }

    fn wake_at_us(&self) -> Option<u64> {
        let closes = self.deadlines.front().map(|&(at_us, _)| at_us);
        let resumes = self.listeners.iter().filter_map(|l| l.resume_at_us).min();
        let stops = self.stop_at_us.filter(|&at_us| at_us > self.now_us);
        [closes, resumes, stops].into_iter().flatten().min()
    }

    fn has_stopped(&self) -> bool {
        self.stop_at_us.is_some()
            && self.connections.len() == 0
            && self.listeners.iter().all(|listener| listener.closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::protocol::{codes, encode};

    /// Does nothing by itself; keeps what it was asked for.
    #[derive(Default)]
    struct Still {
        completions: Vec<Completion<(), Vec<u8>>>,
        asked: Vec<String>,
    }

    impl Io for Still {
        type Socket = ();
        type Received = Vec<u8>;

        fn submit(&mut self, operation: Operation<'_, ()>) {
            self.asked.push(format!("{operation:?}"));
        }

        fn reap(&mut self, completions: &mut Vec<Completion<(), Vec<u8>>>, _max: usize) {
            completions.append(&mut self.completions);
        }
    }

    fn asked(shard: &Shard<Still, ()>, operation: &str) -> usize {
        let is_it = |asked: &&String| asked.starts_with(operation);
        shard.io.asked.iter().filter(is_it).count()
    }

    /// A deadline that is for connections which end by themselves once cut a stop short: who took
    /// longer than that to read lost the rest, however long `timeouts.stop_ms` was.
    #[test]
    fn a_slow_reader_has_all_of_a_stop() {
        const STOP_US: u64 = 60_000_000;
        let mut router = Router::new();
        router.handler(codes::ECHO, |(), context, body| context.reply(body));
        let settings = Settings {
            stop_us: STOP_US,
            ..Settings::from(&Config::default())
        };
        let mut shard = Shard::new(Still::default(), 0, 1, settings, router, Rc::new(()));
        shard.turn(0);
        shard.io.completions.push(Completion::Accepted {
            listener: 0,
            result: Ok(()),
            more: true,
        });
        shard.turn(1);
        let id = shard.connections.ids().next().unwrap();
        let mut request = Vec::new();
        encode(&mut request, codes::ECHO, b"slow").unwrap();
        shard.io.completions.push(Completion::Received {
            id,
            result: Ok(request),
            more: true,
        });
        shard.turn(2);
        assert_eq!(asked(&shard, "Send"), 1);

        let stop_us = 1_000_000;
        shard.stop(stop_us);
        for waited_us in [0, CLOSE_US, 2 * CLOSE_US, STOP_US - 1] {
            shard.turn(stop_us + waited_us);
            assert_eq!(asked(&shard, "CancelSend"), 0, "after {waited_us} us");
        }
        shard.turn(stop_us + STOP_US);
        assert_eq!(asked(&shard, "CancelSend"), 1);
    }
}
