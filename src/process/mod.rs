//! The process around the shards: starting them, stopping them, signals, logs.

pub mod logging;
pub mod master;
pub(crate) mod placement;
pub mod signals;
pub mod worker;
