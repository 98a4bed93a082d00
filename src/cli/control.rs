//! `corelane stop`, `quit`, `reload`, `reopen` and `upgrade`: find the running server by its pid file, signal
//! it, wait for the effect and report it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use corelane::process::notify::Mailbox;
use corelane::process::{answers, pid_file, title};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::patience::Patience;
use super::{ConfigArguments, Failure, print};

#[derive(Args)]
pub(super) struct Arguments {
    /// Pid file of the server; without one, process.pid_file of the configuration
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArguments,
}

/// How long until a master that took no notice of a signal is sent it again. Signals of one kind
/// that come close together may come as one, from one sender.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often it is sent.
const TRIES: u32 = 5;

/// A running server.
struct Running {
    pid: u32,
    /// Stands for that very process: a later one with its id is never signalled.
    process: OwnedFd,
}

impl Arguments {
    fn find(&self) -> Result<Running, Failure> {
        let file = if let Some(file) = &self.pid_file {
            file.clone()
        } else {
            let config = self.config.load(Vec::new()).map_err(Failure::usage)?;
            let file = config.process.pid_file().map(PathBuf::from);
            file.ok_or_else(|| {
                Failure::Usage(
                    "which server? give --pid-file FILE, or -c FILE with process.pid_file set"
                        .to_owned(),
                )
            })?
        };
        let pid = pid_file::holder(&file).map_err(Failure::run)?;
        let gone = |error: Errno| {
            let file = file.display();
            Failure::Run(format!("process {pid} of {file} can't be reached: {error}"))
        };
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let process = pidfd_open(raw.ok_or_else(|| gone(Errno::SRCH))?, PidfdFlags::empty());
        let process = process.map_err(gone)?;
        // Still held, after the descriptor was opened: it stands for the holder.
        if pid_file::holder(&file).map_err(Failure::run)? != pid {
            return Err(gone(Errno::SRCH));
        }
        Ok(Running { pid, process })
    }
}

impl Running {
    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        pidfd_send_signal(&self.process, signal).map_err(|error| {
            let pid = self.pid;
            Failure::Run(format!("process {pid} can't be signalled: {error}"))
        })
    }
}

/// Has the server go down, and waits until it has.
pub(super) fn go_down(arguments: &Arguments, signal: Signal) -> Result<(), Failure> {
    let running = arguments.find()?;
    running.signal(signal)?;
    let mut patience = Patience::new(format!("process {} to end", running.pid));
    patience.wait(&[running.process.as_fd()], None)?;
    drop(patience);
    print(&format!("stopped: process {} has ended", running.pid))
}

/// Has the master do something, and waits for its answer.
pub(super) fn ask(arguments: &Arguments, signal: Signal) -> Result<(), Failure> {
    let running = arguments.find()?;
    let pid = running.pid;
    if !title::is_master(pid) {
        return Err(Failure::Run(format!(
            "process {pid} is no master, so nobody answers: send it the signal with kill, or run \
             it with process.mode = \"supervised\""
        )));
    }
    let (is_good, words) = answer(&running, signal)?;
    if is_good {
        print(&words)
    } else {
        Err(Failure::Run(words))
    }
}

/// Sends a master a signal until it answers; gives back whether the outcome is good, and a sentence.
fn answer(running: &Running, signal: Signal) -> Result<(bool, String), Failure> {
    let pid = running.pid;
    let mailbox = Mailbox::named(&answers::mailbox_of(std::process::id())).map_err(Failure::run)?;
    let mut taken = false;
    let mut patience = Patience::new(format!("an answer of process {pid}"));
    for _ in 0..TRIES {
        running.signal(signal)?;
        let again_at = Instant::now() + AGAIN_AFTER;
        loop {
            let until = (!taken).then_some(again_at);
            let Some(answer) = next_answer(running, &mailbox, &mut patience, until)? else {
                break;
            };
            taken |= answer == answers::TAKEN;
            if let Some((is_good, words)) = answers::read(&answer) {
                return Ok((is_good, words.to_owned()));
            }
        }
    }
    Err(Failure::Run(format!(
        "process {pid} does not answer; its log may say why"
    )))
}

/// The next words of the master; nothing if none came in time.
fn next_answer(
    running: &Running,
    mailbox: &Mailbox,
    patience: &mut Patience,
    until: Option<Instant>,
) -> Result<Option<String>, Failure> {
    loop {
        while let Some((sender, words)) = mailbox.receive().map_err(Failure::run)? {
            if sender == running.pid {
                return Ok(Some(words));
            }
        }
        match patience.wait(&[mailbox.as_fd(), running.process.as_fd()], until)? {
            None => return Ok(None),
            Some(0) => {}
            Some(_) => {
                let pid = running.pid;
                return Err(Failure::Run(format!(
                    "process {pid} ended before it answered"
                )));
            }
        }
    }
}
