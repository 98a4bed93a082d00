//! What a connection owns, and the states that it goes through.
//!
//! ```text
//!            bad length, too many bad frames,
//!            panic, handler failed, stop              all sent
//!   Open ------------------------------------> Ending ----------> Lingering
//!     |                                          |                    |
//!     | peer done and all answered and sent;     | deadline, broken   | peer done,
//!     | broken                                   |                    | deadline, broken
//!     +------------------------------------------+--------------------+---> Closing -> freed
//! ```
//!
//! Teardown is a join: in `Closing`, everything in flight is cancelled, and only when the last
//! completion is in, the slot is freed and the socket closed. An asynchronous handler is not part
//! of the join: it may go on, and its late reply is recognised by the id's generation.

use super::outbound::Outbound;
use crate::metrics::CloseCause;
use crate::protocol::Decoder;

/// How far a connection's life has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Frames are handled as they come. When the peer has shut its sending side, the rest is still
    /// answered.
    Open,
    /// The server ends it: nothing more is handled, what is queued is still sent, what arrives is
    /// thrown away.
    Ending(CloseCause),
    /// All is sent and our sending side is shut. The peer's end is awaited and what arrives is
    /// thrown away: closing over unread bytes would make the kernel send a reset, and that could
    /// destroy the last replies on their way.
    Lingering(CloseCause),
    /// Over: only the last completions of what is in flight are awaited.
    Closing(CloseCause),
}

/// An operation that goes on completing until it is cancelled: a receive or an accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Multishot {
    /// None is in flight.
    Idle,
    /// In flight.
    Armed,
    /// In flight, and a cancel is on its way after it.
    Cancelling,
}

/// One connection.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent facts; what is exclusive is in `phase`"
)]
pub(super) struct Connection<Socket> {
    pub(super) socket: Socket,
    pub(super) phase: Phase,
    /// The peer has shut its sending side.
    pub(super) peer_done: bool,
    pub(super) receive: Multishot,
    pub(super) decoder: Decoder,
    pub(super) outbound: Outbound,
    /// An asynchronous handler is at work; the frames after its own wait.
    pub(super) handling: bool,
    /// Too much is queued; frames wait until it has gone down.
    pub(super) paused: bool,
    /// It is in the shard's list of connections that have something to send.
    pub(super) listed: bool,
    pub(super) bad_frames: u32,
}

/// Bytes that a connection may keep waiting, while a handler is at work, before its receiving is
/// paused. Longer than any frame, so that a frame can always be completed.
pub(super) const HELD_BYTES_MAX: usize = 64 * 1024;
const _: () = assert!(crate::protocol::FRAME_BYTES_MAX < HELD_BYTES_MAX);

impl<Socket> Connection<Socket> {
    pub(super) fn new(socket: Socket) -> Connection<Socket> {
        Connection {
            socket,
            phase: Phase::Open,
            peer_done: false,
            receive: Multishot::Idle,
            decoder: Decoder::new(),
            outbound: Outbound::default(),
            handling: false,
            paused: false,
            listed: false,
            bad_frames: 0,
        }
    }

    /// Whether the next frame may be handled now.
    #[inline]
    pub(super) fn may_handle(&self) -> bool {
        self.phase == Phase::Open && !self.handling && !self.paused
    }

    /// Whether more bytes are wanted from the peer.
    #[inline]
    pub(super) fn wants_bytes(&self) -> bool {
        !self.peer_done
            && match self.phase {
                Phase::Open => !self.paused && self.decoder.held_bytes() < HELD_BYTES_MAX,
                Phase::Ending(_) | Phase::Lingering(_) => true,
                Phase::Closing(_) => false,
            }
    }

    /// Whether an operation on the socket is still to complete.
    pub(super) fn is_in_flight(&self) -> bool {
        self.receive != Multishot::Idle || self.outbound.in_flight_bytes() > 0
    }

    /// What the connection has come to, when nothing is left to do in its phase.
    pub(super) fn next_phase(&self) -> Option<Phase> {
        match self.phase {
            Phase::Open => (self.peer_done && self.may_handle() && self.outbound.bytes() == 0)
                .then_some(Phase::Closing(CloseCause::PeerClosed)),
            Phase::Ending(cause) => (self.outbound.bytes() == 0).then_some(if self.peer_done {
                Phase::Closing(cause)
            } else {
                Phase::Lingering(cause)
            }),
            Phase::Lingering(cause) => self.peer_done.then_some(Phase::Closing(cause)),
            Phase::Closing(_) => None,
        }
    }
}
