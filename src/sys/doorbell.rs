//! How other threads wake a shard: a pipe that its ring watches.
//!
//! Not an eventfd. A watched one would have the ring signal its own eventfd, the [`Wakeup`] of a
//! parked shard, in the middle of a write to another eventfd. The kernel puts such signals off, and
//! then (seen with Linux 6.18) not all of them come.
//!
//! [`Wakeup`]: super::Wakeup

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::pipe::{PipeFlags, pipe_with};

/// A handle to the doorbell of one shard. Clones ring the same one.
#[derive(Clone, Debug)]
pub(crate) struct Doorbell(Arc<Pipe>);

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Doorbell {
    pub(crate) fn new() -> io::Result<Doorbell> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Doorbell(Arc::new(Pipe { read, write })))
    }

    /// Wakes the shard, now or when it next sleeps.
    pub(crate) fn ring(&self) {
        // Fails only when the pipe is full: then the shard is being woken already.
        let _ = rustix::io::write(&self.0.write, &[1]);
    }

    /// Takes back that it was rung so far.
    pub(crate) fn clear(&self) {
        let mut rings = [0; 256];
        // Ends when there are none left.
        while rustix::io::read(&self.0.read, &mut rings).is_ok_and(|taken| taken == rings.len()) {}
    }
}

/// What is readable when it was rung.
impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.read.as_fd()
    }
}

impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.read.as_raw_fd()
    }
}
