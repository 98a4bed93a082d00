//! Accounts as clients and operators meet them: the real binary, kill -9, files that are not what
//! they should be, and the memory of the process.
//!
//! Each test starts a server of its own on a port of the kernel's choice, with a file of its own, and
//! waits for events with one generous deadline; what it started ends with it, pass or fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also where its support does it"
)]

#[path = "../server/support/peer.rs"]
#[allow(dead_code, reason = "tests/server uses the rest of it")]
mod peer;
#[path = "../server/support/program.rs"]
#[allow(dead_code, reason = "tests/server uses the rest of it")]
mod program;
#[path = "../process/support.rs"]
#[allow(dead_code, reason = "tests/process uses the rest of it")]
mod supervised;
mod support;
#[path = "../server/support/user.rs"]
#[allow(dead_code, reason = "tests/server uses the rest of it")]
mod user;
mod waiting;

mod answers;
mod crashing;
mod files;
mod queueing;
mod racing;
mod replacing;
mod sessions;
mod wiping;
