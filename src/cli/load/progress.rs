//! How far a run is, on a terminal.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use corelane::load::{Plan, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is over sooner shows nothing.
const SHOWN_FROM: Duration = Duration::from_secs(2);

/// A line on stderr that comes and goes; none where stderr is no terminal.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    pub(super) fn new(plan: &Plan) -> Bar {
        let total = plan.warmup.saturating_add(plan.duration);
        if total < SHOWN_FROM || !stderr().is_terminal() {
            return Bar(None);
        }
        let bar = ProgressBar::with_draw_target(Some(millis(total)), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {prefix} {msg}") {
            bar.set_style(style);
        }
        Bar(Some(bar))
    }

    pub(super) fn show(&mut self, progress: &Progress<'_>) {
        let Some(bar) = &self.0 else {
            return;
        };
        bar.set_position(millis(progress.elapsed.min(progress.total)));
        let left = progress.total.saturating_sub(progress.elapsed).as_secs();
        bar.set_prefix(format!("{left} s left"));
        bar.set_message(message(progress));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn message(progress: &Progress<'_>) -> String {
    if !progress.measuring {
        return "warm-up".to_owned();
    }
    let errors = match progress.errors {
        0 => String::new(),
        errors => format!(", {errors} errors"),
    };
    match progress.latest {
        Some(latest) => {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let rate = latest.messages as f64 / latest.seconds;
            let p99_us = latest.p99_us.unwrap_or_default();
            format!("{rate:.0} messages/s, p99 {p99_us:.0} us{errors}")
        }
        None => format!("measuring{errors}"),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
