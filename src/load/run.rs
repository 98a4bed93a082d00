//! A run: threads, each with its connections and a ring of its own, and what they measure put
//! together.
//!
//! The threads share nothing but the time at which the run ends. What they have seen goes through
//! a channel, a message for each part of the time.

mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

use self::worker::{Connected, Finished};
use super::gauge::Window;
use super::host;
use super::plan::{Plan, PlanError, ns};
use super::record::{FORMAT, Interval, Record, ServerUsage, Summary};
use super::timeline::{Part, Timeline, part_ns, seconds};
use super::usage::{CpuTime, Memory};
use crate::protocol::HEADER_BYTES;
use crate::sys::clock::Clock;
use crate::sys::{cpus, host as sys_host};

/// How often whoever watches is told, and a request to stop is looked for.
const WATCH: Duration = Duration::from_millis(100);

/// Descriptors besides the connections: a thread's ring and eventfd, and what the process has open.
const FILES_OF_THREAD: u64 = 2;
const FILES_OF_PROCESS: u64 = 32;

/// A run could not be carried out, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The plan makes no sense: the caller's mistake.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A thread is to run on a CPU that is not there, or not for this process: the caller's mistake.
    #[error("this process may not run on CPU {cpu}: it may on {allowed}")]
    NoSuchCpu {
        /// The CPU.
        cpu: usize,
        /// The CPUs that it may run on, as a list.
        allowed: String,
    },
    /// More connections than the process may have files open.
    #[error(
        "{connections} connections need {needed} open files, but only {limit} are allowed: ask for \
         fewer, or raise the limit with `ulimit -n`"
    )]
    TooFewFiles {
        /// Connections asked for.
        connections: usize,
        /// Open files that they need.
        needed: u64,
        /// How many this process may have.
        limit: u64,
    },
    /// The server can't be reached.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// It was to stop before it had begun.
    #[error("interrupted before all connections were there, so nothing was measured")]
    Interrupted,
    /// This host lacks what an io_uring needs.
    #[error("{lacks}")]
    Host {
        /// What it lacks and how to mend it.
        lacks: String,
    },
    /// The operating system refused something else.
    #[error("{what}: {error}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// What it says.
        error: io::Error,
    },
    /// The server's process can't be looked at: the caller's mistake, or it has ended.
    #[error("process {pid} cannot be looked at: {error}")]
    Server {
        /// Its number.
        pid: u32,
        /// What the operating system says.
        error: io::Error,
    },
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    /// Time since the connections were there, the warm-up included.
    pub elapsed: Duration,
    /// Warm-up and measured time together.
    pub total: Duration,
    /// Whether the measured time has begun.
    pub measuring: bool,
    /// The latest part of the measured time that is complete.
    pub latest: Option<&'a Interval>,
    /// Errors so far.
    pub errors: u64,
}

/// Carries a plan out. `watch` is called every so often; once `stop` is true, the run ends early,
/// with what it has measured. The process's own limit of open files is raised as far as it may go.
///
/// # Errors
///
/// See [`LoadError`]. What the server does wrong is none: that is in the record.
pub fn run(
    plan: &Plan,
    stop: &AtomicBool,
    watch: impl FnMut(&Progress<'_>),
) -> Result<Record, LoadError> {
    plan.check()?;
    check_host(plan)?;
    let times = Times {
        clock: Clock::start(),
        until_ns: AtomicU64::new(u64::MAX),
        give_up_at_ns: AtomicU64::new(u64::MAX),
    };
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let begins: Result<Vec<Sender<Begin>>, LoadError> = (0..plan.threads_used())
            .map(|number| {
                let (begin, begun) = mpsc::channel();
                let (sender, times) = (sender.clone(), &times);
                let thread = thread::Builder::new().name(format!("load-{number}"));
                let spawned = thread.spawn_scoped(scope, move || {
                    let farewell = Farewell(&sender);
                    let message = match work(plan, number, times, &begun, &sender) {
                        Ok(finished) => Message::Finished(number, Box::new(finished)),
                        Err(error) => Message::Failed(error),
                    };
                    drop(farewell);
                    // Nobody listens any more only where the run has failed already.
                    let _ = sender.send(message);
                });
                spawned.map(|_| begin).map_err(|error| LoadError::System {
                    what: "a thread cannot be started",
                    error,
                })
            })
            .collect();
        drop(sender);
        let outcome = begins.and_then(|begins| {
            wait_until_connected(&receiver, begins.len(), stop)?;
            Run::begin(plan, &times, &receiver, &begins).carry_out(stop, watch)
        });
        times.until_ns.store(AT_ONCE, Ordering::Relaxed);
        outcome
    })
}

/// What one thread does: connect, wait for the beginning, work.
fn work(
    plan: &Plan,
    number: usize,
    times: &Times,
    begun: &Receiver<Begin>,
    sender: &Sender<Message>,
) -> Result<Finished, LoadError> {
    let connected = Connected::connect(plan, number, times)?;
    let _ = sender.send(Message::Connected);
    // There is no beginning where the run has failed elsewhere.
    let Ok(begin) = begun.recv() else {
        return Ok(Finished::nothing());
    };
    connected.work(plan, times, begin, |part, errors| {
        let _ = sender.send(Message::Part(number, part, errors));
    })
}

/// What the threads share: a clock, and when the measured time ends.
#[derive(Debug)]
struct Times {
    clock: Clock,
    until_ns: AtomicU64,
    /// When no reply is waited for any more.
    give_up_at_ns: AtomicU64,
}

/// How long replies are waited for when a run is to stop.
const LAST_REPLIES: Duration = Duration::from_millis(500);

/// As the end of the measured time: drop everything.
const AT_ONCE: u64 = 0;

/// When the connections were all there, and the measured time that was planned.
#[derive(Clone, Copy, Debug)]
struct Begin {
    at_ns: u64,
    window: Window,
}

/// What a thread has to say.
enum Message {
    Connected,
    /// A part of the time is over for this thread; so many errors there were up to now.
    Part(usize, Part, u64),
    Finished(usize, Box<Finished>),
    Failed(LoadError),
}

/// Says so where a thread panics, so that nobody waits for it; the scope passes the panic on.
struct Farewell<'s>(&'s Sender<Message>);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(Message::Failed(LoadError::Interrupted));
        }
    }
}

fn check_host(plan: &Plan) -> Result<(), LoadError> {
    let allowed = cpus::allowed().map_err(|error| LoadError::System {
        what: "the CPUs of this process cannot be found out",
        error,
    })?;
    if let Some(&cpu) = plan.cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        let allowed: Vec<String> = allowed.iter().map(usize::to_string).collect();
        return Err(LoadError::NoSuchCpu {
            cpu,
            allowed: allowed.join(","),
        });
    }
    if let Some(pid) = plan.server_pid {
        CpuTime::of_process(pid).map_err(|error| LoadError::Server { pid, error })?;
    }
    let limit = sys_host::raise_file_limit();
    let needed = (plan.connections as u64)
        .saturating_add(FILES_OF_THREAD * plan.threads_used() as u64)
        .saturating_add(FILES_OF_PROCESS);
    if needed > limit {
        return Err(LoadError::TooFewFiles {
            connections: plan.connections,
            needed,
            limit,
        });
    }
    Ok(())
}

fn wait_until_connected(
    receiver: &Receiver<Message>,
    threads: usize,
    stop: &AtomicBool,
) -> Result<(), LoadError> {
    let mut connecting = threads;
    while connecting > 0 {
        match receiver.recv_timeout(WATCH) {
            Ok(Message::Failed(error)) => return Err(error),
            Ok(_) => connecting -= 1,
            Err(RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => {}
            Err(RecvTimeoutError::Timeout) => return Err(LoadError::Interrupted),
            // All threads are gone, and have said why.
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
    Ok(())
}

/// A run under way.
struct Run<'r> {
    plan: &'r Plan,
    times: &'r Times,
    receiver: &'r Receiver<Message>,
    begin: Begin,
    began_at: SystemTime,
    timeline: Timeline,
    /// Errors of each thread so far.
    errors: Vec<u64>,
    /// What the threads that have finished found.
    finished: Finished,
    unfinished: usize,
    server: ServerReadings,
    interrupted: bool,
}

/// What the server's process had used at the beginning and at the end of the measured time.
#[derive(Default)]
struct ServerReadings {
    before: Option<CpuTime>,
    after: Option<(CpuTime, Memory)>,
}

impl<'r> Run<'r> {
    /// Has the threads begin.
    fn begin(
        plan: &'r Plan,
        times: &'r Times,
        receiver: &'r Receiver<Message>,
        threads: &[Sender<Begin>],
    ) -> Run<'r> {
        let at_ns = times.clock.now_ns();
        let from_ns = at_ns + ns(plan.warmup);
        let window = Window {
            from_ns,
            until_ns: from_ns + ns(plan.duration),
            part_ns: part_ns(ns(plan.duration)),
        };
        let begin = Begin { at_ns, window };
        times.until_ns.store(window.until_ns, Ordering::Relaxed);
        for thread in threads {
            // One that is gone has failed, and said so.
            let _ = thread.send(begin);
        }
        Run {
            plan,
            times,
            receiver,
            begin,
            began_at: SystemTime::now() + plan.warmup,
            timeline: Timeline::new(window.part_ns, threads.len()),
            errors: vec![0; threads.len()],
            finished: Finished::nothing(),
            unfinished: threads.len(),
            server: ServerReadings::default(),
            interrupted: false,
        }
    }

    fn carry_out(
        mut self,
        stop: &AtomicBool,
        mut watch: impl FnMut(&Progress<'_>),
    ) -> Result<Record, LoadError> {
        let mut watch_at_ns = 0;
        while self.unfinished > 0 {
            let now_ns = self.times.clock.now_ns();
            if stop.load(Ordering::Relaxed) {
                self.stop(now_ns);
            }
            self.look_at_server(now_ns);
            if now_ns >= watch_at_ns {
                watch(&self.progress(now_ns));
                watch_at_ns = now_ns + ns(WATCH);
            }
            let look_at_ns = [self.begin.window.from_ns, self.until_ns(), watch_at_ns]
                .into_iter()
                .filter(|&at_ns| at_ns > now_ns)
                .min();
            let timeout_ns = look_at_ns.map_or(ns(WATCH), |at_ns| at_ns - now_ns);
            match self.receiver.recv_timeout(Duration::from_nanos(timeout_ns)) {
                Ok(message) => self.take(message)?,
                Err(RecvTimeoutError::Timeout) => {}
                // All threads are gone, and have said why.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // All connections may have ended before their time.
        let now_ns = self.times.clock.now_ns();
        self.end_at(now_ns);
        self.look_at_server(now_ns);
        Ok(self.into_record())
    }

    fn take(&mut self, message: Message) -> Result<(), LoadError> {
        match message {
            Message::Connected => {}
            Message::Part(thread, part, errors) => {
                self.timeline.add(thread, &part);
                self.errors[thread] = errors;
            }
            Message::Finished(thread, finished) => {
                self.errors[thread] = finished.tally.total();
                for part in &finished.parts {
                    self.timeline.add(thread, part);
                }
                self.timeline.finish(thread);
                self.finished.add(*finished);
                self.unfinished -= 1;
            }
            Message::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn until_ns(&self) -> u64 {
        self.times.until_ns.load(Ordering::Relaxed)
    }

    /// Ends the measured time now, and the wait for replies soon.
    fn stop(&mut self, now_ns: u64) {
        self.interrupted |= now_ns < self.until_ns();
        self.end_at(now_ns);
        let give_up_at_ns = now_ns + ns(LAST_REPLIES);
        let times = self.times;
        times
            .give_up_at_ns
            .fetch_min(give_up_at_ns, Ordering::Relaxed);
    }

    /// Ends the measured time now, if it would end later.
    fn end_at(&self, now_ns: u64) {
        self.times.until_ns.fetch_min(now_ns, Ordering::Relaxed);
    }

    /// Reads what the server's process has used, when the measured time begins and when it ends.
    /// One that has ended meanwhile takes nothing else of the record with it.
    fn look_at_server(&mut self, now_ns: u64) {
        let Some(pid) = self.plan.server_pid else {
            return;
        };
        if self.server.before.is_none() && now_ns >= self.begin.window.from_ns {
            self.server.before = CpuTime::of_process(pid).ok();
        }
        if self.server.after.is_none() && now_ns >= self.until_ns() {
            let memory = Memory::of_process(pid);
            self.server.after = CpuTime::of_process(pid).ok().zip(memory.ok());
        }
    }

    fn progress(&self, now_ns: u64) -> Progress<'_> {
        Progress {
            elapsed: Duration::from_nanos(now_ns - self.begin.at_ns),
            total: self.plan.warmup.saturating_add(self.plan.duration),
            measuring: now_ns >= self.begin.window.from_ns,
            latest: self.timeline.latest(),
            errors: self.errors.iter().sum(),
        }
    }

    fn into_record(self) -> Record {
        let measured_ns = self.until_ns().saturating_sub(self.begin.window.from_ns);
        let Finished {
            tally,
            cpu,
            reply_bytes,
            due,
            unsent,
            ..
        } = self.finished;
        let (latencies, timeline) = self.timeline.into_intervals(measured_ns);
        let messages: u64 = timeline.iter().map(|interval| interval.messages).sum();
        let seconds = seconds(measured_ns);
        let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
        let us_per_message = |time: Duration| time.as_secs_f64() * 1e6 / count(messages.max(1));
        let request_bytes = (HEADER_BYTES + self.plan.body_bytes) as u64;
        let server = self.server.before.zip(self.server.after);
        let summary = Summary {
            messages,
            seconds,
            messages_per_second: per_second(count(messages)),
            bytes_per_second: per_second(count(messages * request_bytes + reply_bytes)),
            latency_us: latencies.summary(),
            errors: tally.by_name(),
            first_error: tally.first().map(str::to_owned),
            interrupted: self.interrupted,
            sent_in_time: self
                .plan
                .rate
                .map(|_| 1.0 - count(unsent) / count(due.max(1))),
            load_cpu_us_per_message: us_per_message(cpu.ran),
            load_waited_seconds: cpu.waited.map(|waited| waited.as_secs_f64()),
            server: server.map(|(before, (after, memory))| {
                let used = after.since(before);
                ServerUsage {
                    cpu_seconds: used.ran.as_secs_f64(),
                    cpu_us_per_message: us_per_message(used.ran),
                    waited_seconds: used.waited.map(|waited| waited.as_secs_f64()),
                    resident_bytes: memory.resident_bytes,
                }
            }),
        };
        Record {
            format: FORMAT.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began_at: humantime::format_rfc3339_seconds(self.began_at).to_string(),
            settings: self.plan.settings(),
            host: host::describe(),
            summary,
            distribution: latencies.distribution(),
            timeline,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn count(count: u64) -> f64 {
    count as f64
}
