//! Reports of load runs: the pages and files that are made from records, and `corelane report` as
//! the real binary.
//!
//! The records are made up here, from random latencies by seed: shaped as runs have them, and no
//! measurement of anything. The pages stay in the build's folder for tests, under `report-pages`,
//! where `tests/report/browse` opens them in a real browser.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also where its support does it"
)]

mod command;
mod files;
mod pages;
mod sample;
mod well_formed;
