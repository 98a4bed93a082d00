//! What the life of one connection comes to as its shard was told it, and what is due when: the
//! rules of time-outs once more, from what can be seen outside the shard alone.

use corelane::metrics::CloseCause;
use corelane::shard::Settings;

use crate::handlers::code;
use crate::network::Link;
use crate::state::Flow;
use crate::wire::{HEADER_BYTES, u16_at};

/// How long a connection is quiet in a drain before it is closed, in microseconds: the shard's own
/// limit.
const QUIET_US: u64 = 1_000_000;

/// Times and facts of a connection.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
pub(crate) struct Life {
    pub(crate) admitted_us: u64,
    /// When its last asynchronous handler was heard of.
    pub(crate) handled_us: u64,
    /// When the kernel last took something, or was given something with nothing before it.
    pub(crate) progress_us: u64,
    /// The code of the request that an asynchronous handler works on.
    pub(crate) handling: Option<u16>,
    /// The same, when the shard was told to stop.
    pub(crate) cut_off: Option<u16>,
    /// It was open when its shard was told to stop, and had nothing left to do.
    pub(crate) open_at_stop: bool,
    /// Its send was cancelled: it is over.
    pub(crate) cancelled: bool,
    /// A reply came while less may be queued than before: it may have been too much.
    pub(crate) may_outgrow: bool,
    /// Nothing was taken for so long that it could be.
    pub(crate) write_timed_out: bool,
    /// Bytes that its peer had sent when its shard began to drain with it open.
    pub(crate) sent_before_drain: Option<usize>,
    /// What was due when its sending side was shut, and would not have said so.
    pub(crate) shut_due: Vec<CloseCause>,
    /// Why the server ended it, as far as what it sent last or what had to come says so.
    pub(crate) ended: Option<Vec<CloseCause>>,
}

/// A frame of the server's that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    TimedOut,
    RateLimited,
    ShuttingDown(u16),
    GoAway,
}

impl Word {
    /// The word that this frame is; flood's only if no handler may answer the same.
    pub(crate) fn of(code: u16, body: &[u8]) -> Option<Word> {
        if code == code::GOAWAY && body.len() == 4 {
            return Some(Word::GoAway);
        }
        if code != code::ERROR || body.len() < 4 {
            return None;
        }
        let answered = u16_at(body, 0);
        match (answered, u16_at(body, 2)) {
            (code::ERROR_REPLY | code::ASYNC_ERROR_REPLY, 5) => None,
            (code::ERROR, 10) => Some(Word::TimedOut),
            (_, 5) => Some(Word::RateLimited),
            (_, 11) if !std::str::from_utf8(&body[4..]).is_ok_and(is_of_handler) => {
                Some(Word::ShuttingDown(answered))
            }
            _ => None,
        }
    }

    /// The words in what is sent from a frame's beginning on.
    pub(crate) fn all_in(mut bytes: &[u8]) -> Vec<Word> {
        let mut words = Vec::new();
        while bytes.len() >= HEADER_BYTES {
            let length = usize::from(u16_at(bytes, 0)).clamp(HEADER_BYTES, bytes.len());
            words.extend(Word::of(u16_at(bytes, 2), &bytes[HEADER_BYTES..length]));
            bytes = &bytes[length..];
        }
        words
    }
}

/// The texts of handlers begin with a peer's number, those of the server with a word.
fn is_of_handler(text: &str) -> bool {
    text.is_empty() || text.starts_with(|first: char| first.is_ascii_digit())
}

/// When something is due on a connection that is open, and for which cause: the earliest is what
/// counts. A send in flight leaves nothing but its own time, and a handler at work none.
pub(crate) fn deadlines(
    link: &Link,
    flow: &Flow,
    settings: &Settings,
    draining_since_us: Option<u64>,
) -> Vec<(u64, CloseCause)> {
    let life = &link.life;
    if link.send.is_some() {
        let write = settings.write_us.map(|us| life.progress_us + us);
        return write
            .map(|at_us| (at_us, CloseCause::WriteTimeout))
            .into_iter()
            .collect();
    }
    if life.handling.is_some() {
        return Vec::new();
    }
    let frame_us = life.admitted_us.max(life.handled_us).max(flow.frame_us);
    let quiet_since_us = frame_us.max(life.progress_us);
    let whole_bytes = flow.whole_bytes(link.received_bytes);
    let idle = settings
        .idle_us
        .map(|us| (quiet_since_us + us, CloseCause::Idle));
    let first_frame = settings
        .first_frame_us
        .filter(|_| whole_bytes == 0)
        .map(|us| (life.admitted_us + us, CloseCause::FirstFrame));
    let drained = draining_since_us
        .filter(|_| link.received_bytes == whole_bytes)
        .map(|since_us| (quiet_since_us.max(since_us) + QUIET_US, CloseCause::Drain));
    [idle, first_frame, drained].into_iter().flatten().collect()
}

/// From when on a drain takes a connection for quiet at the soonest: taking what was pushed may be all
/// that its peer does.
pub(crate) fn quiet_us(link: &Link, flow: &Flow, draining_since_us: u64) -> u64 {
    let life = &link.life;
    let frame_us = life.admitted_us.max(life.handled_us).max(flow.frame_us);
    frame_us.max(draining_since_us) + QUIET_US
}

/// The causes whose time has come.
pub(crate) fn due(deadlines: &[(u64, CloseCause)], now_us: u64) -> Vec<CloseCause> {
    let due = deadlines.iter().filter(|(at_us, _)| *at_us <= now_us);
    due.map(|(_, cause)| *cause).collect()
}
