//! The life of a connection over real sockets: how it gets in, what it may take up, and how it ends.
//!
//! As in tests/server, each test starts a server of its own and waits for events. Where time itself
//! is what is tested, a busy host can only add to what is asserted: a time-out that must come is
//! short, and one that must not come has seconds of room.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also where its support does it"
)]

#[path = "../server/support/mod.rs"]
#[allow(dead_code, reason = "tests/server uses the rest of it")]
mod support;

mod clients;

mod addresses;
mod balance;
mod causes;
mod churn;
mod drain;
mod fairness;
mod flood;
mod flow;
mod memory;
mod reuse;
mod timeouts;
mod waking;
