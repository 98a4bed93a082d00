//! corelane: a thread-per-core, shared-nothing TCP message server for Linux.

pub mod apps;
pub mod client;
pub mod config;
pub mod handler;
pub mod metrics;
pub mod process;
pub mod protocol;
pub mod shard;
mod sys;

pub use config::Config;
pub use handler::{ConnectionId, Context, Reply, Request};
pub use process::worker::{ServeError, Server, ServerBuilder, ServerHandle, StartError};
