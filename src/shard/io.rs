//! The seam between a shard and the world: operations out, completions in.
//!
//! Production plugs the io_uring in (`run`); a simulation plugs in whatever it likes to try a
//! server with: short sends, reordered completions, resets at any moment. The contract:
//!
//! - [`Operation::Accept`] and [`Operation::Receive`] go on completing until a completion says
//!   that there is nothing `more`; every other operation that has a completion has exactly one.
//! - [`Operation::CancelReceive`], [`Operation::CancelSend`] and [`Operation::CancelAccept`] have no
//!   completion of their own: what they cancel completes as [`Failure::Cancelled`], unless it
//!   completed before.
//! - A socket given to [`Operation::Close`] has no operation in flight.

use std::io;
use std::ops::Deref;

use crate::handler::{ConnectionId, HandlerOutcome, HandlerTask};

/// What a shard needs of the world.
pub trait Io {
    /// A connection's socket.
    type Socket;
    /// Received bytes. The buffer goes back to where it came from when this is dropped.
    type Received: Deref<Target = [u8]>;

    /// Starts an operation.
    fn submit(&mut self, operation: Operation<'_, Self::Socket>);

    /// Takes up to `max` completions, in the order in which they happened.
    fn reap(&mut self, completions: &mut Vec<Completion<Self::Socket, Self::Received>>, max: usize);
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
    /// Receive from a connection, again and again.
    Receive {
        /// The connection.
        id: ConnectionId,
        /// Its socket.
        socket: &'a Socket,
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
    },
    /// Run an asynchronous handler.
    Handle {
        /// The connection that its reply is for.
        id: ConnectionId,
        /// The handler at work.
        task: HandlerTask,
    },
}

/// What has happened.
#[derive(Debug)]
pub enum Completion<Socket, Received> {
    /// A connection was accepted, or accepting failed.
    Accepted {
        /// Which listener of the shard.
        listener: usize,
        /// The connection's socket.
        result: Result<Socket, Failure>,
        /// Whether the accept goes on.
        more: bool,
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
    pub(crate) bytes: Vec<u8>,
    pub(crate) sent: usize,
}

impl SendBuffer {
    /// What is still to be sent.
    pub fn remaining(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }
}
