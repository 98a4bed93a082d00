//! One thread of a run: its connections over its own ring.

use std::io;
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use core_affinity::CoreId;
use rustix::net::sockopt::set_tcp_congestion;
use rustix::thread::set_current_timer_slack;

use super::{AT_ONCE, Begin, LoadError, PlanError, Times};
use crate::load::lane::{Lane, Pace};
use crate::load::plan::{Plan, ns};
use crate::load::requests::LARGE_BODY_BYTES;
use crate::load::schedule::{Schedule, Share};
use crate::load::session::Session;
use crate::load::tally::Tally;
use crate::load::timeline::Part;
use crate::load::usage::CpuTime;
use crate::load::waiting::{Wait, Waiting};
use crate::protocol::{BodyTooLong, HEADER_BYTES};
use crate::sys::{Event, Received, Ring, Socket, Token, Wakeup, host};

/// Longest wait for something to happen, in nanoseconds: the end of the run may be moved to an
/// earlier time.
const WAIT_MAX_NS: u64 = 50_000_000;

/// Large replies are received when it is their turn, as a shard does, unless more than this may be in
/// flight on a connection: then the kernel does better to fill buffers as they come. Measured with bodies
/// of 16 KiB from 64 connections, in CPU a message: a fifth less with 4 in flight, a quarter more with 16.
const BULK_BYTES: usize = 128 * 1024;

/// A thread with its connections, before the run begins.
pub(super) struct Connected {
    share: Share,
    ring: Ring,
    sessions: Vec<Session>,
    sockets: Vec<Option<Socket>>,
}

/// What a thread found, or several of them together.
pub(super) struct Finished {
    /// The parts of the time that were not told before.
    pub(super) parts: Vec<Part>,
    pub(super) tally: Tally,
    /// CPU time in the measured time.
    pub(super) cpu: CpuTime,
    /// Bytes of the replies that count.
    pub(super) reply_bytes: u64,
    /// With a rate: requests that were due in the measured time, and those of them that were not
    /// sent in it.
    pub(super) due: u64,
    pub(super) unsent: u64,
}

impl Finished {
    /// What is known before any thread has begun.
    pub(super) fn nothing() -> Finished {
        Finished {
            parts: Vec::new(),
            tally: Tally::default(),
            cpu: CpuTime::NONE,
            reply_bytes: 0,
            due: 0,
            unsent: 0,
        }
    }

    /// Takes in what another thread found, but for the parts.
    pub(super) fn add(&mut self, other: Finished) {
        self.tally.merge(other.tally);
        self.cpu = self.cpu.and(other.cpu);
        self.reply_bytes += other.reply_bytes;
        self.due += other.due;
        self.unsent += other.unsent;
    }
}

impl Connected {
    /// Opens the connections of thread `number`, on its CPU.
    pub(super) fn connect(
        plan: &Plan,
        number: usize,
        times: &Times,
    ) -> Result<Connected, LoadError> {
        pin(plan, number)?;
        let share = share(plan, number);
        let threads = plan.threads_used();
        // The first threads have one more if they can't be shared evenly.
        let first = number * (plan.connections / threads) + number.min(plan.connections % threads);
        let sessions = (first..first + share.connections)
            .map(|number| Session::new(number, plan.shape()))
            .collect::<Result<Vec<Session>, BodyTooLong>>()
            .map_err(|error| PlanError::BodyTooLong {
                body_bytes: error.body_bytes,
            })?;
        let mut ring = make_ring(share.connections)?;
        let sockets = (0..share.connections)
            .map(|_| {
                if times.until_ns.load(Ordering::Relaxed) == AT_ONCE {
                    return Err(LoadError::Interrupted);
                }
                connect(plan).map(|stream| Some(ring.connected(stream)))
            })
            .collect::<Result<Vec<Option<Socket>>, LoadError>>()?;
        Ok(Connected {
            share,
            ring,
            sessions,
            sockets,
        })
    }

    /// Drives the connections until the run is over. `over` is given each part of the time when it
    /// is over, and how many errors there were so far.
    pub(super) fn work(
        self,
        plan: &Plan,
        times: &Times,
        begin: Begin,
        over: impl FnMut(Part, u64),
    ) -> Result<Finished, LoadError> {
        let Connected {
            share,
            ring,
            sessions,
            sockets,
        } = self;
        let pace = plan.rate.map_or(Pace::Closed, |rate| Pace::Open {
            schedule: Schedule::new(begin.at_ns, rate, share),
            due: 0,
        });
        let lane = Lane::new(sessions, pace, begin.window);
        let mut worker = Worker {
            times,
            lane,
            ring,
            sockets,
            receives_large: receives_large(plan),
            spare: Vec::new(),
            waiting: Waiting::new(ns(plan.busy_poll)),
            looked: Duration::ZERO,
            cpu_before: None,
            cpu_after: None,
            over,
        };
        worker.receive_all();
        worker.drive().map_err(|error| LoadError::System {
            what: "the kernel refuses an operation of an io_uring",
            error,
        })?;
        Ok(worker.finish())
    }
}

fn share(plan: &Plan, number: usize) -> Share {
    let threads = plan.threads_used();
    let rest = plan.connections % threads;
    Share {
        thread: number,
        connections: plan.connections / threads + usize::from(number < rest),
        all_connections: plan.connections,
    }
}

fn pin(plan: &Plan, number: usize) -> Result<(), LoadError> {
    // What is not on time by 50 us, the usual slack, would count against the server. Where it
    // can't be helped, all else is the same.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    if plan.cpus.is_empty() {
        return Ok(());
    }
    let id = plan.cpus[number % plan.cpus.len()];
    if core_affinity::set_for_current(CoreId { id }) {
        return Ok(());
    }
    Err(LoadError::System {
        what: "a thread cannot be pinned to its CPU",
        error: io::Error::last_os_error(),
    })
}

fn receives_large(plan: &Plan) -> bool {
    let reply_bytes = HEADER_BYTES + plan.body_bytes;
    plan.body_bytes >= LARGE_BODY_BYTES && plan.pipeline.saturating_mul(reply_bytes) <= BULK_BYTES
}

fn make_ring(connections: usize) -> Result<Ring, LoadError> {
    let make = || {
        let registered = host::registered_files_max(connections);
        Ring::new(Vec::new(), registered, Wakeup::new()?)
    };
    make().map_err(|error| {
        let lacks = host::lacks(1, 0);
        if lacks.is_empty() {
            return LoadError::System {
                what: "an io_uring cannot be made",
                error,
            };
        }
        let lacks: Vec<String> = lacks.iter().map(ToString::to_string).collect();
        LoadError::Host {
            lacks: lacks.join("; "),
        }
    })
}

fn connect(plan: &Plan) -> Result<TcpStream, LoadError> {
    let connect = || -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&plan.address, plan.timeout)?;
        stream.set_nodelay(true)?;
        if plan.address.ip().is_loopback() {
            // It is never congested, so the cheapest control will do; where it is not to be had,
            // the host's own does.
            let _ = set_tcp_congestion(&stream, "reno");
        }
        Ok(stream)
    };
    connect().map_err(|error| LoadError::Connect {
        address: plan.address,
        error,
    })
}

/// A thread at work.
struct Worker<'r, F> {
    times: &'r Times,
    lane: Lane,
    ring: Ring,
    /// `None` once the connection has ended.
    sockets: Vec<Option<Socket>>,
    receives_large: bool,
    /// Buffers to send from, to be used again.
    spare: Vec<Vec<u8>>,
    waiting: Waiting,
    /// How long it has looked in vain.
    looked: Duration,
    cpu_before: Option<CpuTime>,
    cpu_after: Option<CpuTime>,
    over: F,
}

impl<F: FnMut(Part, u64)> Worker<'_, F> {
    fn receive_all(&mut self) {
        for index in 0..self.sockets.len() {
            self.receive(index);
        }
    }

    fn receive(&mut self, index: usize) {
        let Some(socket) = &self.sockets[index] else {
            return;
        };
        if self.receives_large {
            self.ring.receive_large(token(index), socket);
        } else {
            self.ring.receive(token(index), socket);
        }
    }

    fn drive(&mut self) -> io::Result<()> {
        loop {
            let now_ns = self.times.clock.now_ns();
            let until_ns = self.times.until_ns.load(Ordering::Relaxed);
            if until_ns == AT_ONCE {
                return Ok(());
            }
            self.lane.end_at(until_ns);
            self.lane.gauge().advance(now_ns);
            self.ring.begin_to_reap(usize::MAX);
            while let Some(event) = self.ring.reap_next() {
                self.waiting.note_activity(now_ns);
                self.handle(event, now_ns);
            }
            self.send(now_ns);
            self.keep_books(now_ns, until_ns);
            let give_up_at_ns = self.times.give_up_at_ns.load(Ordering::Relaxed);
            if now_ns >= give_up_at_ns || self.lane.is_finished(now_ns) {
                return Ok(());
            }
            self.wait(now_ns)?;
        }
    }

    fn wait(&mut self, now_ns: u64) -> io::Result<()> {
        let due_at_ns = self.lane.wake_at_ns(now_ns);
        match self.waiting.how(now_ns, due_at_ns) {
            Wait::Not => self.ring.enter(),
            Wait::Look { until_ns } => self.look(until_ns.min(now_ns + WAIT_MAX_NS)),
            Wait::Sleep { until_ns } => {
                // What there was to do may have taken longer than is left.
                let now_ns = self.times.clock.now_ns();
                self.ring.wait(now_ns, until_ns.min(now_ns + WAIT_MAX_NS))
            }
        }
    }

    /// Looks until something has happened, or until then.
    fn look(&mut self, until_ns: u64) -> io::Result<()> {
        // This still does what the turn has asked for.
        self.ring.enter()?;
        let since_ns = self.times.clock.now_ns();
        let mut in_vain_ns = since_ns;
        while in_vain_ns < until_ns && !self.ring.has_events() {
            std::hint::spin_loop();
            self.ring.enter()?;
            if !self.ring.has_events() {
                in_vain_ns = self.times.clock.now_ns();
            }
        }
        // What the look took that found something is work.
        self.looked += Duration::from_nanos(in_vain_ns - since_ns);
        Ok(())
    }

    /// What this thread has used, but for what it has spent on looking. That is by the clock: where others
    /// keep it off its CPU meanwhile, it is less than was used.
    fn cpu_time(&self) -> CpuTime {
        let cpu = CpuTime::of_this_thread();
        CpuTime {
            ran: cpu.ran.saturating_sub(self.looked),
            ..cpu
        }
    }

    fn handle(&mut self, event: Event, now_ns: u64) {
        match event {
            Event::Received {
                token,
                result,
                more,
            } => self.received(index(token), result, more, now_ns),
            Event::Sent {
                token,
                bytes,
                offset,
                result,
            } => self.sent(index(token), bytes.into(), offset, result, now_ns),
            // Nobody is listened for.
            Event::Accepted { .. } => {}
        }
    }

    fn received(&mut self, index: usize, result: io::Result<Received>, more: bool, now_ns: u64) {
        if self.sockets[index].is_none() {
            return;
        }
        match result {
            Ok(bytes) if bytes.is_empty() => return self.end(index, None, now_ns),
            Ok(bytes) => self.lane.received(index, &bytes, now_ns),
            // All buffers were in use; they are free again by the time this is asked for.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return self.end(index, Some(&error), now_ns),
        }
        if self.lane.is_closed(index) {
            self.drop_socket(index);
        } else if !more {
            self.receive(index);
        }
    }

    fn sent(
        &mut self,
        index: usize,
        mut bytes: Vec<u8>,
        offset: usize,
        result: io::Result<usize>,
        now_ns: u64,
    ) {
        let taken = match result {
            Ok(0) => {
                let error = io::Error::from(io::ErrorKind::WriteZero);
                return self.end(index, Some(&error), now_ns);
            }
            Ok(taken) => offset + taken,
            // What the server said before it broke the connection may still have to be received.
            Err(error) if is_broken(&error) => return,
            Err(error) => return self.end(index, Some(&error), now_ns),
        };
        match &self.sockets[index] {
            Some(socket) if taken < bytes.len() => {
                self.ring.send(token(index), socket, bytes, taken);
            }
            _ => {
                self.lane.sent(index);
                bytes.clear();
                self.spare.push(bytes);
            }
        }
    }

    fn send(&mut self, now_ns: u64) {
        let Worker {
            lane,
            ring,
            sockets,
            spare,
            ..
        } = self;
        lane.turn(
            now_ns,
            || spare.pop().unwrap_or_default(),
            |index, mut bytes| {
                if let Some(socket) = &sockets[index] {
                    ring.send_all_of(&mut bytes, token(index), socket);
                }
            },
        );
    }

    fn end(&mut self, index: usize, error: Option<&io::Error>, now_ns: u64) {
        let reason = error.map(ToString::to_string);
        self.lane.ended(index, reason.as_deref(), now_ns);
        self.drop_socket(index);
    }

    fn drop_socket(&mut self, index: usize) {
        if self.sockets[index].take().is_some() {
            self.ring.cancel_receive(token(index));
        }
    }

    /// Reads the CPU time where the measured time begins and ends, and tells what is over.
    fn keep_books(&mut self, now_ns: u64, until_ns: u64) {
        let from_ns = self.lane.gauge().window.from_ns;
        if self.cpu_before.is_none() && now_ns >= from_ns {
            self.cpu_before = Some(self.cpu_time());
        }
        if self.cpu_after.is_none() && now_ns >= until_ns {
            self.cpu_after = Some(self.cpu_time());
        }
        let gauge = self.lane.gauge();
        let errors = gauge.tally.total();
        for part in gauge.take_over() {
            (self.over)(part, errors);
        }
    }

    fn finish(mut self) -> Finished {
        let now_ns = self.times.clock.now_ns();
        // All connections may have ended before their time.
        self.lane.end_at(now_ns);
        let (due, unsent) = self.lane.sent_late().unwrap_or_default();
        let cpu_after = self.cpu_after.unwrap_or_else(|| self.cpu_time());
        let (parts, tally, reply_bytes) = self.lane.finish(now_ns).finish();
        Finished {
            parts,
            tally,
            cpu: self
                .cpu_before
                .map_or(CpuTime::NONE, |before| cpu_after.since(before)),
            reply_bytes,
            due,
            unsent,
        }
    }
}

/// Whether the receive will tell the same, after what came before.
fn is_broken(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

fn token(index: usize) -> Token {
    Token::new(index as u64)
}

fn index(token: Token) -> usize {
    // It was made from an index.
    usize::try_from(token.number()).unwrap_or(usize::MAX)
}
