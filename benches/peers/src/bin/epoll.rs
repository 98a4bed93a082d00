//! The server that a C programmer would write by hand: one thread, one epoll, non-blocking
//! sockets, edge-triggered.
//!
//! One read buffer and one output buffer serve all connections. What one readiness brings is
//! answered with one write; a connection owns bytes only while its socket takes no more, and is
//! not read from until they are gone.

use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;

use corelane::protocol::Decoder;
use corelane_peers::{Failure, OrFailed as _, Stream, Words, announce, answer, listener, run};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

const NAME: &str = "epoll";
/// Twice what peers with a buffer for each connection have: this one is shared.
const READ_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 512;
const LISTENER: u64 = u64::MAX;

fn main() -> ExitCode {
    run(NAME, serve)
}

fn serve(words: Words) -> Result<(), Failure> {
    let listener = listener(words.address)?;
    listener
        .set_nonblocking(true)
        .or_failed("the listener cannot be polled")?;
    let epoll = epoll::create(CreateFlags::CLOEXEC).or_failed("epoll_create")?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )
    .or_failed("epoll_ctl")?;
    announce(NAME, listener.local_addr())?;

    let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
    // By descriptor, as descriptors are small numbers.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffers = Buffers {
        input: vec![0; READ_BYTES],
        output: Vec::new(),
    };
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).or_failed("epoll_wait"),
        }
        for event in &events {
            let (flags, token) = (event.flags, event.data.u64());
            if token == LISTENER {
                accept_all(&epoll, &listener, &mut connections)?;
                continue;
            }
            let Some(slot) = slot_mut(&mut connections, token) else {
                continue;
            };
            if let Some(connection) = slot
                && connection.ready(flags, &mut buffers) == Next::Close
            {
                *slot = None;
            }
        }
    }
}

fn slot_mut(connections: &mut [Option<Connection>], token: u64) -> Option<&mut Option<Connection>> {
    connections.get_mut(usize::try_from(token).ok()?)
}

fn accept_all(
    epoll: &OwnedFd,
    listener: &TcpListener,
    connections: &mut Vec<Option<Connection>>,
) -> Result<(), Failure> {
    loop {
        let socket = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(error) => return Err(error).or_failed("accept"),
        };
        let index = usize::try_from(socket.as_raw_fd()).or_failed("descriptor")?;
        // IN and OUT once and for all: edges make a change of interest unnecessary, and spare the
        // kernel a second look at each socket.
        epoll::add(
            epoll,
            &socket,
            EventData::new_u64(index as u64),
            EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
        )
        .or_failed("epoll_ctl")?;
        if connections.len() <= index {
            connections.resize_with(index + 1, || None);
        }
        connections[index] = Some(Connection::new(socket));
    }
}

/// Shared by all connections: only one is served at a time.
struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
}

#[derive(PartialEq, Eq)]
enum Next {
    Wait,
    Close,
}

struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
    /// Close once nothing is unsent.
    ending: bool,
}

impl Connection {
    fn new(socket: OwnedFd) -> Connection {
        Connection {
            socket,
            decoder: Decoder::new(),
            unsent: Vec::new(),
            ending: false,
        }
    }

    fn ready(&mut self, flags: EventFlags, buffers: &mut Buffers) -> Next {
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            if self.write(&unsent) == Next::Close {
                return Next::Close;
            }
        }
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        while self.unsent.is_empty() {
            if self.ending {
                return Next::Close;
            }
            let input = buffers.input.as_mut_slice();
            let received = match recv(&self.socket, input, RecvFlags::empty()) {
                Ok((0, _)) => return Next::Close,
                Ok((received, _)) => received,
                Err(Errno::AGAIN) => return Next::Wait,
                Err(Errno::INTR) => continue,
                Err(_) => return Next::Close,
            };
            buffers.output.clear();
            let slice = &buffers.input[..received];
            self.ending = answer(&mut self.decoder, slice, &mut buffers.output) == Stream::Broken;
            if self.write(&buffers.output) == Next::Close {
                return Next::Close;
            }
            // A short read emptied the socket: the next bytes are a new edge. An end of the
            // stream that came before this event is not.
            if received < READ_BYTES && !ended && !self.ending {
                return Next::Wait;
            }
        }
        Next::Wait
    }

    /// Writes once; keeps what the socket does not take.
    fn write(&mut self, bytes: &[u8]) -> Next {
        if bytes.is_empty() {
            return Next::Wait;
        }
        let sent = match send(self.socket.as_fd(), bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => return Next::Close,
        };
        self.unsent.extend_from_slice(&bytes[sent..]);
        Next::Wait
    }
}
