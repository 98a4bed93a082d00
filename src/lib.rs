//! corelane: a thread-per-core, shared-nothing TCP message server for Linux.

pub mod config;
pub mod protocol;
