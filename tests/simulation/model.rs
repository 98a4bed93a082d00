//! The reference: what a peer that sends these bytes must get back, by the protocol's rules and
//! what the handlers are to do.

use corelane::metrics::CloseCause;
use corelane::protocol::Reason;
use corelane::shard::Settings;

use crate::handlers::{self, code};
use crate::life::Word;
use crate::topics::Act;
use crate::wire::{HEADER_BYTES, crc32, u16_at, u32_at};

/// What must come back for a stream of requests.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) replies: Vec<Expectation>,
    /// Why the server ends the connection; `None` if it waits for more.
    pub(crate) end: Option<CloseCause>,
    /// The bytes of the stream that it takes for that.
    pub(crate) end_at: Option<usize>,
    pub(crate) requests: Vec<Request>,
    /// What it asks of topics.
    pub(crate) acts: Vec<Act>,
    pub(crate) frames_received: u64,
    pub(crate) bad_frames: u64,
    pub(crate) panics: u64,
}

/// What is known of one whole frame that the peer sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Where the stream goes on behind it.
    pub(crate) ends_at: usize,
    /// Bytes that the replies before its own have at least.
    pub(crate) before_bytes: usize,
    /// The same, with its own reply.
    pub(crate) after_bytes: usize,
    pub(crate) code: u16,
    pub(crate) bytes: usize,
    /// A handler gets it.
    pub(crate) is_seen: bool,
    /// Unless too many handlers are at work.
    pub(crate) may_overload: bool,
}

/// One frame that must come back.
#[derive(Debug)]
pub(crate) struct Expectation {
    /// The request that it answers.
    request: usize,
    answer: Answer,
    /// The code of its request, if OVERLOADED may be the answer as well (or no answer at all,
    /// where no ERROR frames are sent).
    may_overload: Option<u16>,
}

#[derive(Debug)]
enum Answer {
    Frame(u16, Vec<u8>),
    /// The same, or a refusal.
    Subscribed(Vec<u8>),
    /// A number, or a refusal.
    Published,
    Error {
        answered: u16,
        reason: u16,
        /// Known if it is the handler's own.
        text: Option<Vec<u8>>,
    },
}

impl Answer {
    fn fits(&self, code: u16, body: &[u8]) -> bool {
        match self {
            Answer::Frame(expected, expected_body) => {
                *expected == code && expected_body.as_slice() == body
            }
            Answer::Subscribed(topic) => {
                code == code::SUBSCRIBE && topic == body
                    || [Reason::Rejected, Reason::Overloaded]
                        .iter()
                        .any(|reason| is_error(code, body, code::SUBSCRIBE, reason.number()))
            }
            Answer::Published => {
                code == code::PUBLISH && body.len() == 4
                    || is_error(code, body, code::PUBLISH, Reason::Overloaded.number())
            }
            Answer::Error {
                answered,
                reason,
                text,
            } => {
                is_error(code, body, *answered, *reason)
                    && text.as_ref().is_none_or(|text| text == &body[4..])
            }
        }
    }

    fn bytes_min(&self) -> usize {
        match self {
            Answer::Frame(_, body) => HEADER_BYTES + body.len(),
            Answer::Subscribed(topic) => (HEADER_BYTES + topic.len()).min(ERROR_BYTES),
            Answer::Published => ERROR_BYTES,
            Answer::Error { text, .. } => ERROR_BYTES + text.as_ref().map_or(0, Vec::len),
        }
    }
}

const ERROR_BYTES: usize = HEADER_BYTES + 4;

fn is_error(code: u16, body: &[u8], answered: u16, reason: u16) -> bool {
    code == code::ERROR
        && body.len() >= 4
        && u16_at(body, 0) == answered
        && u16_at(body, 2) == reason
        && std::str::from_utf8(&body[4..]).is_ok()
}

/// Works out what must come back for these bytes.
pub(crate) fn expect(stream: &[u8], settings: &Settings, may_overload: bool) -> Expected {
    let mut model = Model {
        expected: Expected::default(),
        settings,
        may_overload,
        bad_frames: 0,
        counted: 0,
        bytes_min: 0,
    };
    let mut at = 0;
    while model.expected.end.is_none() {
        let Some((length, code)) = stream.get(at..at + 4).map(|b| (u16_at(b, 0), u16_at(b, 2)))
        else {
            break;
        };
        let length = usize::from(length);
        if length < HEADER_BYTES || length > settings.frame_bytes_max {
            model.error(code, Reason::BadLength, None);
            model.expected.end_at = Some(at + 4);
            break;
        }
        let Some(frame) = stream.get(at..at + length) else {
            break;
        };
        at += length;
        model.expected.frames_received += 1;
        let before_bytes = model.bytes_min;
        let body = &frame[HEADER_BYTES..];
        let is_whole = crc32(body) == u32_at(frame, 4);
        if is_whole {
            let request = model.expected.requests.len();
            let act = Act::of((request, at), code, body);
            model.expected.acts.extend(act);
            model.request(code, body);
        } else {
            model.error(code, Reason::BadChecksum, None);
        }
        model.expected.requests.push(Request {
            ends_at: at,
            before_bytes,
            after_bytes: model.bytes_min,
            code,
            bytes: length,
            is_seen: is_whole && code::ALL.contains(&code),
            may_overload: may_overload && code == code::ASYNC_ECHO,
        });
        model.expected.end_at = model.expected.end.map(|_| at);
    }
    model.expected
}

struct Model<'a> {
    expected: Expected,
    settings: &'a Settings,
    may_overload: bool,
    bad_frames: u32,
    counted: u32,
    bytes_min: usize,
}

impl Model<'_> {
    fn request(&mut self, code: u16, body: &[u8]) {
        match code {
            code::PING => self.frame(code, Vec::new()),
            code::ECHO | code::MESH | code::ASYNC_MESH | code::UNSUBSCRIBE => {
                self.frame(code, body.to_vec());
            }
            code::COUNT => {
                self.counted += 1;
                let mut reply = body[..4].to_vec();
                reply.extend_from_slice(&self.counted.to_be_bytes());
                self.frame(code, reply);
            }
            code::ASYNC_ECHO => {
                let answer = Answer::Frame(code, body.to_vec());
                let may_overload = self.may_overload.then_some(code);
                self.bytes_min += match (may_overload, self.settings.reply_errors) {
                    (None, _) => answer.bytes_min(),
                    (Some(_), true) => answer.bytes_min().min(ERROR_BYTES),
                    (Some(_), false) => 0,
                };
                self.expected.replies.push(Expectation {
                    request: self.expected.requests.len(),
                    answer,
                    may_overload,
                });
            }
            code::NONE | code::ASYNC_NONE => {}
            code::SUBSCRIBE => self.push(Answer::Subscribed(body.to_vec())),
            code::PUBLISH => self.push(Answer::Published),
            code::ERROR_REPLY | code::ASYNC_ERROR_REPLY => {
                let reason = Reason::from_number(u16_at(body, 4)).unwrap();
                let mut text = handlers::error_text(body).into_bytes();
                text.truncate(self.settings.frame_bytes_max - ERROR_BYTES);
                self.error(code, reason, Some(text));
            }
            code::WITH_CODE | code::ASYNC_WITH_CODE => self.frame(u16_at(body, 4), body.to_vec()),
            code::REVERSED => self.frame(code, body.iter().rev().copied().collect()),
            code::AMPLIFY => {
                let mut reply = body[..4].to_vec();
                reply.resize(4 + usize::from(u16_at(body, 4)), handlers::FILLER);
                self.frame(code, reply);
            }
            code::OVERSIZED | code::OVERSIZED_IN_PLACE | code::ASYNC_OVERSIZED => {
                self.failed(code, CloseCause::HandlerFailed);
            }
            code::PANIC | code::PANIC_HALFWAY | code::ASYNC_PANIC | code::PANIC_AT_START => {
                self.expected.panics += 1;
                self.failed(code, CloseCause::HandlerPanic);
            }
            unknown => self.error(unknown, Reason::UnknownCode, None),
        }
    }

    fn failed(&mut self, code: u16, cause: CloseCause) {
        self.error(code, Reason::Internal, None);
        self.expected.end = Some(cause);
    }

    fn frame(&mut self, code: u16, body: Vec<u8>) {
        self.push(Answer::Frame(code, body));
    }

    fn push(&mut self, answer: Answer) {
        self.bytes_min += answer.bytes_min();
        self.expected.replies.push(Expectation {
            request: self.expected.requests.len(),
            answer,
            may_overload: None,
        });
    }

    fn error(&mut self, answered: u16, reason: Reason, text: Option<Vec<u8>>) {
        if self.settings.reply_errors {
            self.push(Answer::Error {
                answered,
                reason: reason.number(),
                text,
            });
        }
        // The table "Reasons in ERROR".
        match reason.number() {
            1 => {
                self.expected.bad_frames += 1;
                self.expected.end = Some(CloseCause::BadLength);
            }
            2..=4 => {
                self.expected.bad_frames += 1;
                self.bad_frames += 1;
                if self.bad_frames >= self.settings.bad_frames_max {
                    self.expected.end = Some(CloseCause::BadFrames);
                }
            }
            5 | 9..=11 => self.expected.end = Some(CloseCause::HandlerFailed),
            _ => {}
        }
    }
}

/// How far the replies that came match.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    next: usize,
    /// Frames that came.
    pub(crate) frames: u64,
    /// Requests that were turned away.
    pub(crate) overloaded: u64,
    /// GOAWAY came so often.
    pub(crate) goaways: u64,
    /// What the server said last, if nothing may come after it.
    pub(crate) last_word: Option<Word>,
}

impl Progress {
    /// Judges the next frame. Gives back which request it answers, if any.
    pub(crate) fn take(
        &mut self,
        expected: &Expected,
        reply_errors: bool,
        (code, body): (u16, &[u8]),
        pushed: impl FnOnce(&[u8]) -> Result<(), String>,
    ) -> Result<Option<usize>, String> {
        self.frames += 1;
        if let Some(word) = self.last_word {
            return Err(format!("code {code} and {body:?} after {word:?}"));
        }
        if [code::PUSHED, code::EVENT].contains(&code) {
            return pushed(body).map(|()| None);
        }
        match Word::of(code, body) {
            Some(Word::GoAway) => {
                self.goaways += 1;
                return Ok(None);
            }
            word @ Some(_) => {
                self.last_word = word;
                return Ok(None);
            }
            None => {}
        }
        while let Some(expectation) = expected.replies.get(self.next) {
            self.next += 1;
            if expectation.answer.fits(code, body) {
                return Ok(Some(expectation.request));
            }
            let overloaded = match expectation.may_overload {
                Some(answered) if reply_errors => {
                    is_error(code, body, answered, Reason::Overloaded.number())
                }
                Some(_) => true,
                None => false,
            };
            if !overloaded {
                return Err(format!(
                    "reply {}: expected {:?}, got code {code} and {body:?}",
                    self.next - 1,
                    expectation.answer
                ));
            }
            self.overloaded += 1;
            if reply_errors {
                return Ok(None);
            }
        }
        Err(format!("a reply after the last one: code {code}, {body:?}"))
    }

    /// How many replies must still come.
    pub(crate) fn missing(&self, expected: &Expected, reply_errors: bool) -> usize {
        expected.replies[self.next..]
            .iter()
            .filter(|expectation| reply_errors || expectation.may_overload.is_none())
            .count()
    }
}
