//! The clients over real sockets: against the server of this crate, and against a scripted one that
//! does what a server should not.
//!
//! Tests wait for events, with one generous deadline. Where a client is to do something after a
//! time, the time is short and the test waits for the deed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also where its support does it"
)]

#[cfg(feature = "tokio-client")]
mod asynchronous;
mod blocking;
#[cfg(feature = "tokio-client")]
mod endings;
mod faults;
mod messages;
mod scripted;
mod server;
