//! The master at work: one thread without a runtime. It turns signals, ended children, words of
//! workers and time into events for its [mind](super::master), and carries actions out.
//!
//! It holds the listening sockets as long as it lives and is not told to go down. Signals are
//! blocked all the time and read from a descriptor: none interrupts the making of a child, is lost
//! or is handled twice. Every child is reaped, those of others that were left to it as well.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use super::identity::IdentityError;
use super::listeners::PassedError;
use super::master::{Action, Asker, Design, Event, Finding, Master, Message, Order, WorkerId};
use super::notify::{self, Mailbox};
use super::pid_file::{PidFile, PidFileError};
use super::setting::Setting;
use super::worker::StartError;
use super::{answers, daemon, identity, launch, logging, signals};
use crate::config::Config;
use crate::sys::clock::Clock;

/// The program that runs, whatever its file is by now.
const RUNNING_PROGRAM: &str = "/proc/self/exe";

/// The server can't be supervised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuperviseError {
    /// Sockets or CPUs.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What was passed on is wrong.
    #[error(transparent)]
    Passed(#[from] PassedError),
    /// There is no such user as is to serve.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The pid file can't be had.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The worker was not ready in time.
    #[error("the worker was not ready within process.ready_ms, {ready_ms} ms; its log may say why")]
    Late {
        /// How long it may take, in milliseconds.
        ready_ms: u32,
    },
    /// The worker ended before it was ready, and said why.
    #[error("the worker ended before it was ready")]
    Failed {
        /// Its exit status, if it had one.
        status: Option<u8>,
    },
    /// The operating system.
    #[error("the master can't work: {0}")]
    System(#[from] io::Error),
}

/// What a master needs from whoever starts it.
pub struct Duties<'a> {
    /// The configuration, which was checked.
    pub config: Config,
    /// The program file, for upgrades: what is there when one is asked for.
    pub program: &'a Path,
    /// Reads and checks the configuration anew; the error is a sentence.
    pub read_config: &'a dyn Fn() -> Result<Config, String>,
    /// Says that the server is ready, at these addresses with so many shards.
    pub announce: &'a dyn Fn(&[SocketAddr], usize) -> io::Result<()>,
}

/// Supervises a server until it was told to go down and has. Call it on the only thread.
///
/// # Errors
///
/// [`SuperviseError`]: the server never was ready.
pub fn supervise(duties: Duties) -> Result<(), SuperviseError> {
    // First of all: from here on no signal ends it half way.
    let signals = signals::descriptor()?;
    let config = duties.config.clone();
    identity::check(&config.process)?;
    share_log(&config)?;
    let _pid_file = config.process.pid_file().map(PidFile::claim).transpose()?;
    let setting = Setting::new(config)?;
    let clock = Clock::start();
    let mut supervisor = Supervisor {
        master: Master::new(setting.patience(), now_ms(clock)),
        clock,
        signals,
        mailbox: Mailbox::open()?,
        workers: Vec::new(),
        in_force: Some(setting),
        candidate: None,
        reason: String::new(),
        late: false,
        last_status: None,
        duties,
    };
    tracing::info!(pid = std::process::id(), "the master starts");
    supervisor.run()
}

fn now_ms(clock: Clock) -> u64 {
    clock.now_us() / 1000
}

struct Worker {
    id: WorkerId,
    pid: Pid,
    /// Whether it was told to go, so that its end is no news.
    goes: bool,
}

struct Supervisor<'a> {
    duties: Duties<'a>,
    master: Master,
    clock: Clock,
    signals: SignalFd,
    mailbox: Mailbox,
    /// All children that are workers and were not reaped.
    workers: Vec<Worker>,
    /// `None` once the server goes down.
    in_force: Option<Setting>,
    /// What was examined last.
    candidate: Option<Setting>,
    /// Why the configuration that was examined last is wrong.
    reason: String,
    late: bool,
    /// Of the worker that ended last.
    last_status: Option<u8>,
}

impl Supervisor<'_> {
    fn run(&mut self) -> Result<(), SuperviseError> {
        loop {
            while let Some(action) = self.master.next_action() {
                if let Action::Exit(in_order) = action {
                    return self.result(in_order);
                }
                self.carry_out(action)?;
            }
            self.wait()?;
            // Words before ends: a worker may have been ready and died.
            self.read_mail()?;
            self.read_signals()?;
            self.handle(Event::Tick);
        }
    }

    fn result(&self, in_order: bool) -> Result<(), SuperviseError> {
        if in_order {
            tracing::info!("the master ends");
            return Ok(());
        }
        if self.late {
            let ready_ms = self.duties.config.process.ready_ms;
            return Err(SuperviseError::Late { ready_ms });
        }
        Err(SuperviseError::Failed {
            status: self.last_status,
        })
    }

    fn handle(&mut self, event: Event) {
        self.master.handle(event, now_ms(self.clock));
    }

    fn wait(&self) -> io::Result<()> {
        let mut descriptors = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.mailbox, PollFlags::IN),
        ];
        let timeout = self.master.deadline_ms().map(|at_ms| {
            // A moment late, lest it come back before the deadline.
            let wait_ms = at_ms.saturating_sub(now_ms(self.clock)) + 1;
            Timespec {
                tv_sec: i64::try_from(wait_ms / 1000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(wait_ms % 1000 * 1_000_000).unwrap_or(0),
            }
        });
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read_mail(&mut self) -> io::Result<()> {
        while let Some((pid, words)) = self.mailbox.receive()? {
            let Some(worker) = self.worker_of(pid) else {
                tracing::warn!(pid, "words of a process that is no worker were thrown away");
                continue;
            };
            for line in words.lines() {
                match line {
                    notify::READY => self.handle(Event::Ready(worker)),
                    notify::REOPENED => self.handle(Event::Reopened(worker)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn worker_of(&self, pid: u32) -> Option<WorkerId> {
        let is_it = |worker: &&Worker| worker.pid.as_raw_pid().unsigned_abs() == pid;
        self.workers.iter().find(is_it).map(|worker| worker.id)
    }

    fn read_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.read_signal()? {
            let number = signal.ssi_signo.cast_signed();
            match signals::order_of(number) {
                Some(order) => self.ordered(order, number, signal.ssi_pid),
                None => self.reap()?,
            }
        }
        Ok(())
    }

    fn ordered(&mut self, order: Order, signal: i32, sender: u32) {
        let signal = signals::name_of(signal);
        tracing::info!(signal, sender, "{}", answers::asked(order));
        // 0 is the kernel, or a process that this one can't see.
        let asker = (sender > 0).then_some(Asker(sender));
        if let Some(asker) = asker {
            answers::acknowledge(asker);
        }
        self.handle(Event::Asked(order, asker));
    }

    /// All that have ended: one signal may stand for several.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, status),
                Ok(None) | Err(Errno::CHILD) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) {
        let Some(at) = self.workers.iter().position(|worker| worker.pid == pid) else {
            return;
        };
        let Worker { id, goes, .. } = self.workers.remove(at);
        self.last_status = status
            .exit_status()
            .and_then(|code| u8::try_from(code).ok());
        let pid = pid.as_raw_pid();
        let how = answers::end(status);
        if goes && status.exit_status() == Some(0) {
            tracing::info!(pid, "a worker has ended");
        } else {
            tracing::error!(pid, "a worker has ended: {how}");
        }
        self.handle(Event::Ended(id));
    }

    fn carry_out(&mut self, action: Action) -> io::Result<()> {
        match action {
            Action::Start(id, design) => self.start(id, design),
            Action::Tell(id, message) => self.tell(id, message),
            Action::Announce => self.announce()?,
            Action::CloseSockets => self.close_sockets(),
            Action::Examine => {
                let finding = self.examine();
                self.handle(Event::Examined(finding));
            }
            Action::Adopt => self.adopt(),
            Action::HandOver => self.handle(Event::NotHandedOver),
            Action::ReopenLog => self.reopen_log(),
            Action::Report(outcome, askers) => {
                let (is_good, words) =
                    answers::outcome(outcome, &self.reason, |id| self.pid_of(id));
                if is_good {
                    tracing::info!("{words}");
                } else {
                    tracing::error!("{words}");
                }
                for asker in askers {
                    answers::tell(asker, is_good, &words);
                }
            }
            Action::Late(id) => {
                self.late = true;
                let pid = self.pid_of(id);
                tracing::error!(pid, "a worker was not ready within process.ready_ms");
            }
            Action::Pause(pause_ms) => {
                tracing::warn!(
                    pause_ms,
                    "workers keep dying young: a pause before the next"
                );
            }
            Action::Exit(_) => {}
        }
        Ok(())
    }

    fn reopen_log(&self) {
        if let Err(error) = logging::reopen() {
            tracing::error!("the old log file stays in use: {error}");
        }
        let config = &self.duties.config;
        if let Err(error) = share_log(config) {
            tracing::error!("the worker can't write to the new log file: {error}");
        }
    }

    fn start(&mut self, id: WorkerId, design: Design) {
        let (setting, program) = match design {
            Design::InForce => (&self.in_force, Path::new(RUNNING_PROGRAM)),
            Design::Candidate => (&self.candidate, Path::new(RUNNING_PROGRAM)),
            Design::OnDisk => (&self.in_force, self.duties.program),
        };
        let Some(setting) = setting else {
            self.handle(Event::Ended(id));
            return;
        };
        let Setting {
            config, holding, ..
        } = setting;
        match launch::start(program, config, holding, self.mailbox.address()) {
            Ok(pid) => {
                tracing::info!(pid, "a worker was started");
                // Process ids are positive.
                self.workers
                    .extend(Pid::from_raw(pid.cast_signed()).map(|pid| Worker {
                        id,
                        pid,
                        goes: false,
                    }));
            }
            Err(error) => {
                let program = program.display();
                tracing::error!("no worker can be started from {program}: {error}");
                self.handle(Event::Ended(id));
            }
        }
    }

    fn tell(&mut self, id: WorkerId, message: Message) {
        let Some(worker) = self.workers.iter_mut().find(|worker| worker.id == id) else {
            return;
        };
        let signal = match message {
            Message::Drain => Signal::QUIT,
            Message::Stop => Signal::TERM,
            Message::Kill => Signal::KILL,
            Message::Reopen => Signal::USR1,
            Message::Reload => Signal::HUP,
        };
        worker.goes |= matches!(message, Message::Drain | Message::Stop | Message::Kill);
        // It was not reaped, so the id is still its own.
        if let Err(error) = kill_process(worker.pid, signal) {
            tracing::error!(pid = worker.pid.as_raw_pid(), %error, "a worker can't be told");
        }
    }

    /// 0 for one that was reaped or never started.
    fn pid_of(&self, id: WorkerId) -> i32 {
        let known = self.workers.iter().find(|worker| worker.id == id);
        known.map_or(0, |worker| worker.pid.as_raw_pid())
    }

    fn announce(&self) -> io::Result<()> {
        if let Some(setting) = &self.in_force {
            (self.duties.announce)(&setting.holding.addresses(), setting.shards)?;
        }
        daemon::let_go_of_streams()?;
        tell_manager(notify::READY);
        Ok(())
    }

    fn close_sockets(&mut self) {
        self.in_force = None;
        self.candidate = None;
        tell_manager(notify::STOPPING);
    }

    fn examine(&mut self) -> Finding {
        self.candidate = None;
        let Some(in_force) = &self.in_force else {
            return Finding::Same;
        };
        let candidate = (self.duties.read_config)().and_then(|config| {
            if config == in_force.config {
                return Ok(None);
            }
            in_force.changed(config).map(Some)
        });
        match candidate {
            Ok(None) => Finding::Same,
            Ok(candidate) => {
                self.candidate = candidate;
                Finding::NewWorker
            }
            Err(reason) => {
                self.reason = reason;
                Finding::Wrong
            }
        }
    }

    fn adopt(&mut self) {
        if let Some(setting) = self.candidate.take() {
            self.master.set_patience(setting.patience());
            self.in_force = Some(setting);
        }
    }
}

/// The worker writes to the same log, perhaps as another user.
fn share_log(config: &Config) -> Result<(), IdentityError> {
    let file = config.log.file();
    file.map_or(Ok(()), |file| identity::share(file, &config.process))
}

/// systemd, if it is who started this.
fn tell_manager(words: &str) {
    match notify::tell(words) {
        Ok(()) => {}
        // The command that started a daemon has seen what it waited for.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) => tracing::warn!(%error, words, "the service manager can't be told"),
    }
}
