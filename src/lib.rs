//! corelane: a thread-per-core, shared-nothing TCP message server for Linux.

pub mod config;
pub mod handler;
pub mod metrics;
pub mod protocol;
pub mod shard;
