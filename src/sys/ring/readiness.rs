//! Receiving by readiness, for sockets of which much comes at a time.
//!
//! A multishot receive fills a buffer for each socket that has something, up to twenty of them before
//! the first is looked at; with 16 KiB in each, that one has left the nearer caches by then. Here the
//! kernel only says which sockets have something. Each is received from when it is its turn to be
//! handled, into one buffer that serves all of them and so stays near: for a frame of 16 KiB, 3% of
//! the CPU. It takes a system call each time, though: for small messages it would be 4% more.
//!
//! The kernel tells each change once. So after a receive that may have left something, nobody tells:
//! one that filled the buffer, or of a stream that has ended, or that ended in front of an urgent byte.
//! Such sockets are received from again, in turn.
//!
//! Invariant: a reader's descriptor is that of an open socket of this ring. Whoever takes a descriptor
//! out of a socket, to close it or to let another ring have it, forgets its reader first.

use std::collections::{HashMap, VecDeque};
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::Fd;
use rustix::ioctl::{Getter, Opcode, ioctl};

use super::reaping::Event;
use super::sockets::{OpenSocket, Socket};
use super::user_data::{Kind, Token};
use super::{POLL_IN, Ring};
use crate::sys::buffers::{NEAR_BYTES, Received};

/// Bits of a poll's result that say that the stream has ended, or is broken: what else is to be
/// received is not told any more.
const ENDED: u32 = (libc::POLLRDHUP.unsigned_abs()
    | libc::POLLHUP.unsigned_abs()
    | libc::POLLERR.unsigned_abs()) as u32;

/// Whether a socket is at an urgent byte; of `asm-generic/sockios.h`, as on x86-64, Arm, RISC-V, POWER and
/// s390.
const SIOCATMARK: Opcode = 0x8905;

/// The sockets that are received from by readiness: as many readers as tokens.
#[derive(Default)]
pub(super) struct Readiness {
    readers: HashMap<u64, Reader>,
    /// Under which token a socket is received from.
    tokens: HashMap<RawFd, u64>,
    /// Those to receive from again, whether the kernel says something or not.
    again: VecDeque<u64>,
    /// So many of them were there when reaping began.
    due: usize,
}

struct Reader {
    fd: RawFd,
    /// How an operation names the socket.
    target: (Fd, Flags),
    /// The stream has ended, or is broken.
    ended: bool,
    /// It is in the list of those to receive from again.
    listed: bool,
    cancelled: bool,
}

/// What came of reading one, as [`Event::Received`] has it. Where an event is made by a function that
/// is called, all of them are made in memory, also those that no such function has to do with.
pub(super) struct Reading {
    number: u64,
    result: io::Result<Received>,
    more: bool,
}

impl From<Reading> for Event {
    #[inline]
    fn from(reading: Reading) -> Event {
        Event::Received {
            token: Token(reading.number),
            result: reading.result,
            more: reading.more,
        }
    }
}

impl Readiness {
    /// How many are to be received from again.
    #[inline]
    pub(super) fn again(&self) -> usize {
        self.again.len()
    }

    /// At most so many of them come out of [`Ring::receive_again`] from here on.
    #[inline]
    pub(super) fn begin_to_reap(&mut self, max: usize) {
        self.due = self.again.len().min(max);
    }

    fn list(&mut self, number: u64) {
        if let Some(reader) = self.readers.get_mut(&number)
            && !reader.listed
        {
            reader.listed = true;
            self.again.push_back(number);
        }
    }

    fn remove(&mut self, number: u64) {
        if let Some(reader) = self.readers.remove(&number) {
            self.tokens.remove(&reader.fd);
            if reader.listed {
                self.again.retain(|&listed| listed != number);
            }
        }
    }
}

impl Ring {
    /// Receives from a socket, again and again, into one buffer that all sockets share which are
    /// received from in this way. What came out of it must be dropped before the next receive of any
    /// of them is taken, or that one fails with `ENOBUFS`, and is tried again.
    ///
    /// Once cancelled, it receives nothing more, not even what has arrived by then.
    ///
    /// # Panics
    ///
    /// If the socket is received from in this way already, or another is under this token: a mistake
    /// in this program.
    pub(crate) fn receive_large(&mut self, token: Token, socket: &Socket) {
        let target = self.target(socket);
        let Some(OpenSocket { fd, .. }) = &socket.open else {
            return;
        };
        let fd = fd.as_raw_fd();
        let Readiness {
            readers, tokens, ..
        } = &mut self.readiness;
        // Of two readers, one would be left when the socket is gone.
        assert!(
            !tokens.contains_key(&fd) && !readers.contains_key(&token.0),
            "a socket is received from once at a time"
        );
        tokens.insert(fd, token.0);
        readers.insert(
            token.0,
            Reader {
                fd,
                target,
                ended: false,
                listed: false,
                cancelled: false,
            },
        );
        self.poll(token.0, target);
    }

    fn poll(&mut self, number: u64, (fd, flags): (Fd, Flags)) {
        let entry = opcode::PollAdd::new(fd, POLL_IN | u32::from(libc::POLLRDHUP.unsigned_abs()))
            .multi(true)
            .build()
            .flags(flags)
            .user_data(Kind::Ready.user_data(number));
        self.in_flight += 1;
        self.push(&entry);
    }

    /// Receives no more in this way under this token, if that is how it is received. Gives back
    /// whether it is.
    pub(super) fn cancel_receive_large(&mut self, token: Token) -> bool {
        let Some(reader) = self.readiness.readers.get_mut(&token.0) else {
            return false;
        };
        reader.cancelled = true;
        self.cancel(Kind::Ready.user_data(token.0));
        true
    }

    /// Nothing is received from a socket any more whose descriptor somebody else is to have.
    pub(super) fn forget_reader(&mut self, fd: &OwnedFd) {
        if let Some(number) = self.readiness.tokens.get(&fd.as_raw_fd()).copied() {
            self.end_reader(number);
        }
    }

    fn end_reader(&mut self, number: u64) {
        self.readiness.remove(number);
        self.cancel(Kind::Ready.user_data(number));
    }

    /// What comes of a poll's completion: `result` is what the socket is ready for.
    #[inline(never)]
    pub(super) fn ready(
        &mut self,
        number: u64,
        result: io::Result<u32>,
        more: bool,
    ) -> Option<Reading> {
        let reader = self.readiness.readers.get_mut(&number)?;
        match result {
            Ok(_) if reader.cancelled && more => None,
            Ok(_) if reader.cancelled => {
                self.readiness.remove(number);
                Some(last(number, io::Error::from_raw_os_error(libc::ECANCELED)))
            }
            Ok(ready) => {
                reader.ended |= ready & ENDED != 0;
                if !more {
                    // The kernel ends it where a completion found no room.
                    let target = reader.target;
                    self.poll(number, target);
                }
                self.receive_ready(number)
            }
            Err(error) => {
                self.readiness.remove(number);
                Some(last(number, error))
            }
        }
    }

    /// The next of those that are received from again.
    #[inline]
    pub(super) fn receive_again(&mut self) -> Option<Reading> {
        if self.readiness.due == 0 {
            return None;
        }
        self.receive_due()
    }

    #[inline(never)]
    fn receive_due(&mut self) -> Option<Reading> {
        while self.readiness.due > 0 {
            self.readiness.due -= 1;
            let number = self.readiness.again.pop_front()?;
            if let Some(reader) = self.readiness.readers.get_mut(&number) {
                reader.listed = false;
                if let Some(reading) = self.receive_ready(number) {
                    return Some(reading);
                }
            }
        }
        None
    }

    /// Receives what is there, if anything is.
    fn receive_ready(&mut self, number: u64) -> Option<Reading> {
        let reader = self.readiness.readers.get(&number)?;
        if reader.cancelled {
            return None;
        }
        // SAFETY: the descriptor is open as long as there is a reader, by the invariant of this file,
        // and nothing here ends that before the call returns.
        let fd = unsafe { BorrowedFd::borrow_raw(reader.fd) };
        let received = self.buffers.receive_at_once(fd);
        let (leaves_some, more) = match &received {
            Ok(received) if received.is_empty() => (false, false),
            Ok(received) => {
                let is_full = received.len() == NEAR_BYTES as usize;
                (is_full || reader.ended || is_at_urgent_byte(fd), true)
            }
            Err(error) => match error.raw_os_error() {
                // Told twice.
                Some(libc::EAGAIN) => return None,
                Some(libc::ENOBUFS) => (true, true),
                _ => (false, false),
            },
        };
        if leaves_some {
            self.readiness.list(number);
        }
        if !more {
            self.end_reader(number);
        }
        Some(Reading {
            number,
            result: received,
            more,
        })
    }
}

/// Whether what is to be received next is an urgent byte. A poll does not tell: to be asked for it, the
/// kernel says that there is one whenever something arrives.
fn is_at_urgent_byte(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: SIOCATMARK takes a pointer to an int, and writes it.
    let at_mark = unsafe { Getter::<SIOCATMARK, c_int>::new() };
    // SAFETY: as above; on whatever descriptor, it has no other effect.
    let at_mark = unsafe { ioctl(fd, at_mark) };
    // Every TCP socket knows.
    at_mark.is_ok_and(|at_mark| at_mark != 0)
}

fn last(number: u64, error: io::Error) -> Reading {
    Reading {
        number,
        result: Err(error),
        more: false,
    }
}

#[cfg(test)]
mod tests;
