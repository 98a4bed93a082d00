//! What a reader has to know before the figures: that there were errors, that a run is not whole,
//! that it measured nothing, that runs are not alike.

use super::markup::escape;
use super::settings::MACHINE;
use super::{Run, numbers};
use crate::load::record::Record;

/// Below this share of requests sent in time, a rate was not reached.
const SENT_IN_TIME_MIN: f64 = 0.99;

/// What is to be said of one run, in sentences; as markup, a paragraph each.
pub(super) fn of_run(run: &Run, is_only: bool) -> String {
    let record = &run.record;
    let said = [
        nothing_measured(record).map(|text| ("warn", text)),
        errors(record).map(|text| ("bad", text)),
        interrupted(record).map(|text| ("warn", text)),
        rate_not_reached(record).map(|text| ("warn", text)),
    ];
    let name = if is_only {
        String::new()
    } else {
        format!("<b>{}</b>: ", escape(&run.name))
    };
    let paragraph = |(class, text): (&str, String)| {
        format!(
            "<p class=\"notice {class}\" role=\"note\">{name}{}</p>\n",
            escape(&text)
        )
    };
    said.into_iter().flatten().map(paragraph).collect()
}

/// That runs were made on machines that differ, and in what.
pub(super) fn different_machines(runs: &[Run]) -> String {
    let differs = |of: fn(&Record) -> String| {
        let mut told = runs.iter().map(|run| of(&run.record));
        let first = told.next();
        told.any(|other| Some(other) != first)
    };
    let facts = MACHINE.iter().filter(|(_, of)| differs(*of));
    let labels: Vec<&str> = facts.map(|&(label, _)| label).collect();
    if labels.is_empty() {
        return String::new();
    }
    format!(
        "<p class=\"notice warn\" role=\"note\">These runs were not made on the same machine: they \
         differ in {}. Their figures compare the machines as well.</p>\n",
        labels.join(", ")
    )
}

/// That the threads of some runs slept where those of others looked for replies.
pub(super) fn different_waiting(runs: &[Run]) -> String {
    let slept = |run: &&Run| run.record.settings.busy_poll_seconds == 0.0;
    let count = runs.iter().filter(slept).count();
    if count == 0 || count == runs.len() {
        return String::new();
    }
    "<p class=\"notice warn\" role=\"note\">In some of these runs the load looked for replies, in \
     others it slept until they came. Latencies of those that slept hold the time of waking, and \
     their servers did the waking.</p>\n"
        .to_owned()
}

/// Errors of all kinds.
pub(super) fn error_count(record: &Record) -> u64 {
    record.summary.errors.values().sum()
}

fn nothing_measured(record: &Record) -> Option<String> {
    (record.summary.messages == 0).then(|| {
        "Nothing was measured: no request was answered rightly in the measured time.".to_owned()
    })
}

fn errors(record: &Record) -> Option<String> {
    let count = error_count(record);
    if count == 0 {
        return None;
    }
    let kinds = record
        .summary
        .errors
        .iter()
        .filter(|&(_, &count)| count > 0);
    let kinds: Vec<String> = kinds
        .map(|(kind, &count)| format!("{} {}", numbers::count(count), kind.replace('_', " ")))
        .collect();
    let word = if count == 1 { "error" } else { "errors" };
    let mut text = format!("{} {word}: {}.", numbers::count(count), kinds.join(", "));
    if let Some(first) = &record.summary.first_error {
        text += " The first: ";
        text += first.trim_end_matches('.');
        text.push('.');
    }
    Some(text)
}

fn interrupted(record: &Record) -> Option<String> {
    record.summary.interrupted.then(|| {
        format!(
            "The run was interrupted after {} of {}.",
            numbers::seconds(record.summary.seconds),
            numbers::seconds(record.settings.duration_seconds)
        )
    })
}

fn rate_not_reached(record: &Record) -> Option<String> {
    let share = record.summary.sent_in_time?;
    let rate = record.settings.rate?;
    (share < SENT_IN_TIME_MIN).then(|| {
        format!(
            "The rate of {} messages/s was not reached: only {} of the requests due in the measured \
             time were sent in it.",
            numbers::rate(rate),
            numbers::share(share)
        )
    })
}
