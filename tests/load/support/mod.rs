//! What the tests stand on: the binary as a child process, what a run of `load` gave out, and a
//! server that misbehaves.

pub(crate) mod measured;
pub(crate) mod program;
pub(crate) mod server;
