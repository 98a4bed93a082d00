//! What has completed on a ring, one by one.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::cqueue;

use super::Ring;
use super::sending::SendBytes;
use super::sockets::Socket;
use super::user_data::{Kind, Token};
use crate::sys::buffers::Received;

/// What has completed.
#[derive(Debug)]
pub(crate) enum Event {
    /// An accept: of a connection, or the end of accepting.
    Accepted {
        listener: usize,
        result: io::Result<Socket>,
        more: bool,
    },
    /// A receive: of bytes, or of none at the end of the stream, or the end of receiving.
    Received {
        token: Token,
        result: io::Result<Received>,
        more: bool,
    },
    /// A send, with the bytes that were given and how many of those offered were taken.
    Sent {
        token: Token,
        bytes: SendBytes,
        offset: usize,
        result: io::Result<usize>,
    },
}

impl Ring {
    /// Looks how much has happened by now: up to `max` events of that come out of
    /// [`Ring::reap_next`]. Those before that did not come out are not lost.
    #[inline]
    pub(crate) fn begin_to_reap(&mut self, max: usize) {
        self.to_reap = self.uring.completion().len().min(max);
        self.readiness.begin_to_reap(max - self.to_reap);
        self.buffers.begin_to_lend();
    }

    /// Takes the next of those, in the order in which they happened.
    #[inline]
    pub(crate) fn reap_next(&mut self) -> Option<Event> {
        loop {
            let Some(left) = self.to_reap.checked_sub(1) else {
                return self.receive_again().map(Event::from);
            };
            self.to_reap = left;
            let completion = self.uring.completion().next()?;
            let number = completion.user_data() & ((1 << Token::BITS) - 1);
            let more = cqueue::more(completion.flags());
            let kind = Kind::of(completion.user_data());
            if kind != Kind::Unwatched && !more {
                self.in_flight -= 1;
            }
            match kind {
                Kind::Receive => {
                    // A failed one has received nothing.
                    let len = completion.result().max(0).unsigned_abs();
                    let received = match cqueue::buffer_select(completion.flags()) {
                        // SAFETY: id and length are those of this receive's completion, and each
                        // completion comes here once.
                        Some(id) => unsafe { self.buffers.lend(id, len) },
                        None => Received::end(),
                    };
                    return Some(Event::Received {
                        token: Token(number),
                        // A failed receive may have taken a buffer too: dropped, it goes back.
                        result: outcome(&completion).map(|_| received),
                        more,
                    });
                }
                Kind::Send => {
                    let Some(sending) = self.sends.take(number) else {
                        continue;
                    };
                    return Some(Event::Sent {
                        token: sending.token,
                        bytes: sending.bytes,
                        offset: sending.offset,
                        result: outcome(&completion).map(|taken| taken as usize),
                    });
                }
                Kind::Accept => {
                    // SAFETY: a successful accept's result is a new descriptor that nobody owns.
                    let fd = outcome(&completion)
                        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) });
                    return Some(Event::Accepted {
                        listener: usize::try_from(number).unwrap_or(usize::MAX),
                        result: self.accepted(fd),
                        more,
                    });
                }
                Kind::Ready => {
                    if let Some(reading) = self.ready(number, outcome(&completion), more) {
                        return Some(reading.into());
                    }
                }
                Kind::Watch => self.rung(&outcome(&completion), more),
                Kind::Alarm => self.alarm.gone_off(),
                Kind::Unwatched => {}
            }
        }
    }

    /// Takes up to `max` events of what has happened by now.
    pub(crate) fn reap(&mut self, max: usize, mut each: impl FnMut(Event)) {
        self.begin_to_reap(max);
        while let Some(event) = self.reap_next() {
            each(event);
        }
    }

    #[cold]
    fn accepted(&mut self, result: io::Result<OwnedFd>) -> io::Result<Socket> {
        result.map(|fd| self.adopt(fd))
    }

    /// The doorbell was rung, or is watched no more.
    #[cold]
    fn rung(&mut self, result: &io::Result<u32>, more: bool) {
        if let Some(doorbell) = &self.watched {
            doorbell.clear();
        }
        let is_cancelled =
            matches!(result, Err(error) if error.raw_os_error() == Some(libc::ECANCELED));
        // Cancelled it is only at the ring's end.
        if !more && !is_cancelled {
            self.watch_on();
        }
    }
}

/// What a completion says, or what the kernel says against its operation.
#[inline]
fn outcome(completion: &cqueue::Entry) -> io::Result<u32> {
    match completion.result() {
        error @ ..0 => Err(io::Error::from_raw_os_error(-error)),
        value => Ok(value.unsigned_abs()),
    }
}
