//! The named limits of the configuration: what each number may be at most and
//! at least. Both ends are allowed.
//!
//! All are `u64`, whatever the type of the field, so that one comparison and
//! one message serve them all.

use std::ops::RangeInclusive;

/// Addresses in `server.listen`: each costs every shard a listening socket.
pub const LISTEN_ADDRESSES: RangeInclusive<u64> = 1..=64;

/// `server.backlog`, connections: hosts rarely allow more in
/// `net.core.somaxconn`, where the kernel cuts it.
pub const BACKLOG: RangeInclusive<u64> = 1..=65_535;

/// `shards.count`, when it is a number: each is a thread, a ring and a
/// listening socket per address.
pub const SHARDS: RangeInclusive<u64> = 1..=1024;

/// Ids of CPUs in `shards.cpus`: those of an affinity mask of 512 bytes.
pub const CPU_IDS: RangeInclusive<u64> = 0..=4095;

/// `shards.busy_poll_us`, microseconds: a second of polling already is a core
/// that never sleeps.
pub const BUSY_POLL_US: RangeInclusive<u64> = 0..=1_000_000;

/// `limits.connections`, per shard: beyond it, the idle ones alone would take
/// gigabytes.
pub const CONNECTIONS: RangeInclusive<u64> = 1..=16_000_000;

/// `limits.connections_per_ip`, whole server: any number, and 0 is no limit.
pub const CONNECTIONS_PER_IP: RangeInclusive<u64> = 0..=u32::MAX as u64;

/// `limits.memory_bytes`, per shard: a mebibyte holds but sixteen of the
/// largest frames, and a tebibyte is more than a host has for one core.
pub const MEMORY_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 40;

/// `limits.max_frame_bytes`: from a header without a body to the largest
/// length that the 16 bits of the header can say.
pub const MAX_FRAME_BYTES: RangeInclusive<u64> = 8..=65_535;

/// `limits.max_bad_frames`, per connection: the first bad frame is always
/// counted before anything is decided.
pub const MAX_BAD_FRAMES: RangeInclusive<u64> = 1..=u32::MAX as u64;

/// `timeouts.first_frame_ms`, `timeouts.idle_ms` and `timeouts.write_ms`,
/// milliseconds: up to a day, and 0 is off.
pub const PATIENCE_MS: RangeInclusive<u64> = 0..=86_400_000;

/// `timeouts.drain_ms`, milliseconds: up to an hour.
pub const DRAIN_MS: RangeInclusive<u64> = 0..=3_600_000;

/// `timeouts.stop_ms`, milliseconds: up to an hour.
pub const STOP_MS: RangeInclusive<u64> = 0..=3_600_000;

/// `flood.frames_per_second` and `flood.burst`, per connection: more frames
/// than a core can handle in a second; 0 is off, and as many as a second
/// brings.
pub const FLOOD_FRAMES: RangeInclusive<u64> = 0..=10_000_000;

/// `outbound.low_bytes` and `outbound.max_bytes`, per connection: up to a
/// gibibyte.
pub const OUTBOUND_BYTES: RangeInclusive<u64> = 1..=1 << 30;

/// `outbound.high_bytes`, per connection: so far below the gibibyte that the
/// largest frame there can be fits between it and `outbound.max_bytes`.
pub const HIGH_BYTES: RangeInclusive<u64> = 1..=*OUTBOUND_BYTES.end() - *MAX_FRAME_BYTES.end();

/// `handlers.slow_ms`, milliseconds: 0 is off, and up to a minute.
pub const SLOW_MS: RangeInclusive<u64> = 0..=60_000;

/// `handlers.async_per_shard`, handlers at work at once.
pub const ASYNC_PER_SHARD: RangeInclusive<u64> = 1..=u32::MAX as u64;

/// `topics.per_connection`, `topics.per_shard` and `topics.distinct_per_shard`:
/// at least the one without which there is no use in topics, and beyond the
/// largest, the subscriptions alone would take gigabytes.
pub const SUBSCRIPTIONS: RangeInclusive<u64> = 1..=100_000_000;

/// `process.respawn_max_ms`, milliseconds: not so short that a worker which
/// can't live takes a core, and up to an hour.
pub const RESPAWN_MAX_MS: RangeInclusive<u64> = 100..=3_600_000;

/// `process.ready_ms`, milliseconds: starting takes some of them at least, and
/// up to an hour.
pub const READY_MS: RangeInclusive<u64> = 100..=3_600_000;

/// `accounts.hash_threads`: as many CPUs as hosts have for it, at 19 MiB each.
pub const HASH_THREADS: RangeInclusive<u64> = 1..=64;

/// `accounts.hash_queue`, requests: what a thread hashes in half an hour.
pub const HASH_QUEUE: RangeInclusive<u64> = 1..=65_536;

/// `log.stats_seconds`, seconds.
pub const STATS_SECONDS: RangeInclusive<u64> = 0..=u32::MAX as u64;

/// `log.repeats_per_second`, lines of one kind: more than a disk takes; 0 is no
/// limit.
pub const REPEATS_PER_SECOND: RangeInclusive<u64> = 0..=1_000_000;

/// `log.repeats_burst`, lines of one kind: at least the one that says what
/// happens.
pub const REPEATS_BURST: RangeInclusive<u64> = 1..=1_000_000;
