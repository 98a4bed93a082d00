//! What comes from a server: replies and pushes, as bytes and as declared messages.

use std::marker::PhantomData;

use super::error::{ClientError, Refusal};
use crate::protocol::{Message, codes};

/// A frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The message code.
    pub code: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The frame as the message `M`.
    ///
    /// # Errors
    ///
    /// [`ClientError::OtherCode`], [`ClientError::NotTheMessage`].
    pub fn message<M: Message>(&self) -> Result<M::In<'_>, ClientError> {
        decode::<M>(self.code, &self.body)
    }

    /// The reply, unless it is ERROR.
    pub(super) fn unless_refused(self) -> Result<Reply, ClientError> {
        if self.code != codes::ERROR {
            return Ok(self);
        }
        match Refusal::parse(&self.body) {
            Ok(refusal) => Err(ClientError::Refused(refusal)),
            Err(error) => Err(ClientError::NotTheMessage(error)),
        }
    }
}

/// A reply that is the message `M`; it owns the bytes that the message borrows from.
#[derive(Clone, Debug)]
pub struct Answer<M> {
    reply: Reply,
    is: PhantomData<fn() -> M>,
}

impl<M: Message> Answer<M> {
    pub(super) fn check(reply: Reply) -> Result<Answer<M>, ClientError> {
        reply.message::<M>()?;
        Ok(Answer {
            reply,
            is: PhantomData,
        })
    }

    /// The message.
    pub fn message(&self) -> M::In<'_> {
        match M::decode(&self.reply.body) {
            Ok(message) => message,
            Err(error) => unreachable!("the same bytes were the message when they came: {error}"),
        }
    }

    /// The reply as it came.
    pub fn into_reply(self) -> Reply {
        self.reply
    }
}

/// What the server sent on its own: EVENT, GOAWAY, a code of
/// [`Options::push_code`](super::Options::push_code), or an ERROR that answers no request, like
/// TIMED_OUT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The message code.
    pub code: u16,
    /// The body.
    pub body: Vec<u8>,
    /// How many pushes were dropped right before this one, because
    /// [`Options::pushes_waiting_max`](super::Options::pushes_waiting_max) of them waited.
    pub lost_before: u64,
}

impl Push {
    /// The push as the message `M`.
    ///
    /// # Errors
    ///
    /// [`ClientError::OtherCode`], [`ClientError::NotTheMessage`].
    pub fn message<M: Message>(&self) -> Result<M::In<'_>, ClientError> {
        decode::<M>(self.code, &self.body)
    }
}

fn decode<M: Message>(code: u16, body: &[u8]) -> Result<M::In<'_>, ClientError> {
    if code != M::CODE {
        return Err(ClientError::OtherCode {
            expected: M::CODE,
            code,
        });
    }
    M::decode(body).map_err(ClientError::NotTheMessage)
}
