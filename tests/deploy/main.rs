//! What operators copy from `deploy/`: units, image, seccomp profile and kernel settings, held
//! against the program and the configurations that they are for.
//!
//! They are read as their readers read them, as far as they go: a line in a form that is not known
//! here fails its test rather than being passed over. `verify-units` and `calls`, beside this file,
//! ask systemd and the kernel; `.ci/run` runs them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also where its support does it"
)]

use std::path::{Path, PathBuf};

use corelane::Config;
use corelane::config::Override;

#[path = "../server/support/program.rs"]
#[allow(dead_code, reason = "tests/server uses the rest of it")]
mod program;
#[path = "../server/support/waiting.rs"]
#[allow(dead_code, reason = "tests/server uses the rest of it")]
mod waiting;

mod host;
mod image;
mod units;
mod walk;

/// Where units and image have the program and its configuration.
const PROGRAM: &str = "/usr/bin/corelane";
const CONFIGURATION: &str = "/etc/corelane/corelane.toml";

/// A path of the repository.
fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

/// The text of a file of the repository.
fn text(of: &str) -> String {
    std::fs::read_to_string(path(of)).unwrap_or_else(|error| panic!("{of}: {error}"))
}

/// The configuration in force where `serve` is started with these words, and the file of the
/// repository stands for the installed one. `corelane check` is asked with the same words.
fn in_force(words: &[&str], file: &str) -> Config {
    let file = path(file);
    let (first, rest) = words.split_first().expect("words behind the program");
    assert_eq!(*first, "serve");
    let rest = here(rest, CONFIGURATION, file.to_str().unwrap());
    program::run(&[&["check"][..], &rest].concat()).succeeded();

    let settings = rest.windows(2).filter(|pair| pair[0] == "--set");
    let overrides: Vec<Override> = settings
        .map(|pair| Override::parse(pair[1]).unwrap())
        .collect();
    Config::load(Some(&file), &overrides).unwrap()
}

/// The words, with something of this host in the place of what is installed, which must be there.
fn here<'a>(words: &[&'a str], installed: &str, own: &'a str) -> Vec<&'a str> {
    assert!(words.contains(&installed), "{words:?} have no {installed}");
    let swap = |&word: &&'a str| if word == installed { own } else { word };
    words.iter().map(swap).collect()
}

/// What the README's table says to send for a command like `corelane quit`.
fn signals_of(command: &str) -> Vec<String> {
    let readme = text("README.md");
    let row = readme
        .lines()
        .find_map(|line| line.strip_prefix(&format!("| `corelane {command}` | ")))
        .unwrap_or_else(|| panic!("the README's table has no {command}"));
    let (signals, _) = row.split_once(" | ").unwrap();
    signals
        .split(", ")
        .map(|name| format!("SIG{name}"))
        .collect()
}
