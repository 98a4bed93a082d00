//! One connection of the load: requests out, and every reply judged.
//!
//! Replies are expected in the order of the requests. Where the reply's bytes are known (PING and
//! ECHO), what comes is compared with what must come, byte by byte, which checks length, code,
//! checksum, content and order at once. At the first difference, and from then on, it is taken
//! apart frame by frame to see what is wrong with it.
//!
//! Invariant: `oldest..next` are the requests in flight, in order; `lost` holds those that were
//! overtaken or timed out and whose reply may still come. Together they never exceed the window of
//! [`Requests`], so no reply is taken for that of another request: those lost for longer are missing.

mod judging;

use std::collections::VecDeque;

use super::gauge::Gauge;
use super::requests::{Requests, window};
use super::tally::ErrorKind;
use crate::protocol::{BodyTooLong, Decoder, HEADER_BYTES, codes};

/// What the connections of a run have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) code: u16,
    pub(super) body_bytes: usize,
    /// Requests in flight on a connection, at most.
    pub(super) pipeline: usize,
    /// A reply that takes longer is late.
    pub(super) timeout_ns: u64,
}

impl Shape {
    /// Whether the reply's body is known.
    fn content_is_known(&self) -> bool {
        self.code == codes::ECHO || (self.code == codes::PING && self.body_bytes == 0)
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    /// Its number in the run.
    number: usize,
    shape: Shape,
    requests: Requests,
    /// When each request of the window began, and when it was sent, by position.
    times: Box<[Times]>,
    oldest: u64,
    next: u64,
    /// Bytes of the oldest one's reply that came and were right.
    matched: usize,
    lost: VecDeque<Lost>,
    /// Takes the replies apart once they are not what they must be.
    decoder: Option<Decoder>,
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// What its latency runs from.
    began_ns: u64,
    sent_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    request: u64,
    times: Times,
    how: Loss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The reply to a later request came first.
    Overtaken,
    TimedOut,
}

/// Memory that a request of a connection's window takes: as it is sent, half as much again where
/// all that may be in flight is being sent, and its times.
pub(super) fn request_bytes(body_bytes: usize) -> usize {
    let frame_bytes = HEADER_BYTES + body_bytes;
    frame_bytes + frame_bytes / 2 + size_of::<Times>()
}

impl Session {
    pub(super) fn new(number: usize, shape: Shape) -> Result<Session, BodyTooLong> {
        let requests = Requests::new(number, shape.code, shape.body_bytes, shape.pipeline)?;
        let window = window(shape.pipeline, shape.body_bytes);
        Ok(Session {
            number,
            shape,
            requests,
            times: vec![Times::default(); window].into(),
            oldest: 0,
            next: 0,
            matched: 0,
            lost: VecDeque::new(),
            decoder: (!shape.content_is_known()).then(Decoder::new),
            closed: false,
        })
    }

    /// How many requests were sent so far: the number of the next one.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How many more may be in flight.
    #[inline]
    pub(super) fn room(&self) -> u64 {
        if self.closed {
            return 0;
        }
        self.shape.pipeline as u64 - self.in_flight()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether no reply is waited for.
    pub(super) fn is_idle(&self) -> bool {
        self.closed || self.oldest == self.next
    }

    /// Appends the next requests to `out`, as many as `count`, which there must be room for.
    /// `began_ns` says when each of them began.
    #[inline]
    pub(super) fn send(
        &mut self,
        count: u64,
        out: &mut Vec<u8>,
        now_ns: u64,
        began_ns: impl Fn(u64) -> u64,
        gauge: &mut Gauge,
    ) {
        if !self.lost.is_empty() {
            self.keep_within_window(now_ns, gauge);
        }
        let end = self.next + count;
        for request in self.next..end {
            let position = self.requests.position(request);
            self.times[position] = Times {
                began_ns: began_ns(request),
                sent_ns: now_ns,
            };
        }
        self.requests.append(out, self.next, end);
        self.next = end;
    }

    /// Bytes came.
    #[inline]
    pub(super) fn receive(&mut self, bytes: &[u8], now_ns: u64, gauge: &mut Gauge) {
        if self.closed {
            return;
        }
        let unmatched = if self.decoder.is_none() {
            self.compare(bytes, now_ns, gauge)
        } else {
            bytes
        };
        if !unmatched.is_empty() {
            self.take_apart(unmatched, now_ns, gauge);
        }
    }

    /// The connection ended: by the server, or for the reason given.
    pub(super) fn end(&mut self, reason: Option<&str>, now_ns: u64, gauge: &mut Gauge) {
        if self.closed {
            return;
        }
        let number = self.number;
        gauge.error(ErrorKind::Closed, 1, now_ns, || match reason {
            Some(reason) => format!("connection {number} broke: {reason}"),
            None => format!("the server closed connection {number}"),
        });
        self.close(now_ns, gauge);
    }

    /// Gives up the requests that were sent too long ago, so that others can be.
    pub(super) fn give_up_late(&mut self, now_ns: u64) {
        while !self.closed && self.oldest < self.next {
            let times = self.times[self.requests.position(self.oldest)];
            if now_ns.saturating_sub(times.sent_ns) <= self.shape.timeout_ns {
                return;
            }
            self.ensure_decoder();
            self.lose_oldest(Loss::TimedOut);
        }
    }

    /// No more replies are waited for: what did not come is missing.
    pub(super) fn finish(&mut self, now_ns: u64, gauge: &mut Gauge) {
        let missing = self.in_flight() + self.lost.len() as u64;
        let first = self.lost.front().map_or(self.oldest, |lost| lost.request);
        let number = self.number;
        gauge.error(ErrorKind::Missing, missing, now_ns, || {
            format!("connection {number}: no reply came to request {first}")
        });
        self.oldest = self.next;
        self.lost.clear();
    }

    #[inline]
    fn in_flight(&self) -> u64 {
        self.next - self.oldest
    }

    /// Compares with what must come. Gives back what is not that, if anything, and has a decoder
    /// then that knows how the frame began.
    #[inline]
    fn compare<'b>(&mut self, bytes: &'b [u8], now_ns: u64, gauge: &mut Gauge) -> &'b [u8] {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Empty if nothing is in flight: then nothing may come.
            let expected = self.requests.contiguous(self.oldest, self.next);
            let expected = expected.get(self.matched..).unwrap_or_default();
            let together = expected.len().min(rest.len());
            if together == 0 || expected[..together] != rest[..together] {
                return self.unlike(together, rest, now_ns, gauge);
            }
            self.advance(together, now_ns, gauge);
            rest = &rest[together..];
        }
        rest
    }

    /// Takes so many right bytes in.
    #[inline]
    fn advance(&mut self, bytes: usize, now_ns: u64, gauge: &mut Gauge) {
        self.matched += bytes;
        let frame_bytes = self.requests.frame_bytes();
        while self.matched >= frame_bytes {
            self.matched -= frame_bytes;
            self.settle_right(frame_bytes, now_ns, gauge);
        }
    }

    /// The first `compared` bytes of `rest` were not all right: takes in the frames that were, and
    /// gives back the rest for the decoder.
    #[cold]
    fn unlike<'b>(
        &mut self,
        compared: usize,
        rest: &'b [u8],
        now_ns: u64,
        gauge: &mut Gauge,
    ) -> &'b [u8] {
        let expected = self.requests.contiguous(self.oldest, self.next);
        let right = expected
            .get(self.matched..)
            .unwrap_or_default()
            .iter()
            .zip(&rest[..compared])
            .take_while(|(expected, came)| expected == came)
            .count();
        let frame_bytes = self.requests.frame_bytes();
        // Whole frames only: the frame with the difference goes to the decoder from its start.
        let whole =
            ((self.matched + right) / frame_bytes * frame_bytes).saturating_sub(self.matched);
        self.advance(whole, now_ns, gauge);
        self.ensure_decoder();
        &rest[whole..]
    }

    /// From now on, replies are taken apart. What came of the oldest one's goes first.
    fn ensure_decoder(&mut self) {
        if self.decoder.is_none() {
            let mut decoder = Decoder::new();
            decoder.hold(&self.requests.frame(self.oldest)[..self.matched]);
            self.matched = 0;
            self.decoder = Some(decoder);
        }
    }

    /// The oldest request has got its right reply. A late one is a message and an error.
    #[inline]
    fn settle_right(&mut self, reply_bytes: usize, now_ns: u64, gauge: &mut Gauge) {
        let times = self.times[self.requests.position(self.oldest)];
        gauge.right(times.began_ns, now_ns, reply_bytes);
        if now_ns.saturating_sub(times.sent_ns) > self.shape.timeout_ns {
            self.tell_late(self.oldest, times, now_ns, gauge);
        }
        self.oldest += 1;
    }

    #[cold]
    fn tell_late(&self, request: u64, times: Times, now_ns: u64, gauge: &mut Gauge) {
        let took_ms = now_ns.saturating_sub(times.sent_ns) / 1_000_000;
        let number = self.number;
        gauge.error(ErrorKind::Late, 1, now_ns, || {
            format!("connection {number}: the reply to request {request} took {took_ms} ms")
        });
    }

    fn lose_oldest(&mut self, how: Loss) {
        self.lost.push_back(Lost {
            request: self.oldest,
            times: self.times[self.requests.position(self.oldest)],
            how,
        });
        self.oldest += 1;
    }

    /// Waits no longer for replies that could be taken for those of later requests.
    fn keep_within_window(&mut self, now_ns: u64, gauge: &mut Gauge) {
        let number = self.number;
        while let Some(Lost { request, .. }) = self.lost.front().copied() {
            if self.next - request + self.shape.pipeline as u64 <= self.requests.window() {
                return;
            }
            self.lost.pop_front();
            gauge.error(ErrorKind::Missing, 1, now_ns, || {
                format!("connection {number}: no reply came to request {request}")
            });
        }
    }

    fn close(&mut self, now_ns: u64, gauge: &mut Gauge) {
        self.finish(now_ns, gauge);
        self.closed = true;
    }
}

#[cfg(test)]
mod tests;
