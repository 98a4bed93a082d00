//! Answers on their way into a connection's send queue, and which of them end it.

use std::net::SocketAddr;

use crate::handler::panic::Panicked;
use crate::handler::{ConnectionId, Content, Exchange, Reply};
use crate::metrics::{CloseCause, Counters};
use crate::protocol::{HEADER_BYTES, Reason, encode, encode_error};

use super::settings::Settings;

/// What answering one connection's requests takes besides its send queue, `out` below.
pub(super) struct Answers<'a> {
    pub(super) id: ConnectionId,
    pub(super) peer: &'a SocketAddr,
    pub(super) bad_frames: &'a mut u32,
    pub(super) counters: &'a mut Counters,
    pub(super) settings: &'a Settings,
}

/// Header, answered code and reason of an ERROR frame, in bytes: what its text comes on top of.
const ERROR_BYTES: usize = HEADER_BYTES + 4;

impl Answers<'_> {
    /// A synchronous handler has not written its reply to the request of this exchange, but returned
    /// what there is to be said in place of what it may have written from `reply_start` on. Gives the
    /// cause if that ends the connection.
    #[inline(never)]
    pub(super) fn returned(
        &mut self,
        exchange: &mut Exchange,
        reply_start: usize,
    ) -> Option<CloseCause> {
        exchange.out.truncate(reply_start);
        let reply = exchange.returned.take()?;
        self.reply(&mut exchange.out, exchange.code, reply)
    }

    /// Answers a request of this code. Gives the cause if that ends the connection.
    pub(super) fn reply(
        &mut self,
        out: &mut Vec<u8>,
        code: u16,
        reply: Reply,
    ) -> Option<CloseCause> {
        match reply.0 {
            Content::Nothing => None,
            Content::Written => {
                self.counters.frames_sent += 1;
                None
            }
            Content::Frame { code: other, body } => {
                let fits = HEADER_BYTES + body.len() <= self.settings.frame_bytes_max;
                if !fits || encode(out, other.unwrap_or(code), &body).is_err() {
                    return self.too_long(out, code, body.len());
                }
                self.counters.frames_sent += 1;
                None
            }
            Content::Error { reason, text } => {
                self.counters.overloaded_by_handlers += u64::from(reason == Reason::Overloaded);
                self.error(out, code, reason, &text)
            }
            Content::TooLong { body_bytes } => self.too_long(out, code, body_bytes),
        }
    }

    /// Answers with ERROR, and does what its reason asks for.
    pub(super) fn error(
        &mut self,
        out: &mut Vec<u8>,
        answered: u16,
        reason: Reason,
        text: &str,
    ) -> Option<CloseCause> {
        if self.settings.reply_errors {
            let room = self.settings.frame_bytes_max.saturating_sub(ERROR_BYTES);
            encode_error(
                out,
                answered,
                reason,
                &text[..text.floor_char_boundary(room)],
            );
            self.counters.frames_sent += 1;
        }
        if reason == Reason::BadLength {
            self.counters.count_bad_frame(reason);
            return Some(CloseCause::BadLength);
        }
        if reason.is_bad_frame() {
            self.counters.count_bad_frame(reason);
            *self.bad_frames += 1;
            return (*self.bad_frames >= self.settings.bad_frames_max)
                .then_some(CloseCause::BadFrames);
        }
        reason.closes().then_some(CloseCause::HandlerFailed)
    }

    /// Answers a request whose code has no handler.
    #[cold]
    pub(super) fn unknown_code(&mut self, out: &mut Vec<u8>, code: u16) -> Option<CloseCause> {
        let text = format!("unknown message code {code}");
        self.error(out, code, Reason::UnknownCode, &text)
    }

    /// Turns a request away: too many handlers are at work.
    #[cold]
    pub(super) fn overloaded(&mut self, out: &mut Vec<u8>, code: u16) -> Option<CloseCause> {
        self.counters.overloaded += 1;
        let text = "too many requests are at work";
        self.error(out, code, Reason::Overloaded, text)
    }

    /// Answers the frame with this code that is more than `[flood]` allows.
    #[cold]
    pub(super) fn flooded(&mut self, out: &mut Vec<u8>, code: u16) -> CloseCause {
        let text = "more frames came than flood.frames_per_second and flood.burst allow";
        self.last_word(out, code, Reason::RateLimited, text);
        CloseCause::Flood
    }

    /// Tells a peer why its connection ends, whose cause is known already.
    pub(super) fn last_word(
        &mut self,
        out: &mut Vec<u8>,
        answered: u16,
        reason: Reason,
        text: &str,
    ) {
        let _of_the_reason_alone = self.error(out, answered, reason, text);
    }

    /// Answers a request whose handler panicked.
    pub(super) fn panicked(
        &mut self,
        out: &mut Vec<u8>,
        code: u16,
        panicked: &Panicked,
    ) -> CloseCause {
        self.counters.handler_panics += 1;
        tracing::error!(
            connection = %self.id,
            peer = %self.peer,
            code,
            panic = panicked.message,
            backtrace = panicked.backtrace,
            "a handler panicked; its connection is closed"
        );
        self.failed(out, code);
        CloseCause::HandlerPanic
    }

    fn too_long(&mut self, out: &mut Vec<u8>, code: u16, body_bytes: usize) -> Option<CloseCause> {
        tracing::error!(
            connection = %self.id,
            peer = %self.peer,
            code,
            body_bytes,
            frame_bytes_max = self.settings.frame_bytes_max,
            "a handler's reply does not fit a frame; its connection is closed"
        );
        self.failed(out, code)
    }

    fn failed(&mut self, out: &mut Vec<u8>, code: u16) -> Option<CloseCause> {
        let text = format!("the handler of message code {code} failed");
        self.error(out, code, Reason::Internal, &text)
    }
}
