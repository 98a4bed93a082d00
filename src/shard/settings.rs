//! What a shard takes from the configuration, in the units that it works with.

use crate::config::{Config, ErrorFrames};

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
    /// Asynchronous handlers at work at once.
    pub handlers_max: usize,
    /// Whether ERROR frames are sent.
    pub reply_errors: bool,
    /// How long a stop may take, in microseconds.
    pub stop_us: u64,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Settings {
        Settings {
            connections_max: config.limits.connections as usize,
            frame_bytes_max: usize::from(config.limits.max_frame_bytes),
            bad_frames_max: config.limits.max_bad_frames,
            outbound_low_bytes: config.outbound.low_bytes as usize,
            outbound_high_bytes: config.outbound.high_bytes as usize,
            handlers_max: config.handlers.async_per_shard as usize,
            reply_errors: config.protocol.errors == ErrorFrames::Reply,
            stop_us: u64::from(config.timeouts.stop_ms) * 1000,
        }
    }
}
