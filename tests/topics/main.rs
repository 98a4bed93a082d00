//! Topics over real sockets: a server of two shards in this process, and once the real binary.
//!
//! As in tests/server, each test starts a server of its own and waits for events.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also where its support does it"
)]

#[path = "../server/support/mod.rs"]
#[allow(dead_code, reason = "tests/server uses the rest of it")]
mod support;

mod forum;

mod churn;
mod leaving;
mod overload;
mod publishing;
mod subscribing;
