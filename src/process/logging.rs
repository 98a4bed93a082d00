//! Where the logs go.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// The log can't be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// `log.level` is not a filter, in a configuration that was not validated: the caller's mistake.
    #[error("log.level is {level:?}, which is not a filter: {problem}")]
    Level {
        /// What it is.
        level: String,
        /// What is wrong about it.
        problem: String,
    },
    /// `log.file` can't be opened.
    #[error("cannot open the log file {file}: {error}", file = file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
}

/// From now on, this process logs as configured.
///
/// # Errors
///
/// [`LogError`]. Where a log is set up already, it stays.
pub fn start(log: &Log) -> Result<(), LogError> {
    let filter = filter(log)?;
    if let Some(path) = log.file() {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|error| LogError::File {
                file: path.to_owned(),
                error,
            })?;
        subscribe(filter, log.format, Mutex::new(file), false);
    } else {
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        subscribe(filter, log.format, io::stderr, colours);
    }
    Ok(())
}

fn filter(log: &Log) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(&log.level).map_err(|error| LogError::Level {
        level: log.level.clone(),
        problem: error.to_string(),
    })
}

fn subscribe<W>(filter: EnvFilter, format: LogFormat, writer: W, colours: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(colours);
    // Fails only where a log is set up already.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
