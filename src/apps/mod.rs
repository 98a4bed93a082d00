//! The handlers that ship with corelane. They are written on the public handler API, for any state.

pub mod accounts;
pub mod topics;

use crate::handler::{Context, Reply};
use crate::protocol::Reason;

/// PING: an empty body, answered with an empty body.
pub fn ping<S>(_state: &S, context: Context<'_>, body: &[u8]) -> Reply {
    if body.is_empty() {
        context.reply(&[])
    } else {
        Reply::error(Reason::BadBody, "a PING has no body")
    }
}

/// ECHO: any body, answered with the same bytes.
// Left to itself, the compiler puts a call of its own between the table and this: 1% of a message.
#[expect(clippy::inline_always, reason = "measured")]
#[inline(always)]
pub fn echo<S>(_state: &S, context: Context<'_>, body: &[u8]) -> Reply {
    context.reply(body)
}
