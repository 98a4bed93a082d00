//! The process around the shards: master and worker, starting and stopping them, signals, logs.

pub mod answers;
pub mod control;
pub mod daemon;
pub mod handle;
pub mod handover;
pub(crate) mod holding;
pub mod identity;
pub mod launch;
pub mod listeners;
pub mod logging;
pub mod master;
pub mod notify;
pub mod outside;
pub mod pid_file;
pub(crate) mod placement;
pub(crate) mod possessions;
pub(crate) mod setting;
pub mod signals;
pub mod supervisor;
pub mod title;
pub(crate) mod watchdog;
pub mod worker;
