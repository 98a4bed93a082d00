//! The log of a process: where it goes and what is logged, and changing both while the process
//! runs.
//!
//! Lines are put into a bounded queue, and a thread writes them, so that neither a shard nor a master
//! ever waits for a disk or a reader. Events that repeat too often are left out by kind.
//! Whatever does not get into the log for one of these reasons is counted, and the count does.

mod limit;
mod losses;
mod queue;
mod repeats;
mod sink;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{Log, LogFormat};
use crate::sys::clock::Clock;
use limit::Limit;
use queue::Queue;
use repeats::{Rate, Verdict};
use sink::Sink;

/// The log can't be set up or changed.
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
    /// The operating system has no thread to write the log.
    #[error("no thread can be started that writes the log: {0}")]
    Thread(io::Error),
    /// The log file is opened, but what was logged before still waits to be written to the old one.
    #[error("lines are still waiting to be written to it; the new one is used after them")]
    Busy,
    /// This process has no log of [`start`]'s: none was started, or the program has its own.
    #[error("this process has no log that can be changed; start one first")]
    None,
}

/// From now on, this process logs as configured: a thread named `log` writes the lines. Whoever logs
/// never waits; a line that finds the queue full is dropped. Call [`flush`] before the process ends.
///
/// # Errors
///
/// [`LogError`]. Where a log is set up already, it stays.
pub fn start(log: &Log) -> Result<(), LogError> {
    let filter = filter(&log.level)?;
    let sink = Sink::open(log.file())?;
    let rate = Rate::new(log.repeats_per_second, log.repeats_burst);
    let limit = Arc::new(Limit::new(rate));
    let (queue, outlet) = Queue::new();
    if subscribe(log, filter, Arc::clone(&limit), Arc::clone(&queue)) {
        let started = outlet.start(queue, sink, limit);
        started.map_err(LogError::Thread)?;
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
    let running = RUNNING.get().ok_or(LogError::None)?;
    // Fails only where the log is gone, and nobody takes it down.
    running.filter.reload(filter).map_err(|_| LogError::None)
}

/// From now on, an event may repeat so often, as in `log.repeats_per_second` and
/// `log.repeats_burst`.
///
/// # Errors
///
/// [`LogError::None`].
pub fn set_repeats(per_second: u32, burst: u32) -> Result<(), LogError> {
    let running = RUNNING.get().ok_or(LogError::None)?;
    running.limit.set_rate(Rate::new(per_second, burst));
    Ok(())
}

/// Opens the log file anew, by the name that it was given: whoever rotates logs has moved the old
/// one away, and once this returns nothing is written there any more. Without a log file there is
/// nothing to do.
///
/// # Errors
///
/// [`LogError::File`], and then the old file stays in use, until this is called again and succeeds;
/// [`LogError::Busy`] after two seconds.
pub fn reopen() -> Result<(), LogError> {
    let Some(running) = RUNNING.get() else {
        return Ok(());
    };
    let mut target = running.target();
    if target.file.is_none() {
        return Ok(());
    }
    running.write_to(&mut target)
}

/// From now on, the log is this file, or stderr for `None`.
///
/// # Errors
///
/// [`LogError::File`], and then the old one stays in use, until [`reopen`] succeeds;
/// [`LogError::Busy`] after two seconds; [`LogError::None`].
pub fn set_file(file: Option<&Path>) -> Result<(), LogError> {
    let running = RUNNING.get().ok_or(LogError::None)?;
    let mut target = running.target();
    target.file = file.map(ToOwned::to_owned);
    running.write_to(&mut target)
}

/// Whether the log file could not be opened when that was tried last, by [`set_file`] or [`reopen`]:
/// then the one before it is in use, and [`reopen`] tries again.
pub fn lacks_file() -> bool {
    RUNNING.get().is_some_and(|running| running.target().lacks)
}

/// Waits until all that was logged is written, counts of what is missing included. For whoever is
/// about to end this process or its threads; no longer than two seconds, since a pipe that nobody
/// reads can take for ever.
pub fn flush() {
    if let Some(running) = RUNNING.get() {
        running.queue.flush();
    }
}

/// Calls [`flush`] when it is dropped, by a panic, too.
#[derive(Debug)]
pub struct FlushAtEnd;

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        flush();
    }
}

/// The log of this process; it has but one.
static RUNNING: OnceLock<Running> = OnceLock::new();

#[derive(Debug)]
struct Running {
    filter: reload::Handle<EnvFilter, Registry>,
    /// Held while it changes, so that it and the thread that writes come to the same.
    target: Mutex<Target>,
    limit: Arc<Limit>,
    queue: Arc<Queue>,
}

/// Where the log is to go.
#[derive(Debug)]
struct Target {
    /// `None` is stderr.
    file: Option<PathBuf>,
    /// It could not be opened.
    lacks: bool,
}

impl Running {
    fn target(&self) -> MutexGuard<'_, Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file, and writes there from now on.
    fn write_to(&self, target: &mut Target) -> Result<(), LogError> {
        let opened = target.file.as_deref().map(sink::open).transpose();
        target.lacks = opened.is_err();
        let file = opened?;
        if self.queue.reopen(file) {
            Ok(())
        } else {
            Err(LogError::Busy)
        }
    }
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(losses::filter_with_losses(level)).map_err(|error| LogError::Level {
        level: level.to_owned(),
        problem: error.to_string(),
    })
}

/// Gives back whether this is the log now: not if one is set up already.
fn subscribe(log: &Log, filter: EnvFilter, limit: Arc<Limit>, queue: Arc<Queue>) -> bool {
    let (filter, handle) = reload::Layer::new(filter);
    let repeats = LimitRepeats {
        limit: Arc::clone(&limit),
        queue: Arc::clone(&queue),
        clock: Clock::start(),
    };
    let colours = log.file().is_none()
        && io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt::layer()
        .with_writer(Lines(Arc::clone(&queue)))
        .with_ansi(colours);
    let limited = tracing_subscriber::registry().with(filter).with(repeats);
    let started = match log.format {
        LogFormat::Text => limited.with(lines).try_init(),
        LogFormat::Json => limited.with(lines.json()).try_init(),
    };
    started.is_ok()
        && RUNNING
            .set(Running {
                filter: handle,
                target: Mutex::new(Target {
                    file: log.file().map(ToOwned::to_owned),
                    lacks: false,
                }),
                limit,
                queue,
            })
            .is_ok()
}

/// Makes a writer for each line.
struct Lines(Arc<Queue>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            queue: &self.0,
            is_of_losses: false,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line {
            queue: &self.0,
            is_of_losses: losses::is_of_losses(metadata),
        }
    }
}

/// Takes a line, which comes whole, and never fails: whoever logs could do nothing about it.
struct Line<'a> {
    queue: &'a Queue,
    is_of_losses: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.is_of_losses {
            self.queue.put_always(line);
        } else {
            self.queue.put(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The layer that keeps repeats from the lines.
struct LimitRepeats {
    limit: Arc<Limit>,
    queue: Arc<Queue>,
    clock: Clock,
}

impl<S: Subscriber> Layer<S> for LimitRepeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let verdict = self.limit.judge(event, self.clock.now_ns());
        if verdict == Verdict::FirstLeftOut {
            self.queue.tell_repeats_soon();
        }
        verdict == Verdict::Logged
    }
}
