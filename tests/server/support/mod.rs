//! What the tests stand on: the binary as a child process, the library's server, users with the
//! crate's client, a peer that speaks bytes, gates for handlers, and waiting.

pub(crate) mod backlogged;
pub(crate) mod gate;
pub(crate) mod library;
pub(crate) mod log_capture;
pub(crate) mod peer;
pub(crate) mod program;
pub(crate) mod seed;
pub(crate) mod user;
pub(crate) mod waiting;
