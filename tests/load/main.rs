//! `corelane load` for real: against the real server, and against a server that does wrong as each
//! test says.
//!
//! Runs are short and nothing depends on how fast they are: what must be so is counted by both
//! sides and compared, and where time matters, a busy host can only add to it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also where its support does it"
)]

mod support;

mod closing;
mod interrupting;
mod reporting;
mod serving;
mod stalling;
mod waiting;
mod words;
mod wrong_replies;
