//! How connections get in: accepted, counted by address, placed on a shard, and taken in where there
//! is room.
//!
//! Each is counted as accepted once, by the shard whose listener it came through, and as closed
//! once, by whichever shard has it at the end. While there is no room, nothing is accepted: the
//! kernel's backlog holds who comes. What comes all the same, since an accept can't be stopped at
//! once, waits here. (One that is on its way to a shard which has just been stopped is closed with
//! that shard's queue, and not counted. In a drain, no shard ends before it has arrived.)
//!
//! A listener may be shared with other processes: a worker that drains has a successor. The kernel
//! wakes only one of those who accept there, and what wakes an accept that is being cancelled wakes
//! nobody else. So a shard that drains looks once more before it closes a listener, and takes in who
//! waits: nobody else might, until somebody else comes.

use std::net::{IpAddr, SocketAddr};

use super::addresses::owner;
use super::connection::Connection;
use super::io::{Arrival, Failure, Io, Message, Operation};
use super::{Shard, Shutdown};
use crate::metrics::CloseCause;

/// How long accepting pauses when the host has no room for another connection, unless one closes
/// before, in microseconds.
const ACCEPT_PAUSE_US: u64 = 100_000;

/// How often a shard that drains looks once more who waits at a listener. Who comes while it does
/// that is another reason to look; but if many do, the next of them wakes whoever else accepts there.
const LAST_LOOKS: u32 = 8;

/// Whether an accept is in flight, which goes on until it is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    /// None is.
    Not,
    /// One is.
    Armed,
    /// One is, and a cancel is on its way after it.
    Cancelling,
}

#[derive(Debug)]
pub(super) struct Listener {
    accept: Accepting,
    /// The shard stops, and nobody is listened for any more.
    closed: bool,
    /// The last accept failed for want of room, which has been logged.
    failing: bool,
    /// Accepting goes on at this time.
    resume_at_us: Option<u64>,
    /// How often a shard that drains looks once more.
    last_looks: u32,
}

impl Default for Listener {
    fn default() -> Listener {
        Listener {
            accept: Accepting::Not,
            closed: false,
            failing: false,
            resume_at_us: None,
            last_looks: LAST_LOOKS,
        }
    }
}

impl Listener {
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn resumes_at_us(&self) -> Option<u64> {
        self.resume_at_us
    }
}

impl<I: Io, S: 'static> Shard<I, S> {
    #[cold]
    pub(super) fn accepted(
        &mut self,
        listener: usize,
        result: Result<Arrival<I::Socket>, Failure>,
        more: bool,
    ) {
        let Some(listener) = self.listeners.get_mut(listener) else {
            return;
        };
        if !more {
            listener.accept = Accepting::Not;
            self.accepts_everywhere = false;
        }
        match result {
            Ok(arrival) => {
                listener.failing = false;
                self.counters.accepted += 1;
                match self.shutdown {
                    // It had got this far when the drain began.
                    Shutdown::None | Shutdown::Draining { .. } => self.arrive(arrival),
                    Shutdown::Stopping { .. } => self.refuse(arrival, CloseCause::Stop),
                }
            }
            Err(Failure::Cancelled) => {}
            Err(failure) => {
                // A broken connection is the peer's affair. Anything else could come again at
                // once, for as long as it lasts: wait, do not spin.
                if !failure.is_of_one_connection() {
                    listener.resume_at_us = Some(self.now_us + ACCEPT_PAUSE_US);
                    self.accepts_everywhere = false;
                    self.counters.accept_failures += 1;
                    if !std::mem::replace(&mut listener.failing, true) {
                        tracing::warn!(shard = self.number, %failure, "accepting pauses until there is room");
                    }
                }
            }
        }
    }

    #[inline(never)]
    pub(super) fn told(&mut self, message: Message<I::Socket>) {
        match message {
            Message::Arrived { arrival, at } => {
                self.counters.taken_over += 1;
                self.count_in(arrival, at);
            }
            Message::Placed(arrival) => {
                self.counters.taken_over += 1;
                self.take_in(arrival);
            }
            Message::Present(address) => self.addresses.count(address),
            Message::Departed(address) => self.addresses.release(address),
            Message::Answer(answer) => self.take_answer(answer),
            Message::Drained => self.rest.note_everywhere(),
            Message::Push { .. } | Message::Broadcast { .. } | Message::Run(_) => {
                self.arrive_at_lane(message);
            }
        }
    }

    /// A connection was accepted here.
    fn arrive(&mut self, arrival: Arrival<I::Socket>) {
        if self.counts_here(&arrival) {
            return self.count_in(arrival, self.number);
        }
        self.counters.handed_over += 1;
        let (owner, at) = (self.owner(&arrival), self.number);
        self.post(owner, Message::Arrived { arrival, at });
    }

    /// Lets a connection in, which arrived at shard `at`, if its address may have another one.
    fn count_in(&mut self, mut arrival: Arrival<I::Socket>, at: u16) {
        if let Some(max) = self.settings.connections_per_address_max {
            let address = arrival.peer.ip().to_canonical();
            if !self.addresses.claim(address, max) {
                return self.refuse(arrival, CloseCause::Limit);
            }
            arrival.counted = true;
        }
        self.place(arrival, at);
    }

    /// Brings a connection, which arrived at shard `at`, to the shard that is to have it.
    fn place(&mut self, arrival: Arrival<I::Socket>, at: u16) {
        let chosen = if self.shutdown != Shutdown::None {
            self.loads.place_at(self.number);
            self.number
        } else if self.settings.balanced {
            self.loads
                .place(at, at == self.number && !self.has_room_now())
        } else {
            self.loads.place_at(at);
            at
        };
        if chosen == self.number {
            return self.take_in(arrival);
        }
        self.counters.handed_over += 1;
        self.post(chosen, Message::Placed(arrival));
    }

    fn take_in(&mut self, mut arrival: Arrival<I::Socket>) {
        // It may come from a shard that does not know of the limit yet.
        arrival.counted = self.counted_by_now(arrival.counted, arrival.peer);
        match self.shutdown {
            Shutdown::None | Shutdown::Draining { .. } => {
                self.waiting.push_back(arrival);
                self.admit();
            }
            Shutdown::Stopping { .. } => self.turn_away(arrival, CloseCause::Stop),
        }
    }

    /// Opens the connections that wait, as far as there is room.
    pub(super) fn admit(&mut self) {
        while self.connections.has_room() && self.has_memory() {
            let Some(arrival) = self.waiting.pop_front() else {
                return;
            };
            let peer = arrival.peer;
            // There is room, so this can't fail.
            if let Ok(id) = self
                .connections
                .insert(Connection::new(arrival, self.now_us))
            {
                tracing::debug!(connection = %id, %peer, "accepted");
                self.tell_opened(id);
                self.say_goaway(id);
                self.settle(id);
            }
        }
    }

    /// Closes a connection that was placed here and never opened.
    pub(super) fn turn_away(&mut self, arrival: Arrival<I::Socket>, cause: CloseCause) {
        self.depart(&arrival);
        self.refuse(arrival, cause);
    }

    /// Closes a connection that counts nowhere yet.
    fn refuse(&mut self, arrival: Arrival<I::Socket>, cause: CloseCause) {
        tracing::debug!(shard = self.number, peer = %arrival.peer, %cause, "closed before it was opened");
        self.counters.count_close(cause);
        self.io.submit(Operation::Close {
            socket: arrival.socket,
            reset: false,
        });
    }

    /// A connection that was placed here is gone: it counts no more.
    pub(super) fn depart(&mut self, arrival: &Arrival<I::Socket>) {
        self.loads.leave(self.number);
        if arrival.counted {
            self.tell_owner(arrival.peer, Message::Departed);
        }
    }

    /// Has a connection of this shard counted for its address if there is a limit now and there was
    /// none when it arrived. Gives back whether it is counted.
    pub(super) fn counted_by_now(&mut self, counted: bool, peer: SocketAddr) -> bool {
        if !counted && self.settings.connections_per_address_max.is_some() {
            self.tell_owner(peer, Message::Present);
            return true;
        }
        counted
    }

    /// Tells something about an address to the shard that counts its connections.
    fn tell_owner(&mut self, peer: SocketAddr, what: fn(IpAddr) -> Message<I::Socket>) {
        let shard = owner(peer.ip(), self.loads.shards());
        let message = what(peer.ip().to_canonical());
        if shard == self.number {
            self.told(message);
        } else {
            self.post(shard, message);
        }
    }

    /// Whether nobody but this shard has to count a connection.
    fn counts_here(&self, arrival: &Arrival<I::Socket>) -> bool {
        self.settings.connections_per_address_max.is_none() || self.owner(arrival) == self.number
    }

    fn owner(&self, arrival: &Arrival<I::Socket>) -> u16 {
        owner(arrival.peer.ip(), self.loads.shards())
    }

    /// Whether another connection could be opened at once.
    fn has_room_now(&self) -> bool {
        self.waiting.is_empty() && self.connections.has_room() && self.has_memory()
    }

    /// Whether the ledger has room for another connection.
    fn has_memory(&self) -> bool {
        self.ledger.has_room(Connection::<I::Socket>::STATE_BYTES)
    }

    /// Accepting goes on even where the host had no room: there is some now.
    pub(super) fn resume_accepting(&mut self) {
        for listener in &mut self.listeners {
            listener.resume_at_us = None;
        }
    }

    pub(super) fn accept_where_there_is_room(&mut self) {
        if !self.waiting.is_empty() {
            self.admit();
        }
        let goes_down = self.shutdown != Shutdown::None;
        let has_memory = self.has_memory();
        if !has_memory && !self.short_of_memory {
            self.counters.memory_pauses += 1;
        }
        self.short_of_memory = !has_memory;
        let room = !goes_down && self.has_room_now() && !self.io.is_congested();
        if room != self.has_room {
            self.has_room = room;
            self.loads.set_full(self.number, !room);
        }
        if !room || !self.accepts_everywhere {
            self.see_to_listeners(room);
        }
    }

    /// Brings each listener's accept in line with whether there is room.
    #[cold]
    fn see_to_listeners(&mut self, room: bool) {
        let goes_down = self.shutdown != Shutdown::None;
        let drains = matches!(self.shutdown, Shutdown::Draining { .. });
        let has_room = self.has_room_now();
        self.accepts_everywhere = room;
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.resume_at_us.is_some_and(|at| at <= self.now_us) {
                listener.resume_at_us = None;
            }
            let wanted = room && listener.resume_at_us.is_none();
            match (wanted, listener.accept) {
                (true, Accepting::Not) => {
                    listener.accept = Accepting::Armed;
                    self.io.submit(Operation::Accept { listener: index });
                }
                (false, Accepting::Armed) => {
                    listener.accept = Accepting::Cancelling;
                    self.io.submit(Operation::CancelAccept { listener: index });
                }
                (false, Accepting::Not) if goes_down && !listener.closed => {
                    let may_look = drains && has_room && listener.last_looks > 0;
                    if may_look && self.io.somebody_waits(index) {
                        listener.last_looks -= 1;
                        // It takes all who are there, and is over.
                        listener.accept = Accepting::Cancelling;
                        self.io.submit(Operation::Accept { listener: index });
                        self.io.submit(Operation::CancelAccept { listener: index });
                    } else {
                        listener.closed = true;
                        self.io.submit(Operation::StopListening { listener: index });
                    }
                }
                _ => {}
            }
            self.accepts_everywhere &= listener.accept == Accepting::Armed;
        }
    }
}
