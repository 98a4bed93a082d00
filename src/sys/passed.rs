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

/// The first descriptor that is passed on.
pub(crate) const FIRST: RawFd = 3;

/// Whether they were given out.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the descriptors that whoever started this process has passed on. Call it early, and only
/// if the environment says that there are so many: what this process opened itself must not be
/// among them.
///
/// # Errors
///
/// `AlreadyExists` if they were taken before; `EBADF` if there are not so many.
pub(crate) fn take(count: usize) -> io::Result<Vec<OwnedFd>> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    (FIRST..).take(count).map(take_one).collect()
}

fn take_one(raw: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number is not -1; whether it is open is what the call that borrows it tells.
    let borrowed = unsafe { BorrowedFd::borrow_raw(raw) };
    // Not for the programs that this one starts.
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, as the call above found. It was passed on for this process to own, as
    // `take` demands, and TAKEN lets nobody take it twice.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The socket as a listener like those that this program opens itself: blocking, TCP_NODELAY.
///
/// # Errors
///
/// `InvalidInput` if it is no listening TCP socket.
pub(crate) fn listener(fd: OwnedFd) -> io::Result<TcpListener> {
    let is_listener = is_tcp(&fd) && sockopt::socket_acceptconn(&fd).unwrap_or(false);
    if !is_listener {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let socket = SockRef::from(&fd);
    socket.set_nonblocking(false)?;
    socket.set_tcp_nodelay(true)?;
    Ok(TcpListener::from(fd))
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
    fn only_listening_tcp_sockets_are_listeners() {
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listening.local_addr().unwrap();
        listening.set_nonblocking(true).unwrap();
        let listener = listener(listening.into()).unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);

        let connected = std::net::TcpStream::connect(address).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (pipe, _) = io::pipe().unwrap();
        for wrong in [connected.into(), datagrams.into(), OwnedFd::from(pipe)] {
            let error = super::listener(wrong).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
