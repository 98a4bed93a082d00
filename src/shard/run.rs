//! A shard in production: the glommio task that turns it, submits and parks, and [`Io`] over the
//! ring.
//!
//! Invariant: whenever the shard's task waits inside glommio, an event of the kernel's is due or
//! armed that wakes it; it never relies on glommio's word that it is runnable. For glommio (0.12)
//! takes an executor whose preemption timer has fired before it ran anything for idle, and sleeps
//! although tasks are runnable, until the next event. So the shard yields by waking itself through
//! its eventfd, and looks after its handlers every [`GUARD_US`].

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::io::{PollState, PollableFd};
use glommio::timer::Timer;
use glommio::{Latency, Shares, Task, TaskQueueHandle};

use super::io::{Completion, Failure, Io, Operation, SendBuffer};
use super::settings::Settings;
use super::stats::Stats;
use super::{Shard, Turn};
use crate::config::bounds;
use crate::handler::{ConnectionId, HandlerOutcome, HandlerTask, Router};
use crate::metrics::Counters;
use crate::sys::clock::Clock;
use crate::sys::host;
use crate::sys::{Event, Received, Ring, Socket, Token, Wakeup};

/// How long a busy shard keeps the executor's other tasks waiting, in microseconds. It is also how
/// often glommio looks after its own timers and files then, and how late a request to stop may be
/// heard.
const YIELD_US: u64 = 2000;

/// The same while asynchronous handlers are at work.
const YIELD_TO_HANDLERS_US: u64 = 100;

/// How long a parked shard leaves handlers at work unattended, in microseconds; see above.
const GUARD_US: u64 = 10_000;

/// Shares of the handlers' task queue; the shard itself has glommio's 1,000.
const HANDLER_SHARES: usize = 500;

/// What other threads can tell a shard.
#[derive(Debug)]
pub(crate) struct Control {
    request: AtomicU8,
    wakeup: Wakeup,
}

const NO_REQUEST: u8 = 0;
const STOP: u8 = 1;
const STOP_AT_ONCE: u8 = 2;

impl Control {
    pub(crate) fn new() -> io::Result<Control> {
        Ok(Control {
            request: AtomicU8::new(NO_REQUEST),
            wakeup: Wakeup::new()?,
        })
    }

    /// Has the shard stop.
    pub(crate) fn stop(&self) {
        self.ask(STOP);
    }

    /// Has the shard stop without waiting for what is queued.
    pub(crate) fn stop_at_once(&self) {
        self.ask(STOP_AT_ONCE);
    }

    fn ask(&self, request: u8) {
        self.request.fetch_max(request, Ordering::Release);
        self.wakeup.wake();
    }

    fn request(&self) -> u8 {
        self.request.load(Ordering::Acquire)
    }
}

/// What it takes to run a shard.
pub(crate) struct Start<S> {
    pub(crate) number: u16,
    pub(crate) settings: Settings,
    pub(crate) busy_poll_us: u64,
    /// How often a line of figures is logged; `None` for never.
    pub(crate) stats_us: Option<u64>,
    pub(crate) router: Router<S>,
    pub(crate) state: Rc<S>,
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) control: Arc<Control>,
}

/// Runs a shard on the glommio executor of this thread, until it is told to stop. Calls `ready`
/// when it accepts connections.
///
/// # Errors
///
/// What the kernel says against the ring.
pub(crate) async fn run<S: 'static>(start: Start<S>, ready: impl FnOnce()) -> io::Result<Counters> {
    let listeners = start.listeners.len();
    let registered_max = host::registered_files_max(start.settings.connections_max);
    let wakeup = start.control.wakeup.clone();
    let io = RingIo::new(start.number, start.listeners, registered_max, wakeup)?;
    let finished = Rc::clone(&io.finished);
    let parking = Parking::new(start.control.wakeup.clone(), finished)?;
    let mut shard = Shard::new(
        io,
        start.number,
        listeners,
        start.settings,
        start.router,
        start.state,
    );
    let mut runner = Runner {
        clock: Clock::start(),
        control: start.control,
        busy_poll_us: start.busy_poll_us,
        parking,
        request: NO_REQUEST,
        yielded_at_us: 0,
        idle_since_us: None,
        stats: Stats::new(start.number, start.stats_us),
    };
    // The first turn asks for the accepts, and entering the kernel starts them.
    shard.turn(0);
    shard.io_mut().ring.enter()?;
    ready();
    let outcome = runner.turn_until_stopped(&mut shard).await;
    shard.io_mut().cancel_handlers().await;
    outcome.map(|()| shard.counters().clone())
}

/// The loop around the turns.
struct Runner {
    clock: Clock,
    control: Arc<Control>,
    busy_poll_us: u64,
    parking: Parking,
    /// The latest request that was carried out.
    request: u8,
    yielded_at_us: u64,
    /// Since when there has been nothing to do.
    idle_since_us: Option<u64>,
    stats: Stats,
}

impl Runner {
    async fn turn_until_stopped<S: 'static>(
        &mut self,
        shard: &mut Shard<RingIo, S>,
    ) -> io::Result<()> {
        loop {
            if shard.io_mut().ring.has_work() {
                shard.io_mut().ring.enter()?;
            }
            let now_us = self.clock.now_us();
            let turn = shard.turn(now_us);
            if turn.stopped {
                return Ok(());
            }
            if turn.worked {
                self.idle_since_us = None;
            }
            if self.must_yield(shard, now_us) {
                self.let_others_run(shard).await?;
            } else if !turn.worked {
                self.wait(shard, turn, now_us).await?;
            }
        }
    }

    fn must_yield<S: 'static>(&self, shard: &Shard<RingIo, S>, now_us: u64) -> bool {
        let interval_us = if shard.handlers() == 0 {
            YIELD_US
        } else {
            YIELD_TO_HANDLERS_US
        };
        now_us >= self.yielded_at_us + interval_us || self.control.request() > self.request
    }

    /// Lets the executor's other tasks run, and looks after what is not the messages' business.
    async fn let_others_run<S: 'static>(&mut self, shard: &mut Shard<RingIo, S>) -> io::Result<()> {
        // What the turn asked for need not wait for the others.
        shard.io_mut().ring.enter()?;
        self.control.wakeup.wake();
        self.park(shard, None).await
    }

    /// Sleeps inside glommio until woken, or for so long.
    async fn park<S: 'static>(
        &mut self,
        shard: &mut Shard<RingIo, S>,
        timeout_us: Option<u64>,
    ) -> io::Result<()> {
        self.parking
            .park(timeout_us.map(Duration::from_micros))
            .await?;
        self.carry_out_requests(shard);
        let now_us = self.clock.now_us();
        self.yielded_at_us = now_us;
        self.stats
            .log_if_due(now_us, shard.connections(), shard.counters());
        Ok(())
    }

    fn carry_out_requests<S: 'static>(&mut self, shard: &mut Shard<RingIo, S>) {
        let request = self.control.request();
        if request > self.request {
            self.request = request;
            match request {
                STOP => shard.stop(self.clock.now_us()),
                _ => shard.stop_at_once(self.clock.now_us()),
            }
        }
    }

    /// Waits until there is something to do: looks for it a while, then parks.
    async fn wait<S: 'static>(
        &mut self,
        shard: &mut Shard<RingIo, S>,
        turn: Turn,
        now_us: u64,
    ) -> io::Result<()> {
        // Handlers at work have better use for the core than looking.
        let handling = shard.handlers() > 0;
        let idle_since_us = *self.idle_since_us.get_or_insert(now_us);
        let park_at_us = idle_since_us + if handling { 0 } else { self.busy_poll_us };
        let guard_at_us = handling.then_some(now_us + GUARD_US);
        let wake_at_us = [turn.wake_at_us, self.stats.due_at_us, guard_at_us]
            .into_iter()
            .flatten()
            .min();
        let look_until_us = wake_at_us.map_or(park_at_us, |at_us| at_us.min(park_at_us));
        loop {
            if shard.io_mut().is_due() {
                return Ok(());
            }
            let now_us = self.clock.now_us();
            if now_us >= look_until_us {
                break;
            }
            if self.must_yield(shard, now_us) {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let ring = &mut shard.io_mut().ring;
        ring.enable_wakeups();
        // Completions from before wake nobody: look once more.
        ring.enter()?;
        if !shard.io_mut().is_due() {
            let timeout_us = wake_at_us.map(|at_us| at_us.saturating_sub(self.clock.now_us()));
            self.park(shard, timeout_us).await?;
        }
        shard.io_mut().ring.disable_wakeups();
        Ok(())
    }
}

/// Where a shard sleeps: on its eventfd, and on the handlers that finish meanwhile.
struct Parking {
    wakeup: PollableFd<Wakeup>,
    /// The poll of the eventfd.
    poll: PollState,
    finished: Rc<Finished>,
}

impl Parking {
    fn new(wakeup: Wakeup, finished: Rc<Finished>) -> io::Result<Parking> {
        Ok(Parking {
            wakeup: PollableFd::new(wakeup).map_err(io::Error::from)?,
            poll: PollState::new(),
            finished,
        })
    }

    async fn park(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut timer = pin!(async {
            match timeout {
                Some(timeout) => {
                    Timer::new(timeout).await;
                }
                None => std::future::pending().await,
            }
        });
        let Parking {
            wakeup,
            poll,
            finished,
        } = self;
        let woken = poll_fn(|cx| {
            if let Poll::Ready(readable) = wakeup.poll_readable(cx, poll) {
                return Poll::Ready(readable.map(|()| true));
            }
            if finished.count.get() > 0 || timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(false));
            }
            finished.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
        .map_err(io::Error::from)?;
        if woken {
            wakeup.get_ref().clear();
        } else {
            // glommio keeps a waker of every poll until the eventfd is readable: begin anew.
            *poll = PollState::new();
        }
        Ok(())
    }
}

/// The asynchronous handlers that have finished and were not reaped yet.
#[derive(Default)]
struct Finished {
    outcomes: RefCell<Vec<(usize, ConnectionId, HandlerOutcome)>>,
    count: Cell<usize>,
    /// The parked shard.
    waker: RefCell<Option<Waker>>,
}

impl Finished {
    fn add(&self, task: usize, id: ConnectionId, outcome: HandlerOutcome) {
        self.outcomes.borrow_mut().push((task, id, outcome));
        self.count.set(self.count.get() + 1);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// [`Io`] over the ring for the sockets, and over glommio for the handlers.
pub(crate) struct RingIo {
    shard: u16,
    ring: Ring,
    /// The ring's number of each connection's latest send, by slot.
    sends: Vec<u32>,
    finished: Rc<Finished>,
    queue: TaskQueueHandle,
    /// The handlers at work, so that a stop can cancel them.
    tasks: Vec<Option<Task<()>>>,
    free_tasks: Vec<usize>,
}

impl RingIo {
    fn new(
        shard: u16,
        listeners: Vec<TcpListener>,
        registered_max: u32,
        wakeup: Wakeup,
    ) -> io::Result<RingIo> {
        Ok(RingIo {
            shard,
            ring: Ring::new(listeners, registered_max, wakeup)?,
            sends: Vec::new(),
            finished: Rc::default(),
            queue: glommio::executor().create_task_queue(
                Shares::Static(HANDLER_SHARES),
                Latency::NotImportant,
                "handlers",
            ),
            tasks: Vec::new(),
            free_tasks: Vec::new(),
        })
    }

    /// Whether the next turn would find something to do.
    #[inline]
    fn is_due(&mut self) -> bool {
        self.ring.has_events() || self.ring.has_work() || self.finished.count.get() > 0
    }

    /// Ends the handlers that are still at work.
    async fn cancel_handlers(&mut self) {
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
        let run = async move {
            let outcome = task.await;
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

    fn reap_handlers(&mut self, completions: &mut Vec<Completion<Socket, Received>>) {
        if self.finished.count.replace(0) == 0 {
            return;
        }
        for (slot, id, outcome) in self.finished.outcomes.borrow_mut().drain(..) {
            self.tasks[slot] = None;
            self.free_tasks.push(slot);
            completions.push(Completion::Handled { id, outcome });
        }
    }
}

impl Io for RingIo {
    type Socket = Socket;
    type Received = Received;

    #[inline]
    fn submit(&mut self, operation: Operation<'_, Socket>) {
        match operation {
            Operation::Send { id, socket, buffer } => {
                let number = self
                    .ring
                    .send(token_of(id), socket, buffer.bytes, buffer.sent);
                let slot = id.slot as usize;
                if self.sends.len() <= slot {
                    self.sends.resize(slot + 1, number);
                }
                self.sends[slot] = number;
            }
            Operation::Receive { id, socket } => self.ring.receive(token_of(id), socket),
            Operation::CancelReceive { id } => self.ring.cancel_receive(token_of(id)),
            Operation::CancelSend { id } => {
                if let Some(&number) = self.sends.get(id.slot as usize) {
                    self.ring.cancel_send(number, token_of(id));
                }
            }
            Operation::ShutdownSend { socket } => socket.shutdown_send(),
            Operation::Close { socket } => {
                drop(socket);
                // In front of an accept that waits for its descriptor.
                self.ring.close_dropped();
            }
            Operation::Accept { listener } => self.ring.accept(listener),
            Operation::CancelAccept { listener } => self.ring.cancel_accept(listener),
            Operation::StopListening { listener } => self.ring.stop_listening(listener),
            Operation::Handle { id, task } => self.handle(id, task),
        }
    }

    #[inline]
    fn reap(&mut self, completions: &mut Vec<Completion<Socket, Received>>, max: usize) {
        self.reap_handlers(completions);
        let shard = self.shard;
        self.ring.reap(max, |event| {
            completions.push(match event {
                Event::Received {
                    token,
                    result,
                    more,
                } => Completion::Received {
                    id: id_of(shard, token),
                    result: result.map_err(failure),
                    more,
                },
                Event::Sent {
                    token,
                    bytes,
                    offset,
                    result,
                } => Completion::Sent {
                    id: id_of(shard, token),
                    buffer: SendBuffer {
                        bytes,
                        sent: offset,
                    },
                    result: result.map_err(failure),
                },
                Event::Accepted {
                    listener,
                    result,
                    more,
                } => Completion::Accepted {
                    listener,
                    result: result.map_err(failure),
                    more,
                },
            });
        });
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

fn failure(error: io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::ECANCELED) => Failure::Cancelled,
        Some(libc::ENOBUFS) => Failure::NoBuffers,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Failure::NoRoom(error),
        _ => Failure::Broken(error),
    }
}
