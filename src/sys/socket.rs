//! Listening sockets: one per shard and address, sharing the address by SO_REUSEPORT.
//!
//! From when one of several listens, the kernel puts connections there. So one whose shard may never
//! come is only bound at first, and begins to listen when the shard has come.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// Bytes that the kernel keeps for a connection beyond what the network takes now. Without this, it
/// keeps megabytes for a peer that does not read, and a peer that reads slowly makes no progress
/// to be seen until it has taken a third of them.
const UNSENT_BYTES: u32 = 128 * 1024;

/// Listens on one address with so many sockets, so that every shard has one of its own. The kernel
/// spreads connections over them by a hash of the addresses.
///
/// With port 0 the kernel chooses a port, the same for all.
///
/// # Errors
///
/// `AddrInUse` also where another program, or another run of this one, shares the port by
/// SO_REUSEPORT itself: half of the connections would silently go there.
pub(crate) fn listen(
    address: SocketAddr,
    backlog: u32,
    sockets: usize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let (bound, listeners) = bind(address, sockets)?;
    begin_to_listen(&listeners, backlog)?;
    Ok((bound, listeners))
}

/// As [`listen`], but none of them listens yet.
///
/// # Errors
///
/// As [`listen`].
pub(crate) fn bind(
    address: SocketAddr,
    sockets: usize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    if address.port() != 0 {
        // Without SO_REUSEPORT, this fails if anybody listens there.
        open(address, false)?;
    }
    let mut bound = address;
    let mut listeners = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let listener = TcpListener::from(open(bound, true)?);
        bound = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok((bound, listeners))
}

/// So many sockets more for an address that this process has already; they do not listen yet.
pub(crate) fn bind_more(address: SocketAddr, sockets: usize) -> io::Result<Vec<TcpListener>> {
    let more = (0..sockets).map(|_| open(address, true).map(TcpListener::from));
    more.collect()
}

/// From now on, they listen. Those that do already go on with the backlog that they have.
pub(crate) fn begin_to_listen(listeners: &[TcpListener], backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    for listener in listeners {
        let socket = SockRef::from(listener);
        if !socket.is_listener()? {
            socket.listen(backlog)?;
        }
    }
    Ok(())
}

/// Whether connections wait there to be accepted.
pub(crate) fn somebody_waits(listener: &TcpListener) -> bool {
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    // Nothing can be said against this but that there is no memory: then, too, nobody is seen.
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// A bound socket. It stays blocking: io_uring's accept fails with EAGAIN on one that is not.
fn open(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    tune(&socket)?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can be listened on side by side.
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// Sets what accepted sockets inherit from their listener.
pub(super) fn tune(listener: &Socket) -> io::Result<()> {
    listener.set_tcp_nodelay(true)?;
    listener.set_tcp_notsent_lowat(UNSENT_BYTES)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn all_sockets_share_one_port() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (bound, listeners) = listen(any, 8, 3).unwrap();
        assert_ne!(bound.port(), 0);
        for listener in &listeners {
            assert_eq!(listener.local_addr().unwrap(), bound);
        }
        TcpStream::connect(bound).unwrap();
    }

    #[test]
    fn accepted_sockets_inherit_what_listeners_have() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (bound, listeners) = listen(any, 8, 1).unwrap();
        let _client = TcpStream::connect(bound).unwrap();
        let accepted = Socket::from(listeners[0].accept().unwrap().0);
        assert!(accepted.tcp_nodelay().unwrap());
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), UNSENT_BYTES);
    }

    #[test]
    fn nobody_gets_into_a_socket_that_does_not_listen_yet() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (bound, mut sockets) = bind(any, 1).unwrap();
        sockets.extend(bind_more(bound, 1).unwrap());
        let error = TcpStream::connect(bound).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        begin_to_listen(&sockets[..1], 8).unwrap();
        // All come here, whatever their hash.
        for _ in 0..32 {
            assert!(!somebody_waits(&sockets[0]));
            let _client = TcpStream::connect(bound).unwrap();
            assert!(somebody_waits(&sockets[0]));
            sockets[0].accept().unwrap();
        }
        begin_to_listen(&sockets, 8).unwrap();
    }

    #[test]
    fn a_port_that_somebody_shares_is_in_use() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (bound, _held) = listen(any, 8, 2).unwrap();
        let error = listen(bound, 8, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
