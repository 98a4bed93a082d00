//! Master and worker as operators meet them: the real binary, signals, kill -9, pid files and the
//! commands that find them.
//!
//! Each test starts a server of its own on a port of the kernel's choice, in a folder of its own,
//! and waits for events with one generous deadline; what it started ends with it, pass or fail. A
//! test with chance in it prints its seed, and `CORELANE_TEST_SEED` replays it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also where its support does it"
)]

#[path = "../server/support/seed.rs"]
mod seed;
mod storm;
mod support;
#[path = "../server/support/waiting.rs"]
#[allow(dead_code, reason = "tests/server uses the rest of it")]
mod waiting;

mod adapting;
mod crashing;
mod files;
mod halting;
mod logging;
mod ordering;
mod passing;
mod reloading;
mod shrinking;
mod starting;
mod upgrading;
