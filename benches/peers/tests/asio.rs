//! The Boost.Asio peer answers as it should. It takes the packages that `asio/build` names.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also where its support does it"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Built once for all tests here, by the script that the comparison builds it with.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peer-asio");
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("asio/build");
        let output = Command::new(build).arg(&program).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        program
    })
}

support::promises!(program());
