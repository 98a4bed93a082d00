//! A handle to a running server: what can be wanted of it from wherever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::worker::note_files;
use crate::config::{Changes, Config, ConfigError};
use crate::metrics::latency::{Codes, Latencies};
use crate::metrics::own::Catalogue;
#[cfg(doc)]
use crate::shard::CensusBy;
use crate::shard::run::{Control, Show, Tuning};
use crate::shard::{Snapshot, Suspect};
use crate::sys::host;

/// How long [`ServerHandle::reload`] waits for the shards. Each looks every two milliseconds at the
/// latest, unless a handler keeps its core.
const TAKEN_IN_MAX: Duration = Duration::from_secs(1);

/// Another configuration can't be taken over by a running server; it goes on with the one that it
/// had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// It is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server drains or stops.
    #[error("the server goes down")]
    GoesDown,
    /// It changes what can't change while the server runs.
    #[error("{} can't change while the server runs: start it again, or set {} back",
        keys.join(", "), if keys.len() == 1 { "it" } else { "them" })]
    Fixed {
        /// The keys.
        keys: Vec<String>,
    },
}

/// Stops, reloads or looks at a server from wherever, and has its shards do things: it can be cloned
/// and sent to other threads.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    pub(super) controls: Arc<Vec<Control>>,
    codes: Arc<Codes>,
    metrics: Arc<Catalogue>,
    /// Held while a reload is handed out, so that all shards get reloads in one order.
    in_force: Arc<Mutex<Config>>,
    /// All shards accept connections, or have.
    has_started: Arc<AtomicBool>,
    /// Somebody has told the server to drain or stop.
    goes_down: Arc<AtomicBool>,
    /// Another process accepts connections on the same sockets.
    is_replaced: Arc<AtomicBool>,
}

impl ServerHandle {
    pub(super) fn new(controls: Vec<Control>, codes: Codes, in_force: Config) -> ServerHandle {
        ServerHandle {
            controls: Arc::new(controls),
            codes: Arc::new(codes),
            metrics: Arc::default(),
            in_force: Arc::new(Mutex::new(in_force)),
            has_started: Arc::default(),
            goes_down: Arc::default(),
            is_replaced: Arc::default(),
        }
    }

    /// The same with metrics of the program's own.
    pub(super) fn with_metrics(mut self, metrics: Catalogue) -> ServerHandle {
        self.metrics = Arc::new(metrics);
        self
    }

    /// The configuration in force.
    pub fn config(&self) -> Config {
        let in_force = self.in_force.lock();
        in_force.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the server go by another configuration, and returns when its shards do; a shard that a
    /// handler keeps for more than a second follows later. No connection is touched: what is beyond
    /// a new limit stays, and nothing more is added to it. Gives back what has
    /// changed.
    ///
    /// The keys of `[log]`, `[process]` and `[admin]` are the program's business.
    ///
    /// # Errors
    ///
    /// [`ReloadError`]; then nothing has changed.
    pub fn reload(&self, config: Config) -> Result<Changes, ReloadError> {
        config.validate()?;
        if self.goes_down() {
            return Err(ReloadError::GoesDown);
        }
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = in_force.changes_to(&config);
        if !changes.fixed.is_empty() {
            return Err(ReloadError::Fixed {
                keys: changes.fixed,
            });
        }
        if changes
            .in_place
            .iter()
            .any(|key| key == "limits.connections")
        {
            note_files(&config, host::raise_file_limit(), self.controls.len());
        }
        let (untaken, taken) = mpsc::channel();
        for control in self.controls.iter() {
            control.reload(Tuning::from(&config), untaken.clone());
        }
        drop(untaken);
        *in_force = config;
        drop(in_force);
        // Nothing is ever sent: the channel ends when the last shard has let go of it.
        if taken.recv_timeout(TAKEN_IN_MAX) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a handler keeps a shard, which goes by the new configuration later");
        }
        Ok(changes)
    }

    /// `handlers.slow_ms`, as it is in force.
    pub(super) fn slow_ms(&self) -> u32 {
        let in_force = self.in_force.lock();
        let in_force = in_force.unwrap_or_else(PoisonError::into_inner);
        in_force.handlers.slow_ms
    }

    /// `limits.max_frame_bytes`, as it is in force.
    pub(super) fn frame_bytes_max(&self) -> usize {
        let in_force = self.in_force.lock();
        let in_force = in_force.unwrap_or_else(PoisonError::into_inner);
        usize::from(in_force.limits.max_frame_bytes)
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.controls.len()
    }

    /// The message codes that have latencies of their own.
    pub fn codes(&self) -> &Codes {
        &self.codes
    }

    /// The metrics of the program's own.
    pub(crate) fn metrics(&self) -> &Catalogue {
        &self.metrics
    }

    /// Has a shard show how it is, with as many of its connections in each order of [`CensusBy`]. The
    /// latencies since the last time are given out in exchange for an empty set: the best is one that
    /// was given out before, and cleared. `reply` is called on the shard's own thread, within a
    /// few milliseconds unless a handler keeps it, and must not block; it is dropped by a shard that
    /// has ended. Counted from 0; a shard that there is not shows nothing.
    pub fn show(
        &self,
        shard: usize,
        empty: Latencies,
        connections: usize,
        reply: impl FnOnce(Snapshot) + Send + 'static,
    ) {
        if let Some(control) = self.controls.get(shard) {
            control.show(Show {
                empty,
                connections,
                reply: Box::new(reply),
            });
        }
    }

    /// Looks whether a shard is in the middle of a turn, and at what; nothing between two turns. Word
    /// of it is left for the shard, which names it if the turn turns out slow. For one thread.
    pub fn look_at(&self, shard: usize) -> Option<Suspect> {
        let control = self.controls.get(shard)?;
        control.pulse().look(u16::try_from(shard).ok()?)
    }

    pub(super) fn set_started(&self) {
        self.has_started.store(true, Ordering::Relaxed);
    }

    /// Whether the server's start is over: all shards accept connections, or have.
    pub fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Relaxed)
    }

    /// A number that changes as long as the shard turns; 0 for one that there is not.
    pub(crate) fn turn_of(&self, shard: usize) -> u64 {
        let control = self.controls.get(shard);
        control.map_or(0, |control| control.pulse().turn())
    }

    /// Whether the server was told to drain or stop.
    pub fn goes_down(&self) -> bool {
        self.goes_down.load(Ordering::Relaxed)
    }

    /// Says that another process accepts connections on the same sockets: operators who still reach
    /// this one are told that connections are accepted, also while this server drains.
    pub fn set_replaced(&self) {
        self.is_replaced.store(true, Ordering::Relaxed);
    }

    /// Whether [`set_replaced`](Self::set_replaced) was called.
    pub fn is_replaced(&self) -> bool {
        self.is_replaced.load(Ordering::Relaxed)
    }

    /// Has the server drain: no new connections, GOAWAY to those that there are, requests are
    /// answered, connections that go quiet are closed, and the rest is stopped after
    /// `timeouts.drain_ms`. Returns at once; [`Server::wait`](super::worker::Server::wait) waits.
    pub fn drain(&self) {
        self.goes_down.store(true, Ordering::Relaxed);
        for control in self.controls.iter() {
            control.drain();
        }
    }

    /// Has the server stop: no new connections, replies that are queued already are flushed within
    /// `timeouts.stop_ms`. Returns at once; [`Server::wait`](super::worker::Server::wait) waits.
    pub fn stop(&self) {
        self.goes_down.store(true, Ordering::Relaxed);
        for control in self.controls.iter() {
            control.stop();
        }
    }

    /// Has the server stop without waiting for what is queued.
    pub fn stop_at_once(&self) {
        self.goes_down.store(true, Ordering::Relaxed);
        for control in self.controls.iter() {
            control.stop_at_once();
        }
    }
}
