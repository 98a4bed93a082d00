//! Clients that a single well-behaved peer is not: from an address of one's choice, greedy.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use corelane::protocol::codes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::support::peer::{Peer, frame};
use crate::support::waiting::DEADLINE;

/// The n-th loopback address, from 1.
pub(crate) fn loopback(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, number).into()
}

/// Connects from this address of the host's.
pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Peer {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect_timeout(&address.into(), DEADLINE).unwrap();
    Peer::over(socket.into())
}

/// Whether a PING comes back, rather than the end of the connection.
#[track_caller]
pub(crate) fn is_served(peer: &Peer) -> bool {
    let ping = frame(codes::PING, b"");
    let mut stream = peer.sender();
    let mut reply = [0; 8];
    let served = stream
        .write_all(&ping)
        .and_then(|()| stream.read_exact(&mut reply));
    match served.map_err(|error| error.kind()) {
        Ok(()) => {
            assert_eq!(reply, *ping);
            true
        }
        Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => false,
        Err(kind) => panic!("a PING or the end was to come: {kind}"),
    }
}

/// Whether something has come on this connection that was not read yet.
pub(crate) fn has_news(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    match peeked {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            false
        }
    }
}

/// Sends ECHO without end and never reads. Gives back how the sending ended.
pub(crate) fn send_until_it_fails(mut stream: TcpStream) -> ErrorKind {
    let echo = frame(codes::ECHO, &[7; 10_000]);
    loop {
        if let Err(error) = stream.write_all(&echo) {
            return error.kind();
        }
    }
}

/// Lets this process have as many descriptors open as it may.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// Sets a flag when it goes, so that threads which look at it end also where the test fails.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
