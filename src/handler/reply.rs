//! What a handler returns.

use std::borrow::Cow;

use bytes::Bytes;

use crate::protocol::Reason;

/// The outcome of a handler: a reply, an error, or nothing.
#[derive(Debug)]
#[must_use = "a reply is sent by returning it from the handler"]
pub struct Reply(pub(crate) Content);

#[derive(Debug)]
pub(crate) enum Content {
    /// There is nothing to send.
    Nothing,
    /// The frame is in the outbound buffer already.
    Written,
    /// A frame to encode; without a code it goes out under that of the request.
    Frame { code: Option<u16>, body: Bytes },
    /// An ERROR to encode.
    Error {
        reason: Reason,
        text: Cow<'static, str>,
    },
    /// The handler wanted to send a body that no frame can hold.
    TooLong { body_bytes: usize },
}

impl Reply {
    /// Answers with this body under the request's own code.
    pub fn new(body: impl Into<Bytes>) -> Reply {
        Reply(Content::Frame {
            code: None,
            body: body.into(),
        })
    }

    /// Answers with this body under another code.
    pub fn with_code(code: u16, body: impl Into<Bytes>) -> Reply {
        Reply(Content::Frame {
            code: Some(code),
            body: body.into(),
        })
    }

    /// Sends no answer.
    pub fn none() -> Reply {
        Reply(Content::Nothing)
    }

    /// Answers with ERROR. What the server does next is part of the reason: after
    /// [`Reason::BadBody`] the request counts as a bad frame, after [`Reason::Internal`] (among
    /// others) the connection is closed, after [`Reason::Rejected`] it goes on.
    pub fn error(reason: Reason, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply(Content::Error {
            reason,
            text: text.into(),
        })
    }

    #[inline]
    pub(crate) fn is_written(&self) -> bool {
        matches!(self.0, Content::Written)
    }

    pub(crate) fn written() -> Reply {
        Reply(Content::Written)
    }

    pub(crate) fn too_long(body_bytes: usize) -> Reply {
        Reply(Content::TooLong { body_bytes })
    }
}
