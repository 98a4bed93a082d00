//! The master: no command of its own, but what `serve` becomes with `process.mode = "supervised"`.
//!
//! It executes the program anew in its own place, to show in `ps` as what it is: the words that it
//! was started with go into the environment, since the title takes their place.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use clap::Parser as _;
use corelane::config::Config;
use corelane::process::daemon::{self, Started};
use corelane::process::handover::Estate;
use corelane::process::supervisor::{Duties, SuperviseError, supervise};
use corelane::process::{launch, logging, title};

use super::{Cli, Failure, serve};

/// Executes this program anew as a master: in the place of this process, which returns only if it
/// can't, or as a daemon.
pub(super) fn become_master(config: &Config, file: Option<&Path>) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(Failure::run)?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words = serde_json::to_string(&words).map_err(Failure::run)?;
    let mut command = Command::new(&program);
    command
        .arg0(title::of_master(file))
        .env(launch::WORDS, words);
    let error = if config.process.daemon {
        match daemon::start(&mut command) {
            Ok(Started::Ready) => return Ok(()),
            Ok(Started::Failed(status)) => return Err(Failure::Told(status.unwrap_or(1).max(1))),
            Err(error) => error,
        }
    } else {
        command.exec()
    };
    let program = program.display();
    Err(Failure::Run(format!("cannot execute {program}: {error}")))
}

pub(super) fn run() -> Result<(), Failure> {
    title::name_process().map_err(Failure::run)?;
    let program = std::env::current_exe().map_err(Failure::run)?;
    let arguments = arguments()?;
    let estate = Estate::inherited().map_err(Failure::run)?;
    let config = match &estate {
        // The file may have changed; that is a reload's affair.
        Some(estate) => estate.config().map_err(Failure::run)?,
        None => arguments.load()?,
    };
    if estate.is_none() {
        daemon::leave_terminal().map_err(Failure::run)?;
    }
    logging::start(&config.log).map_err(Failure::run)?;
    let read_config = || arguments.load().map_err(Failure::into_message);
    let duties = Duties {
        config,
        estate,
        program: &program,
        read_config: &read_config,
        announce: &serve::announce,
    };
    supervise(duties).map_err(failure)
}

/// Those of `serve` that this process was started with.
fn arguments() -> Result<serve::Arguments, Failure> {
    let words = std::env::var(launch::WORDS).unwrap_or_else(|_| "[]".to_owned());
    let words: Vec<String> = serde_json::from_str(&words).map_err(|error| {
        Failure::Usage(format!("{} is no list of words: {error}", launch::WORDS))
    })?;
    let cli = Cli::parse_from(std::iter::once("corelane".to_owned()).chain(words));
    match cli.command {
        None => Ok(cli.serve),
        Some(super::Command::Serve(arguments)) => Ok(arguments),
        Some(_) => Err(Failure::Usage(
            "a master takes the words of serve".to_owned(),
        )),
    }
}

fn failure(error: SuperviseError) -> Failure {
    use corelane::StartError;
    match error {
        SuperviseError::Failed {
            status: Some(status @ 1..),
        } => Failure::Told(status),
        SuperviseError::Start(StartError::Placement(_)) | SuperviseError::Passed(_) => {
            Failure::usage(error)
        }
        _ => Failure::run(error),
    }
}
