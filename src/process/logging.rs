//! Where the logs go and what is logged, and changing both while the process runs: reopening a log
//! file that was moved away, and another level.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{Log, LogFormat};

/// The log can't be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The level is not a filter, in a configuration that was not validated or given to
    /// [`set_level`]: the caller's mistake.
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
    /// This process has no log of [`start`]'s: none was started, or the program has its own.
    #[error("this process has no log whose level can be set; start one first")]
    None,
}

/// From now on, this process logs as configured.
///
/// # Errors
///
/// [`LogError`]. Where a log is set up already, it stays.
pub fn start(log: &Log) -> Result<(), LogError> {
    let filter = filter(&log.level)?;
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

/// From now on, the log has this level: a filter as in `log.level`.
///
/// # Errors
///
/// [`LogError::Level`], and then the level stays as it is; [`LogError::None`].
pub fn set_level(level: &str) -> Result<(), LogError> {
    let filter = filter(level)?;
    let running = FILTER.get().ok_or(LogError::None)?;
    // Fails only where the log is gone, and nobody takes it down.
    running.reload(filter).map_err(|_| LogError::None)
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

/// What the log of this process lets through; it has but one log.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// The log file of this process.
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

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(level).map_err(|error| LogError::Level {
        level: level.to_owned(),
        problem: error.to_string(),
    })
}

fn subscribe<W>(filter: EnvFilter, format: LogFormat, writer: W, colours: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(writer).with_ansi(colours);
    let filtered = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => filtered.with(lines).try_init(),
        LogFormat::Json => filtered.with(lines.json()).try_init(),
    };
    // Fails only where a log is set up already.
    if started.is_ok() {
        let _ = FILTER.set(handle);
    }
}
