//! Replies that are not simply what must come: what is wrong with each.

use super::{Loss, Lost, Session};
use crate::load::gauge::Gauge;
use crate::load::tally::ErrorKind;
use crate::protocol::{Decoded, ErrorBody, FRAME_BYTES_MAX, Frame, HEADER_BYTES, codes};

/// Characters of a server's own words that are told.
const WORDS_MAX: usize = 200;

/// Which request a frame is the reply to.
enum Answers {
    /// One that is in flight; those before it were overtaken.
    InFlight(u64),
    /// One that was given up.
    Lost(Lost),
    /// One that has got its reply already.
    Before(u64),
    /// None.
    Nothing,
}

impl Session {
    /// Takes bytes apart that are not, or are no longer, compared with what must come.
    pub(super) fn take_apart(&mut self, bytes: &[u8], now_ns: u64, gauge: &mut Gauge) {
        let mut decoder = self.decoder.take().unwrap_or_default();
        let mut frames = decoder.frames(bytes, FRAME_BYTES_MAX);
        while let Some(decoded) = frames.next() {
            self.judge(&decoded, now_ns, gauge);
            if self.closed {
                break;
            }
        }
        drop(frames);
        self.decoder = Some(decoder);
    }

    fn judge(&mut self, decoded: &Decoded<'_>, now_ns: u64, gauge: &mut Gauge) {
        match decoded {
            Decoded::Whole(frame) => self.judge_frame(*frame, now_ns, gauge),
            Decoded::BadChecksum { code, .. } => {
                let what = || "the reply's checksum is wrong".to_owned();
                self.settle_wrong(*code, ErrorKind::BadChecksum, what, now_ns, gauge);
            }
            Decoded::BadLength { length, .. } => {
                let what =
                    || format!("a frame says that it is {length} bytes long, which none can be");
                self.tell(ErrorKind::BadLength, what, now_ns, gauge);
                self.close(now_ns, gauge);
            }
            Decoded::Incomplete { .. } => {}
        }
    }

    fn judge_frame(&mut self, frame: Frame<'_>, now_ns: u64, gauge: &mut Gauge) {
        let asked = self.shape.code;
        // It asks clients to leave, and answers nothing.
        if frame.code == codes::GOAWAY && asked != codes::GOAWAY {
            return;
        }
        if frame.code == codes::ERROR && asked != codes::ERROR {
            let what = || describe_error(frame.body);
            return self.settle_wrong(frame.code, ErrorKind::ErrorReply, what, now_ns, gauge);
        }
        if frame.code != asked {
            let code = frame.code;
            let what = || format!("the reply has code {code}, the request code {asked}");
            return self.settle_wrong(frame.code, ErrorKind::WrongCode, what, now_ns, gauge);
        }
        let reply_bytes = HEADER_BYTES + frame.body.len();
        match self.answers(frame) {
            Answers::InFlight(request) => {
                while self.oldest < request {
                    self.lose_oldest(Loss::Overtaken);
                }
                self.settle_right(reply_bytes, now_ns, gauge);
            }
            Answers::Lost(lost) => self.come_late(lost, reply_bytes, now_ns, gauge),
            Answers::Before(request) => {
                let number = self.number;
                gauge.error(ErrorKind::Unexpected, 1, now_ns, || {
                    format!("connection {number}: a second reply came to request {request}")
                });
            }
            Answers::Nothing => {
                let (came, asked) = (frame.body.len(), self.shape.body_bytes);
                let what = || {
                    format!(
                        "the reply's body of {came} bytes is not the request's of {asked} bytes"
                    )
                };
                self.settle_wrong(frame.code, ErrorKind::WrongBody, what, now_ns, gauge);
            }
        }
    }

    /// Which request this has the code, and if that is known the body, of the reply to.
    fn answers(&mut self, frame: Frame<'_>) -> Answers {
        let fits =
            |request| !self.shape.content_is_known() || frame.body == self.requests.body(request);
        if !self.shape.content_is_known() || !self.requests.are_distinct() {
            // All that can be known is the order.
            return match self.lost.front().map_or(self.oldest, |lost| lost.request) {
                request if !fits(request) => Answers::Nothing,
                request if request < self.oldest => self
                    .lost
                    .pop_front()
                    .map_or(Answers::Nothing, Answers::Lost),
                request if request < self.next => Answers::InFlight(request),
                _ => Answers::Nothing,
            };
        }
        match self.requests.latest_like(frame.body, self.next) {
            Some(request) if fits(request) => {
                if request >= self.oldest {
                    return Answers::InFlight(request);
                }
                match self
                    .lost
                    .binary_search_by_key(&request, |lost| lost.request)
                {
                    Ok(place) => self
                        .lost
                        .remove(place)
                        .map_or(Answers::Nothing, Answers::Lost),
                    Err(_) => Answers::Before(request),
                }
            }
            _ => Answers::Nothing,
        }
    }

    /// The reply to a request came that was given up.
    fn come_late(&self, lost: Lost, reply_bytes: usize, now_ns: u64, gauge: &mut Gauge) {
        let Lost {
            request,
            times,
            how,
        } = lost;
        let number = self.number;
        match how {
            Loss::Overtaken => gauge.error(ErrorKind::OutOfOrder, 1, now_ns, || {
                format!(
                    "connection {number}: the reply to request {request} came after that to a \
                     later one"
                )
            }),
            Loss::TimedOut => {
                gauge.right(times.began_ns, now_ns, reply_bytes);
                self.tell_late(request, times, now_ns, gauge);
            }
        }
    }

    /// A wrong reply of this code came. By the order of replies it is that to the request that has
    /// waited longest, which will get no other.
    fn settle_wrong(
        &mut self,
        code: u16,
        kind: ErrorKind,
        what: impl FnOnce() -> String,
        now_ns: u64,
        gauge: &mut Gauge,
    ) {
        if self.timed_out().is_some() {
            self.tell(kind, what, now_ns, gauge);
            self.lost.pop_front();
        } else if self.oldest < self.next {
            self.tell(kind, what, now_ns, gauge);
            self.oldest += 1;
        } else if kind == ErrorKind::ErrorReply {
            // The server's own word, such as that it goes down.
            self.tell(kind, what, now_ns, gauge);
        } else {
            let what = || format!("a frame of code {code} came that nobody had asked for");
            self.tell(ErrorKind::Unexpected, what, now_ns, gauge);
        }
    }

    /// The request that has waited longest, if it timed out. One that was overtaken is not waited
    /// for: a later one has its reply.
    fn timed_out(&self) -> Option<u64> {
        let front = self.lost.front()?;
        (front.how == Loss::TimedOut).then_some(front.request)
    }

    fn tell(&self, kind: ErrorKind, what: impl FnOnce() -> String, now_ns: u64, gauge: &mut Gauge) {
        let number = self.number;
        let request = self.timed_out().unwrap_or(self.oldest);
        gauge.error(kind, 1, now_ns, || {
            format!("connection {number}, request {request}: {}", what())
        });
    }
}

/// What the server said, as far as it fits a sentence on a terminal.
fn describe_error(body: &[u8]) -> String {
    match ErrorBody::parse(body) {
        Ok(error) => {
            let shown = |c: char| if c.is_control() { ' ' } else { c };
            let words: String = error.text.chars().take(WORDS_MAX).map(shown).collect();
            format!("the server answered ERROR {}: {words}", error.reason_name())
        }
        Err(malformed) => malformed.to_string(),
    }
}
