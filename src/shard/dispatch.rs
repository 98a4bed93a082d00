//! From received bytes to handlers: the way of a message.

use std::cell::Cell;
use std::hint::cold_path;
use std::rc::Rc;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::Shard;
use super::answers::Answers;
use super::connection::Phase;
use super::io::{Io, Operation};
use super::streak::{Progress, Streak};
use crate::handler::panic::caught;
use crate::handler::{ConnectionId, Exchange, Handler, HandlerTask, Request};
use crate::metrics::CloseCause;
use crate::protocol::{Ahead, Decoded, Frame, HEADER_BYTES, Reason, decode, seal};

/// Why the handling of a connection's frames came to a halt.
#[derive(Clone, Copy)]
enum Halt {
    /// The next frame is not whole yet.
    Starved,
    /// Too much is queued.
    Paused,
    /// The connection has had its share of this turn.
    Spent,
    /// An asynchronous handler is at work on a request with this code.
    Handling(u16),
    /// The connection is to end.
    Ended(CloseCause),
}

/// In place of the code of the frame before the first.
const NO_CODE: u32 = u32::MAX;

impl<I: Io, S: 'static> Shard<I, S> {
    /// Handles the frames that wait on a connection and those in `slice` behind them, as many as
    /// may be handled now; the rest waits. Says whether there may be secrets in the slice.
    #[expect(
        clippy::too_many_lines,
        reason = "the way of a message in one piece: its parts share what is in registers"
    )]
    pub(super) fn handle_frames(&mut self, id: ConnectionId, slice: &[u8]) -> bool {
        let high_bytes = self.high_bytes();
        let frame_bytes_max = self.settings.frame_bytes_max;
        let Some(connection) = self.connections.get_mut(id) else {
            return true;
        };
        connection.renew_bucket(self.flood_limit);
        let mut share = connection.share.left_of(self.share);
        let queue_bytes_max = high_bytes.saturating_sub(connection.outbound.ahead_bytes());
        let mut exchange = Exchange {
            connection: id,
            code: 0,
            frame_bytes_max: u16::try_from(frame_bytes_max).unwrap_or(u16::MAX),
            out: connection.outbound.take_queue(&mut self.spare),
            returned: None,
        };
        let mut answers = Answers {
            id,
            peer: &connection.peer,
            bad_frames: &mut connection.bad_frames,
            counters: &mut self.counters,
            settings: &self.settings,
        };
        let queue_start = exchange.out.len();
        let frames_sent_before = answers.counters.frames_sent;
        let progress = Progress {
            frames_taken: Cell::new(0),
            reply_start: Cell::new(queue_start),
            uncounted: Cell::new(0),
        };
        let has_secrets = Cell::new(false);
        let since_us = connection.waits_since_us.min(self.now_us);
        // Panics are caught around all frames of a slice, not around each: it is the handler at
        // work that panics, and the replies before its own are whole.
        let outcome = caught(|| {
            // What the loop goes by is its own, so that it stays in registers. What outlives a
            // panic is written down before each call of a handler. How far the slice is taken does
            // not: the connection ends.
            let flood = answers.settings.flood;
            let (router, state) = (&self.router, &*self.state);
            let (pulse, recorder) = (&*self.pulse, &mut self.recorder);
            pulse.serve(id);
            let mut latest_code = NO_CODE;
            // Looked up once for each run of one code.
            let mut latest_handler = None;
            let mut frames = connection.decoder.frames(slice, frame_bytes_max);
            // Where most frames are: a slice by itself stays in registers.
            let mut ahead = Ahead::new(frames.rest_of_slice());
            let (mut left, mut taken) = (share, 0);
            let halt = loop {
                if exchange.out.len() >= queue_bytes_max {
                    break Halt::Paused;
                }
                if left.is_spent() {
                    break Halt::Spent;
                }
                if ahead.rest().is_empty() && frames.holds_nothing() {
                    // As `frames` would find by a longer way, once for each slice.
                    break Halt::Starved;
                }
                if flood.is_none()
                    && let Some(Handler::Sync(handler)) = latest_handler
                    && ahead.checked().code() == Some(exchange.code)
                {
                    progress.frames_taken.set(taken);
                    let streak = Streak {
                        handler,
                        state,
                        exchange: &mut exchange,
                        progress: &progress,
                        queue_bytes_max,
                    };
                    let streaked = streak.handle(ahead.checked(), left);
                    ahead.skip_to(streaked.left);
                    left = streaked.share;
                    taken = progress.frames_taken.get();
                    let replies = progress.uncounted.take();
                    answers.counters.frames_sent += u64::from(replies);
                    recorder.handled(replies);
                    if streaked.is_answered {
                        continue;
                    }
                    cold_path();
                    let end = answers.returned(&mut exchange, progress.reply_start.get());
                    recorder.handled(1);
                    match end {
                        Some(cause) => break Halt::Ended(cause),
                        None => continue,
                    }
                }
                let frame = if let Some(frame) = ahead.take_small(frame_bytes_max) {
                    frame
                } else if let Decoded::Whole(frame) = decode(ahead.rest(), frame_bytes_max) {
                    ahead = Ahead::new(&ahead.rest()[HEADER_BYTES + frame.body.len()..]);
                    frame
                } else {
                    frames.skip_to(ahead.rest());
                    let (next, rest) = frames.next_and_rest();
                    ahead = Ahead::new(rest);
                    match next {
                        Some(Decoded::Whole(frame)) => frame,
                        None | Some(Decoded::Incomplete { .. }) => break Halt::Starved,
                        Some(bad) => {
                            cold_path();
                            taken += u64::from(bad.frame_bytes() > 0);
                            left.take(bad.frame_bytes());
                            let floods = connection.bucket.floods(flood, since_us, self.now_us);
                            has_secrets.set(has_secrets.get() | router.is_secret(bad.code()));
                            match refuse(&mut answers, &mut exchange.out, &bad, floods) {
                                Some(cause) => break Halt::Ended(cause),
                                None => continue,
                            }
                        }
                    }
                };
                taken += 1;
                left.take(HEADER_BYTES + frame.body.len());
                if connection.bucket.floods(flood, since_us, self.now_us) {
                    cold_path();
                    has_secrets.set(has_secrets.get() | router.is_secret(frame.code));
                    break Halt::Ended(answers.flooded(&mut exchange.out, frame.code));
                }
                exchange.code = frame.code;
                if latest_code != u32::from(frame.code) {
                    latest_code = frame.code.into();
                    pulse.handle(frame.code);
                    recorder.begin(frame.code);
                    latest_handler = router.get(frame.code);
                }
                progress.reply_start.set(exchange.out.len());
                progress.frames_taken.set(taken);
                let end = match latest_handler {
                    Some(Handler::Sync(handler)) => {
                        let is_written = handler(state, &mut exchange, frame.body);
                        if is_written {
                            answers.counters.frames_sent += 1;
                            recorder.handled(1);
                            continue;
                        }
                        cold_path();
                        answers.returned(&mut exchange, progress.reply_start.get())
                    }
                    Some(Handler::Secret(handler)) => {
                        cold_path();
                        has_secrets.set(true);
                        if handler(state, &mut exchange, frame.body) {
                            answers.counters.frames_sent += 1;
                            None
                        } else {
                            answers.returned(&mut exchange, progress.reply_start.get())
                        }
                    }
                    Some(Handler::Async(_)) if self.handlers >= answers.settings.handlers_max => {
                        cold_path();
                        has_secrets.set(has_secrets.get() | router.is_secret(frame.code));
                        answers.overloaded(&mut exchange.out, frame.code)
                    }
                    Some(Handler::Async(handler)) => {
                        // Not rare everywhere, but it costs a task anyway: what counts is the loop.
                        cold_path();
                        let is_secret = router.is_secret(frame.code);
                        has_secrets.set(has_secrets.get() | is_secret);
                        let request = request(id, frame, is_secret);
                        let future = handler(Rc::clone(&self.state), request);
                        let task = HandlerTask::new(frame.code, future);
                        self.io.submit(Operation::Handle { id, task });
                        self.handlers += 1;
                        break Halt::Handling(frame.code);
                    }
                    None => {
                        cold_path();
                        has_secrets.set(has_secrets.get() | router.is_secret(frame.code));
                        answers.unknown_code(&mut exchange.out, frame.code)
                    }
                };
                recorder.handled(1);
                if let Some(cause) = end {
                    break Halt::Ended(cause);
                }
            };
            frames.skip_to(ahead.rest());
            progress.frames_taken.set(taken);
            share = left;
            halt
        });
        let halt = outcome.unwrap_or_else(|panicked| {
            let replies = progress.uncounted.take();
            answers.counters.frames_sent += u64::from(replies);
            self.recorder.handled(replies);
            exchange.out.truncate(progress.reply_start.get());
            Halt::Ended(answers.panicked(&mut exchange.out, exchange.code, &panicked))
        });
        seal(&mut exchange.out[queue_start..]);
        self.pulse.rest();
        connection.share = share;
        let frames_sent = self.counters.frames_sent - frames_sent_before;
        let frames_received = progress.frames_taken.get();
        self.counters.frames_received += frames_received;
        connection.note_served(
            (&mut self.recorder, &mut self.spare),
            (exchange.out, queue_start),
            (frames_received, frames_sent),
            (since_us, self.now_us),
        );
        if let Halt::Starved = halt
            && connection.decoder.held_bytes() == 0
            && connection.outbound.bytes() <= self.settings.outbound_bytes_max
        {
            // Mostly: nothing waits, on either side.
            connection.waits_since_us = u64::MAX;
            return has_secrets.get();
        }
        self.halt(id, halt, frames_received) | has_secrets.get()
    }

    /// Keeps what has come while nothing may be handled, for as long as it may be handled some
    /// time. Says whether there may be secrets in it.
    pub(super) fn hold(&mut self, id: ConnectionId, slice: &[u8]) -> bool {
        let router = &self.router;
        let Some(connection) = self.connections.get_mut(id) else {
            return router.has_secrets();
        };
        if connection.phase != Phase::Open {
            return router.has_secrets();
        }
        connection.decoder.hold(slice);
        connection.waits_since_us = connection.waits_since_us.min(self.now_us);
        let may_have_secrets = router.has_secrets()
            && connection
                .decoder
                .may_hold(self.settings.frame_bytes_max, |code| router.is_secret(code));
        if may_have_secrets {
            connection.decoder.guard();
        }
        may_have_secrets
    }

    /// Bytes queued from which on a connection is paused. Short of memory, nobody gets a second
    /// reply before having taken the first.
    fn high_bytes(&self) -> usize {
        if self.ledger.has_room(0) {
            self.settings.outbound_high_bytes
        } else {
            1
        }
    }

    /// Says whether there may be secrets in what is left to wait.
    #[inline(never)]
    fn halt(&mut self, id: ConnectionId, halt: Halt, frames: u64) -> bool {
        let Some(connection) = self.connections.get_mut(id) else {
            return true;
        };
        // Without any, what is queued is no more than before.
        let is_beyond_max =
            frames > 0 && connection.outbound.bytes() > self.settings.outbound_bytes_max;
        let since_us = connection.waits_since_us.min(self.now_us);
        // What comes later has not waited until then.
        let has_waiting = connection.decoder.held_bytes() > 0;
        let router = &self.router;
        let leaves_secrets = has_waiting
            && router.has_secrets()
            && connection
                .decoder
                .may_hold(self.settings.frame_bytes_max, |code| router.is_secret(code));
        if leaves_secrets {
            connection.decoder.guard();
        }
        connection.waits_since_us = match halt {
            Halt::Paused | Halt::Spent | Halt::Handling(_) if has_waiting => self.now_us,
            _ => u64::MAX,
        };
        match halt {
            Halt::Starved => {}
            Halt::Paused => {
                cold_path();
                connection.paused = true;
                connection.outbound.trim();
            }
            Halt::Spent => {
                cold_path();
                connection.deferred = true;
                self.counters.deferrals += 1;
                self.deferred.push(id);
            }
            Halt::Handling(code) => {
                cold_path();
                connection.handling = Some(code);
                connection.handling_since_us = since_us;
                connection.handler_began_us = self.now_us;
            }
            Halt::Ended(cause) => {
                cold_path();
                self.end(id, cause);
                // What is queued is still sent, however much it is.
                return leaves_secrets;
            }
        }
        if is_beyond_max {
            cold_path();
            self.close(id, CloseCause::SlowConsumer);
        }
        leaves_secrets
    }
}

/// A frame for an asynchronous handler, to keep. What is secret is wiped with the last part of it
/// that anybody holds.
fn request(connection: ConnectionId, frame: Frame<'_>, is_secret: bool) -> Request {
    let body = if is_secret {
        Bytes::from_owner(Zeroizing::new(frame.body.to_vec()))
    } else {
        Bytes::copy_from_slice(frame.body)
    };
    Request {
        connection,
        code: frame.code,
        body,
    }
}

/// Answers what is no good frame, or is one too many as well.
fn refuse(
    answers: &mut Answers<'_>,
    out: &mut Vec<u8>,
    bad: &Decoded<'_>,
    floods: bool,
) -> Option<CloseCause> {
    if floods {
        return Some(answers.flooded(out, bad.code()));
    }
    match *bad {
        Decoded::BadChecksum { code, .. } => answers.error(
            out,
            code,
            Reason::BadChecksum,
            "the checksum does not match the body",
        ),
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
