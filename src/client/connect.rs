//! From a server's name to a connection: each of its addresses is tried in turn.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::ClientError;

/// Where a server is: host and port, like `game.example.org:8700`, or an address. It is looked up
/// anew for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination(String);

impl Destination {
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    pub(super) fn unresolved(&self, error: io::Error) -> ClientError {
        ClientError::Resolve {
            server: self.0.clone(),
            error: Arc::new(error),
        }
    }

    /// What it is that the name has no addresses.
    pub(super) fn nowhere(&self) -> ClientError {
        let nothing = io::Error::other("it has no address");
        self.unresolved(nothing)
    }
}

impl From<SocketAddr> for Destination {
    fn from(address: SocketAddr) -> Destination {
        Destination(address.to_string())
    }
}

impl From<&str> for Destination {
    fn from(host_and_port: &str) -> Destination {
        Destination(host_and_port.to_owned())
    }
}

impl From<String> for Destination {
    fn from(host_and_port: String) -> Destination {
        Destination(host_and_port)
    }
}

/// The addresses of a connection, as they were when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
}

impl Ends {
    /// Those of a socket that was connected to `address`, by what the system says of the socket.
    pub(super) fn new(
        local: io::Result<SocketAddr>,
        peer: io::Result<SocketAddr>,
        address: SocketAddr,
    ) -> io::Result<Ends> {
        Ok(Ends {
            local: local?,
            // A server may have reset it already, which whoever reads is to be told.
            peer: peer.unwrap_or(address),
        })
    }
}

/// Connects within `timeout`; of several addresses, each gets its share of what is left of it.
/// Looking up a name takes as long as the system's resolver takes.
pub(super) fn connect(
    server: &Destination,
    timeout: Duration,
) -> Result<(TcpStream, Ends), ClientError> {
    let addresses = server.name().to_socket_addrs();
    let addresses = addresses.map_err(|error| server.unresolved(error))?;
    let deadline = Instant::now() + timeout;
    let mut failure = server.nowhere();
    let mut left = addresses.len();
    for address in addresses {
        let share = shares(deadline.saturating_duration_since(Instant::now()), left);
        left -= 1;
        let connected = TcpStream::connect_timeout(&address, share).and_then(|stream| {
            let ends = Ends::new(stream.local_addr(), stream.peer_addr(), address)?;
            Ok((stream, ends))
        });
        match connected {
            Ok(connected) => return Ok(connected),
            Err(error) => failure = unreachable_at(address, error),
        }
    }
    Err(failure)
}

pub(super) fn unreachable_at(address: SocketAddr, error: io::Error) -> ClientError {
    ClientError::Connect {
        address,
        error: Arc::new(error),
    }
}

/// One address's part of the time that is left for so many; more than nothing.
pub(super) fn shares(left: Duration, addresses: usize) -> Duration {
    let addresses = u32::try_from(addresses).unwrap_or(u32::MAX).max(1);
    (left / addresses).max(Duration::from_millis(1))
}

/// How many bytes went through; none if the socket was not ready after all.
pub(super) fn unless_blocked(outcome: io::Result<usize>) -> Result<Option<usize>, ClientError> {
    match outcome {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(ClientError::broken(error)),
    }
}

/// A number that nobody can foretell, for pauses: what each of the standard library's hash tables is
/// seeded with.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
