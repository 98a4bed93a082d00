//! One shard: everything that one core does.
//!
//! [`Shard::turn`] is the whole event loop body, and it is ordinary synchronous code over the
//! trait [`Io`]: no socket, no clock, no executor. Production plugs io_uring and glommio in;
//! a simulation plugs in whatever it likes, with a clock of its own, and so tries thousands of
//! connection lifetimes a second.
//!
//! One turn: carry out what was asked for between turns, take the completions that are there (a
//! bounded number) and handle each, go on with the connections that had their share of the last turn
//! and with those that are to be brought in line with other settings, see to the timers that have
//! lapsed, carry out what handlers have asked for meanwhile, then start one send for every connection
//! that has something to send and none in flight. Much may be sent before that, and what is alone
//! without completing later; see `sending`. Nothing recurses: what there is when the turn begins is
//! handled one by one, and what comes of that is the next turn's.

mod addresses;
mod admission;
mod answers;
mod audit;
mod balance;
mod connection;
mod dispatch;
mod ending;
mod errands;
mod flood;
mod hooks;
mod inflow;
mod io;
mod ledger;
mod mailbox;
mod marks;
pub(crate) mod mesh;
mod outbound;
mod parts;
mod pulse;
mod recorder;
mod reload;
mod rest;
pub(crate) mod run;
mod sending;
mod settings;
mod share;
mod slab;
mod slowness;
mod snapshot;
mod streak;
pub mod timer;

use std::collections::VecDeque;
use std::hint::cold_path;
use std::rc::Rc;
use std::sync::Arc;

pub use self::balance::Loads;
pub use self::flood::Flood;
pub use self::io::{Arrival, Completion, Failure, Io, Message, Operation, Reception, SendBuffer};
pub use self::pulse::{Pulse, Suspect};
pub use self::settings::Settings;
pub use self::snapshot::{CensusBy, ConnectionView, Gauges, MeshCounts, Pace, Snapshot};

use self::addresses::Addresses;
use self::admission::Listener;
use self::answers::Answers;
use self::connection::{Connection, Phase, Receiving};
use self::errands::Lanes;
use self::ledger::Ledger;
use self::marks::Mark;
use self::outbound::SpareBuffers;
use self::recorder::Recorder;
use self::reload::Widest;
use self::rest::Rest;
use self::share::Share;
use self::slab::Slab;
use self::snapshot::Census;
use self::timer::Wheel;
use crate::handler::{ConnectionId, Desk, HandlerOutcome, Local, Router};
use crate::metrics::latency::Codes;
use crate::metrics::{CloseCause, Counters};

/// Completions handled in one turn. Bounds how long the sends of the first wait for the last.
const COMPLETIONS_PER_TURN: usize = 512;

/// Turns after which the timers get to know how late it is, come what may: by then a full queue of
/// completions has been taken.
const TURNS_BEHIND_MAX: u32 = 16;

/// Timers seen to in one turn, for the same reason.
const TIMERS_PER_TURN: usize = 512;

/// One core's share of the server: its connections, buffers, handlers and their state.
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent facts; what is exclusive is in `shutdown`"
)]
pub struct Shard<I: Io, S> {
    io: I,
    number: u16,
    settings: Settings,
    router: Router<S>,
    state: Rc<S>,
    listeners: Vec<Listener>,
    /// Accepted or taken over without room for them, because an accept can't be stopped at once and
    /// other shards do not know; they come next.
    waiting: VecDeque<Arrival<I::Socket>>,
    connections: Slab<Connection<I::Socket>>,
    /// What the connections hold.
    ledger: Ledger,
    /// The connections of all shards, by shard.
    loads: Arc<Loads>,
    /// The connections of all shards, by those addresses that this one counts.
    addresses: Addresses,
    /// Accepting pauses for want of memory, which has been counted.
    short_of_memory: bool,
    /// There is room for another connection, which the other shards have been told.
    has_room: bool,
    /// An accept is in flight at each listener, as is to be while there is room.
    accepts_everywhere: bool,
    /// Asynchronous handlers at work.
    handlers: usize,
    /// Where handlers leave their errands.
    desk: Rc<Desk>,
    /// Errands that are being carried out.
    lanes: Lanes<I::Socket>,
    /// The connections that have something to send.
    sending: Vec<ConnectionId>,
    /// Turns with a single send since the last with several.
    lone_sends: u32,
    /// Whose replies were taken in this very turn, and which.
    sent_at_once: Vec<(ConnectionId, Mark)>,
    /// The connections that had their share of the turn and have frames left.
    deferred: Vec<ConnectionId>,
    spare: SpareBuffers,
    /// One timer a connection, for its deadline.
    timers: Wheel,
    /// How late it is for the timers.
    timers_now_us: u64,
    /// Turns since completions were last all taken.
    turns_behind: u32,
    /// The least time from anything on an open connection to the deadline that follows from it.
    deadline_us_min: u64,
    lapsed: Vec<u32>,
    /// The first slot that was not looked at since a reload.
    unrevised: Option<usize>,
    /// The number of the limit of frames that is in force.
    flood_limit: u16,
    /// What may be there, by these settings or earlier ones.
    widest: Widest,
    shutdown: Shutdown,
    /// Its part in the end of a drain.
    rest: Rest,
    /// It has gone down.
    is_over: bool,
    counters: Counters,
    recorder: Recorder,
    /// What others see of it while it is at work.
    pulse: Arc<Pulse>,
    /// The sweep for a snapshot's connections, while there is one.
    census: Option<Census>,
    now_us: u64,
    /// What each connection gets of the turn.
    share: Share,
}

/// How far the shard is on its way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    /// Not at all.
    None,
    /// No new connections; those that go quiet are closed, and all that are left at `until_us`. When
    /// it has none, it rests until no other shard has any, either.
    Draining { since_us: u64, until_us: u64 },
    /// What is queued is still sent, until `until_us`.
    Stopping { until_us: u64 },
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Something happened, or is left to do.
    pub worked: bool,
    /// Something is left to do, whether anything completes until the next turn or not.
    pub has_more: bool,
    /// The latest time for the next turn, even if nothing happens; in the microseconds of
    /// [`Shard::turn`].
    pub wake_at_us: Option<u64>,
    /// The shard has stopped: no socket is open, none has an operation in flight, and nothing waits
    /// that handlers or others had asked for, unless there was no time for it; in a drain, neither
    /// here nor on any other shard. Asynchronous handlers may still be at work; nobody waits for their
    /// replies.
    pub stopped: bool,
}

impl<I: Io, S: 'static> Shard<I, S> {
    /// The shard of this number among those of `loads`, with so many listeners. `state` makes what
    /// its handlers get.
    pub fn new(
        io: I,
        (number, loads): (u16, Arc<Loads>),
        listeners: usize,
        settings: Settings,
        router: Router<S>,
        state: impl FnOnce(Local<S>) -> Rc<S>,
    ) -> Shard<I, S> {
        let desk = Desk::new(number, loads.shards(), settings.frame_bytes_max);
        desk.set_room_bytes(settings.memory_bytes_max);
        Shard {
            io,
            number,
            state: state(Local::new(Rc::clone(&desk))),
            desk,
            lanes: Lanes::default(),
            listeners: (0..listeners).map(|_| Listener::default()).collect(),
            waiting: VecDeque::new(),
            connections: Slab::new(number, settings.connections_max),
            ledger: Ledger::new(settings.memory_bytes_max),
            loads,
            addresses: Addresses::default(),
            short_of_memory: false,
            has_room: true,
            accepts_everywhere: false,
            handlers: 0,
            sending: Vec::new(),
            lone_sends: 0,
            sent_at_once: Vec::new(),
            deferred: Vec::new(),
            spare: SpareBuffers::default(),
            timers: Wheel::with_room(settings.connections_max),
            deadline_us_min: settings.deadline_us_min(),
            lapsed: Vec::new(),
            unrevised: None,
            flood_limit: 0,
            widest: Widest::of(&settings),
            timers_now_us: 0,
            turns_behind: 0,
            shutdown: Shutdown::None,
            rest: Rest::default(),
            is_over: false,
            counters: Counters::default(),
            recorder: Recorder::new(Codes::new(router.codes())),
            pulse: Arc::default(),
            census: None,
            now_us: 0,
            share: Share::default(),
            router,
            settings,
        }
    }

    /// Does everything that there is to do at this time (microseconds since any fixed moment).
    pub fn turn(&mut self, now_us: u64) -> Turn {
        self.stir();
        self.now_us = now_us;
        self.share = self.share.of_next_turn(&self.settings);
        self.pulse.begin_turn();
        self.recorder.begin_turn(now_us);
        if !self.sent_at_once.is_empty() {
            self.record_sent_at_once(now_us);
        }
        let deferred = std::mem::take(&mut self.deferred);
        self.io.hold_messages(self.lanes.are_full());
        self.io.reap(COMPLETIONS_PER_TURN);
        self.counters.turns += 1;
        self.lanes.begin_turn(&self.settings);
        self.desk.set_congested(self.io.is_congested());
        self.see_to_errands();
        let mut completions = 0;
        while self.complete_next() {
            completions += 1;
        }
        self.counters.completions += completions as u64;
        self.note_backlog(completions < COMPLETIONS_PER_TURN);
        let worked = completions > 0 || !deferred.is_empty();
        self.end_calls_of_gone();
        for id in deferred {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.deferred = false;
                self.go_on(id);
            }
        }
        let is_revising = self.revise() | self.go_on_with_census();
        if self.timers.is_due(self.timers_now_us) {
            self.see_to_timers();
        }
        if self.shutdown != Shutdown::None {
            self.go_down();
        }
        self.see_to_errands();
        self.accept_where_there_is_room();
        self.start_sends();
        self.count_errands();
        self.desk.set_room_bytes(self.ledger.room_bytes());
        let has_more = is_revising || !self.deferred.is_empty() || self.is_on_errands();
        Turn {
            worked: worked || has_more,
            has_more,
            wake_at_us: self.wake_at_us(),
            stopped: self.shutdown != Shutdown::None && self.has_stopped(),
        }
    }

    /// Tells the timers how late it is for them. While completions are left for the next turn, that
    /// is as late as it was when none were: what would have put a deadline off may be among them.
    fn note_backlog(&mut self, has_all: bool) {
        self.turns_behind = if has_all { 0 } else { self.turns_behind + 1 };
        if has_all || self.turns_behind > TURNS_BEHIND_MAX {
            self.turns_behind = 0;
            self.timers_now_us = self.now_us;
        }
    }

    /// What has been counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Connections that are open, or not quite closed yet.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// What the connections hold in memory, and what handlers say that they keep, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.ledger.held_bytes()
    }

    /// Asynchronous handlers at work.
    pub fn handlers(&self) -> usize {
        self.handlers
    }

    /// Where its handlers leave their errands.
    pub(crate) fn desk(&self) -> &Rc<Desk> {
        &self.desk
    }

    /// The shard's way to the world.
    pub fn io_mut(&mut self) -> &mut I {
        &mut self.io
    }

    /// Handles the next completion, if there is one. It is taken apart where it comes out: to move
    /// one as a whole is a copy.
    #[inline]
    fn complete_next(&mut self) -> bool {
        match self.io.completion() {
            Some(Completion::Received { id, result, more }) => self.received(id, result, more),
            Some(Completion::Sent { id, buffer, result }) => self.sent(id, buffer, result),
            Some(Completion::Handled { id, outcome }) => self.handled(id, outcome),
            Some(Completion::Accepted {
                listener,
                result,
                more,
            }) => self.accepted(listener, result, more),
            Some(Completion::Told { message }) => {
                self.rest.note_taken();
                self.told(message);
            }
            None => return false,
        }
        true
    }

    #[inline]
    fn received(&mut self, id: ConnectionId, result: Result<I::Received, Failure>, more: bool) {
        let Some(connection) = self.connections.get_mut(id) else {
            cold_path();
            self.counters.stale_completions += 1;
            return result.map_or((), |bytes| self.io.wipe(bytes));
        };
        if !more {
            connection.receive = Receiving::Not;
        }
        match result {
            Ok(bytes) if bytes.is_empty() => connection.peer_done = true,
            Ok(bytes) => {
                self.counters.received_bytes += bytes.len() as u64;
                connection.traffic.received_bytes += bytes.len() as u64;
                let (large_bytes, bulk_bytes) =
                    (self.settings.large_bytes, self.settings.bulk_bytes);
                connection.inflow.note(bytes.len(), large_bytes, bulk_bytes);
                let may_have_secrets = if connection.may_handle() {
                    self.handle_frames(id, &bytes)
                } else {
                    self.hold(id, &bytes)
                };
                if may_have_secrets {
                    cold_path();
                    self.io.wipe(bytes);
                }
            }
            Err(failure) => self.note_receive_failure(id, &failure),
        }
        self.settle(id);
    }

    #[cold]
    fn note_receive_failure(&mut self, id: ConnectionId, failure: &Failure) {
        match failure {
            Failure::Cancelled => {}
            Failure::NoBuffers => {
                self.counters.buffers_exhausted += 1;
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.inflow.note_exhausted();
                }
            }
            Failure::NoRoom(_) | Failure::Broken(_) => self.close(id, CloseCause::Reset),
        }
    }

    #[inline(never)]
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
        connection.handling = None;
        let since_us = connection.handling_since_us;
        let took_us = self.now_us.saturating_sub(connection.handler_began_us);
        // The peer could not but wait: it is not idle from its own last frame on.
        connection.frame_at_us = self.now_us;
        connection.only_pushes = false;
        let queued_bytes = connection.outbound.bytes();
        let mut end = None;
        let code = outcome.code;
        self.answer(id, |answers, out| {
            end = match outcome.result {
                Ok(reply) => answers.reply(out, outcome.code, reply),
                Err(panicked) => Some(answers.panicked(out, outcome.code, &panicked)),
            };
        });
        let has_queued = self.queued_bytes(id) > queued_bytes;
        self.note_handled(id, code, (since_us, took_us), has_queued);
        if let Some(cause) = end {
            self.end(id, cause);
        }
        if has_queued {
            self.close_beyond_max(id);
        }
        self.go_on(id);
    }

    /// Queues what `write` answers on a connection.
    fn answer(&mut self, id: ConnectionId, write: impl FnOnce(&mut Answers<'_>, &mut Vec<u8>)) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let mut out = connection.outbound.take_queue(&mut self.spare);
        let frames_sent_before = self.counters.frames_sent;
        let mut answers = Answers {
            id,
            peer: &connection.peer,
            bad_frames: &mut connection.bad_frames,
            counters: &mut self.counters,
            settings: &self.settings,
        };
        write(&mut answers, &mut out);
        connection.outbound.put_queue(out, &mut self.spare);
        connection.traffic.frames_sent += self.counters.frames_sent - frames_sent_before;
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
            let _nothing_was_received = self.handle_frames(id, &[]);
        }
        self.settle(id);
    }

    /// Brings a connection's operations, timer and charge in line with its state; frees it when it
    /// is done with.
    #[inline]
    fn settle(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.connections.get_mut(id) else {
            return;
        };
        if !connection.is_flowing(self.settings.bulk_bytes) {
            cold_path();
            if self.settle_phase(id) {
                return;
            }
            self.settle_receive(id);
            self.send_much_at_once(id);
            let Some(settled) = self.connections.get_mut(id) else {
                return;
            };
            connection = settled;
        }
        if connection.outbound.is_ready() && !connection.listed {
            connection.listed = true;
            // The peer has taken all that came before: its time to take this begins.
            connection.progress_at_us = self.now_us;
            self.sending.push(id);
        }
        let held_bytes = connection.memory_bytes();
        self.ledger.charge(&mut connection.charge, held_bytes);
        // Nothing that has just happened on an open connection brings its deadline nearer than this,
        // once its first frame has come.
        let soonest_us = self.now_us.saturating_add(self.deadline_us_min);
        let is_usual = connection.framed
            && connection.phase == Phase::Open
            // Taking what was pushed leaves the deadline where it was before, which may be over.
            && !connection.only_pushes;
        if !is_usual || connection.timer_at_us >= soonest_us {
            self.set_timer(id);
        }
    }

    /// Has a connection enter its next phase, if it is done with the one that it is in, or be freed.
    /// Gives back whether it has seen to the rest, too.
    #[inline(never)]
    fn settle_phase(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else {
            return true;
        };
        if let Some(phase) = connection.next_phase() {
            self.enter(id, phase);
            return true;
        }
        if let Phase::Closing(_) = connection.phase {
            self.settle_closing(id);
            return true;
        }
        false
    }

    /// Has a connection receive, or not, or otherwise than it does, as its state wants it.
    #[inline(never)]
    fn settle_receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let how = connection.reception(self.settings.bulk_bytes);
        match (connection.wants_bytes(), connection.receive) {
            (true, Receiving::Not) => {
                connection.receive = Receiving::As(how);
                self.io.submit(Operation::Receive {
                    id,
                    socket: &connection.socket,
                    how,
                });
            }
            // What is received once comes to its end by itself.
            (true, Receiving::As(other)) if other != how && other != Reception::Once => {
                connection.receive = Receiving::Cancelling;
                self.io.submit(Operation::CancelReceive { id });
            }
            (false, Receiving::As(_)) => {
                connection.receive = Receiving::Cancelling;
                self.counters.receive_pauses += 1;
                self.io.submit(Operation::CancelReceive { id });
            }
            _ => {}
        }
    }

    /// Has a connection's timer lapse at its deadline, if it does not lapse before.
    #[inline(never)]
    fn set_timer(&mut self, id: ConnectionId) {
        let draining_since_us = self.draining_since_us();
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if let Some((at_us, _)) = connection.deadline(&self.settings, draining_since_us)
            && at_us < connection.timer_at_us
        {
            connection.timer_at_us = at_us;
            self.timers.set(id.slot, at_us);
        }
    }

    #[inline]
    fn wake_at_us(&self) -> Option<u64> {
        let timers = self.timers.next_us();
        if self.accepts_everywhere {
            return timers;
        }
        self.wake_at_us_of_all(timers)
    }

    /// The earliest of the timers and of all else that a shard waits for which does not accept
    /// everywhere.
    #[cold]
    fn wake_at_us_of_all(&self, timers: Option<u64>) -> Option<u64> {
        let resumes = self
            .listeners
            .iter()
            .filter_map(Listener::resumes_at_us)
            .min();
        let goes_down = match self.shutdown {
            Shutdown::None => None,
            Shutdown::Draining { until_us, .. } => Some(until_us),
            Shutdown::Stopping { until_us } => Some(until_us).filter(|&at| at > self.now_us),
        };
        [timers, resumes, goes_down].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
