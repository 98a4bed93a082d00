//! Connected sockets of a ring, and the slots of its table of registered files.
//!
//! Invariant: a slot stands for one socket, from when it is taken until the kernel has got all
//! that was asked of that socket and the order to clear the slot behind it.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{SendFlags, sockopt};

/// The largest table of registered files that the kernel makes.
const REGISTERED_MAX: u32 = 1 << 20;

/// A connected socket. Dropping it closes it, after the operations asked for before.
#[derive(Debug)]
pub(crate) struct Socket {
    /// `None` once it is being closed, or has left the ring.
    pub(super) open: Option<OpenSocket>,
    pub(super) closing: Closing,
}

#[derive(Debug)]
pub(super) struct OpenSocket {
    pub(super) fd: OwnedFd,
    /// Where it stands in the ring's table of registered files, if it does: operations on those
    /// spare the kernel a look-up and two atomic counts each, 2% of a small message.
    pub(super) registered: Option<u32>,
}

impl Socket {
    /// Shuts the sending side, at once.
    ///
    /// Not by an operation: the kernel runs that one on a thread of its own and looks the
    /// descriptor up there, when it may be another connection's already.
    pub(crate) fn shutdown_send(&self) {
        // Fails only where the connection is broken, which its receive tells.
        if let Some(OpenSocket { fd, .. }) = &self.open {
            let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Write);
        }
    }

    /// Sends as many of these bytes as can be at once, which is before all that is asked of the ring
    /// and has not been submitted. Gives back how many: fewer, where there is no room, or the
    /// connection is broken.
    pub(crate) fn send_at_once(&self, bytes: &[u8]) -> usize {
        let Some(OpenSocket { fd, .. }) = &self.open else {
            return 0;
        };
        // What is wrong is told by whatever is asked of the socket next.
        rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).unwrap_or(0)
    }

    /// Whom it is connected to.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` where the connection is broken already.
    pub(crate) fn peer(&self) -> io::Result<SocketAddr> {
        let Some(OpenSocket { fd, .. }) = &self.open else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match rustix::net::getpeername(fd)? {
            Some(address) => Ok(SocketAddr::try_from(address)?),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Has closing it throw away what the peer did not take yet, and send a reset.
    ///
    /// Otherwise the kernel keeps what is queued for a peer that does not read, for minutes.
    pub(crate) fn reset_on_close(&self) {
        if let Some(OpenSocket { fd, .. }) = &self.open {
            // Every TCP socket takes it, even a broken one, whose queue is gone anyway.
            let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
        }
    }
}

/// The sockets that were dropped and are still to be closed.
pub(super) type Closing = Rc<RefCell<Vec<OpenSocket>>>;

impl Drop for Socket {
    fn drop(&mut self) {
        self.closing.borrow_mut().extend(self.open.take());
    }
}

/// The slots of a ring's table of registered files.
pub(super) struct Slots {
    /// Used before, and free again.
    free: Vec<u32>,
    /// Not used yet: from this one on, up to `max`.
    unused: u32,
    max: u32,
    /// Free as soon as the kernel has got what was asked of it so far.
    clearing: Vec<u32>,
}

impl Slots {
    /// A table of so many slots, or of as many as the kernel makes.
    pub(super) fn new(max: u32) -> Slots {
        Slots {
            free: Vec::new(),
            unused: 0,
            max: max.min(REGISTERED_MAX),
            clearing: Vec::new(),
        }
    }

    /// How many there are, free or not.
    pub(super) fn max(&self) -> u32 {
        self.max
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        (self.unused < self.max).then(|| {
            self.unused += 1;
            self.unused - 1
        })
    }

    /// Takes back a slot that the kernel was never told of.
    pub(super) fn give_back(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Takes back a slot that the kernel was asked to clear.
    pub(super) fn clear(&mut self, slot: u32) {
        self.clearing.push(slot);
    }

    /// Slots that were being cleared are free: the kernel has got all that was asked of it.
    #[inline]
    pub(super) fn reuse_cleared(&mut self) {
        self.free.append(&mut self.clearing);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::tests::{connect, ring};

    #[test]
    fn what_is_sent_at_once_is_what_there_is_room_for_and_waits_for_nobody() {
        let (mut ring, address) = ring();
        let (mut client, socket) = connect(&mut ring, address);
        let bytes: Vec<u8> = (0_u8..251).cycle().take(64 * 1024).collect();
        let mut taken = Vec::new();
        // Its peer reads nothing: there is room for so much and no more.
        loop {
            let taken_bytes = socket.send_at_once(&bytes);
            taken.extend_from_slice(&bytes[..taken_bytes]);
            if taken_bytes < bytes.len() {
                break;
            }
        }
        assert!(taken.len() >= bytes.len(), "{} bytes", taken.len());
        let mut seen = vec![0; taken.len()];
        client.read_exact(&mut seen).unwrap();
        assert!(seen == taken);
    }

    #[test]
    fn on_a_broken_connection_nothing_is_sent_at_once() {
        let (mut ring, address) = ring();
        let (_client, socket) = connect(&mut ring, address);
        socket.shutdown_send();
        assert_eq!(socket.send_at_once(b"too late"), 0);
    }
}
