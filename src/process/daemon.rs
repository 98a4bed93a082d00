//! Going on in the background: the command that starts a daemon returns when it is ready.
//!
//! The master is a new process with a session of its own, so that no terminal reaches it, and with
//! the standard streams of the command until it is ready: whatever keeps it from starting is said
//! there. It stays in the folder where it was started, since paths of the configuration may be
//! relative.

use std::fs::File;
use std::io;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, setsid, umask};

use super::notify::{self, Mailbox};

/// Set for the processes of a daemon.
const VARIABLE: &str = "CORELANE_DAEMON";

/// Others may read what a daemon writes, and not change it.
const UMASK: Mode = Mode::from_bits_truncate(0o022);

/// How a start came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It is ready.
    Ready,
    /// It ended, with this status if it had one, and has said why.
    Failed(Option<u8>),
}

/// Starts this command as a daemon; returns when it is ready or has ended.
///
/// # Errors
///
/// What the operating system says against it.
pub fn start(command: &mut Command) -> io::Result<Started> {
    let mailbox = Mailbox::open()?;
    let mut child = command
        .env(VARIABLE, "1")
        .env(notify::VARIABLE, mailbox.address())
        .stdin(File::open("/dev/null")?)
        .spawn()?;
    let pid = Pid::from_child(&child);
    // It was not reaped, so it is still that process.
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        while let Some((sender, words)) = mailbox.receive()? {
            if sender == child.id() && words.lines().any(|line| line == notify::READY) {
                return Ok(Started::Ready);
            }
        }
        if let Some(status) = child.try_wait()? {
            let status = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(Started::Failed(status));
        }
        let mut polled = [
            PollFd::new(&mailbox, PollFlags::IN),
            PollFd::new(&process, PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether this process belongs to a daemon.
fn is_daemon() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Leaves the terminal, in the master of a daemon. Call it early.
///
/// # Errors
///
/// What the operating system says against it.
pub fn leave_terminal() -> io::Result<()> {
    if is_daemon() {
        setsid()?;
        umask(UMASK);
    }
    Ok(())
}

/// Lets go of the standard streams, in the processes of a daemon. Call it when all has been said.
///
/// # Errors
///
/// What the operating system says against it.
pub fn let_go_of_streams() -> io::Result<()> {
    if is_daemon() {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
    }
    Ok(())
}
