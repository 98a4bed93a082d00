//! Users of the service: what they do goes through the crate's client, as in a program of theirs.
//! What a client never does (a half frame, a reset, not to read) is a [`Peer`](super::peer::Peer)'s.

use std::net::SocketAddr;

use corelane::client::{Client, ClientError};
use corelane::protocol::Reason;
use corelane::protocol::messages::{Echo, Ping};

use super::waiting::DEADLINE;

/// Connects a client that waits until the deadline.
#[track_caller]
pub(crate) fn connect(address: SocketAddr) -> Client {
    Client::connect(address, DEADLINE).unwrap()
}

/// Asserts that the server refused the request for this reason; gives back its text.
#[track_caller]
pub(crate) fn refused<T>(outcome: Result<T, ClientError>, reason: Reason) -> String {
    match outcome {
        Err(ClientError::Refused(refusal)) => {
            assert_eq!(refusal.reason(), Some(reason), "{refusal}");
            refusal.text
        }
        Err(error) => panic!("{reason:?} was to come, not: {error}"),
        Ok(_) => panic!("{reason:?} was to come, but the request was carried out"),
    }
}

/// What a test does with a client and asserts of it.
pub(crate) trait User {
    /// Sends a request; gives back the body of its reply, which has the same code.
    #[track_caller]
    fn ask(&mut self, code: u16, body: &[u8]) -> Vec<u8>;

    /// Asserts that this request is refused for this reason; gives back the text.
    #[track_caller]
    fn ask_in_vain(&mut self, code: u16, body: &[u8], reason: Reason) -> String;

    /// Asserts that the reply to the oldest request that was sent is this one.
    #[track_caller]
    fn expect(&mut self, code: u16, body: &[u8]);

    /// Asserts that the reply to the oldest request that was sent is ERROR for this reason; gives
    /// back its text.
    #[track_caller]
    fn expect_refusal(&mut self, code: u16, reason: Reason) -> String;

    /// Asserts that this push is next.
    #[track_caller]
    fn expect_push(&mut self, code: u16, body: &[u8]);

    /// Asserts that the server ends the connection here, in good order and without a word.
    #[track_caller]
    fn expect_end(&mut self);

    /// Asserts that an ECHO comes back: the server serves this connection.
    #[track_caller]
    fn echo(&mut self, body: &[u8]);

    /// Asserts that a PING comes back: the server serves this connection.
    #[track_caller]
    fn ping(&mut self);
}

impl User for Client {
    fn ask(&mut self, code: u16, body: &[u8]) -> Vec<u8> {
        let reply = self.request(code, body).unwrap();
        assert_eq!(reply.code, code, "{reply:?}");
        reply.body
    }

    fn ask_in_vain(&mut self, code: u16, body: &[u8], reason: Reason) -> String {
        self.send(code, body).unwrap();
        self.expect_refusal(code, reason)
    }

    fn expect(&mut self, code: u16, body: &[u8]) {
        let reply = self.reply();
        let matches = reply
            .as_ref()
            .is_ok_and(|reply| reply.code == code && reply.body == body);
        let shown = &body[..body.len().min(80)];
        assert!(
            matches,
            "code {code} and {shown:?} were to come, not {reply:?}"
        );
    }

    fn expect_refusal(&mut self, code: u16, reason: Reason) -> String {
        let outcome = self.reply();
        if let Err(ClientError::Refused(refusal)) = &outcome {
            assert_eq!(refusal.answered, code, "{refusal}");
        }
        refused(outcome, reason)
    }

    fn expect_push(&mut self, code: u16, body: &[u8]) {
        let push = self.push().unwrap();
        assert_eq!(push.code, code, "{push:?}");
        let shown = &body[..body.len().min(80)];
        assert!(push.body == body, "{shown:?} was to come, not {push:?}");
        assert_eq!(push.lost_before, 0, "the test takes too few");
    }

    fn expect_end(&mut self) {
        let end = self.push();
        assert!(matches!(end, Err(ClientError::Closed)), "{end:?}");
    }

    fn echo(&mut self, body: &[u8]) {
        let echo = self.call(&Echo { bytes: body }).unwrap();
        assert!(echo.message().bytes == body, "{echo:?}");
    }

    fn ping(&mut self) {
        assert_eq!(self.call(&Ping {}).unwrap().message(), Ping {});
    }
}
