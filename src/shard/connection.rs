//! What a connection owns, and the states that it goes through.
//!
//! ```text
//!            bad length, too many bad frames, flood, idle,
//!            panic, handler failed, drain, stop       all sent
//!   Open ------------------------------------> Ending ----------> Lingering
//!     |                                          |                    |
//!     | peer done and all answered and sent;     | deadline, broken   | peer done,
//!     | broken, write time-out, slow consumer    |                    | deadline, broken
//!     +------------------------------------------+--------------------+---> Closing -> freed
//! ```
//!
//! Teardown is a join: in `Closing`, everything in flight is cancelled, and only when the last
//! completion is in, the slot is freed and the socket closed. An asynchronous handler is not part
//! of the join: it may go on, and its late reply is recognised by the id's generation.
//!
//! A connection has one deadline at a time, [`Connection::deadline`], which follows from its state.
//! Nothing but times is stored on the way of a message: the shard's timer looks here when it
//! lapses, and is set again if the deadline has moved on.

use std::net::SocketAddr;

use super::flood::Bucket;
use super::inflow::Inflow;
use super::io::{Arrival, Reception};
use super::ledger::Charge;
use super::outbound::Outbound;
use super::settings::Settings;
use super::share::Share;
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

/// Whether a receive is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    /// None is.
    Not,
    /// One is, of this kind.
    As(Reception),
    /// One is, and a cancel is on its way after it.
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
    pub(super) peer: SocketAddr,
    /// It counts among the connections of its address.
    pub(super) counted: bool,
    pub(super) phase: Phase,
    /// The peer has shut its sending side.
    pub(super) peer_done: bool,
    pub(super) receive: Receiving,
    pub(super) decoder: Decoder,
    pub(super) outbound: Outbound,
    /// The code of the request that an asynchronous handler works on; the frames after it wait.
    pub(super) handling: Option<u16>,
    /// Too much is queued; frames wait until it has gone down.
    pub(super) paused: bool,
    /// It has had its share of a turn; frames wait for the next one.
    pub(super) deferred: bool,
    /// How its peer sends.
    pub(super) inflow: Inflow,
    /// It is in the shard's list of connections that have something to send.
    pub(super) listed: bool,
    /// A whole frame has come.
    pub(super) framed: bool,
    pub(super) bad_frames: u32,
    pub(super) traffic: Traffic,
    /// When the request came that an asynchronous handler works on, and when that began.
    pub(super) handling_since_us: u64,
    pub(super) handler_began_us: u64,
    pub(super) share: Share,
    pub(super) bucket: Bucket,
    /// The number of the limit of frames that the bucket is of.
    pub(super) flood_limit: u16,
    /// Since when frames have had to wait, which is not their peer's doing; `u64::MAX` where they
    /// have not.
    pub(super) waits_since_us: u64,
    /// What it was charged for last.
    pub(super) charge: Charge,
    /// When the last whole frame came; before the first, when the connection did.
    pub(super) frame_at_us: u64,
    /// When the peer last took something of what was queued, or when something was queued for a
    /// peer that had taken all.
    pub(super) progress_at_us: u64,
    /// While `only_pushes`: since when the peer has been quiet, but for taking what was pushed.
    pub(super) quiet_since_us: u64,
    /// Nothing but pushes was queued since all that came before was taken and no frame came.
    pub(super) only_pushes: bool,
    /// In `Ending` and `Lingering`: when it is closed at the latest. `u64::MAX` leaves it to the
    /// end of a stop.
    pub(super) close_by_us: u64,
    /// When the shard's timer looks at it; `u64::MAX` for never.
    pub(super) timer_at_us: u64,
}

/// What has gone over a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    /// When it was opened.
    pub(super) since_us: u64,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) frames_received: u64,
    pub(super) frames_sent: u64,
    /// The longest from a request to its reply sent, in microseconds.
    pub(super) slowest_us: u32,
}

/// Bytes that a connection may keep waiting, while a handler is at work, before its receiving is
/// paused. Longer than any frame, so that a frame can always be completed.
pub(super) const HELD_BYTES_MAX: usize = 64 * 1024;
const _: () = assert!(crate::protocol::FRAME_BYTES_MAX < HELD_BYTES_MAX);

/// How long a connection is quiet during a drain before it is closed, in microseconds: time for
/// GOAWAY to get there, and for what the peer had sent before it to arrive.
pub(super) const QUIET_US: u64 = 1_000_000;

impl<Socket> Connection<Socket> {
    pub(super) fn new(arrival: Arrival<Socket>, now_us: u64) -> Connection<Socket> {
        Connection {
            socket: arrival.socket,
            peer: arrival.peer,
            counted: arrival.counted,
            phase: Phase::Open,
            peer_done: false,
            receive: Receiving::Not,
            decoder: Decoder::new(),
            outbound: Outbound::default(),
            handling: None,
            paused: false,
            deferred: false,
            inflow: Inflow::default(),
            listed: false,
            framed: false,
            bad_frames: 0,
            traffic: Traffic {
                since_us: now_us,
                ..Traffic::default()
            },
            handling_since_us: now_us,
            handler_began_us: now_us,
            share: Share::default(),
            bucket: Bucket::default(),
            flood_limit: 0,
            waits_since_us: u64::MAX,
            charge: Charge::default(),
            frame_at_us: now_us,
            progress_at_us: now_us,
            quiet_since_us: now_us,
            only_pushes: false,
            close_by_us: u64::MAX,
            timer_at_us: u64::MAX,
        }
    }

    /// Fills the bucket when another limit is in force than last time: no frame is one too many for
    /// what was sent under former rules.
    #[inline]
    pub(super) fn renew_bucket(&mut self, flood_limit: u16) {
        if self.flood_limit != flood_limit {
            self.flood_limit = flood_limit;
            self.bucket = Bucket::default();
        }
    }

    /// So many whole frames have come.
    #[inline]
    pub(super) fn took_frames(&mut self, count: u64, now_us: u64) {
        if count > 0 {
            self.frame_at_us = now_us;
            self.only_pushes = false;
            self.framed = true;
            self.traffic.frames_received += count;
        }
    }

    /// Something is about to be pushed. To take that is no word of the peer's own, so it does not keep
    /// it from being idle.
    pub(super) fn note_push(&mut self) {
        if !self.only_pushes && self.outbound.bytes() == 0 {
            self.only_pushes = true;
            self.quiet_since_us = self.frame_at_us.max(self.progress_at_us);
        }
    }

    /// When something has to be done about this connection if nothing happens on it until then,
    /// and for which cause. `draining_since_us` is set while the shard drains.
    ///
    /// A peer that is slow to take a long reply is not idle, and neither is one that waits for a
    /// handler: while bytes are queued only their progress counts, and while a handler is at work
    /// nothing does.
    #[inline]
    pub(super) fn deadline(
        &self,
        settings: &Settings,
        draining_since_us: Option<u64>,
    ) -> Option<(u64, CloseCause)> {
        match self.phase {
            Phase::Open if self.outbound.bytes() > 0 => {
                let write_us = settings.write_us?;
                Some((self.progress_at_us + write_us, CloseCause::WriteTimeout))
            }
            Phase::Open if self.handling.is_some() => None,
            Phase::Open => self.quiet_deadline(settings, draining_since_us),
            Phase::Ending(cause) | Phase::Lingering(cause) => {
                (self.close_by_us < u64::MAX).then_some((self.close_by_us, cause))
            }
            Phase::Closing(_) => None,
        }
    }

    /// The deadline while the peer has all that it is to get.
    fn quiet_deadline(
        &self,
        settings: &Settings,
        draining_since_us: Option<u64>,
    ) -> Option<(u64, CloseCause)> {
        let quiet_since_us = if self.only_pushes {
            self.quiet_since_us.max(self.frame_at_us)
        } else {
            self.frame_at_us.max(self.progress_at_us)
        };
        let idle = settings
            .idle_us
            .map(|idle_us| (quiet_since_us + idle_us, CloseCause::Idle));
        let first_frame = settings
            .first_frame_us
            .filter(|_| !self.framed)
            .map(|first_us| (self.frame_at_us + first_us, CloseCause::FirstFrame));
        // Half a request that has arrived is not cut off: its peer has until the drain ends.
        let drained = draining_since_us
            .filter(|_| self.decoder.held_bytes() == 0)
            .map(|since_us| (quiet_since_us.max(since_us) + QUIET_US, CloseCause::Drain));
        [drained, first_frame, idle]
            .into_iter()
            .flatten()
            .min_by_key(|&(at_us, _)| at_us)
    }

    /// The memory that it holds, its own state included, in bytes.
    #[inline]
    pub(super) fn memory_bytes(&self) -> usize {
        Self::STATE_BYTES + self.decoder.memory_bytes() + self.outbound.memory_bytes()
    }

    /// What a connection without any bytes holds.
    pub(super) const STATE_BYTES: usize = size_of::<Self>() + super::timer::TIMER_BYTES;

    /// Whether the next frame may be handled now.
    #[inline]
    pub(super) fn may_handle(&self) -> bool {
        self.phase == Phase::Open && self.handling.is_none() && !self.paused && !self.deferred
    }

    /// Whether the peer has ended its side and been answered all that it asked: it stays open for
    /// what is still queued, and for nothing new.
    pub(super) fn is_served(&self) -> bool {
        let is_at_work = self.handling.is_some() || self.deferred;
        let may_have_more = self.paused && self.decoder.held_bytes() > 0;
        self.peer_done && !is_at_work && !may_have_more
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

    /// How to receive what comes next. What has been received again and again by the time that it is
    /// cancelled can be a lot, and has to be kept: a peer that sends in bulk, or is slow to take its
    /// replies, gets in what one buffer holds, and is looked at again. The way for large messages brings
    /// nothing more once it is cancelled.
    pub(super) fn reception(&self, bulk_bytes: usize) -> Reception {
        match self.inflow.reception() {
            Reception::Again if self.outbound.bytes() >= bulk_bytes => Reception::Once,
            how => how,
        }
    }

    /// Whether it is open and receives again and again, as it mostly does, in the way that it should:
    /// neither its phase nor its receiving changes, and nothing is sent before the turn ends.
    #[inline]
    pub(super) fn is_flowing(&self, bulk_bytes: usize) -> bool {
        self.phase == Phase::Open
            && self.wants_bytes()
            && match self.receive {
                Receiving::As(Reception::Again) => {
                    self.inflow.is_small() && self.outbound.bytes() < bulk_bytes
                }
                Receiving::As(Reception::Large) => self.is_flowing_large(bulk_bytes),
                _ => false,
            }
    }

    /// Not in the way of small messages.
    #[inline(never)]
    fn is_flowing_large(&self, bulk_bytes: usize) -> bool {
        self.inflow.reception() == Reception::Large && !self.has_much(bulk_bytes)
    }

    /// Whether it is to send much of its own, and nothing else is due when that is taken.
    pub(super) fn may_send_much_at_once(&self, bulk_bytes: usize) -> bool {
        self.has_much(bulk_bytes)
            && self.receive == Receiving::As(Reception::Large)
            && !self.listed
            && self.may_send_at_once()
    }

    /// Whether it is to send something of its own, and nothing else is due when that is taken.
    pub(super) fn may_send_at_once(&self) -> bool {
        self.phase == Phase::Open
            && self.wants_bytes()
            && self.outbound.is_ready()
            && !self.outbound.has_parts()
    }

    /// Whether there is as much to be sent now as fills a receive buffer.
    fn has_much(&self, bulk_bytes: usize) -> bool {
        self.outbound.bytes() >= bulk_bytes && self.outbound.is_ready()
    }

    /// Whether an operation on the socket is still to complete.
    pub(super) fn is_in_flight(&self) -> bool {
        self.receive != Receiving::Not || self.outbound.is_sending()
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
