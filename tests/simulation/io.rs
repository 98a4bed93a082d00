//! An [`Io`] that does everything that a kernel and a network may do (`kernel`), and holds the
//! shard to its side of the contract (`contract`).

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Deref;
use std::rc::Rc;

use corelane::shard::{Completion, Io, Loads, Operation, Settings};
use std::sync::Arc;

use crate::executor::Executor;
use crate::network::{Listener, Network, Socket};
use crate::random::Random;
use crate::state::{State, Violations};

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
    /// A completion is late, or a message to another shard.
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
    /// Messages between two shards that make the sender congested, less one.
    pub(crate) mesh_queue_max: usize,
    /// A shard takes no turn although it could.
    pub(crate) sits_out_percent: u64,
}

/// How late a completion may be.
const LATE_US: u64 = 1_000;

/// Received bytes, in a buffer that is on loan.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) lent: Option<Rc<Cell<usize>>>,
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

/// Completions of one source come in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Accept(usize),
    Receive(usize),
    Send(usize),
    Handler,
}

/// Where the next completion comes from.
#[derive(Clone, Copy)]
enum Next {
    /// The kernel or a handler: the place among those that are pending.
    Pending(usize),
    /// Another shard.
    Mesh(usize),
}

#[derive(Debug)]
pub(crate) struct Pending {
    source: Source,
    pub(crate) due_us: u64,
    completion: Completion<Socket, Received>,
}

/// What the shard was told and asked for: what its counters must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) accepted: u64,
    pub(crate) handed_over: u64,
    pub(crate) taken_over: u64,
    pub(crate) accept_failures: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) short_sends: u64,
    pub(crate) receive_cancels: u64,
    pub(crate) buffers_exhausted: u64,
    pub(crate) handlers_started: u64,
    pub(crate) handlers_finished: u64,
    pub(crate) late_replies: u64,
    /// Those to connections that may have been closed as slow consumers, which shows later.
    pub(crate) maybe_late_replies: u64,
}

/// How far a shard has been told to go down.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GoingDown {
    pub(crate) drain_us: Option<u64>,
    /// Told to stop, or a drain's time was over.
    pub(crate) stop_us: Option<u64>,
}

impl GoingDown {
    pub(crate) fn is_begun(&self) -> bool {
        self.drain_us.is_some() || self.stop_us.is_some()
    }

    /// Since when the shard drains, unless it stops by now.
    pub(crate) fn draining_since_us(&self) -> Option<u64> {
        self.drain_us.filter(|_| self.stop_us.is_none())
    }
}

/// The fake kernel and network of one shard.
#[derive(Debug)]
pub(crate) struct FakeIo {
    /// Empty unless it is this shard's turn.
    pub(crate) network: Network,
    pub(crate) shard: usize,
    pub(crate) executor: Executor,
    pub(crate) told: Told,
    pub(crate) going_down: GoingDown,
    /// When the shard was told to stop.
    pub(crate) stop_told_us: Option<u64>,
    /// A drain's time was over.
    pub(crate) drained_out: bool,
    /// The shard takes no messages of others.
    pub(crate) holds_messages: bool,
    /// Completions given out in this turn.
    pub(crate) reaped: usize,
    /// Those of them that were not given out yet.
    completions: VecDeque<Completion<Socket, Received>>,
    /// At most so many handlers were at work in this turn.
    pub(crate) handlers_peak: u64,
    /// Whose handlers were done in this turn, and whose replies were not late by then.
    pub(crate) handled: Vec<usize>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) lent: Rc<Cell<usize>>,
    pub(crate) faults: Faults,
    pub(crate) settings: Rc<Settings>,
    /// Bytes from which on the highest settings so far paused a connection.
    pub(crate) high_bytes_widest: usize,
    /// The most slots that connections have taken.
    pub(crate) slots: usize,
    /// Connections that were let in by their address's limit in this turn.
    pub(crate) claimed: Vec<usize>,
    pub(crate) random: Random,
    pub(crate) state: Rc<State>,
    pub(crate) violations: Violations,
    pub(crate) loads: Arc<Loads>,
}

impl FakeIo {
    pub(crate) fn new(
        (shard, loads): (usize, Arc<Loads>),
        faults: Faults,
        settings: Rc<Settings>,
        random: Random,
        state: Rc<State>,
    ) -> FakeIo {
        FakeIo {
            network: Network::default(),
            shard,
            executor: Executor::default(),
            told: Told::default(),
            going_down: GoingDown::default(),
            stop_told_us: None,
            drained_out: false,
            holds_messages: false,
            reaped: 0,
            completions: VecDeque::new(),
            handlers_peak: 0,
            handled: Vec::new(),
            pending: Vec::new(),
            lent: Rc::default(),
            faults,
            high_bytes_widest: settings.outbound_high_bytes,
            settings,
            slots: 0,
            claimed: Vec::new(),
            random,
            violations: state.violations.clone(),
            state,
            loads,
        }
    }

    pub(crate) fn listeners(&self) -> &[Listener] {
        &self.network.listeners[self.shard]
    }

    /// Nothing is left for the shard but what others may tell it.
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

    /// When something that happens now is known of.
    pub(crate) fn due_us(&mut self) -> u64 {
        let mut due_us = self.network.now_us;
        if self.random.percent(self.faults.late_percent) {
            due_us += self.random.between_us(0, LATE_US);
        }
        due_us
    }

    pub(crate) fn complete(&mut self, source: Source, completion: Completion<Socket, Received>) {
        let due_us = self.due_us();
        self.pending.push(Pending {
            source,
            due_us,
            completion,
        });
    }

    /// Takes one of the completions that are due: any source's first.
    fn take_due(&mut self) -> Option<Completion<Socket, Received>> {
        let now_us = self.network.now_us;
        let pending = (0..self.pending.len()).filter(|at| {
            let pending = &self.pending[*at];
            let is_first = pending.source == Source::Handler
                || self.pending[..*at]
                    .iter()
                    .all(|p| p.source != pending.source);
            is_first && pending.due_us <= now_us
        });
        let mesh = self.network.mesh.due(self.shard, now_us);
        let mesh = mesh.filter(|_| !self.holds_messages);
        let firsts: Vec<Next> = pending
            .map(Next::Pending)
            .chain(mesh.map(Next::Mesh))
            .collect();
        if firsts.is_empty() {
            return None;
        }
        match self.random.one_of(&firsts) {
            Next::Pending(at) => Some(self.pending.remove(at).completion),
            Next::Mesh(from) => {
                let message = self.network.mesh.receive(from, self.shard)?;
                Some(Completion::Told { message })
            }
        }
    }
}

impl Io for FakeIo {
    type Socket = Socket;
    type Received = Received;

    fn submit(&mut self, operation: Operation<'_, Socket>) {
        self.network.note(|| match &operation {
            Operation::Send { id, buffer, .. } => {
                format!("<- Send {id}, {} bytes", buffer.remaining().len())
            }
            other => format!("<- {other:?}"),
        });
        self.carry_out(operation);
    }

    fn send_at_once(&mut self, bytes: &[u8], socket: &Socket) -> usize {
        let taken_bytes = self.send_now(socket, bytes);
        self.network.note(|| {
            format!(
                "<- Send at once {socket:?}, {taken_bytes} of {}",
                bytes.len()
            )
        });
        taken_bytes
    }

    fn now_us(&self) -> Option<u64> {
        Some(self.network.now_us)
    }

    fn is_congested(&self) -> bool {
        self.network.mesh.is_congested(self.shard)
    }

    fn hold_messages(&mut self, hold: bool) {
        self.holds_messages = hold;
    }

    fn reap(&mut self, max: usize) {
        self.handlers_peak = self.told.handlers_started - self.told.handlers_finished;
        self.reaped = 0;
        self.network.mesh.relieved[self.shard] = false;
        while self.reaped < max.min(self.faults.reap_max) {
            let Some(completion) = self.take_due() else {
                break;
            };
            self.network
                .note(|| format!("-> {}", describe(&completion)));
            self.tell(&completion);
            self.completions.push_back(completion);
            self.reaped += 1;
        }
    }

    fn completion(&mut self) -> Option<Completion<Socket, Received>> {
        self.completions.pop_front()
    }
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
