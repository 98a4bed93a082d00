//! What the benches share: children to measure, and figures to print.

#![allow(dead_code)] // each bench uses its own part

use std::fmt::Display;
use std::process::ExitCode;

use self::flags::{Flag, Flags, Parsed};

pub(crate) mod epoll_server;
pub(crate) mod flags;
pub(crate) mod frames;
pub(crate) mod glommio_server;
pub(crate) mod machine;
pub(crate) mod server;
pub(crate) mod stats;

/// Why a bench ends early, as one sentence.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The words on the command line are wrong.
    Words(String),
    /// It failed while running.
    Running(String),
}

/// Says in a sentence what failed.
pub(crate) trait OrFailed<T> {
    /// `what` was tried; the error's own text follows it.
    fn or_failed(self, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Display> OrFailed<T> for Result<T, E> {
    fn or_failed(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::Running(format!("{what}: {error}")))
    }
}

/// The main function of a bench: `bench` runs if cargo asks for a measurement.
///
/// `cargo test --all-targets` starts bench programs too, without `--bench`: then nothing is
/// measured. A bench starts itself again with `--serve` for the servers that it compares with.
pub(crate) fn main(
    name: &str,
    known: &[Flag],
    bench: impl FnOnce(&Flags) -> Result<(), Failure>,
) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ended = if words.first().is_some_and(|word| word == server::SERVE) {
        server::serve(&words[1..])
    } else if words.iter().any(|word| word == "--bench") {
        flags::parse(&words, known).and_then(|parsed| match parsed {
            Parsed::Help => {
                print!("{}", flags::help(name, known));
                Ok(())
            }
            Parsed::Run(flags) => bench(&flags),
        })
    } else {
        eprintln!(
            "{name}: nothing is measured without `--bench`; run `cargo bench --bench {name}`"
        );
        Ok(())
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Words(sentence)) => {
            eprintln!("{name}: {sentence}");
            ExitCode::from(2)
        }
        Err(Failure::Running(sentence)) => {
            eprintln!("{name}: {sentence}");
            ExitCode::FAILURE
        }
    }
}
