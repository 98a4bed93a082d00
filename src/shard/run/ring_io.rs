//! [`Io`] in production: the ring for the sockets, glommio for the handlers.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::hint::cold_path;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::timer::Timer;
use glommio::{Latency, Shares, Task, TaskQueueHandle};

use super::GUARD_US;
use super::parking::Finished;
use super::relay::Relay;
use crate::config::bounds;
use crate::handler::{ConnectionId, HandlerOutcome, HandlerTask};
use crate::shard::io::{
    Arrival, Completion, Failure, Io, Message, Operation, Outgoing, Reception, SendBuffer,
};
use crate::shard::mesh::Mesh;
use crate::shard::settings::BULK_BYTES;
use crate::shard::{Pulse, Snapshot};
use crate::sys::clock::Clock;
use crate::sys::{BUFFER_BYTES, Doorbell, Event, Received, Ring, SendBytes, Socket, Token, Wakeup};

// What fills a buffer is what the shard takes for bulk.
const _: () = assert!(BULK_BYTES == BUFFER_BYTES as usize);

/// Shares of the handlers' task queue; the shard itself has glommio's 1,000.
const HANDLER_SHARES: usize = 500;

/// A completion that is not of the ring.
enum Other {
    Handled(ConnectionId, HandlerOutcome),
    Told(Message<Socket>),
}

/// [`Io`] over the ring for the sockets, and over glommio for the handlers.
pub(crate) struct RingIo {
    shard: u16,
    /// That of the turns.
    pub(super) clock: Clock,
    pub(super) ring: Ring,
    /// The ring's number of each connection's latest send, by slot.
    sends: Vec<u32>,
    pub(super) mesh: Mesh<Message<OwnedFd>>,
    pub(super) finished: Rc<Finished>,
    /// What wakes the handlers.
    relay: Relay,
    pulse: Arc<Pulse>,
    queue: TaskQueueHandle,
    /// The handlers at work, so that a stop can cancel them.
    tasks: Vec<Option<Task<()>>>,
    free_tasks: Vec<usize>,
    /// Messages of other shards are left where they are.
    holds_messages: bool,
    /// What was reaped and is not of the ring.
    reaped: VecDeque<Other>,
}

impl RingIo {
    pub(super) fn new(
        shard: u16,
        listeners: Vec<TcpListener>,
        registered_max: u32,
        wakeup: Wakeup,
        doorbell: Doorbell,
        pulse: Arc<Pulse>,
        mesh: Mesh<Message<OwnedFd>>,
    ) -> io::Result<RingIo> {
        let relay = Relay::new(wakeup.clone());
        let mut ring = Ring::new(listeners, registered_max, wakeup)?;
        ring.watch(doorbell);
        Ok(RingIo {
            shard,
            clock: Clock::start(),
            ring,
            sends: Vec::new(),
            mesh,
            finished: Rc::default(),
            relay,
            pulse,
            queue: glommio::executor().create_task_queue(
                Shares::Static(HANDLER_SHARES),
                Latency::NotImportant,
                "handlers",
            ),
            tasks: Vec::new(),
            free_tasks: Vec::new(),
            holds_messages: false,
            reaped: VecDeque::new(),
        })
    }

    /// Whether the next turn would find something to do.
    #[inline]
    pub(super) fn is_due(&mut self) -> bool {
        self.ring.has_events()
            || self.ring.has_work()
            || self.finished.any()
            || self.relay.is_rung()
            || self.mesh.has_mail()
    }

    /// Lets other shards have what they were told in this turn. Gives back whether that ended a
    /// congestion.
    #[inline]
    pub(super) fn tell_others(&mut self) -> bool {
        let was_congested = self.mesh.is_congested();
        self.mesh.flush();
        was_congested && !self.mesh.is_congested()
    }

    /// Adds what the shard itself does not know.
    pub(super) fn show(&self, snapshot: &mut Snapshot) {
        snapshot.gauges.buffers_peak = self.ring.take_buffers_peak() as u64;
        snapshot.mesh = self.mesh.counts();
    }

    /// Ends the handlers that are still at work.
    pub(super) async fn cancel_handlers(&mut self) {
        let tasks = std::mem::take(&mut self.tasks);
        let mut cancelled = pin!(async {
            for task in tasks.into_iter().flatten() {
                task.cancel().await;
            }
        });
        // Cancelled tasks are runnable, no more: see the invariant of this file.
        let mut done = false;
        while !done {
            let mut guard = pin!(Timer::new(Duration::from_micros(GUARD_US)));
            poll_fn(|cx| {
                done = cancelled.as_mut().poll(cx).is_ready();
                if done || guard.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
        }
    }

    fn handle(&mut self, id: ConnectionId, task: HandlerTask) {
        let slot = self.free_tasks.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        let code = task.code();
        let finished = Rc::clone(&self.finished);
        let pulse = Arc::clone(&self.pulse);
        let polled = self.relay.handler(slot);
        let run = async move {
            let mut task = pin!(task);
            let outcome = poll_fn(|cx| {
                // Between two turns, so it is a turn of its own for whoever watches.
                pulse.begin_turn();
                pulse.serve(id);
                pulse.handle(code);
                let waker = polled.waker(cx.waker());
                let outcome = task.as_mut().poll(&mut Context::from_waker(waker));
                pulse.end_turn();
                outcome
            })
            .await;
            // Its number may be another's once it is reaped.
            drop(polled);
            finished.add(slot, id, outcome);
        };
        match glommio::spawn_local_into(run, self.queue) {
            Ok(task) => self.tasks[slot] = Some(task),
            Err(error) => {
                let outcome = HandlerOutcome::failed(code, error.to_string());
                self.finished.add(slot, id, outcome);
            }
        }
    }

    fn reap_handlers(&mut self) {
        if self.relay.is_rung() {
            self.relay.pass_on();
        }
        if !self.finished.any() {
            return;
        }
        for (slot, id, outcome) in self.finished.take() {
            self.tasks[slot] = None;
            self.free_tasks.push(slot);
            self.reaped.push_back(Other::Handled(id, outcome));
        }
    }
}

impl RingIo {
    fn send(&mut self, id: ConnectionId, socket: &Socket, buffer: SendBuffer) {
        let bytes = match buffer.bytes {
            Outgoing::Own(bytes) => SendBytes::Own(bytes),
            Outgoing::Shared(bytes) => SendBytes::Shared(bytes),
        };
        let number = self.ring.send(token_of(id), socket, bytes, buffer.sent);
        self.note_send(id, number);
    }

    #[inline]
    fn note_send(&mut self, id: ConnectionId, number: u32) {
        let slot = id.slot as usize;
        if self.sends.len() <= slot {
            cold_path();
            self.sends.resize(slot + 1, number);
        }
        self.sends[slot] = number;
    }

    #[inline]
    fn reap_mesh(&mut self, max: usize) {
        if self.holds_messages || !self.mesh.has_mail() {
            return;
        }
        let (ring, reaped) = (&mut self.ring, &mut self.reaped);
        self.mesh.receive(max, |_from, message| {
            let message = message.with_socket(|fd| ring.adopt(fd));
            reaped.push_back(Other::Told(message));
        });
    }
}

/// A connection that was accepted. Where even its peer's address can't be told, it is broken.
#[cold]
fn arrival(socket: Socket) -> Result<Arrival<Socket>, Failure> {
    match socket.peer() {
        Ok(peer) => Ok(Arrival::new(socket, peer)),
        Err(error) => Err(Failure::Broken(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            error,
        ))),
    }
}

impl Io for RingIo {
    type Socket = Socket;
    type Received = Received;

    #[inline(never)]
    fn submit(&mut self, operation: Operation<'_, Socket>) {
        match operation {
            Operation::Send { id, socket, buffer } => self.send(id, socket, buffer),
            Operation::Receive { id, socket, how } => {
                let token = token_of(id);
                match how {
                    Reception::Again => self.ring.receive(token, socket),
                    Reception::Once => self.ring.receive_once(token, socket),
                    Reception::Large => self.ring.receive_large(token, socket),
                }
            }
            Operation::CancelReceive { id } => self.ring.cancel_receive(token_of(id)),
            Operation::CancelSend { id } => {
                if let Some(&number) = self.sends.get(id.slot as usize) {
                    self.ring.cancel_send(number, token_of(id));
                }
            }
            Operation::ShutdownSend { socket } => socket.shutdown_send(),
            Operation::Close { socket, reset } => {
                if reset {
                    socket.reset_on_close();
                }
                drop(socket);
                // In front of an accept that waits for its descriptor.
                self.ring.close_dropped();
            }
            Operation::Accept { listener } => self.ring.accept(listener),
            Operation::CancelAccept { listener } => self.ring.cancel_accept(listener),
            Operation::StopListening { listener } => self.ring.stop_listening(listener),
            Operation::Handle { id, task } => self.handle(id, task),
            Operation::Tell { shard, message } => {
                let message = message.with_socket(|socket| self.ring.release(socket));
                self.mesh.send(shard, message);
            }
        }
    }

    #[expect(clippy::inline_always, reason = "measured")]
    #[inline(always)]
    fn send_all_of(&mut self, bytes: &mut Vec<u8>, id: ConnectionId, socket: &Socket) {
        let number = self.ring.send_all_of(bytes, token_of(id), socket);
        self.note_send(id, number);
    }

    fn send_at_once(&mut self, bytes: &[u8], socket: &Socket) -> usize {
        socket.send_at_once(bytes)
    }

    #[inline]
    fn now_us(&self) -> Option<u64> {
        Some(self.clock.now_us())
    }

    fn is_congested(&self) -> bool {
        self.mesh.is_congested()
    }

    fn is_gone(&self, shard: u16) -> bool {
        self.mesh.is_gone(shard)
    }

    fn is_silent(&self, shard: u16) -> bool {
        self.mesh.is_silent(shard)
    }

    fn somebody_waits(&self, listener: usize) -> bool {
        self.ring.somebody_waits(listener)
    }

    fn wipe(&mut self, received: Received) {
        received.wipe();
    }

    #[inline]
    fn hold_messages(&mut self, hold: bool) {
        self.holds_messages = hold;
    }

    #[inline]
    fn reap(&mut self, max: usize) {
        self.reap_handlers();
        self.reap_mesh(max);
        self.ring.begin_to_reap(max);
    }

    #[inline]
    fn completion(&mut self) -> Option<Completion<Socket, Received>> {
        if !self.reaped.is_empty() {
            cold_path();
            return match self.reaped.pop_front()? {
                Other::Handled(id, outcome) => Some(Completion::Handled { id, outcome }),
                Other::Told(message) => Some(Completion::Told { message }),
            };
        }
        match self.ring.reap_next() {
            Some(Event::Received {
                token,
                result,
                more,
            }) => Some(Completion::Received {
                id: id_of(self.shard, token),
                result: result.map_err(failure),
                more,
            }),
            Some(Event::Sent {
                token,
                bytes,
                offset,
                result,
            }) => Some(Completion::Sent {
                id: id_of(self.shard, token),
                buffer: SendBuffer {
                    bytes: match bytes {
                        SendBytes::Own(bytes) => Outgoing::Own(bytes),
                        SendBytes::Shared(bytes) => Outgoing::Shared(bytes),
                    },
                    sent: offset,
                },
                result: result.map_err(failure),
            }),
            Some(Event::Accepted {
                listener,
                result,
                more,
            }) => Some(Completion::Accepted {
                listener,
                result: result.map_err(failure).and_then(arrival),
                more,
            }),
            None => None,
        }
    }
}

/// An id as the ring carries it: generation and slot.
#[inline]
fn token_of(id: ConnectionId) -> Token {
    Token::new(u64::from(id.generation) << SLOT_BITS | u64::from(id.slot))
}

#[inline]
fn id_of(shard: u16, token: Token) -> ConnectionId {
    ConnectionId {
        shard,
        slot: low_bits(token.number(), SLOT_BITS),
        generation: low_bits(token.number() >> SLOT_BITS, u32::BITS),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "cut off on purpose, at 32 bits or below"
)]
#[inline]
fn low_bits(number: u64, bits: u32) -> u32 {
    (number & ((1 << bits) - 1)) as u32
}

/// Room for as many slots as a configuration can ask for.
const SLOT_BITS: u32 = 24;
const _: () = assert!(*bounds::CONNECTIONS.end() < 1 << SLOT_BITS);

#[cold]
fn failure(error: io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::ECANCELED) => Failure::Cancelled,
        Some(libc::ENOBUFS) => Failure::NoBuffers,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Failure::NoRoom(error),
        _ => Failure::Broken(error),
    }
}
