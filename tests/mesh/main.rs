//! What handlers can do besides answering, over real sockets: pushes, functions on other shards,
//! broadcasts and hooks.
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

mod club;

mod calling;
mod hooking;
mod outside;
mod pushing;
mod refusing;
