//! Where the logs go, and reopening a log file that was moved away.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

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
        let file = LogFile {
            path: path.to_owned(),
            file: Mutex::new(open(path)?),
        };
        subscribe(filter, log.format, LOG_FILE.get_or_init(|| file), false);
    } else {
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        subscribe(filter, log.format, io::stderr, colours);
    }
    Ok(())
}

/// Opens the log file anew, by the name that it was given: whoever rotates logs has moved the old
/// one away. Without a log file there is nothing to do.
///
/// # Errors
///
/// [`LogError::File`]; then the old file stays in use.
pub fn reopen() -> Result<(), LogError> {
    if let Some(log_file) = LOG_FILE.get() {
        let file = open(&log_file.path)?;
        *log_file.lock() = file;
    }
    Ok(())
}

/// The log file of this process; it has but one log.
static LOG_FILE: OnceLock<LogFile> = OnceLock::new();

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: Mutex<File>,
}

impl LogFile {
    fn lock(&self) -> MutexGuard<'_, File> {
        // Nothing is half done in a file when a writer panics but a line.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for &'static LogFile {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self.lock())
    }
}

/// The file while a line is being written.
struct Line<'a>(MutexGuard<'a, File>);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn open(path: &Path) -> Result<File, LogError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|error| LogError::File {
            file: path.to_owned(),
            error,
        })
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
