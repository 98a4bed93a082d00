//! What a shard counts and records: plain numbers with a single writer, the shard itself.

pub(crate) mod hgrm;
pub mod latency;
pub mod own;

use std::fmt;

use crate::protocol::Reason;

/// Whether shards measure latencies and show what they are at: not in builds with
/// `--cfg corelane_bare`, which the bench of what that costs compares with.
pub(crate) const MEASURES: bool = !cfg!(corelane_bare);

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// The peer shut its sending side and got its replies.
    PeerClosed,
    /// The peer, or the network, broke the connection off.
    Reset,
    /// No whole frame came in so long.
    Idle,
    /// Not even a first whole frame came in time.
    FirstFrame,
    /// The peer took nothing of what was queued for it in so long.
    WriteTimeout,
    /// More was queued for the peer than may be.
    SlowConsumer,
    /// More frames came than may come in a time.
    Flood,
    /// A frame's length was out of range.
    BadLength,
    /// Too many bad frames.
    BadFrames,
    /// A handler panicked.
    HandlerPanic,
    /// A handler failed or answered with a reason that closes.
    HandlerFailed,
    /// Its address had as many connections as it may have.
    Limit,
    /// The server drains: it went quiet, or its time was over.
    Drain,
    /// The server stops.
    Stop,
}

impl CloseCause {
    /// Every cause, in the order of their counters.
    pub const ALL: [CloseCause; 14] = [
        CloseCause::PeerClosed,
        CloseCause::Reset,
        CloseCause::Idle,
        CloseCause::FirstFrame,
        CloseCause::WriteTimeout,
        CloseCause::SlowConsumer,
        CloseCause::Flood,
        CloseCause::BadLength,
        CloseCause::BadFrames,
        CloseCause::HandlerPanic,
        CloseCause::HandlerFailed,
        CloseCause::Limit,
        CloseCause::Drain,
        CloseCause::Stop,
    ];

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            CloseCause::PeerClosed => "peer_closed",
            CloseCause::Reset => "reset",
            CloseCause::Idle => "idle",
            CloseCause::FirstFrame => "first_frame",
            CloseCause::WriteTimeout => "write_timeout",
            CloseCause::SlowConsumer => "slow_consumer",
            CloseCause::Flood => "flood",
            CloseCause::BadLength => "bad_length",
            CloseCause::BadFrames => "bad_frames",
            CloseCause::HandlerPanic => "handler_panic",
            CloseCause::HandlerFailed => "handler_failed",
            CloseCause::Limit => "limit",
            CloseCause::Drain => "drain",
            CloseCause::Stop => "stop",
        }
    }
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The counters of one shard since it started. Bytes and frames are those on the wire, headers
/// included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted from the shard's listeners. Each is closed once, here or on the shard
    /// that it was handed to.
    pub accepted: u64,
    /// Connections handed to other shards, to be served or to be counted there.
    pub handed_over: u64,
    /// Connections taken over from other shards.
    pub taken_over: u64,
    /// Connections closed, by [`CloseCause`]; read it with [`Counters::closed`].
    closed: [u64; CloseCause::ALL.len()],
    /// Times that accepting was put off because the host had no room (descriptors, memory).
    pub accept_failures: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes that the kernel took for sending.
    pub sent_bytes: u64,
    /// Whole frames received, good and bad.
    pub frames_received: u64,
    /// Frames queued for sending.
    pub frames_sent: u64,
    /// Frames with a wrong length, a wrong checksum, an unknown code or a body that does not fit, by
    /// [`Reason`]; read it with [`Counters::bad_frames`].
    bad_frames: [u64; BAD_FRAMES.len()],
    /// Sends started.
    pub sends: u64,
    /// Sends that the kernel took only a part of.
    pub short_sends: u64,
    /// Times that a connection's receiving was paused (too much queued, or waiting for a handler).
    pub receive_pauses: u64,
    /// Times that a connection's frames were put off to the next turn, so that others got theirs.
    pub deferrals: u64,
    /// Times that accepting paused because the shard's connections hold as much memory as they may.
    pub memory_pauses: u64,
    /// Times that a receive found no free buffer.
    pub buffers_exhausted: u64,
    /// Requests that were turned away because too many handlers were at work.
    pub overloaded: u64,
    /// Requests that handlers themselves answered with OVERLOADED.
    pub overloaded_by_handlers: u64,
    /// Panics of handlers.
    pub handler_panics: u64,
    /// Frames that handlers and others pushed, and that were queued for their connections.
    pub pushes: u64,
    /// Frames that were pushed to connections that were gone, or ended.
    pub stale_pushes: u64,
    /// Pushes, broadcasts and functions for shards that were refused, because too much waited.
    pub errands_refused: u64,
    /// Functions that ran for handlers and others.
    pub runs: u64,
    /// Panics of those, and of what they held or answered when that was dropped.
    pub run_panics: u64,
    /// Panics of hooks.
    pub hook_panics: u64,
    /// Replies of asynchronous handlers whose connection was gone.
    pub late_replies: u64,
    /// Completions of operations on connections that were gone.
    pub stale_completions: u64,
    /// Turns of the event loop.
    pub turns: u64,
    /// Completions handled in them.
    pub completions: u64,
    /// Turns that took longer than `handlers.slow_ms`.
    pub slow_turns: u64,
}

/// What makes a frame a bad one.
pub const BAD_FRAMES: [Reason; 4] = [
    Reason::BadLength,
    Reason::BadChecksum,
    Reason::UnknownCode,
    Reason::BadBody,
];

impl Counters {
    /// Requests that were answered with OVERLOADED, whoever decided so.
    pub fn overloaded_total(&self) -> u64 {
        self.overloaded + self.overloaded_by_handlers
    }

    /// Connections closed for this cause.
    pub fn closed(&self, cause: CloseCause) -> u64 {
        self.closed[cause as usize]
    }

    /// Connections closed, whatever the cause.
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().sum()
    }

    /// Bad frames of this kind; 0 for reasons that are about something else.
    pub fn bad_frames(&self, reason: Reason) -> u64 {
        let kind = BAD_FRAMES.iter().position(|&kind| kind == reason);
        kind.map_or(0, |kind| self.bad_frames[kind])
    }

    /// Bad frames, of whatever kind.
    pub fn bad_frames_total(&self) -> u64 {
        self.bad_frames.iter().sum()
    }

    pub(crate) fn count_bad_frame(&mut self, reason: Reason) {
        if let Some(kind) = BAD_FRAMES.iter().position(|&kind| kind == reason) {
            self.bad_frames[kind] += 1;
        }
    }

    pub(crate) fn count_close(&mut self, cause: CloseCause) {
        self.closed[cause as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_counter_of_its_own() {
        let mut counters = Counters::default();
        for (index, cause) in CloseCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
            for _ in 0..=index {
                counters.count_close(cause);
            }
        }
        for (count, cause) in (1..).zip(CloseCause::ALL) {
            assert_eq!(counters.closed(cause), count, "{cause}");
        }
        assert_eq!(counters.closed_total(), 105);
    }
}
