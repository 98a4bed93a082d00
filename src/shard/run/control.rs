//! What other threads can tell a shard: to go down, and to go by another configuration.
//!
//! The shard looks at two flags on its way; everything else happens only when one of them is set.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc;

use crate::config::Config;
use crate::shard::settings::Settings;
use crate::sys::Doorbell;

/// What can be told to a shard.
#[derive(Debug)]
pub(crate) struct Control {
    /// The greatest that was asked for.
    request: AtomicU8,
    /// Something has been put into `reloads` that was not taken.
    has_reload: AtomicBool,
    reloads: mpsc::Sender<Reload>,
    pub(super) doorbell: Doorbell,
}

pub(super) const NO_REQUEST: u8 = 0;
pub(super) const DRAIN: u8 = 1;
pub(super) const STOP: u8 = 2;
pub(super) const STOP_AT_ONCE: u8 = 3;

/// The part of the configuration that a shard goes by, which can change while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Tuning {
    pub(crate) settings: Settings,
    pub(crate) busy_poll_us: u64,
    /// How often a line of figures is logged; `None` for never.
    pub(crate) stats_us: Option<u64>,
}

impl From<&Config> for Tuning {
    fn from(config: &Config) -> Tuning {
        let stats_us = u64::from(config.log.stats_seconds) * 1_000_000;
        Tuning {
            settings: Settings::from(config),
            busy_poll_us: u64::from(config.shards.busy_poll_us),
            stats_us: (stats_us > 0).then_some(stats_us),
        }
    }
}

/// An order to go by something else.
#[derive(Debug)]
pub(crate) struct Reload {
    pub(super) tuning: Tuning,
    /// Never sent on: that it is gone tells the other end that the shard has taken the order, or has
    /// ended.
    _untaken: mpsc::Sender<()>,
}

impl Control {
    /// One for the shard that watches this doorbell, and what the shard takes its reloads from.
    pub(crate) fn new(doorbell: Doorbell) -> (Control, mpsc::Receiver<Reload>) {
        let (sender, reloads) = mpsc::channel();
        let control = Control {
            request: AtomicU8::new(NO_REQUEST),
            has_reload: AtomicBool::new(false),
            reloads: sender,
            doorbell,
        };
        (control, reloads)
    }

    /// Has the shard drain.
    pub(crate) fn drain(&self) {
        self.ask(DRAIN);
    }

    /// Has the shard stop.
    pub(crate) fn stop(&self) {
        self.ask(STOP);
    }

    /// Has the shard stop without waiting for what is queued.
    pub(crate) fn stop_at_once(&self) {
        self.ask(STOP_AT_ONCE);
    }

    /// Has the shard go by this from now on. `untaken` is dropped when it does, or has ended.
    pub(crate) fn reload(&self, tuning: Tuning, untaken: mpsc::Sender<()>) {
        let reload = Reload {
            tuning,
            _untaken: untaken,
        };
        // A shard that has ended goes by nothing.
        if self.reloads.send(reload).is_ok() {
            self.has_reload.store(true, Ordering::Release);
            self.doorbell.ring();
        }
    }

    fn ask(&self, request: u8) {
        self.request.fetch_max(request, Ordering::Release);
        self.doorbell.ring();
    }

    #[inline]
    pub(super) fn request(&self) -> u8 {
        self.request.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn has_reload(&self) -> bool {
        self.has_reload.load(Ordering::Relaxed)
    }

    /// Whether there are reloads to take, which the caller is to do now.
    pub(super) fn take_reload(&self) -> bool {
        self.has_reload() && self.has_reload.swap(false, Ordering::Acquire)
    }
}
