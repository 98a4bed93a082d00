//! The messages that the protocol itself defines, by their codes in [`codes`].
//!
//! A request names what it is answered with, as `reply`.

use super::codes;
use super::errors::Reason;
use super::field::{Counted, Padded, Text, Zeros};
use super::message::{BodyError, Message};
use super::secret::Secret;

#[cfg(test)]
mod tests;

/// The longest topic, in bytes.
pub const TOPIC_BYTES_MAX: usize = 64;

message! {
    /// PING, in both directions: nothing but a sign of life.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Ping(code = codes::PING, reply = Ping) {}
}

message! {
    /// ECHO, in both directions: the reply has the request's bytes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Echo<'a>(code = codes::ECHO, reply = Echo<'static>) {
        /// Any.
        pub bytes: &'a [u8],
    }
}

message! {
    /// ERROR, to a client: a request failed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ErrorBody<'a>(code = codes::ERROR) {
        /// The code of the frame that it answers.
        pub answered: u16,
        /// The reason's number: a newer server may know more reasons than this code does.
        pub reason: u16,
        /// For people; may be empty.
        pub text: &'a str,
    }
}

impl<'a> ErrorBody<'a> {
    /// Reads the body of an ERROR frame.
    ///
    /// # Errors
    ///
    /// [`BodyError`] if it is too short or its text is not UTF-8.
    pub fn parse(body: &'a [u8]) -> Result<ErrorBody<'a>, BodyError> {
        ErrorBody::decode(body)
    }

    /// The reason's name, or its number where the name is not known.
    pub fn reason_name(&self) -> String {
        Reason::from_number(self.reason).map_or_else(
            || self.reason.to_string(),
            |reason| reason.name().to_owned(),
        )
    }
}

message! {
    /// GOAWAY, to a client: the server drains.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct GoAway(code = codes::GOAWAY) {
        /// Until the server closes the connection, in milliseconds.
        pub closes_in_ms: u32,
    }
}

message! {
    /// REGISTER, to a server: a new account.
    #[derive(Debug)]
    pub struct Register<'a>(code = codes::REGISTER, reply = Registered<'static>) {
        /// The account's type: the application's own number.
        pub kind: i32,
        /// At most 55 bytes.
        pub username: &'a str as Padded<56>,
        /// At most 39 bytes.
        pub password: Secret<40>,
    }
}

message! {
    /// The reply to REGISTER: there is an account now.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Registered<'a>(code = codes::REGISTER) {
        /// As in the request.
        pub kind: i32,
        /// As in the request.
        pub username: &'a str as Padded<56>,
        /// It never travels back: all zero.
        pub password: () as Zeros<40>,
    }
}

message! {
    /// LOGIN, to a server.
    #[derive(Debug)]
    pub struct Login<'a>(code = codes::LOGIN, reply = LoggedIn<'static>) {
        /// At most 55 bytes.
        pub username: &'a str as Padded<56>,
        /// At most 39 bytes.
        pub password: Secret<40>,
    }
}

message! {
    /// The reply to LOGIN.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LoggedIn<'a>(code = codes::LOGIN) {
        /// As in the request.
        pub username: &'a str as Padded<56>,
        /// It never travels back: all zero.
        pub password: () as Zeros<40>,
    }
}

message! {
    /// SUBSCRIBE: the topic's events are wanted. The reply repeats it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Subscribe<'a>(code = codes::SUBSCRIBE, reply = Subscribe<'static>) {
        /// 1 to 64 bytes, the whole body.
        pub topic: &'a str as Text<1, TOPIC_BYTES_MAX>,
    }
}

message! {
    /// UNSUBSCRIBE: the topic's events are wanted no more. The reply repeats it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Unsubscribe<'a>(code = codes::UNSUBSCRIBE, reply = Unsubscribe<'static>) {
        /// 1 to 64 bytes, the whole body.
        pub topic: &'a str as Text<1, TOPIC_BYTES_MAX>,
    }
}

message! {
    /// PUBLISH, to a server: an event for all who have subscribed to the topic.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Publish<'a>(code = codes::PUBLISH, reply = Published) {
        /// 1 to 64 bytes, as in SUBSCRIBE.
        pub topic: &'a str as Counted<1, TOPIC_BYTES_MAX>,
        /// Any bytes: the rest of the body.
        pub payload: &'a [u8],
    }
}

message! {
    /// The reply to PUBLISH.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Published(code = codes::PUBLISH) {
        /// How many connections it was queued for.
        pub receivers: u32,
    }
}

message! {
    /// EVENT, to a client: what somebody has published.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Event<'a>(code = codes::EVENT) {
        /// A topic that the client has subscribed to.
        pub topic: &'a str as Counted<1, TOPIC_BYTES_MAX>,
        /// As it was published.
        pub payload: &'a [u8],
    }
}
