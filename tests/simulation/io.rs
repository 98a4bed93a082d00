//! An [`Io`] that does everything that a kernel and a network may do, and holds the shard to its
//! side of the contract.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{Error, ErrorKind};
use std::ops::Deref;
use std::rc::Rc;

use corelane::handler::ConnectionId;
use corelane::shard::{Completion, Failure, Io, Operation, SendBuffer};

use crate::executor::Executor;
use crate::handlers::{State, Violations};
use crate::random::Random;

/// What goes wrong, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// An operation that could go on does so in this turn.
    pub(crate) progress_percent: u64,
    /// A multishot operation ends although nothing is wrong.
    pub(crate) ends_percent: u64,
    /// A receive finds no buffer although there is one.
    pub(crate) no_buffers_percent: u64,
    /// A send takes less than it could.
    pub(crate) short_sends_percent: u64,
    /// A short send goes on in the kernel before it completes.
    pub(crate) sends_wait: bool,
    /// A completion is late.
    pub(crate) late_percent: u64,
    /// An operation breaks, and its connection with it.
    pub(crate) breaks_per_mille: u64,
    /// What is cancelled still does its work first.
    pub(crate) cancel_races_percent: u64,
    /// Accepting fails.
    pub(crate) accept_fails_percent: u64,
    pub(crate) buffers: usize,
    pub(crate) buffer_bytes: usize,
    /// Bytes that the kernel takes before the peer has read the first.
    pub(crate) window_bytes: usize,
    /// Completions given out at once.
    pub(crate) reap_max: usize,
}

/// How late a completion may be.
pub(crate) const LATE_US: u64 = 1_000;

/// How long accepting pauses when the host is full, in microseconds: the shard's own limit.
const ACCEPT_PAUSE_US: u64 = 100_000;

/// One end of a [`Link`]: nobody can copy it, and it is to be closed once.
#[derive(Debug)]
pub(crate) struct Socket(usize);

/// Received bytes, in a buffer that is on loan.
#[derive(Debug)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    lent: Option<Rc<Cell<usize>>>,
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(lent) = &self.lent {
            lent.set(lent.get() - 1);
        }
    }
}

/// One TCP connection, with what both sides know of it. It has its peer's number.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // facts that have nothing to do with each other
pub(crate) struct Link {
    pub(crate) id: Option<ConnectionId>,
    /// It stands in a listener's backlog, or did.
    pub(crate) connected: bool,
    /// The shard got its socket.
    pub(crate) accepted: bool,
    /// Bytes on their way to the shard.
    inbound: VecDeque<u8>,
    /// The peer has shut its sending side.
    pub(crate) inbound_ended: bool,
    pub(crate) end_told: bool,
    pub(crate) received_bytes: usize,
    /// All bytes that were taken for sending.
    pub(crate) taken: Vec<u8>,
    /// How many of these the peer has read.
    pub(crate) read_bytes: usize,
    /// Broken, by the peer or by the network.
    pub(crate) broken: bool,
    /// The turn in which the shard was told.
    broken_told: Option<u64>,
    pub(crate) shutdown_us: Option<u64>,
    /// When the shard closed it, and in which turn.
    pub(crate) closed: Option<(u64, u64)>,
    /// Closed over bytes that nobody had received: what the peer has not read yet is lost.
    pub(crate) destroyed: bool,
    pub(crate) receive: Option<Armed>,
    send: Option<Send>,
}

/// A multishot operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Armed {
    pub(crate) cancelled: bool,
    /// Its last completion is on its way.
    ended: bool,
}

#[derive(Debug)]
struct Send {
    /// `None` once its completion is on its way.
    buffer: Option<SendBuffer>,
    taken_bytes: usize,
    cancelled: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Listener {
    pub(crate) backlog: VecDeque<usize>,
    pub(crate) accept: Option<Armed>,
    pub(crate) closed: bool,
    /// Until then it is not to be tried again, unless a connection closes.
    full_until_us: u64,
}

/// Completions of one source come in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Accept(usize),
    Receive(usize),
    Send(usize),
    Handler,
}

#[derive(Debug)]
struct Pending {
    source: Source,
    due_us: u64,
    completion: Completion<Socket, Received>,
}

/// What the shard was told and asked for: what its counters must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) admitted: u64,
    pub(crate) accept_failures: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) short_sends: u64,
    pub(crate) receive_cancels: u64,
    pub(crate) buffers_exhausted: u64,
    pub(crate) handlers_started: u64,
    pub(crate) handlers_finished: u64,
    pub(crate) late_replies: u64,
}

/// The fake kernel and network of one shard.
#[derive(Debug)]
pub(crate) struct FakeIo {
    pub(crate) links: Vec<Link>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) executor: Executor,
    pub(crate) told: Told,
    /// The shard was told to stop.
    pub(crate) stopping: bool,
    pub(crate) turn: u64,
    /// Completions given out in this turn.
    pub(crate) reaped: usize,
    /// At most so many handlers were at work in this turn.
    pub(crate) handlers_peak: u64,
    pub(crate) trace: Option<Vec<String>>,
    now_us: u64,
    pending: Vec<Pending>,
    lent: Rc<Cell<usize>>,
    faults: Faults,
    send_bytes_max: usize,
    random: Random,
    state: Rc<State>,
    violations: Violations,
}

impl FakeIo {
    pub(crate) fn new(
        peers: usize,
        listeners: usize,
        faults: Faults,
        send_bytes_max: usize,
        random: Random,
        state: Rc<State>,
    ) -> FakeIo {
        FakeIo {
            links: (0..peers).map(|_| Link::default()).collect(),
            listeners: (0..listeners).map(|_| Listener::default()).collect(),
            executor: Executor::default(),
            told: Told::default(),
            stopping: false,
            turn: 0,
            reaped: 0,
            handlers_peak: 0,
            trace: None,
            now_us: 0,
            pending: Vec::new(),
            lent: Rc::default(),
            faults,
            send_bytes_max,
            random,
            violations: state.violations.clone(),
            state,
        }
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9} {}", self.now_us, line()));
        }
    }

    /// A peer connects.
    pub(crate) fn connect(&mut self, peer: usize, listener: usize) {
        self.links[peer].connected = true;
        self.listeners[listener].backlog.push_back(peer);
    }

    /// A peer sends.
    pub(crate) fn arrive(&mut self, peer: usize, bytes: &[u8]) {
        self.links[peer].inbound.extend(bytes);
    }

    /// The kernel and the network do some of what they could do now.
    pub(crate) fn step(&mut self, now_us: u64) {
        self.now_us = now_us;
        self.turn += 1;
        for listener in 0..self.listeners.len() {
            if self.accept_is_busy(listener) && self.goes_on() {
                self.step_accept(listener);
            }
        }
        for link in 0..self.links.len() {
            if self.receive_is_busy(link) && self.goes_on() {
                self.step_receive(link);
            }
            if self.send_is_busy(link) && self.goes_on() {
                self.step_send(link);
            }
        }
        self.state.wake_sleepers();
        for (id, outcome) in self.executor.step(&mut self.random) {
            self.complete(Source::Handler, Completion::Handled { id, outcome });
        }
    }

    /// Whether something could happen at once.
    pub(crate) fn is_busy(&self) -> bool {
        (0..self.listeners.len()).any(|listener| self.accept_is_busy(listener))
            || (0..self.links.len())
                .any(|link| self.receive_is_busy(link) || self.send_is_busy(link))
            || self.executor.is_busy()
            || self.pending.iter().any(|p| p.due_us <= self.now_us)
    }

    /// When the next thing happens by itself.
    pub(crate) fn next_us(&self) -> Option<u64> {
        let pending = self.pending.iter().map(|p| p.due_us).min();
        pending.into_iter().chain(self.state.next_wake_us()).min()
    }

    /// Nothing is left for the shard.
    pub(crate) fn is_drained(&self) -> bool {
        self.pending.is_empty() && self.executor.is_empty()
    }

    /// Buffers that the shard has not given back: none, between two turns.
    pub(crate) fn assert_buffers_are_back(&self) {
        let waiting = self.pending.iter().filter(|pending| {
            matches!(&pending.completion, Completion::Received { result: Ok(r), .. } if r.lent.is_some())
        });
        assert_eq!(self.lent.get(), waiting.count(), "receive buffers on loan");
    }

    fn goes_on(&mut self) -> bool {
        self.random.percent(self.faults.progress_percent)
    }

    fn accept_is_busy(&self, listener: usize) -> bool {
        let listener = &self.listeners[listener];
        listener.accept.is_some_and(|accept| {
            !accept.ended && (accept.cancelled || !listener.backlog.is_empty())
        })
    }

    fn receive_is_busy(&self, link: usize) -> bool {
        let link = &self.links[link];
        link.receive.is_some_and(|receive| {
            let has_news = link.broken || !link.inbound.is_empty() || link.inbound_ended;
            !receive.ended && (receive.cancelled || has_news)
        })
    }

    fn send_is_busy(&self, link: usize) -> bool {
        let link = &self.links[link];
        link.send.as_ref().is_some_and(|send| {
            let could_go_on = send.cancelled || link.broken || self.window_bytes(link) > 0;
            send.buffer.is_some() && could_go_on
        })
    }

    fn window_bytes(&self, link: &Link) -> usize {
        let unread_bytes = link.taken.len() - link.read_bytes;
        self.faults.window_bytes.saturating_sub(unread_bytes)
    }

    fn step_accept(&mut self, index: usize) {
        let fails = self.random.percent(self.faults.accept_fails_percent);
        let ends = self.random.percent(self.faults.ends_percent);
        let races = self.random.percent(self.faults.cancel_races_percent);
        let listener = &mut self.listeners[index];
        let Some(accept) = &mut listener.accept else {
            return;
        };
        let (result, more) = if accept.cancelled && (!races || listener.backlog.is_empty()) {
            (Err(Failure::Cancelled), false)
        } else if fails && self.random.percent(50) {
            (Err(Failure::NoRoom(Error::from_raw_os_error(24))), false) // EMFILE
        } else if let Some(link) = listener.backlog.pop_front() {
            if fails {
                self.links[link].broken = true;
                (Err(broken(ErrorKind::ConnectionAborted)), !ends)
            } else {
                (Ok(Socket(link)), !ends)
            }
        } else {
            return;
        };
        accept.ended = !more;
        let completion = Completion::Accepted {
            listener: index,
            result,
            more,
        };
        self.complete(Source::Accept(index), completion);
    }

    fn step_receive(&mut self, index: usize) {
        let faults = &self.faults;
        let breaks = self.random.per_mille(faults.breaks_per_mille);
        let ends = self.random.percent(faults.ends_percent);
        let no_buffer =
            self.lent.get() >= faults.buffers || self.random.percent(faults.no_buffers_percent);
        let races = self.random.percent(faults.cancel_races_percent);
        let link = &mut self.links[index];
        let (Some(receive), Some(id)) = (&mut link.receive, link.id) else {
            return;
        };
        link.broken |= breaks;
        // After a reset the kernel may still hand out what had arrived before, or not.
        let has_bytes = !link.inbound.is_empty() && (!link.broken || self.random.percent(50));
        let (result, more) = if receive.cancelled && !races {
            (Err(Failure::Cancelled), false)
        } else if has_bytes && no_buffer {
            (Err(Failure::NoBuffers), false)
        } else if has_bytes {
            let bytes_max = link.inbound.len().min(faults.buffer_bytes);
            let bytes = self.random.between(1, bytes_max);
            self.lent.set(self.lent.get() + 1);
            let received = Received {
                bytes: link.inbound.drain(..bytes).collect(),
                lent: Some(Rc::clone(&self.lent)),
            };
            (Ok(received), !ends)
        } else if link.broken {
            (Err(broken(ErrorKind::ConnectionReset)), false)
        } else if link.inbound_ended && link.inbound.is_empty() {
            let end = Received {
                bytes: Vec::new(),
                lent: None,
            };
            (Ok(end), false)
        } else {
            return;
        };
        receive.ended = !more;
        let completion = Completion::Received { id, result, more };
        self.complete(Source::Receive(index), completion);
    }

    fn step_send(&mut self, index: usize) {
        let faults = &self.faults;
        let breaks = self.random.per_mille(faults.breaks_per_mille);
        let short = self.random.percent(faults.short_sends_percent);
        let races = self.random.percent(faults.cancel_races_percent);
        let window_bytes = self.window_bytes(&self.links[index]);
        let link = &mut self.links[index];
        let (Some(send), Some(id)) = (&mut link.send, link.id) else {
            return;
        };
        let Some(buffer) = &send.buffer else {
            return;
        };
        link.broken |= breaks;
        let rest = &buffer.remaining()[send.taken_bytes..];
        let mut bytes = rest.len().min(window_bytes);
        if short && bytes > 1 {
            bytes = self.random.between(1, bytes - 1);
        }
        if link.broken || (send.cancelled && !races) {
            bytes = 0;
        }
        link.taken.extend_from_slice(&rest[..bytes]);
        send.taken_bytes += bytes;
        let is_whole = bytes == rest.len();
        let result = match send.taken_bytes {
            0 if link.broken => {
                Err(broken(self.random.one_of(&[
                    ErrorKind::ConnectionReset,
                    ErrorKind::BrokenPipe,
                ])))
            }
            0 => Err(Failure::Cancelled),
            taken_bytes => Ok(taken_bytes),
        };
        // Inside the kernel it waits for room to go on.
        if faults.sends_wait && !is_whole && !link.broken && !send.cancelled {
            return;
        }
        if let Some(buffer) = send.buffer.take() {
            self.complete(Source::Send(index), Completion::Sent { id, buffer, result });
        }
    }

    fn complete(&mut self, source: Source, completion: Completion<Socket, Received>) {
        let mut due_us = self.now_us;
        if self.random.percent(self.faults.late_percent) {
            due_us += self.random.between_us(0, LATE_US);
        }
        self.pending.push(Pending {
            source,
            due_us,
            completion,
        });
    }

    /// Takes one of the completions that are due: any source's first.
    fn take_pending(&mut self) -> Option<Completion<Socket, Received>> {
        let firsts: Vec<usize> = (0..self.pending.len())
            .filter(|at| {
                let pending = &self.pending[*at];
                let is_first = pending.source == Source::Handler
                    || self.pending[..*at]
                        .iter()
                        .all(|p| p.source != pending.source);
                is_first && pending.due_us <= self.now_us
            })
            .collect();
        if firsts.is_empty() {
            return None;
        }
        let at = self.random.one_of(&firsts);
        Some(self.pending.remove(at).completion)
    }

    /// From here on, the shard knows of this completion.
    fn tell(&mut self, completion: &Completion<Socket, Received>) {
        match completion {
            Completion::Accepted {
                listener,
                result,
                more,
            } => {
                if !more {
                    self.listeners[*listener].accept = None;
                }
                match result {
                    Ok(socket) => self.links[socket.0].accepted = true,
                    Err(Failure::NoRoom(_)) => {
                        self.told.accept_failures += 1;
                        self.listeners[*listener].full_until_us = self.now_us + ACCEPT_PAUSE_US;
                    }
                    Err(_) => {}
                }
            }
            Completion::Received { id, result, more } => {
                let link = self.link_of(*id);
                let link = &mut self.links[link];
                if !more {
                    link.receive = None;
                }
                match result {
                    Ok(bytes) if bytes.is_empty() => link.end_told = true,
                    Ok(bytes) => {
                        link.received_bytes += bytes.len();
                        self.told.received_bytes += bytes.len() as u64;
                    }
                    Err(Failure::NoBuffers) => self.told.buffers_exhausted += 1,
                    Err(Failure::Cancelled) => {}
                    Err(_) => link.broken_told = Some(self.turn),
                }
            }
            Completion::Sent { id, buffer, result } => {
                let index = self.link_of(*id);
                let link = &mut self.links[index];
                link.send = None;
                match result {
                    Ok(bytes) => {
                        self.told.sent_bytes += *bytes as u64;
                        self.told.short_sends += u64::from(*bytes < buffer.remaining().len());
                        self.state.flows.borrow_mut()[index].sent_bytes += bytes;
                    }
                    Err(Failure::Cancelled) => {}
                    Err(_) => link.broken_told = Some(self.turn),
                }
            }
            Completion::Handled { id, .. } => {
                self.told.handlers_finished += 1;
                let link = &self.links[self.link_of(*id)];
                let is_late = self.stopping || link.closed.is_some() || link.broken_told.is_some();
                self.told.late_replies += u64::from(is_late);
            }
        }
    }

    /// Ids are never used again, so this works for closed connections too.
    fn link_of(&self, id: ConnectionId) -> usize {
        self.links
            .iter()
            .position(|link| link.id == Some(id))
            .unwrap_or_else(|| panic!("nobody knows {id}"))
    }

    /// The link of an operation on an open socket.
    fn open(&mut self, socket: &Socket, operation: &str) -> &mut Link {
        let link = &mut self.links[socket.0];
        if link.closed.is_some() || !link.accepted {
            self.violations.add(format_args!(
                "{operation} on socket {}, which is not open",
                socket.0
            ));
        }
        link
    }

    fn receive(&mut self, id: ConnectionId, socket: &Socket) {
        let is_known = self.links.iter().any(|link| link.id == Some(id));
        let (violations, turn) = (self.violations.clone(), self.turn);
        let link = self.open(socket, "receive");
        if link.id.is_none() && is_known {
            violations.add(format_args!("the id {id} is used again"));
        }
        if link.id.is_some_and(|known| known != id) {
            violations.add(format_args!("the socket of {:?} is now {id}", link.id));
        }
        let is_new = link.id.replace(id).is_none();
        if link.receive.replace(Armed::default()).is_some() {
            violations.add(format_args!("{id}: a second receive in flight"));
        }
        if link.end_told {
            violations.add(format_args!("{id}: a receive after the end of the stream"));
        }
        if link.broken_told.is_some_and(|told| told < turn) {
            violations.add(format_args!("{id}: a receive on a broken connection"));
        }
        self.told.admitted += u64::from(is_new);
    }

    fn send(&mut self, id: ConnectionId, socket: &Socket, buffer: SendBuffer) {
        let bytes = buffer.remaining().len();
        let (violations, turn) = (self.violations.clone(), self.turn);
        let link = self.open(socket, "send");
        if link.id != Some(id) {
            violations.add(format_args!(
                "a send for {id} on the socket of {:?}",
                link.id
            ));
        }
        if link.shutdown_us.is_some() {
            violations.add(format_args!("{id}: a send after the end of the stream"));
        }
        if link.broken_told.is_some_and(|told| told < turn) {
            violations.add(format_args!("{id}: a send on a broken connection"));
        }
        if bytes == 0 {
            violations.add(format_args!("{id}: a send of nothing"));
        }
        let send = Send {
            buffer: Some(buffer),
            taken_bytes: 0,
            cancelled: false,
        };
        if link.send.replace(send).is_some() {
            violations.add(format_args!("{id}: a second send in flight"));
        }
        if bytes > self.send_bytes_max {
            self.violations
                .add(format_args!("{id}: {bytes} bytes were queued"));
        }
    }

    fn shutdown(&mut self, socket: &Socket) {
        let (violations, now_us) = (self.violations.clone(), self.now_us);
        let link = self.open(socket, "shutdown");
        if link.send.is_some() {
            violations.add(format_args!("{:?}: shut during a send", link.id));
        }
        if link.shutdown_us.replace(now_us).is_some() {
            violations.add(format_args!("{:?}: shut twice", link.id));
        }
    }

    fn close(&mut self, socket: &Socket) {
        let (violations, closed) = (self.violations.clone(), (self.now_us, self.turn));
        let link = self.open(socket, "close");
        if link.receive.is_some() || link.send.is_some() {
            violations.add(format_args!("{:?}: closed with work in flight", link.id));
        }
        link.closed = Some(closed);
        link.destroyed = !link.inbound.is_empty();
        for listener in &mut self.listeners {
            listener.full_until_us = 0;
        }
    }
}

impl Io for FakeIo {
    type Socket = Socket;
    type Received = Received;

    fn submit(&mut self, operation: Operation<'_, Socket>) {
        self.note(|| match &operation {
            Operation::Send { id, buffer, .. } => {
                format!("<- Send {id}, {} bytes", buffer.remaining().len())
            }
            other => format!("<- {other:?}"),
        });
        let violations = self.violations.clone();
        match operation {
            Operation::Accept { listener } => {
                if self.stopping {
                    violations.add(format_args!("an accept after the stop"));
                }
                let Listener {
                    accept,
                    full_until_us,
                    ..
                } = &mut self.listeners[listener];
                if self.now_us < *full_until_us {
                    violations.add(format_args!("an accept although the host is full"));
                }
                if accept.replace(Armed::default()).is_some() {
                    violations.add(format_args!("a second accept on listener {listener}"));
                }
            }
            Operation::CancelAccept { listener } => {
                if let Some(accept) = &mut self.listeners[listener].accept {
                    accept.cancelled = true;
                }
            }
            Operation::StopListening { listener } => {
                let listening = &mut self.listeners[listener];
                if !self.stopping || listening.accept.is_some() {
                    violations.add(format_args!("listener {listener} closed too early"));
                }
                if std::mem::replace(&mut listening.closed, true) {
                    violations.add(format_args!("listener {listener} closed twice"));
                }
            }
            Operation::Receive { id, socket } => self.receive(id, socket),
            Operation::CancelReceive { id } => {
                self.told.receive_cancels += 1;
                let link = self.link_of(id);
                let link = &mut self.links[link];
                if link.closed.is_some() {
                    violations.add(format_args!("{id}: cancelled after its close"));
                }
                if let Some(receive) = &mut link.receive {
                    receive.cancelled = true;
                }
            }
            Operation::Send { id, socket, buffer } => self.send(id, socket, buffer),
            Operation::CancelSend { id } => {
                let link = self.link_of(id);
                // It may have completed, and the shard does not know yet.
                if let Some(send) = &mut self.links[link].send {
                    send.cancelled = true;
                }
            }
            Operation::ShutdownSend { socket } => self.shutdown(socket),
            Operation::Close { socket } => self.close(&socket),
            Operation::Handle { id, task } => {
                self.told.handlers_started += 1;
                self.handlers_peak += 1;
                self.executor.spawn(id, task);
            }
        }
    }

    fn reap(&mut self, completions: &mut Vec<Completion<Socket, Received>>, max: usize) {
        self.handlers_peak = self.told.handlers_started - self.told.handlers_finished;
        self.reaped = 0;
        while self.reaped < max.min(self.faults.reap_max) {
            let Some(completion) = self.take_pending() else {
                break;
            };
            self.note(|| format!("-> {}", describe(&completion)));
            self.tell(&completion);
            completions.push(completion);
            self.reaped += 1;
        }
    }
}

fn broken(kind: ErrorKind) -> Failure {
    Failure::Broken(Error::from(kind))
}

fn describe(completion: &Completion<Socket, Received>) -> String {
    match completion {
        Completion::Received {
            id,
            result: Ok(bytes),
            more,
        } => format!("Received {id}, {} bytes, more: {more}", bytes.len()),
        Completion::Sent { id, result, .. } => format!("Sent {id}, {result:?}"),
        other => format!("{other:?}"),
    }
}
