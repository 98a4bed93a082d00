//! What a handler is told about its request, and how it answers.

use std::fmt;

use bytes::Bytes;

use super::reply::Reply;
use crate::protocol::{
    BodyTooLong, BodyWriter, HEADER_BYTES, encode_unsealed, encode_with_unsealed,
};

/// Names one connection for as long as the server runs. When the connection is gone, its id is
/// never given to another one, although its slot is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    pub(crate) shard: u16,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    /// The shard that the connection lives on.
    pub fn shard(self) -> usize {
        usize::from(self.shard)
    }
}

/// Shard, slot and generation, like `0-17-3`.
impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.shard, self.slot, self.generation)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One request, for a synchronous handler: where it came from and the way to answer.
///
/// Answering consumes it, so there is at most one reply to a request.
//
// One pointer, so that it travels to the handler in a register: copied through memory, it costs
// 3% of a small message.
#[derive(Debug)]
pub struct Context<'a>(pub(crate) &'a mut Exchange);

/// What the requests of one connection have in common, and which of them is being handled.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) connection: ConnectionId,
    pub(crate) code: u16,
    pub(crate) frame_bytes_max: u16,
    /// The connection's outbound buffer. Replies stand there without their checksums, unless they are
    /// large: whoever runs the handlers seals them.
    pub(crate) out: Vec<u8>,
    /// What a synchronous handler has returned, unless its reply is written.
    pub(crate) returned: Option<Reply>,
}

impl Context<'_> {
    /// The connection that the request came on.
    pub fn connection(&self) -> ConnectionId {
        self.0.connection
    }

    /// The request's message code.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// Answers with this body under the request's own code. Nothing is allocated: the frame goes
    /// straight into the connection's outbound buffer.
    ///
    /// A body that does not fit a frame of `limits.max_frame_bytes` is a failure of the handler:
    /// the connection gets ERROR INTERNAL and is closed.
    // As `encode` is: else there is one function for all handlers, which each calls through another.
    #[expect(clippy::inline_always, reason = "measured")]
    #[inline(always)]
    pub fn reply(self, body: &[u8]) -> Reply {
        let code = self.0.code;
        self.reply_as(code, body)
    }

    /// The same under another code.
    #[expect(clippy::inline_always, reason = "measured")]
    #[inline(always)]
    pub fn reply_as(self, code: u16, body: &[u8]) -> Reply {
        match encode_unsealed(self.0.frame_bytes_max, &mut self.0.out, code, body) {
            Ok(()) => Reply::written(),
            Err(BodyTooLong { body_bytes }) => Reply::too_long(body_bytes),
        }
    }

    /// Answers under `code` with a body that `write` puts together in place.
    #[inline]
    pub fn reply_with(self, code: u16, write: impl FnOnce(&mut BodyWriter<'_>)) -> Reply {
        let start = self.0.out.len();
        match encode_with_unsealed(&mut self.0.out, code, write) {
            Ok(()) => {
                let frame_bytes = self.0.out.len() - start;
                if frame_bytes <= usize::from(self.0.frame_bytes_max) {
                    return Reply::written();
                }
                self.0.out.truncate(start);
                Reply::too_long(frame_bytes - HEADER_BYTES)
            }
            Err(BodyTooLong { body_bytes }) => Reply::too_long(body_bytes),
        }
    }
}

/// One request, for an asynchronous handler: owned, so that it may outlive the bytes it arrived in.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) connection: ConnectionId,
    pub(crate) code: u16,
    pub(crate) body: Bytes,
}

impl Request {
    /// The connection that the request came on. It may be gone when the handler finishes; its
    /// reply is then dropped and counted.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The request's message code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The request's body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The request's body, owned; for instance to send it back.
    pub fn into_body(self) -> Bytes {
        self.body
    }
}
