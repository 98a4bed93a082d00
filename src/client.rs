//! A small blocking client: one connection, requests out, replies in.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::protocol::{BodyTooLong, Decoded, FRAME_BYTES_MAX, decode, encode};

/// A request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server can't be reached.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// The body does not fit a frame: the caller's mistake.
    #[error(transparent)]
    BodyTooLong(#[from] BodyTooLong),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// Nothing came in time.
    #[error("no reply came within {} ms", timeout.as_millis())]
    TimedOut {
        /// How long was waited.
        timeout: Duration,
    },
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// What came is not the protocol: the server's mistake, or it is another server.
    #[error("what the server sent is not corelane's protocol: {0}")]
    NotTheProtocol(&'static str),
}

/// A frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The message code.
    pub code: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// One connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    timeout: Duration,
    received: Vec<u8>,
    out: Vec<u8>,
}

impl Client {
    /// Connects. Connecting takes at most `timeout`, and so does each wait for the server to take
    /// bytes or to send some; it must not be zero.
    ///
    /// # Errors
    ///
    /// [`ClientError::Connect`].
    pub fn connect(address: SocketAddr, timeout: Duration) -> Result<Client, ClientError> {
        let connect = || -> io::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&address, timeout)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(stream)
        };
        match connect() {
            Ok(stream) => Ok(Client {
                stream,
                timeout,
                received: Vec::new(),
                out: Vec::new(),
            }),
            Err(error) => Err(ClientError::Connect { address, error }),
        }
    }

    /// Sends a request, without waiting for its reply.
    ///
    /// # Errors
    ///
    /// [`ClientError::BodyTooLong`], [`ClientError::TimedOut`], [`ClientError::Broken`].
    pub fn send(&mut self, code: u16, body: &[u8]) -> Result<(), ClientError> {
        self.out.clear();
        encode(&mut self.out, code, body)?;
        self.stream
            .write_all(&self.out)
            .map_err(|error| self.failed(error))
    }

    /// Waits for the next frame.
    ///
    /// # Errors
    ///
    /// All but [`ClientError::Connect`] and [`ClientError::BodyTooLong`].
    pub fn receive(&mut self) -> Result<Reply, ClientError> {
        loop {
            let missing = match decode(&self.received, FRAME_BYTES_MAX) {
                Decoded::Whole(frame) => {
                    let reply = Reply {
                        code: frame.code,
                        body: frame.body.to_vec(),
                    };
                    let length = crate::protocol::HEADER_BYTES + reply.body.len();
                    self.received.drain(..length);
                    return Ok(reply);
                }
                Decoded::BadChecksum { .. } => {
                    return Err(ClientError::NotTheProtocol("a checksum is wrong"));
                }
                Decoded::BadLength { .. } => {
                    return Err(ClientError::NotTheProtocol("a length is out of range"));
                }
                Decoded::Incomplete { missing } => missing,
            };
            let start = self.received.len();
            self.received.resize(start + missing, 0);
            let outcome = self.stream.read(&mut self.received[start..]);
            self.received
                .truncate(start + outcome.as_ref().copied().unwrap_or(0));
            match outcome {
                Ok(0) if start > 0 => {
                    return Err(ClientError::NotTheProtocol("it ended within a frame"));
                }
                Ok(0) => return Err(ClientError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn failed(&self, error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TimedOut {
                timeout: self.timeout,
            },
            _ => ClientError::Broken(error),
        }
    }
}
