//! What a shard takes from the configuration, in the units that it works with.

use std::num::NonZeroU32;

use super::ending::GOAWAY_BYTES;
use super::flood::Flood;
use crate::config::{Accept, Config, ErrorFrames};

/// The limits and habits of one shard.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections at once.
    pub connections_max: usize,
    /// The longest frame that is accepted or sent, header included, in bytes.
    pub frame_bytes_max: usize,
    /// The bad frame that ends a connection.
    pub bad_frames_max: u32,
    /// Queued bytes below which a paused connection goes on; at least 1.
    pub outbound_low_bytes: usize,
    /// Queued bytes at which a connection is paused.
    pub outbound_high_bytes: usize,
    /// Queued bytes beyond which a connection is closed.
    pub outbound_bytes_max: usize,
    /// Bytes that all connections may hold before no other is accepted.
    pub memory_bytes_max: usize,
    /// Connections of one address at once, on all shards; `None` for any number.
    pub connections_per_address_max: Option<NonZeroU32>,
    /// Whether connections are handed to the least loaded shard.
    pub balanced: bool,
    /// How long a connection may take to its first whole frame, in microseconds.
    pub first_frame_us: Option<u64>,
    /// How long a connection may send no whole frame while nothing is sent to it, in microseconds.
    pub idle_us: Option<u64>,
    /// How long a peer may take nothing of what is queued for it, in microseconds.
    pub write_us: Option<u64>,
    /// How fast frames may come on a connection.
    pub flood: Option<Flood>,
    /// Bytes received at once from which on a peer sends much at a time.
    pub large_bytes: usize,
    /// Bytes received at once from which on a peer sends in bulk: a receive buffer's.
    pub bulk_bytes: usize,
    /// Frames of one connection that are handled in one turn; at least 1.
    pub turn_frames_max: u32,
    /// Bytes of one connection's frames from which on the rest waits for the next turn; at least 1.
    pub turn_bytes_max: usize,
    /// Slots of connections that are brought in line with other settings in one turn, and that a
    /// broadcast goes over; at least 1.
    pub turn_slots_max: usize,
    /// Errands of handlers that are carried out in one turn; at least 1.
    pub turn_errands_max: usize,
    /// Pushes, broadcasts and functions of others, be it other shards or threads outside, that are
    /// carried out in one turn; at least 1.
    pub turn_messages_max: usize,
    /// Asynchronous handlers at work at once.
    pub handlers_max: usize,
    /// What longer than this is slow, in microseconds: a handler, and a turn.
    pub slow_us: Option<u64>,
    /// Whether ERROR frames are sent.
    pub reply_errors: bool,
    /// How long a drain may take, in microseconds.
    pub drain_us: u64,
    /// How long a stop may take, in microseconds.
    pub stop_us: u64,
}

impl Settings {
    /// The least time from a frame, or from something that is queued or taken, to a deadline that
    /// follows from it. (That of the first frame follows from the connection's beginning.)
    pub(super) fn deadline_us_min(&self) -> u64 {
        let deadlines = [self.idle_us, self.write_us].into_iter().flatten();
        deadlines.min().unwrap_or(u64::MAX)
    }

    /// The most that is ever queued for one connection, in bytes: one reply may come on top of what
    /// pauses it, and the last words on top of that.
    pub(super) fn queued_bytes_max(&self) -> usize {
        let paused = self.outbound_high_bytes + 2 * self.frame_bytes_max + GOAWAY_BYTES;
        self.outbound_bytes_max.min(paused) + self.frame_bytes_max
    }

    /// Whether so long is slow.
    #[inline]
    pub(super) fn is_slow(&self, took_us: u64) -> bool {
        self.slow_us.is_some_and(|slow_us| took_us > slow_us)
    }

    /// What a frame counts of [`Settings::turn_bytes_max`] at least, so that there are at most
    /// [`Settings::turn_frames_max`].
    #[inline]
    pub(super) fn turn_frame_bytes_min(&self) -> u32 {
        let bytes_max = u32::try_from(self.turn_bytes_max).unwrap_or(u32::MAX);
        bytes_max.div_ceil(self.turn_frames_max.max(1))
    }
}

/// Frames and bytes that one connection gets in a turn. With cheap handlers some 100 microseconds:
/// longer than that, nobody waits for a connection that pipelines without end.
const TURN_FRAMES: u32 = 512;
const TURN_BYTES: usize = 128 * 1024;

/// Slots that are looked at in a turn after a reload, which takes some ten microseconds, or that a
/// broadcast goes over: as many connections as a turn serves else.
const TURN_SLOTS: usize = 512;

/// Errands in a turn, for the same reason: most of them are frames to be sent, and the kernel takes
/// microseconds for each, in which nobody else is served.
const TURN_ERRANDS: usize = 512;

/// What others want done in a turn. More than comes from the mesh in one, so that what has piled up
/// behind a broadcast grows less however much comes.
const TURN_MESSAGES: usize = 2 * super::COMPLETIONS_PER_TURN;

impl From<&Config> for Settings {
    fn from(config: &Config) -> Settings {
        Settings {
            connections_max: config.limits.connections as usize,
            frame_bytes_max: usize::from(config.limits.max_frame_bytes),
            bad_frames_max: config.limits.max_bad_frames,
            outbound_low_bytes: config.outbound.low_bytes as usize,
            outbound_high_bytes: config.outbound.high_bytes as usize,
            outbound_bytes_max: config.outbound.max_bytes as usize,
            memory_bytes_max: usize::try_from(config.limits.memory_bytes).unwrap_or(usize::MAX),
            connections_per_address_max: NonZeroU32::new(config.limits.connections_per_ip),
            balanced: config.shards.accept == Accept::Balanced,
            first_frame_us: us_unless_off(config.timeouts.first_frame_ms),
            idle_us: us_unless_off(config.timeouts.idle_ms),
            write_us: us_unless_off(config.timeouts.write_ms),
            flood: Flood::new(config.flood.frames_per_second, config.flood.burst),
            large_bytes: LARGE_BYTES,
            bulk_bytes: BULK_BYTES,
            turn_frames_max: TURN_FRAMES,
            turn_bytes_max: TURN_BYTES,
            turn_slots_max: TURN_SLOTS,
            turn_errands_max: TURN_ERRANDS,
            turn_messages_max: TURN_MESSAGES,
            handlers_max: config.handlers.async_per_shard as usize,
            slow_us: us_unless_off(config.handlers.slow_ms),
            reply_errors: config.protocol.errors == ErrorFrames::Reply,
            drain_us: u64::from(config.timeouts.drain_ms) * 1000,
            stop_us: u64::from(config.timeouts.stop_ms) * 1000,
        }
    }
}

/// From so many bytes at a time on, it takes less of the CPU to receive each when it is its turn.
const LARGE_BYTES: usize = 8 * 1024;

/// A whole receive buffer.
pub(super) const BULK_BYTES: usize = 32 * 1024;

/// A time-out of the configuration, where 0 means none.
fn us_unless_off(ms: u32) -> Option<u64> {
    (ms > 0).then(|| u64::from(ms) * 1000)
}
