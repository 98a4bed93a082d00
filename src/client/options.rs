//! How a client is to behave; the same for both clients.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::backoff::Backoff;
use crate::protocol::codes;

/// How a client is to behave. `connect` makes a [`Client`](super::Client) of it.
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) timeout: Duration,
    pub(super) heartbeat: Option<Duration>,
    pub(super) reconnect: Option<Backoff>,
    pub(super) push_codes: BTreeSet<u16>,
    pub(super) pushes_waiting_max: usize,
    pub(super) in_flight_max: usize,
}

/// The shortest and the longest that anything can be waited for: a millisecond and a year, which can
/// be added to whatever a clock says.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(365 * 24);

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

impl Options {
    /// Five seconds for everything, no heartbeat, no reconnecting, at most 1024 pushes that wait and
    /// 4096 requests in flight.
    #[must_use]
    pub fn new() -> Options {
        Options {
            timeout: Duration::from_secs(5),
            heartbeat: None,
            reconnect: None,
            push_codes: BTreeSet::from([codes::EVENT, codes::GOAWAY]),
            pushes_waiting_max: 1024,
            in_flight_max: 4096,
        }
    }

    /// How long to wait for a connection, for the server to take a request, and for each reply and
    /// push; at least a millisecond, at most a year.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Options {
        self.timeout = timeout.clamp(*WAIT.start(), *WAIT.end());
        self
    }

    /// Sends a PING when nothing was sent for so long and no request is in flight, so that the
    /// server does not take the client for idle (`timeouts.idle_ms` there). A PING that is not
    /// answered within the time-out is the loss of the connection.
    #[must_use]
    pub fn heartbeat(mut self, every: Duration) -> Options {
        self.heartbeat = Some(every.clamp(*WAIT.start(), *WAIT.end()));
        self
    }

    /// Connects again where the connection was lost, or where the server said GOAWAY and nothing is
    /// in flight any more: the blocking client when it is used next, the asynchronous one at once.
    #[must_use]
    pub fn reconnect(mut self, backoff: Backoff) -> Options {
        self.reconnect = Some(backoff);
        self
    }

    /// Has frames with this code be pushes, like those of EVENT and GOAWAY. For codes that the server
    /// sends on its own; can be given several times.
    #[must_use]
    pub fn push_code(mut self, code: u16) -> Options {
        self.push_codes.insert(code);
        self
    }

    /// How many pushes may wait until they are taken. Beyond, nothing more is read until some were,
    /// and TCP holds the server back. While the answer to a request is awaited, or a heartbeat's is
    /// overdue, new ones are dropped instead: the next one that is kept says how many
    /// ([`Push::lost_before`](super::Push::lost_before)). So a program that takes no pushes gets its
    /// replies still; but it learns of a connection's end only with the next request.
    #[must_use]
    pub fn pushes_waiting_max(mut self, pushes: usize) -> Options {
        self.pushes_waiting_max = pushes;
        self
    }

    /// How many requests may be without a reply that was taken; beyond, sending is refused with
    /// [`ClientError::TooManyInFlight`](super::ClientError::TooManyInFlight), or waits in the
    /// asynchronous client. At least one.
    #[must_use]
    pub fn in_flight_max(mut self, requests: usize) -> Options {
        self.in_flight_max = requests.max(1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_too_short_to_be_waited_or_too_long_to_be_counted() {
        for (given, kept) in [
            (Duration::ZERO, *WAIT.start()),
            (Duration::MAX, *WAIT.end()),
        ] {
            let options = Options::new().timeout(given).heartbeat(given);
            assert_eq!(options.timeout, kept);
            assert_eq!(options.heartbeat, Some(kept));
        }
    }
}
