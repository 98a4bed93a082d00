//! What can go wrong between a client and a server, and whose fault it is.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::{BodyError, BodyTooLong, EncodeError, ErrorBody, Reason};

/// A request, a push or a connection failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server's name leads nowhere.
    #[error("{server} is no address: {error}; give host and port, like 127.0.0.1:8700")]
    Resolve {
        /// What was to be connected to.
        server: String,
        /// What the resolver says.
        error: Arc<io::Error>,
    },
    /// The server can't be reached. Of several addresses, this is about the last.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the operating system says.
        error: Arc<io::Error>,
    },
    /// The body does not fit a frame: the caller's mistake.
    #[error(transparent)]
    BodyTooLong(#[from] BodyTooLong),
    /// A message has a value that its field can't hold: the caller's mistake.
    #[error(transparent)]
    Message(BodyError),
    /// More requests than [`Options::in_flight_max`](super::Options::in_flight_max) wait for their
    /// replies: the caller's mistake. This one was not sent.
    #[error("{in_flight_max} requests wait for a reply already: take some before sending more")]
    TooManyInFlight {
        /// The limit.
        in_flight_max: usize,
    },
    /// No request waits for a reply: the caller's mistake.
    #[error("no request waits for a reply: send one first")]
    NothingInFlight,
    /// The client was closed, by its own program.
    #[error("this client was closed: connect another one")]
    Over,
    /// The server answered ERROR.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What came has another code than the message that was to come.
    #[error("a message of code {expected} was to come, not one of code {code}")]
    OtherCode {
        /// The message's code.
        expected: u16,
        /// What came.
        code: u16,
    },
    /// What came is not the message that was to come: the server's mistake.
    #[error("what the server sent is not the message that was to come: {0}")]
    NotTheMessage(BodyError),
    /// Nothing came in time. A reply that comes later is dropped, unless it is still waited for.
    #[error("no reply came within {} ms", timeout.as_millis())]
    TimedOut {
        /// How long was waited.
        timeout: Duration,
    },
    /// The request was on its way when the connection was lost: it may have been carried out or
    /// not, and is not sent again.
    #[error("{cause}; whether the request was carried out is not known")]
    Lost {
        /// How it was lost: one of those below.
        cause: Arc<ClientError>,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(Arc<io::Error>),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server closed the connection and said why.
    #[error("the server closed the connection: {0}")]
    Dismissed(Refusal),
    /// A heartbeat was not answered.
    #[error("the server left a heartbeat unanswered for {} ms", timeout.as_millis())]
    Silent {
        /// How long was waited.
        timeout: Duration,
    },
    /// What came is not the protocol: the server's mistake, or it is another server.
    #[error("what the server sent is not corelane's protocol: {0}")]
    NotTheProtocol(&'static str),
}

impl From<EncodeError> for ClientError {
    fn from(error: EncodeError) -> ClientError {
        match error {
            EncodeError::TooLong(too_long) => ClientError::BodyTooLong(too_long),
            EncodeError::Body(error) => ClientError::Message(error),
        }
    }
}

impl ClientError {
    /// The connection broke.
    pub(super) fn broken(error: io::Error) -> ClientError {
        ClientError::Broken(Arc::new(error))
    }

    /// The reason of the ERROR that answers the request, if that is what this is and this code knows
    /// it: `error.reason() == Some(Reason::Overloaded)` is a request to send again later.
    ///
    /// ```
    /// # use corelane::client::{Client, ClientError};
    /// # use corelane::protocol::Reason;
    /// use corelane::protocol::messages::Subscribe;
    ///
    /// /// Whether there was room for it.
    /// fn subscribe(client: &mut Client, topic: &str) -> Result<bool, ClientError> {
    ///     match client.call(&Subscribe { topic }) {
    ///         Ok(_) => Ok(true),
    ///         Err(error) if error.reason() == Some(Reason::Overloaded) => Ok(false),
    ///         Err(error) => Err(error),
    ///     }
    /// }
    /// ```
    pub fn reason(&self) -> Option<Reason> {
        match self {
            ClientError::Refused(refusal) => refusal.reason(),
            _ => None,
        }
    }

    /// What this loss of the connection is to a request that was on its way.
    pub(super) fn of_in_flight(&self) -> ClientError {
        ClientError::Lost {
            cause: Arc::new(self.clone()),
        }
    }
}

/// What the server said in an ERROR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code of the frame that it answers.
    pub answered: u16,
    /// The reason's number: a newer server may know more reasons than this code does.
    pub reason: u16,
    /// For people; may be empty.
    pub text: String,
}

impl Refusal {
    /// The reason, if this code knows it.
    pub fn reason(&self) -> Option<Reason> {
        Reason::from_number(self.reason)
    }

    pub(super) fn parse(body: &[u8]) -> Result<Refusal, BodyError> {
        let body = ErrorBody::parse(body)?;
        Ok(Refusal {
            answered: body.answered,
            reason: body.reason,
            text: body.text.to_owned(),
        })
    }
}

impl std::error::Error for Refusal {}

/// A sentence that a terminal can show.
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = ErrorBody {
            answered: self.answered,
            reason: self.reason,
            text: &self.text,
        };
        let (name, answered) = (body.reason_name(), self.answered);
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        let text: String = self.text.chars().map(shown).collect();
        write!(
            f,
            "the server answered ERROR {name} to code {answered}: {text}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What closes the connection answers no request: whether one may be sent again, it does not say.
    #[test]
    fn only_a_refusal_has_a_reason() {
        let overloaded = Refusal {
            answered: 1000,
            reason: Reason::Overloaded.number(),
            text: String::new(),
        };
        let unknown = Refusal {
            reason: 999,
            ..overloaded.clone()
        };
        let dismissed = ClientError::Dismissed(overloaded.clone());
        assert_eq!(dismissed.of_in_flight().reason(), None);
        assert_eq!(dismissed.reason(), None);
        assert_eq!(ClientError::Refused(unknown).reason(), None);
        let refused = ClientError::Refused(overloaded);
        assert_eq!(refused.reason(), Some(Reason::Overloaded));
    }
}
