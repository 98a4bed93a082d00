//! From received bytes to handlers: the way of a message.

use std::rc::Rc;

use bytes::Bytes;

use super::Shard;
use super::answers::Answers;
use super::connection::Connection;
use super::io::{Io, Operation};
use crate::handler::panic::caught;
use crate::handler::{ConnectionId, Context, Handler, HandlerTask, Request};
use crate::metrics::CloseCause;
use crate::protocol::{Decoded, Reason};

/// Why the handling of a connection's frames came to a halt.
enum Halt {
    /// The next frame is not whole yet.
    Starved,
    /// Too much is queued.
    Paused,
    /// An asynchronous handler is at work.
    Handling,
    /// The connection is to end.
    Ended(CloseCause),
}

/// The request that is being handled, for the case that its handler panics.
struct AtWork {
    code: u16,
    /// Where its reply begins in the outbound buffer.
    reply_start: usize,
}

impl<I: Io, S: 'static> Shard<I, S> {
    /// Handles the frames that wait on a connection and those in `slice` behind them, as many as
    /// may be handled now; the rest waits.
    pub(super) fn handle_frames(&mut self, id: ConnectionId, slice: &[u8]) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let Connection {
            decoder,
            outbound,
            bad_frames,
            ..
        } = connection;
        let in_flight_bytes = outbound.in_flight_bytes();
        let mut answers = Answers {
            out: outbound.tail(&mut self.spare),
            bad_frames,
            counters: &mut self.counters,
            settings: &self.settings,
        };
        let mut at_work = AtWork {
            code: 0,
            reply_start: answers.out.len(),
        };
        // Panics are caught around all frames of a slice, not around each: it is the handler at
        // work that panics, and the replies before its own are whole.
        let outcome = caught(|| {
            let mut frames = decoder.frames(slice, self.settings.frame_bytes_max);
            loop {
                if answers.out.len() + in_flight_bytes >= self.settings.outbound_high_bytes {
                    return Halt::Paused;
                }
                let frame = match frames.next() {
                    Some(Decoded::Whole(frame)) => frame,
                    None | Some(Decoded::Incomplete { .. }) => return Halt::Starved,
                    Some(bad) => match refuse(&mut answers, &bad) {
                        Some(cause) => return Halt::Ended(cause),
                        None => continue,
                    },
                };
                answers.counters.frames_received += 1;
                at_work.code = frame.code;
                at_work.reply_start = answers.out.len();
                let end = match self.router.get(frame.code) {
                    Some(Handler::Sync(handler)) => {
                        let context = Context {
                            connection: id,
                            code: frame.code,
                            frame_bytes_max: self.settings.frame_bytes_max,
                            out: answers.out,
                        };
                        let reply = handler(&self.state, context, frame.body);
                        answers.reply(frame.code, reply)
                    }
                    Some(Handler::Async(_)) if self.handlers >= self.settings.handlers_max => {
                        answers.counters.overloaded += 1;
                        answers.error(
                            frame.code,
                            Reason::Overloaded,
                            "too many requests are at work",
                        )
                    }
                    Some(Handler::Async(handler)) => {
                        let request = Request {
                            connection: id,
                            code: frame.code,
                            body: Bytes::copy_from_slice(frame.body),
                        };
                        let future = handler(Rc::clone(&self.state), request);
                        self.io.submit(Operation::Handle {
                            id,
                            task: HandlerTask::new(frame.code, future),
                        });
                        self.handlers += 1;
                        return Halt::Handling;
                    }
                    None => {
                        let text = format!("unknown message code {}", frame.code);
                        answers.error(frame.code, Reason::UnknownCode, &text)
                    }
                };
                if let Some(cause) = end {
                    return Halt::Ended(cause);
                }
            }
        });
        let halt = outcome.unwrap_or_else(|panicked| {
            answers.out.truncate(at_work.reply_start);
            Halt::Ended(answers.panicked(at_work.code, &panicked))
        });
        match halt {
            Halt::Starved => {}
            Halt::Paused => connection.paused = true,
            Halt::Handling => connection.handling = true,
            Halt::Ended(cause) => self.end(id, cause),
        }
    }
}

/// Answers what is no good frame.
fn refuse(answers: &mut Answers<'_>, bad: &Decoded<'_>) -> Option<CloseCause> {
    match *bad {
        Decoded::BadChecksum { code, .. } => {
            answers.counters.frames_received += 1;
            answers.error(
                code,
                Reason::BadChecksum,
                "the checksum does not match the body",
            )
        }
        Decoded::BadLength { code, length } => {
            let text = format!(
                "a length of {length} is not between 8 and {}",
                answers.settings.frame_bytes_max
            );
            answers.error(code, Reason::BadLength, &text)
        }
        Decoded::Whole(_) | Decoded::Incomplete { .. } => None,
    }
}
