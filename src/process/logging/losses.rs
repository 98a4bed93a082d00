//! What is missing in the log, told in the log: one event for each way that a line can be lost.
//!
//! These events have a target of their own. They are let through at every `log.level` that does not
//! name it, are no repeats, and find room in a full queue: they are few, and nobody else says it.

use tracing::Metadata;

/// The target of these events.
const TARGET: &str = "corelane::log";

/// The filter for a level: these events come, unless the level says otherwise itself.
pub(super) fn filter_with_losses(level: &str) -> String {
    format!("{TARGET}=warn,{level}")
}

/// Whether an event is one of these.
pub(super) fn is_of_losses(metadata: &Metadata<'_>) -> bool {
    metadata.target() == TARGET
}

/// Lines that found the queue full.
pub(super) fn tell_dropped(lines: u64) {
    tracing::warn!(
        target: TARGET,
        dropped = lines,
        "log lines were dropped: they came faster than they could be written"
    );
}

/// Lines that could not be written, which is over now.
pub(super) fn tell_unwritten(lines: u64, error: &str) {
    tracing::warn!(
        target: TARGET,
        unwritten = lines,
        error,
        "log lines were lost: they could not be written"
    );
}

/// Events of a kind that came too often; `like` is the message of one, `module` where they are from.
pub(super) fn tell_left_out(events: u64, module: &str, like: &str) {
    tracing::warn!(
        target: TARGET,
        left_out = events,
        module,
        like,
        "a repeated event was left out beyond log.repeats_per_second"
    );
}
