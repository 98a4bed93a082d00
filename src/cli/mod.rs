//! The command line: one file a subcommand.

mod admin;
mod check;
mod control;
mod doctor;
mod load;
mod master;
mod patience;
mod report;
mod send;
mod serve;
mod top;
mod worker;

use std::fmt::Display;
use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use corelane::config::{Config, ConfigError, Override};
use corelane::process::{launch, logging, title};
use rustix::process::Signal;

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
    /// Put load on a server and measure its latencies
    Load(load::Arguments),
    /// Lay the reports of several load runs over one another
    Report(report::Arguments),
    /// Look at this host: what is wrong with it for a server, and what mends it
    Doctor(doctor::Arguments),
    /// Watch a running server in the terminal: what its dashboard shows
    Top(top::Arguments),
    /// Stop the running server soon: replies that are queued are flushed
    Stop(control::Arguments),
    /// Drain the running server: requests are answered, then it ends
    Quit(control::Arguments),
    /// Have the running server read its configuration again
    Reload(control::Arguments),
    /// Have the running server reopen its log file
    Reopen(control::Arguments),
    /// Have the running server go on as the program file now on disk
    Upgrade(control::Arguments),
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
    /// Another process has said why: this status.
    Told(u8),
}

impl Failure {
    fn run(error: impl Display) -> Failure {
        Failure::Run(error.to_string())
    }

    fn usage(error: impl Display) -> Failure {
        Failure::Usage(error.to_string())
    }

    /// The sentence.
    fn into_message(self) -> String {
        match self {
            Failure::Run(message) | Failure::Usage(message) => message,
            Failure::Told(status) => format!("exit status {status}"),
        }
    }
}

/// Does what the arguments of this process say, the zeroth included: by its title a process that
/// was executed anew knows what it is to be.
pub(crate) fn main() -> ExitCode {
    match outcome() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Run(message)) => {
            eprintln!("corelane: {message}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            eprintln!("corelane: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Told(status)) => ExitCode::from(status),
    }
}

/// Whatever was logged is written when this returns: before the sentence about a failure.
fn outcome() -> Result<(), Failure> {
    let _flush = logging::FlushAtEnd;
    let title = std::env::args_os().next().unwrap_or_default();
    match title.to_str() {
        Some(launch::WORKER_TITLE) => worker::run(),
        Some(title) if title.starts_with(title::MASTER_TITLE) => master::run(),
        _ => run(Cli::parse()),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Send(arguments) => send::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Stop(arguments) => control::go_down(&arguments, Signal::TERM),
        Command::Quit(arguments) => control::go_down(&arguments, Signal::QUIT),
        Command::Reload(arguments) => control::ask(&arguments, Signal::HUP),
        Command::Upgrade(arguments) => control::ask(&arguments, Signal::USR2),
        Command::Reopen(arguments) => control::ask(&arguments, Signal::USR1),
    }
}

/// The addresses of a server's host and port.
fn resolve(host_and_port: &str) -> Result<Vec<SocketAddr>, Failure> {
    resolve_like(host_and_port, "127.0.0.1:8700")
}

/// The addresses of a host and port; whoever gave none is shown `example`.
fn resolve_like(host_and_port: &str, example: &str) -> Result<Vec<SocketAddr>, Failure> {
    let addresses = host_and_port.to_socket_addrs().map_err(|error| {
        Failure::Usage(format!(
            "{host_and_port} is no address: {error}; give host and port, like {example}"
        ))
    })?;
    Ok(addresses.collect())
}

fn no_address(host_and_port: &str) -> Failure {
    Failure::Usage(format!("{host_and_port} has no address"))
}

/// A time of the command line, like 500ms.
fn parse_time(text: &str) -> Result<Duration, String> {
    // Longer numbers are past all sense, and more than the parser can add up.
    if text
        .split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.len() > 15)
    {
        return Err("no such long time can be waited; give a time like 5s or 500ms".to_owned());
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; give a time like 5s or 500ms"))
}

/// Prints text and a line end to stdout.
fn print(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout().lock(), "{text}")
        .map_err(|error| Failure::Run(format!("the result cannot be written to stdout: {error}")))
}
