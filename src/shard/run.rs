//! A shard in production: the glommio task that turns it, submits and parks.
//!
//! A shard without work waits in three steps: it looks for some (`shards.busy_poll_us`), unless it is
//! busy most of the time and has several messages at a time, then sleeps in its own ring, which is one
//! system call, and where that brings nothing for a while it parks inside glommio, which costs more
//! but lets the executor's other tasks sleep as well. While asynchronous handlers are at work it parks
//! at once, since they are what is waited for.
//!
//! Whoever wants something of a shard (to stop, or to tell it something) rings its doorbell, which
//! its ring watches: so the ring alone has to be waited for, and it wakes glommio by an eventfd.
//!
//! Invariant: whenever the shard's task waits inside glommio, an event of the kernel's is due or
//! armed that wakes it; it never relies on glommio's word that it is runnable. For glommio (0.12)
//! takes an executor whose preemption timer has fired before it ran anything for idle, and sleeps
//! although tasks are runnable, until the next event. So the shard yields by waking itself through
//! its eventfd, and looks after its handlers every [`GUARD_US`]. Where that very event has been seen
//! and its task not been run, since the host has kept the core for long, a [`keeper`] that does nothing
//! has the executor go round. It wakes no shard: what should have does.

mod control;
mod keeper;
mod parking;
mod relay;
mod ring_io;
mod workload;

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use glommio::timer::Timer;

pub(crate) use self::control::{Control, Order, Show, Tuning};
pub(crate) use super::mailbox::Refused;

use self::control::{DRAIN, NO_REQUEST, Reply, STOP};
use self::parking::Parking;
use self::ring_io::RingIo;
use self::workload::Workload;
use super::mailbox::DELIVERIES_MAX;
use super::mesh::Mesh;
use super::{Loads, Message, Pace, Shard, Snapshot};
use crate::handler::{Local, Router};
use crate::metrics::{Counters, MEASURES};
use crate::sys::clock::Clock;
use crate::sys::{Wakeup, host, socket};

/// How long a busy shard keeps the executor's other tasks waiting, in microseconds. It is also how
/// often glommio looks after its own timers and files then, and how late a request to stop may be
/// heard.
const YIELD_US: u64 = 2000;

/// The same while asynchronous handlers are at work.
const YIELD_TO_HANDLERS_US: u64 = 100;

/// How long a shard without work sleeps in its ring before it parks inside glommio, in microseconds;
/// meanwhile the executor's other tasks wait.
const SLEEP_US: u64 = 1000;

/// How long a parked shard leaves handlers at work unattended, in microseconds; see above.
const GUARD_US: u64 = 10_000;

/// How often a shard that has come up looks whether the others have, in microseconds.
const GATHER_US: u64 = 500;

/// What it takes to run a shard.
pub(crate) struct Start<S, F> {
    pub(crate) number: u16,
    pub(crate) loads: Arc<Loads>,
    pub(crate) mesh: Mesh<Message<OwnedFd>>,
    pub(crate) tuning: Tuning,
    /// The other end of this shard's control.
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) router: Router<S>,
    /// Makes the state of its handlers.
    pub(crate) factory: F,
    pub(crate) listeners: Vec<TcpListener>,
    /// Those of all shards.
    pub(crate) controls: Arc<Vec<Control>>,
}

/// Runs a shard on the glommio executor of this thread, until it is told to stop. Calls `ready`
/// when it accepts connections, which it does when all shards can: listeners that do not listen yet
/// would else take in connections for a server that never comes up.
///
/// # Errors
///
/// What the kernel says against the ring or a listener.
pub(crate) async fn run<S: 'static>(
    start: Start<S, impl FnOnce(Local<S>) -> S>,
    ready: impl FnOnce(),
) -> io::Result<Counters> {
    let listeners = start.listeners.len();
    let listening = start.listeners.iter().map(TcpListener::try_clone);
    let listening = listening.collect::<io::Result<Vec<_>>>()?;
    let Tuning {
        settings,
        backlog,
        busy_poll_us,
    } = start.tuning;
    let registered_max = host::registered_files_max(settings.connections_max);
    let wakeup = Wakeup::new()?;
    let control = &start.controls[usize::from(start.number)];
    let io = RingIo::new(
        start.number,
        start.listeners,
        registered_max,
        wakeup.clone(),
        control.doorbell.clone(),
        Arc::clone(&control.pulse),
        start.mesh,
    )?;
    let finished = Rc::clone(&io.finished);
    let mut shard = Shard::new(
        io,
        (start.number, start.loads),
        listeners,
        settings,
        start.router,
        |local| Rc::new((start.factory)(local)),
    );
    let parking = Parking::new(wakeup.clone(), finished, Rc::clone(shard.desk()))?;
    shard.show_pulse(Arc::clone(&control.pulse));
    let mut runner = Runner {
        clock: shard.io_mut().clock,
        number: usize::from(start.number),
        controls: start.controls,
        orders: start.orders,
        wanted: None,
        pace: Pace::default(),
        busy_poll_us,
        workload: Workload::default(),
        wakeup,
        parking,
        request: NO_REQUEST,
        yielded_at_us: 0,
        idle_since_us: None,
        waits_since_us: None,
    };
    // Ends when it is dropped.
    let _keeper = glommio::spawn_local(keeper::keep_awake());
    if !all_are_up(&runner.controls, runner.number).await {
        return Ok(shard.counters().clone());
    }
    socket::begin_to_listen(&listening, backlog)?;
    drop(listening);
    // The first turn asks for the accepts, and entering the kernel starts them.
    shard.turn(0);
    shard.io_mut().ring.enter()?;
    ready();
    let outcome = runner.turn_until_stopped(&mut shard).await;
    shard.io_mut().cancel_handlers().await;
    outcome.map(|()| shard.counters().clone())
}

/// Waits until all shards have come as far as this one, unless it is told to stop: gives back whether
/// they have.
async fn all_are_up(controls: &[Control], number: usize) -> bool {
    controls[number].come_up();
    loop {
        if controls[number].request() != NO_REQUEST {
            return false;
        }
        if controls.iter().all(Control::is_up) {
            return true;
        }
        Timer::new(Duration::from_micros(GATHER_US)).await;
    }
}

/// The loop around the turns.
struct Runner {
    clock: Clock,
    number: usize,
    controls: Arc<Vec<Control>>,
    orders: mpsc::Receiver<Order>,
    /// A snapshot that waits for the connections which were asked for, and where it goes.
    wanted: Option<(Snapshot, Reply)>,
    pace: Pace,
    busy_poll_us: u64,
    workload: Workload,
    /// What wakes the shard when it is parked.
    wakeup: Wakeup,
    parking: Parking,
    /// The latest request that was carried out.
    request: u8,
    yielded_at_us: u64,
    /// Since when there has been nothing to do.
    idle_since_us: Option<u64>,
    /// Since when it waits, as far as that is not counted in `pace`.
    waits_since_us: Option<u64>,
}

impl Runner {
    async fn turn_until_stopped<S: 'static>(
        &mut self,
        shard: &mut Shard<RingIo, S>,
    ) -> io::Result<()> {
        loop {
            // While completions wait, more of them would only get out of the caches what those have
            // received.
            let ring = &mut shard.io_mut().ring;
            if ring.has_work() || !ring.has_completions() {
                ring.enter()?;
            }
            let mut now_us = self.clock.now_us();
            self.count_wait(now_us);
            self.waits_since_us = None;
            let turn = shard.turn(now_us);
            if turn.worked && MEASURES {
                now_us = self.clock.now_us();
            }
            shard.end_turn(now_us);
            if self.wanted.is_some() {
                self.show_connections(shard);
            }
            // A shard that accepted nobody, since its messages waited, has to look again.
            let has_more = shard.io_mut().tell_others() | turn.has_more;
            if turn.stopped {
                return Ok(());
            }
            if turn.worked {
                self.idle_since_us = None;
            }
            if self.must_yield(shard, now_us) {
                self.let_others_run(shard).await?;
                continue;
            }
            let enters = turn.worked && shard.io_mut().ring.has_work();
            if enters {
                shard.io_mut().ring.enter()?;
            }
            // With nothing to do, a turn would only look for something, which waiting does for less.
            if !has_more && !shard.io_mut().is_due() {
                // Else it is as late as when the turn ended.
                if enters || (turn.worked && !MEASURES) {
                    now_us = self.clock.now_us();
                }
                self.waits_since_us = Some(now_us);
                self.wait(shard, turn.wake_at_us, now_us).await?;
            }
        }
    }

    /// Counts what has been waited so far: a snapshot may be wanted in the middle of it.
    fn count_wait(&mut self, now_us: u64) {
        if let Some(since_us) = &mut self.waits_since_us {
            self.pace.idle_us += now_us - *since_us;
            *since_us = now_us;
        }
    }

    fn must_yield<S: 'static>(&self, shard: &Shard<RingIo, S>, now_us: u64) -> bool {
        let interval_us = if shard.handlers() == 0 {
            YIELD_US
        } else {
            YIELD_TO_HANDLERS_US
        };
        now_us >= self.yielded_at_us + interval_us || self.is_wanted()
    }

    /// Whether somebody wants something of the shard that it has not carried out.
    #[inline]
    fn is_wanted(&self) -> bool {
        let control = &self.controls[self.number];
        control.request() > self.request || control.has_orders()
    }

    /// Lets the executor's other tasks run, and looks after what is not the messages' business.
    async fn let_others_run<S: 'static>(&mut self, shard: &mut Shard<RingIo, S>) -> io::Result<()> {
        // What the turn asked for need not wait for the others.
        shard.io_mut().ring.enter()?;
        self.wakeup.wake();
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
        Ok(())
    }

    fn carry_out_requests<S: 'static>(&mut self, shard: &mut Shard<RingIo, S>) {
        if self.controls[self.number].take_orders() {
            self.take_orders(shard);
        }
        let request = self.controls[self.number].request();
        if request > self.request {
            self.request = request;
            match request {
                DRAIN => shard.drain(self.clock.now_us()),
                STOP => shard.stop(self.clock.now_us()),
                _ => shard.stop_at_once(self.clock.now_us()),
            }
        }
    }

    /// Takes orders, as many as deliveries may wait: who goes on ordering does not keep the shard.
    fn take_orders<S: 'static>(&mut self, shard: &mut Shard<RingIo, S>) {
        for taken in 0.. {
            if taken == DELIVERIES_MAX {
                self.controls[self.number].leave_orders();
                break;
            }
            let Ok(order) = self.orders.try_recv() else {
                break;
            };
            match order {
                Order::Reload { tuning, untaken } => {
                    self.reload(shard, tuning);
                    drop(untaken);
                }
                Order::Show(show) => self.show(shard, show),
                Order::Deliver(message, room) => {
                    let message = message.with_socket(|fd| shard.io_mut().ring.adopt(fd));
                    shard.take_in_from_outside(message, room);
                }
            }
        }
        shard.count_refused(self.controls[self.number].take_refused());
    }

    fn reload<S: 'static>(&mut self, shard: &mut Shard<RingIo, S>, tuning: Tuning) {
        let Tuning {
            settings,
            backlog: _,
            busy_poll_us,
        } = tuning;
        shard.reload(settings);
        self.busy_poll_us = busy_poll_us;
    }

    fn show<S: 'static>(&mut self, shard: &mut Shard<RingIo, S>, show: Show) {
        let mut snapshot = shard.snapshot(show.empty);
        let now_us = self.clock.now_us();
        self.count_wait(now_us);
        snapshot.pace = Pace {
            up_us: now_us,
            ..self.pace
        };
        shard.io_mut().show(&mut snapshot);
        if show.connections == 0 {
            return (show.reply)(snapshot);
        }
        // The turns that follow look for the connections.
        shard.begin_census(show.connections);
        if let Some((snapshot, reply)) = self.wanted.replace((snapshot, show.reply)) {
            // There was another census: that one has come to nothing.
            reply(snapshot);
        }
    }

    fn show_connections<S: 'static>(&mut self, shard: &mut Shard<RingIo, S>) {
        if let Some(connections) = shard.take_census()
            && let Some((mut snapshot, reply)) = self.wanted.take()
        {
            snapshot.connections = connections;
            reply(snapshot);
        }
    }

    /// Waits until there is something to do: looks for it a while, sleeps in the ring, then parks.
    async fn wait<S: 'static>(
        &mut self,
        shard: &mut Shard<RingIo, S>,
        wake_at_us: Option<u64>,
        now_us: u64,
    ) -> io::Result<()> {
        // Handlers at work have better use for the core than looking. Who waits for an answer of
        // another shard is looked after likewise: that shard may end.
        let handling = shard.handlers() > 0 || shard.calls() > 0;
        let idle_since_us = *self.idle_since_us.get_or_insert(now_us);
        let guard_at_us = handling.then_some(now_us + GUARD_US);
        let wake_at_us = [wake_at_us, guard_at_us]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(u64::MAX);
        let mut now_us = now_us;
        let messages = shard.counters().frames_received;
        let is_busy = self.workload.is_high(now_us, self.pace.idle_us, messages);
        if !handling && !is_busy {
            let look_until_us = idle_since_us + self.busy_poll_us;
            match self.look(shard, now_us, look_until_us.min(wake_at_us))? {
                Some(found_nothing_at_us) => now_us = found_nothing_at_us,
                None => return Ok(()),
            }
        }
        if shard.io_mut().mesh.fall_asleep() {
            let sleep_until_us = (idle_since_us + self.busy_poll_us + SLEEP_US).min(wake_at_us);
            if !handling && now_us < sleep_until_us {
                self.pace.parks += 1;
                let ring = &mut shard.io_mut().ring;
                ring.wait(now_us * 1000, sleep_until_us * 1000)?;
            } else {
                self.park_until(shard, wake_at_us).await?;
            }
        }
        shard.io_mut().mesh.wake_up();
        Ok(())
    }

    /// Looks for work from now until then. Gives back when it was that there was none, or nothing if
    /// there is some.
    fn look<S: 'static>(
        &mut self,
        shard: &mut Shard<RingIo, S>,
        mut now_us: u64,
        until_us: u64,
    ) -> io::Result<Option<u64>> {
        while now_us < until_us {
            if self.must_yield(shard, now_us) {
                return Ok(None);
            }
            std::hint::spin_loop();
            shard.io_mut().ring.enter()?;
            if shard.io_mut().is_due() {
                return Ok(None);
            }
            now_us = self.clock.now_us();
        }
        Ok(Some(now_us))
    }

    async fn park_until<S: 'static>(
        &mut self,
        shard: &mut Shard<RingIo, S>,
        wake_at_us: u64,
    ) -> io::Result<()> {
        let ring = &mut shard.io_mut().ring;
        ring.enable_wakeups()?;
        // Completions from before wake nobody: look once more.
        ring.enter()?;
        if !shard.io_mut().is_due() {
            let timeout_us =
                (wake_at_us < u64::MAX).then(|| wake_at_us.saturating_sub(self.clock.now_us()));
            self.pace.parks += 1;
            self.park(shard, timeout_us).await?;
        }
        shard.io_mut().ring.disable_wakeups()
    }
}
