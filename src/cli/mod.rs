//! The command line: one file a subcommand.

mod check;
mod send;
mod serve;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use corelane::config::{Config, ConfigError, Override};

/// A thread-per-core, shared-nothing TCP message server. Without a command it serves.
#[derive(Parser)]
#[command(
    version,
    about,
    propagate_version = true,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Arguments,
}

#[derive(Subcommand)]
enum Command {
    /// Serve: what happens without a command, too
    Serve(serve::Arguments),
    /// Check a configuration and print the one in force as TOML
    Check(check::Arguments),
    /// Send a request and print the reply
    Send(send::Arguments),
}

/// Where the configuration comes from.
#[derive(Args)]
struct ConfigArguments {
    /// Configuration file (TOML); without one, built-in defaults
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override one key of the configuration, like limits.connections=500
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArguments {
    /// The configuration in force. The overrides of `first` come before those of --set.
    fn load(&self, first: Vec<Override>) -> Result<Config, ConfigError> {
        let mut overrides = first;
        for assignment in &self.set {
            overrides.push(Override::parse(assignment)?);
        }
        Config::load(self.config.as_deref().map(Path::new), &overrides)
    }
}

/// Why a command did not do what it was asked to: decides the exit status.
enum Failure {
    /// It failed while running: status 1.
    Run(String),
    /// The words or the configuration are wrong: status 2.
    Usage(String),
}

impl Failure {
    fn run(error: impl Display) -> Failure {
        Failure::Run(error.to_string())
    }

    fn usage(error: impl Display) -> Failure {
        Failure::Usage(error.to_string())
    }
}

/// Does what the arguments of this process say.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Send(arguments) => send::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Run(message)) => {
            eprintln!("corelane: {message}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            eprintln!("corelane: {message}");
            ExitCode::from(2)
        }
    }
}
