//! From a server's name to a connection, on tokio.

use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::super::connect::{Destination, Ends, shares, unreachable_at};
use super::super::error::ClientError;

/// Connects; of several addresses, each gets its share of the time that is left.
pub(super) async fn connect(
    server: &Destination,
    limit: Duration,
) -> Result<(TcpStream, Ends), ClientError> {
    let deadline = Instant::now() + limit;
    let addresses = lookup_host(server.name()).await;
    let addresses: Vec<_> = addresses
        .map_err(|error| server.unresolved(error))?
        .collect();
    let mut failure = server.nowhere();
    for (at, &address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = shares(left, addresses.len() - at);
        let too_late = || Err(io::ErrorKind::TimedOut.into());
        let attempt = timeout(share, TcpStream::connect(address)).await;
        let connected = attempt.unwrap_or_else(|_| too_late());
        let prepared = connected.and_then(|stream| {
            stream.set_nodelay(true)?;
            let ends = Ends::new(stream.local_addr(), stream.peer_addr(), address)?;
            Ok((stream, ends))
        });
        match prepared {
            Ok(prepared) => return Ok(prepared),
            Err(error) => failure = unreachable_at(address, error),
        }
    }
    Err(failure)
}
