//! How a master starts a worker, and how a worker is told what it needs.
//!
//! A worker is the program file executed anew, under the title `corelane: worker`. It reads its
//! configuration, which the master has checked, from standard input; it takes its sockets as
//! sd_listen_fds(3) has it, and tells that it is ready as sd_notify(3) has it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};

use super::holding::Holding;
use super::notify;
use crate::config::{Config, ConfigError};
use crate::sys::child::{self, Launch};

/// The zeroth argument of a worker, by which it knows that it is one.
pub const WORKER_TITLE: &str = "corelane: worker";

/// The variable with the words that a master was started with, as JSON.
pub const WORDS: &str = "CORELANE_WORDS";

/// The variable that is set where another worker serves until the new one is ready.
const SUCCEEDS: &str = "CORELANE_SUCCEEDS";

/// The variable with what an old program's master has left to the new one, as JSON.
pub(crate) const ESTATE: &str = "CORELANE_ESTATE";

/// What a worker must not inherit: words for another process than it.
const NOT_INHERITED: [&str; 8] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    notify::VARIABLE,
    "WATCHDOG_PID",
    WORDS,
    SUCCEEDS,
    ESTATE,
];

/// Starts a worker, which `succeeds` another that serves meanwhile or does not; gives back its
/// process id.
pub(crate) fn start(
    program: &Path,
    config: &Config,
    holding: &Holding,
    notify_at: &str,
    succeeds: bool,
) -> io::Result<u32> {
    let sockets = holding.sockets();
    let mut environment: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| !NOT_INHERITED.iter().any(|known| OsStr::new(known) == name))
        .collect();
    environment.extend([
        ("LISTEN_FDS".into(), sockets.len().to_string().into()),
        ("LISTEN_FDNAMES".into(), holding.names().into()),
        (notify::VARIABLE.into(), notify_at.into()),
    ]);
    if succeeds {
        environment.push((SUCCEEDS.into(), "1".into()));
    }
    child::start(Launch {
        program,
        title: WORKER_TITLE,
        environment,
        stdin: in_memory(&config.to_toml())?.into(),
        passed: &sockets,
    })
}

/// Whether this worker succeeds another, which serves until this one is ready.
pub fn succeeds() -> bool {
    std::env::var_os(SUCCEEDS).is_some()
}

/// A file in memory with this text, to be read from its start.
fn in_memory(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("corelane-config", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// A worker's configuration can't be had: it was not started by a master of this version.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerConfigError {
    /// Standard input can't be read.
    #[error("a worker reads its configuration from its master on standard input, but: {0}")]
    Unreadable(#[from] io::Error),
    /// It is wrong.
    #[error(transparent)]
    Wrong(#[from] ConfigError),
}

/// Begins what a master sends a worker that is to take over a configuration, which follows.
const CONFIG_WORDS: &str = "X_CORELANE_CONFIG\n";

/// What a worker is sent to take a configuration over; `None` if that is too long to be sent.
pub(crate) fn words_with_config(config: &Config) -> Option<String> {
    let words = format!("{CONFIG_WORDS}{}", config.to_toml());
    (words.len() <= notify::DATAGRAM_BYTES_MAX).then_some(words)
}

/// The configuration in what a master has sent, if it sent one.
pub(crate) fn config_in_words(words: &str) -> Option<Result<Config, ConfigError>> {
    let text = words.strip_prefix(CONFIG_WORDS)?;
    Some(Config::parse(text, MASTERS_CONFIG, &[]))
}

/// What a master's configuration is called in errors.
const MASTERS_CONFIG: &str = "the master's configuration";

/// The configuration that the master of this worker has passed on.
///
/// # Errors
///
/// [`WorkerConfigError`].
pub fn config_of_worker() -> Result<Config, WorkerConfigError> {
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text)?;
    Ok(Config::parse(&text, MASTERS_CONFIG, &[])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_is_sent_comes_as_it_was() {
        let mut config = Config::default();
        config.timeouts.idle_ms = 1234;
        let words = words_with_config(&config).unwrap();
        assert_eq!(config_in_words(&words).unwrap().unwrap(), config);
    }

    #[test]
    fn nothing_is_no_configuration_and_a_long_one_is_not_sent() {
        assert!(config_in_words("").is_none());
        let mut config = Config::default();
        config.log.file = "x".repeat(notify::DATAGRAM_BYTES_MAX).into();
        assert_eq!(words_with_config(&config), None);
    }
}
