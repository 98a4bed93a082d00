//! From received bytes to handlers: the way of a message.

use std::rc::Rc;

use bytes::Bytes;

use super::Shard;
use super::answers::Answers;
use super::connection::Connection;
use super::io::{Io, Operation};
use crate::handler::panic::caught;
use crate::handler::{ConnectionId, Context, Exchange, Handler, HandlerTask, Request};
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
        let mut exchange = Exchange {
            connection: id,
            code: 0,
            frame_bytes_max: self.settings.frame_bytes_max,
            out: outbound.take_queue(&mut self.spare),
        };
        let mut answers = Answers {
            bad_frames,
            counters: &mut self.counters,
            settings: &self.settings,
        };
        let mut reply_start = exchange.out.len();
        // Panics are caught around all frames of a slice, not around each: it is the handler at
        // work that panics, and the replies before its own are whole.
        let outcome = caught(|| {
            let mut frames = decoder.frames(slice, self.settings.frame_bytes_max);
            loop {
                if exchange.out.len() + in_flight_bytes >= self.settings.outbound_high_bytes {
                    return Halt::Paused;
                }
                let frame = match frames.next() {
                    Some(Decoded::Whole(frame)) => frame,
                    None | Some(Decoded::Incomplete { .. }) => return Halt::Starved,
                    Some(bad) => match refuse(&mut answers, &mut exchange.out, &bad) {
                        Some(cause) => return Halt::Ended(cause),
                        None => continue,
                    },
                };
                answers.counters.frames_received += 1;
                exchange.code = frame.code;
                reply_start = exchange.out.len();
                let end = match self.router.get(frame.code) {
                    Some(Handler::Sync(handler)) => {
                        let reply = handler(&self.state, Context(&mut exchange), frame.body);
                        if !reply.is_written() {
                            // A handler may have written one and changed its mind.
                            exchange.out.truncate(reply_start);
                        }
                        answers.reply(&mut exchange.out, frame.code, reply)
                    }
                    Some(Handler::Async(_)) if self.handlers >= self.settings.handlers_max => {
                        answers.counters.overloaded += 1;
                        answers.error(
                            &mut exchange.out,
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
                        answers.error(&mut exchange.out, frame.code, Reason::UnknownCode, &text)
                    }
                };
                if let Some(cause) = end {
                    return Halt::Ended(cause);
                }
            }
        });
        let halt = outcome.unwrap_or_else(|panicked| {
            exchange.out.truncate(reply_start);
            Halt::Ended(answers.panicked(&mut exchange.out, exchange.code, &panicked))
        });
        connection.outbound.put_queue(exchange.out, &mut self.spare);
        match halt {
            Halt::Starved => {}
            Halt::Paused => connection.paused = true,
            Halt::Handling => connection.handling = true,
            Halt::Ended(cause) => self.end(id, cause),
        }
    }
}

/// Answers what is no good frame.
fn refuse(answers: &mut Answers<'_>, out: &mut Vec<u8>, bad: &Decoded<'_>) -> Option<CloseCause> {
    match *bad {
        Decoded::BadChecksum { code, .. } => {
            answers.counters.frames_received += 1;
            answers.error(
                out,
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
            answers.error(out, code, Reason::BadLength, &text)
        }
        Decoded::Whole(_) | Decoded::Incomplete { .. } => None,
    }
}
