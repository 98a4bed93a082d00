//! The server over loopback, as clients and operators meet it: the real binary, and the library in
//! a program of somebody else.
//!
//! Each test starts a server of its own on a port of the kernel's choice, and waits for events with
//! one generous deadline; what it started ends with it, pass or fail. A test with chance in it
//! prints its seed, and `CORELANE_TEST_SEED` replays it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also where its support does it"
)]

mod support;

mod closing;
mod embedding;
mod frames;
mod handlers;
mod hosts;
mod limits;
mod logs;
mod losses;
mod panics;
mod reloading;
mod sending;
mod slowness;
mod stopping;
mod words;
