//! Waiting for another process, and saying so on a terminal when that takes long.

use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use super::Failure;

/// What is over sooner shows nothing.
const SHOWN_FROM: Duration = Duration::from_secs(2);

/// Somebody waits for something; dropping it ends what is shown.
pub(super) struct Patience {
    what: String,
    since: Instant,
    shown: Option<ProgressBar>,
}

impl Patience {
    /// `what` is waited for: "process 7 to end".
    pub(super) fn new(what: String) -> Patience {
        Patience {
            what,
            since: Instant::now(),
            shown: None,
        }
    }

    /// Waits until one of these can be read; gives back the first that can, or nothing in time.
    pub(super) fn wait(
        &mut self,
        fds: &[BorrowedFd],
        until: Option<Instant>,
    ) -> Result<Option<usize>, Failure> {
        loop {
            let mut polled: Vec<PollFd> = fds
                .iter()
                .map(|fd| PollFd::new(fd, PollFlags::IN))
                .collect();
            let show_at = self.shown.is_none().then_some(self.since + SHOWN_FROM);
            let next = [until, show_at].into_iter().flatten().min();
            let left = next.map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            match poll(&mut polled, timeout.as_ref()) {
                Ok(0) if until.is_some_and(|until| until <= Instant::now()) => return Ok(None),
                Ok(0) => self.show_if_due(),
                Ok(_) => return Ok(polled.iter().position(|fd| !fd.revents().is_empty())),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Failure::run(error)),
            }
        }
    }

    fn show_if_due(&mut self) {
        if self.shown.is_some() || self.since.elapsed() < SHOWN_FROM {
            return;
        }
        let bar = if stderr().is_terminal() {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("waiting for {msg}, {elapsed} so far") {
            bar.set_style(style);
        }
        let bar = bar.with_elapsed(self.since.elapsed());
        bar.set_message(self.what.clone());
        if stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        self.shown = Some(bar);
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        if let Some(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}
