//! Descriptors that this process was started with, from 3 on, as sd_listen_fds(3) has it.
//!
//! They are given out once, so that each has one owner.

use std::io;
use std::net::TcpListener;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketType, sockopt};
use socket2::SockRef;

use super::socket;

/// The first descriptor that is passed on.
pub(crate) const FIRST: RawFd = 3;

/// Whether they were given out.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes so many descriptors that whoever started this process has passed on.
///
/// # Errors
///
/// The number of the one that was not passed on, and why: `AlreadyExists` if it was taken before,
/// `NotFound` if it is this process's own, `EBADF` if it is not open at all.
pub(crate) fn take(count: usize) -> Result<Vec<OwnedFd>, (RawFd, io::Error)> {
    let numbers: Vec<RawFd> = (FIRST..).take(count).collect();
    take_numbers(&numbers)
}

/// As [`take`], but those with these numbers.
pub(crate) fn take_numbers(numbers: &[RawFd]) -> Result<Vec<OwnedFd>, (RawFd, io::Error)> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err((FIRST, io::ErrorKind::AlreadyExists.into()));
    }
    let taken = numbers.iter().copied();
    taken
        .map(|raw| take_one(raw).map_err(|error| (raw, error)))
        .collect()
}

fn take_one(raw: RawFd) -> io::Result<OwnedFd> {
    if raw < FIRST {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: the number is not -1; whether it is open is what the call that borrows it tells.
    let borrowed = unsafe { BorrowedFd::borrow_raw(raw) };
    if rustix::io::fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        return Err(io::ErrorKind::NotFound.into());
    }
    // Not for the programs that this one starts.
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and nobody here owns it: it would not have come through exec with
    // CLOEXEC, which whatever opens descriptors in this process sets from the start, be it the
    // standard library, rustix, nix or `sys`. Should a number come twice, the second time it has
    // CLOEXEC; TAKEN lets nobody begin anew.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The socket as a listener like those that this program opens itself: blocking, and with the same
/// options. It may be one that does not listen yet.
///
/// # Errors
///
/// `InvalidInput` if it is no TCP socket that listens, or could.
pub(crate) fn listener(fd: OwnedFd) -> io::Result<TcpListener> {
    if !is_tcp(&fd) || !(sockopt::socket_acceptconn(&fd).unwrap_or(false) || is_only_bound(&fd)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let socket = SockRef::from(&fd);
    socket.set_nonblocking(false)?;
    socket::tune(&socket)?;
    Ok(TcpListener::from(fd))
}

/// As [`listener`], but one that was passed on for operators, as it is: other processes may be using
/// it, and whether it blocks is theirs as much as ours.
///
/// # Errors
///
/// `InvalidInput` if it is no TCP socket that listens.
pub(crate) fn shared_listener(fd: OwnedFd) -> io::Result<TcpListener> {
    if !is_tcp(&fd) || !sockopt::socket_acceptconn(&fd).unwrap_or(false) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(TcpListener::from(fd))
}

/// Whether it has an address and neither listens nor is connected.
fn is_only_bound(fd: &OwnedFd) -> bool {
    let socket = SockRef::from(fd);
    let address = socket.local_addr().ok().and_then(|bound| bound.as_socket());
    address.is_some_and(|address| address.port() != 0) && socket.peer_addr().is_err()
}

fn is_tcp(fd: &OwnedFd) -> bool {
    let is_stream = sockopt::socket_type(fd) == Ok(SocketType::STREAM);
    let family = sockopt::socket_domain(fd);
    is_stream && matches!(family, Ok(AddressFamily::INET | AddressFamily::INET6))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn what_this_process_has_opened_was_not_passed_on() {
        let (own, _) = io::pipe().unwrap();
        let error = take_one(std::os::fd::AsRawFd::as_raw_fd(&own)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = take_one(RawFd::MAX).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn only_tcp_sockets_that_listen_or_could_are_listeners() {
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listening.local_addr().unwrap();
        listening.set_nonblocking(true).unwrap();
        let listener = listener(listening.into()).unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);

        let (bound, mut silent) = socket::bind(([127, 0, 0, 1], 0).into(), 1).unwrap();
        let listener = super::listener(silent.remove(0).into()).unwrap();
        assert_eq!(listener.local_addr().unwrap(), bound);

        let connected = std::net::TcpStream::connect(address).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (pipe, _) = io::pipe().unwrap();
        for wrong in [connected.into(), datagrams.into(), OwnedFd::from(pipe)] {
            let error = super::listener(wrong).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
