//! The admin server over loopback: a real server in this process, a real admin server on a thread of
//! its own, and HTTP down to its bytes.
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

mod applications;
mod http;
mod plane;

mod accounts;
mod draining;
mod endpoints;
mod exactness;
mod limits;
mod own;
mod prometheus;
mod starting;
mod stuck;
mod topics;
