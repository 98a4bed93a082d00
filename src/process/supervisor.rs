//! The master at work: one thread without a runtime, beside that of the log. It turns signals, ended children, words of
//! workers and time into events for its [mind](super::master), and carries actions out.
//!
//! It holds the listening sockets as long as it lives and is not told to go down. Signals are
//! blocked all the time and read from a descriptor: none interrupts the making of a child, is lost
//! or is handled twice. Every child is reaped, those of others that were left to it as well.

mod deeds;

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use super::handover::{Estate, EstateError};
use super::identity::IdentityError;
use super::listeners::PassedError;
use super::master::{Action, Asker, Event, Master, Order, WorkerId};
use super::notify::{self, Mailbox};
use super::pid_file::{PidFile, PidFileError};
use super::possessions::{Possessions, Worker};
use super::setting::Setting;
use super::worker::StartError;
use super::{answers, handover, identity, signals};
use crate::config::Config;
use crate::sys::clock::Clock;

/// Mails that are read before signals are looked after again.
const MAIL_AT_ONCE: usize = 16;

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
    /// What an old program's master has left is wrong.
    #[error(transparent)]
    Estate(#[from] EstateError),
    /// The operating system.
    #[error("the master can't work: {0}")]
    System(#[from] io::Error),
}

/// What a master needs from whoever starts it.
pub struct Duties<'a> {
    /// The configuration, which was checked.
    pub config: Config,
    /// What an old program's master has left to this one, if it takes over from one.
    pub estate: Option<Estate>,
    /// The program file, for upgrades: what is there when one is asked for.
    pub program: &'a Path,
    /// Reads and checks the configuration anew; the error is a sentence.
    pub read_config: &'a dyn Fn() -> Result<Config, String>,
    /// Says that the server is ready, at these addresses with so many shards.
    pub announce: &'a dyn Fn(&[SocketAddr], usize) -> io::Result<()>,
}

/// Supervises a server until it was told to go down and has. Call it on the first thread, where no
/// other but the log's is.
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
    let Possessions {
        setting,
        mailbox,
        pid_file,
        workers,
        succession,
    } = match &duties.estate {
        Some(estate) => Possessions::inherit(estate, config)?,
        None => Possessions::acquire(config)?,
    };
    let clock = Clock::start();
    let (patience, now_ms) = (setting.patience(), now_ms(clock));
    let mut supervisor = Supervisor {
        master: match succession {
            Some(succession) => Master::succeed(succession, patience, now_ms),
            None => Master::new(patience, now_ms),
        },
        clock,
        signals,
        mailbox,
        pid_file,
        workers,
        in_force: Some(setting),
        successors: Vec::new(),
        candidate: None,
        finding: String::new(),
        late: false,
        last_status: None,
        duties,
    };
    let (pid, version) = (std::process::id(), env!("CARGO_PKG_VERSION"));
    tracing::info!(pid, version, "the master starts");
    supervisor.run()
}

fn now_ms(clock: Clock) -> u64 {
    clock.now_us() / 1000
}

struct Supervisor<'a> {
    duties: Duties<'a>,
    master: Master,
    clock: Clock,
    signals: SignalFd,
    mailbox: Mailbox,
    pid_file: Option<PidFile>,
    /// All children that are workers and were not reaped.
    workers: Vec<Worker>,
    /// `None` once the server goes down.
    in_force: Option<Setting>,
    /// The workers whose program can be this one's successor.
    successors: Vec<WorkerId>,
    /// What was examined last.
    candidate: Option<Setting>,
    /// Why the configuration that was examined last is wrong, or what it changes.
    finding: String,
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
        // The rest comes after the signals: anybody can send some.
        for _ in 0..MAIL_AT_ONCE {
            let Some((pid, words)) = self.mailbox.receive()? else {
                break;
            };
            let Some(worker) = self.worker_of(pid) else {
                tracing::warn!(pid, "words of a process that is no worker were thrown away");
                continue;
            };
            for line in words.lines() {
                match line {
                    notify::READY => self.handle(Event::Ready(worker)),
                    notify::REOPENED => self.handle(Event::Reopened(worker)),
                    notify::RELOADED => self.handle(Event::Adapted(worker)),
                    notify::NOT_RELOADED => self.handle(Event::NotAdapted(worker)),
                    handover::CAN_SUCCEED => self.successors.push(worker),
                    line => self.note_mailbox(worker, line),
                }
            }
        }
        Ok(())
    }

    fn note_mailbox(&mut self, id: WorkerId, line: &str) {
        let mailbox = line.strip_prefix(notify::MAILBOX);
        let worker = self.workers.iter_mut().find(|worker| worker.id == id);
        if let (Some(mailbox), Some(worker)) = (mailbox, worker) {
            worker.mailbox = Some(mailbox.to_owned());
        }
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
        self.successors.retain(|&successor| successor != id);
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
}

/// The worker writes to the same log, perhaps as another user.
fn share_log(config: &Config) -> Result<(), IdentityError> {
    let file = config.log.file();
    file.map_or(Ok(()), |file| identity::share(file, &config.process))
}
