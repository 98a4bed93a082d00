//! The seam between a shard and the world: operations out, completions in.
//!
//! Production plugs the io_uring in (`run`); a simulation plugs in whatever it likes to try a
//! server with: short sends, reordered completions, resets at any moment. The contract:
//!
//! - [`Operation::Accept`] and [`Operation::Receive`] go on completing until a completion says
//!   that there is nothing `more` (a receive that is to be once: its first); every other operation
//!   that has a completion has exactly one.
//! - [`Operation::CancelReceive`], [`Operation::CancelSend`] and [`Operation::CancelAccept`] have no
//!   completion of their own: what they cancel completes as [`Failure::Cancelled`], unless it
//!   completed before.
//! - A socket given to [`Operation::Close`], or to another shard, has no operation in flight.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::rc::Rc;

use crate::handler::{Answer, ConnectionId, HandlerOutcome, HandlerTask, Run};

/// What a shard needs of the world.
pub trait Io {
    /// A connection's socket.
    type Socket;
    /// Received bytes. The buffer goes back to where it came from when this is dropped.
    type Received: Deref<Target = [u8]>;

    /// Starts an operation.
    fn submit(&mut self, operation: Operation<'_, Self::Socket>);

    /// Starts [`Operation::Send`] of all of these bytes, which are taken out of where they are. That is
    /// how all but a few sends are asked for; by the operation, the bytes would be moved about.
    #[inline]
    fn send_all_of(&mut self, bytes: &mut Vec<u8>, id: ConnectionId, socket: &Self::Socket) {
        let buffer = SendBuffer::of(bytes);
        self.submit(Operation::Send { id, socket, buffer });
    }

    /// Has as many of these bytes sent as can be at once, and gives back how many: fewer than all where
    /// there is no room for more, or the connection is broken, or the world does not do that. The rest
    /// is for [`Operation::Send`], which also tells what is wrong. No send is in flight there.
    fn send_at_once(&mut self, _bytes: &[u8], _socket: &Self::Socket) -> usize {
        0
    }

    /// How late it is by now, in the time of [`super::Shard::turn`], where the world tells in the middle
    /// of a turn. It is asked before what takes long beside the rest of a turn of one message.
    fn now_us(&self) -> Option<u64> {
        None
    }

    /// Whether messages for other shards wait because they were told faster than they listen. The
    /// shard then accepts nothing that would make more of them.
    fn is_congested(&self) -> bool;

    /// Whether another shard has ended, so that nothing that it is told arrives any more.
    fn is_gone(&self, _shard: u16) -> bool {
        false
    }

    /// Whether a shard that has ended has told this one all that it ever will, and that was given out.
    fn is_silent(&self, _shard: u16) -> bool {
        true
    }

    /// Whether connections wait at a listener to be accepted. No accept is in flight there.
    fn somebody_waits(&self, _listener: usize) -> bool {
        false
    }

    /// Takes received bytes back, and overwrites them before anybody else gets their buffer: there
    /// may be a secret among them. A world that gives its buffers to nobody else need not.
    fn wipe(&mut self, received: Self::Received) {
        drop(received);
    }

    /// Gives out no more messages of other shards, or does again: what is held waits with them, and
    /// makes them congested when it is too much.
    fn hold_messages(&mut self, _hold: bool) {}

    /// Looks what has completed by now. Up to `max` completions of it come out of
    /// [`Io::completion`]; what completes later does not, before the next call.
    fn reap(&mut self, max: usize);

    /// The next completion of those that were reaped, in the order in which they happened.
    fn completion(&mut self) -> Option<Completion<Self::Socket, Self::Received>>;
}

/// What a shard asks for.
#[derive(Debug)]
pub enum Operation<'a, Socket> {
    /// Accept connections from a listener, again and again.
    Accept {
        /// Which listener of the shard.
        listener: usize,
    },
    /// Accept no more from this listener.
    CancelAccept {
        /// Which listener of the shard.
        listener: usize,
    },
    /// Listen no more: who has not been accepted yet is refused. No accept is in flight.
    StopListening {
        /// Which listener of the shard.
        listener: usize,
    },
    /// Receive from a connection.
    Receive {
        /// The connection.
        id: ConnectionId,
        /// Its socket.
        socket: &'a Socket,
        /// In which way.
        how: Reception,
    },
    /// Receive no more from this connection.
    CancelReceive {
        /// The connection.
        id: ConnectionId,
    },
    /// Send what is left of a buffer. A connection has at most one send in flight.
    Send {
        /// The connection.
        id: ConnectionId,
        /// Its socket.
        socket: &'a Socket,
        /// The bytes; they come back with the completion.
        buffer: SendBuffer,
    },
    /// Cancel the send in flight on this connection.
    CancelSend {
        /// The connection.
        id: ConnectionId,
    },
    /// Shut the sending side: the peer sees the end of the stream behind what was sent.
    ShutdownSend {
        /// The socket.
        socket: &'a Socket,
    },
    /// Close the socket.
    Close {
        /// The socket.
        socket: Socket,
        /// Whether what the kernel still has to send is thrown away, and the peer sees a reset.
        reset: bool,
    },
    /// Tell another shard something. It is told once, in the order of the telling.
    Tell {
        /// The shard's number.
        shard: u16,
        /// What it is told.
        message: Message<Socket>,
    },
    /// Run an asynchronous handler.
    Handle {
        /// The connection that its reply is for.
        id: ConnectionId,
        /// The handler at work.
        task: HandlerTask,
    },
}

/// How a connection is received from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// Again and again, each time as soon as there is something.
    Again,
    /// One completion, and nothing more.
    Once,
    /// Again and again, for peers that send much at a time: each time when its completion is taken, and
    /// not any more once that is cancelled.
    Large,
}

/// What has happened.
#[derive(Debug)]
pub enum Completion<Socket, Received> {
    /// A connection was accepted, or accepting failed.
    Accepted {
        /// Which listener of the shard.
        listener: usize,
        /// The connection.
        result: Result<Arrival<Socket>, Failure>,
        /// Whether the accept goes on.
        more: bool,
    },
    /// Another shard tells something.
    Told {
        /// What it tells.
        message: Message<Socket>,
    },
    /// Bytes arrived, or the stream ended (no bytes), or receiving failed.
    Received {
        /// The connection.
        id: ConnectionId,
        /// The bytes; none at all mean that the peer has shut its sending side.
        result: Result<Received, Failure>,
        /// Whether the receive goes on.
        more: bool,
    },
    /// The kernel took bytes for sending, maybe not all of them, or sending failed.
    Sent {
        /// The connection.
        id: ConnectionId,
        /// The buffer that was given, as it was.
        buffer: SendBuffer,
        /// How many bytes were taken.
        result: Result<usize, Failure>,
    },
    /// An asynchronous handler finished.
    Handled {
        /// The connection that its reply is for.
        id: ConnectionId,
        /// What came out.
        outcome: HandlerOutcome,
    },
}

/// A connection that was accepted, and that no shard has taken in yet.
#[derive(Debug)]
pub struct Arrival<Socket> {
    /// Its socket; no operation is in flight on it.
    pub socket: Socket,
    /// The peer's address.
    pub peer: SocketAddr,
    /// Whether it counts among the connections of its address.
    pub(super) counted: bool,
}

/// What shards tell one another. None of it is on the way of a request and its reply, unless a
/// handler asks for it.
#[derive(Debug)]
pub enum Message<Socket> {
    /// To the shard that counts the connections of the peer's address: one more arrived.
    Arrived {
        /// The connection.
        arrival: Arrival<Socket>,
        /// The shard that accepted it.
        at: u16,
    },
    /// To the shard that is to serve it: a connection.
    Placed(Arrival<Socket>),
    /// To the shard that counts the connections of this address: there is one that it does not know
    /// of, from before there was a limit.
    Present(IpAddr),
    /// To the shard that counts the connections of this address: one of them is gone.
    Departed(IpAddr),
    /// To a connection's shard: a whole frame for it.
    Push {
        /// The connection, which may be gone.
        to: ConnectionId,
        /// The frame.
        frame: Vec<u8>,
    },
    /// A whole frame for all connections that are open.
    Broadcast {
        /// The frame.
        frame: Vec<u8>,
    },
    /// A function to run on the state.
    Run(Run),
    /// To the shard that wanted a function run: what came of it.
    Answer(Answer),
    /// To all others: all shards drain, and none of them has anything left.
    Drained,
}

impl<Socket> Message<Socket> {
    /// The same with another kind of socket, for another ring.
    pub(super) fn with_socket<T>(self, other: impl FnOnce(Socket) -> T) -> Message<T> {
        match self {
            Message::Arrived { arrival, at } => Message::Arrived {
                arrival: arrival.with_socket(other),
                at,
            },
            Message::Placed(arrival) => Message::Placed(arrival.with_socket(other)),
            Message::Present(address) => Message::Present(address),
            Message::Departed(address) => Message::Departed(address),
            Message::Push { to, frame } => Message::Push { to, frame },
            Message::Broadcast { frame } => Message::Broadcast { frame },
            Message::Run(run) => Message::Run(run),
            Message::Answer(answer) => Message::Answer(answer),
            Message::Drained => Message::Drained,
        }
    }
}

impl<Socket> Arrival<Socket> {
    /// One that was accepted just now.
    pub fn new(socket: Socket, peer: SocketAddr) -> Arrival<Socket> {
        Arrival {
            socket,
            peer,
            counted: false,
        }
    }

    pub(super) fn with_socket<T>(self, other: impl FnOnce(Socket) -> T) -> Arrival<T> {
        Arrival {
            socket: other(self.socket),
            peer: self.peer,
            counted: self.counted,
        }
    }
}

/// Why an operation failed, as far as a shard acts on it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// There was no free receive buffer.
    #[error("no receive buffer was free")]
    NoBuffers,
    /// The host had no descriptor or no memory left for a new connection.
    #[error("the host has no room for another connection: {0}")]
    NoRoom(io::Error),
    /// Anything else; on a connection: it is broken.
    #[error("{0}")]
    Broken(io::Error),
}

impl Failure {
    /// Whether a failed accept concerns the connection alone that was to be accepted.
    pub(super) fn is_of_one_connection(&self) -> bool {
        matches!(self, Failure::Broken(error) if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
        ))
    }
}

/// Bytes on their way out, and how many of them have gone.
#[derive(Debug)]
pub struct SendBuffer {
    pub(crate) bytes: Outgoing,
    pub(crate) sent: usize,
}

/// Bytes to be sent: a connection's own, or such as others have, too.
pub(crate) enum Outgoing {
    Own(Vec<u8>),
    Shared(Rc<dyn AsRef<[u8]>>),
}

impl Outgoing {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Outgoing::Own(bytes) => bytes,
            Outgoing::Shared(bytes) => (**bytes).as_ref(),
        }
    }

    /// The memory that is the connection's own, in bytes.
    #[inline]
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Outgoing::Own(bytes) => bytes.capacity(),
            Outgoing::Shared(_) => 0,
        }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outgoing({} bytes)", self.bytes().len())
    }
}

impl SendBuffer {
    /// All of these bytes, which are taken out of where they are.
    #[inline]
    pub(super) fn of(bytes: &mut Vec<u8>) -> SendBuffer {
        SendBuffer {
            bytes: Outgoing::Own(std::mem::take(bytes)),
            sent: 0,
        }
    }

    /// What is still to be sent.
    pub fn remaining(&self) -> &[u8] {
        &self.bytes.bytes()[self.sent..]
    }
}
