//! Shards in a simulation: the real event loops over an [`Io`](corelane::shard::Io) that does
//! whatever a kernel, a network and a mesh may do, in virtual time, by the seed.
//!
//! Each seed is one run: one to four shards and a few peers, with scripts, limits and faults of its
//! own. After every turn the shard is judged by what the protocol and the contract of `Io` say:
//! replies in order and whole and for nobody else, one send and one receive in flight, buffers given
//! back, every socket closed once, every counter right, nobody cut off before it is time or long
//! after, nobody starved by others. At the end whoever kept to the rules must have got all of its
//! replies, every connection must have ended for one cause that it had, and nothing may be counted
//! or held any more.
//!
//! A run that fails prints its seed. `CORELANE_SEED=2000123 cargo test --test simulation -- --nocapture`
//! runs that one alone and prints what happened in it; `CORELANE_SEEDS=10000` runs so many seeds
//! of each class instead of the usual ones, up to a million. With `--release` and a class's test
//! named, a night is long enough for that.

#![allow(
    clippy::unwrap_used,              // a test that can't go on is to fail
    clippy::cast_possible_truncation, // numbers here are small by construction
)]

mod contract;
mod ends;
mod executor;
mod forum;
mod handlers;
mod invariants;
mod io;
mod kernel;
mod life;
mod limits;
mod mesh;
mod model;
mod network;
mod peer;
mod random;
mod rate;
mod reload;
mod rest;
mod run;
mod scenario;
mod state;
mod stream;
mod tasks;
mod telling;
mod told;
mod topics;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;

use corelane::metrics::{CloseCause, Counters};

use self::handlers::ON_PURPOSE;
use self::run::{Outcome, Run};
use self::scenario::Class;

/// Seeds of one class: their numbers begin at its place in [`Class::ALL`] times this.
const SEEDS_PER_CLASS: u64 = 1_000_000;

/// Lines of a failed run's trace that are printed unless it is run alone.
const TRACE_LINES: usize = 40;

#[test]
fn calm_peers_get_every_reply_and_every_number_is_right() {
    let seen = run_class(Class::Calm, 400);
    let at_once = seen.0.iter().map(|outcome| outcome.sends_at_once);
    let at_once: u64 = at_once.sum();
    assert!(
        seen.0.is_empty() || at_once >= 10,
        "sends at once: {at_once}"
    );
    seen.has("short sends", |counters| counters.short_sends);
    seen.has("pauses", |counters| counters.receive_pauses);
    seen.has("empty pools", |counters| counters.buffers_exhausted);
    // Nobody breaks anything, and the shards stop when nothing else is left to do.
    seen.has_ends(&[
        CloseCause::PeerClosed,
        CloseCause::BadLength,
        CloseCause::BadFrames,
        CloseCause::HandlerPanic,
        CloseCause::HandlerFailed,
        CloseCause::Stop,
    ]);
}

#[test]
fn faults_hurt_nobody_else() {
    let seen = run_class(Class::Faulty, 550);
    seen.has("full hosts", |counters| counters.accept_failures);
    seen.has("late replies", |counters| counters.late_replies);
    seen.has_ends(&[
        CloseCause::PeerClosed,
        CloseCause::Reset,
        CloseCause::BadLength,
        CloseCause::BadFrames,
        CloseCause::HandlerPanic,
        CloseCause::HandlerFailed,
        CloseCause::Stop,
    ]);
}

#[test]
fn slots_that_are_used_again_at_once_mix_nothing_up() {
    let seen = run_class(Class::Crowded, 600);
    seen.has("late replies", |counters| counters.late_replies);
    seen.has_ends(&[CloseCause::Reset, CloseCause::Limit, CloseCause::Idle]);
}

#[test]
fn slow_readers_are_held_back_and_go_on() {
    let seen = run_class(Class::Slow, 350);
    seen.has("pauses", |counters| counters.receive_pauses);
}

#[test]
fn requests_beyond_the_limit_of_handlers_are_turned_away() {
    let seen = run_class(Class::Overload, 250);
    seen.has("overload", |counters| counters.overloaded);
}

#[test]
fn a_stop_loses_nothing_that_was_queued_and_ends_in_time() {
    let seen = run_class(Class::Stopping, 450);
    seen.has("late replies", |counters| counters.late_replies);
    seen.has_ends(&[CloseCause::Stop]);
}

#[test]
fn long_frames_wait_within_limits() {
    let seen = run_class(Class::Large, 40);
    seen.has("pauses", |counters| counters.receive_pauses);
}

#[test]
fn who_says_nothing_is_timed_out_and_who_only_waits_is_not() {
    let seen = run_class(Class::Idle, 450);
    seen.has_ends(&[
        CloseCause::Idle,
        CloseCause::FirstFrame,
        CloseCause::PeerClosed,
    ]);
}

#[test]
fn a_flood_is_cut_off_at_the_frame_that_is_one_too_many() {
    let seen = run_class(Class::Flood, 350);
    seen.has_ends(&[CloseCause::Flood, CloseCause::PeerClosed]);
}

#[test]
fn who_takes_nothing_is_cut_off_and_who_takes_little_is_not() {
    let seen = run_class(Class::Hoarder, 400);
    seen.has("pauses", |counters| counters.receive_pauses);
    seen.has_ends(&[CloseCause::WriteTimeout, CloseCause::PeerClosed]);
}

#[test]
fn connections_that_change_shards_are_counted_once() {
    let seen = run_class(Class::Balanced, 600);
    seen.has("connections handed over", |counters| counters.taken_over);
    seen.has_ends(&[CloseCause::Limit, CloseCause::PeerClosed]);
}

#[test]
fn a_drain_answers_what_was_sent_and_ends_in_time() {
    let seen = run_class(Class::Drain, 500);
    seen.has_ends(&[CloseCause::Drain, CloseCause::PeerClosed, CloseCause::Stop]);
}

#[test]
fn a_shard_without_memory_lets_nobody_in_until_it_has_some() {
    let seen = run_class(Class::Memory, 350);
    seen.has("pauses for want of memory", |counters| {
        counters.memory_pauses
    });
}

#[test]
fn other_settings_hold_from_then_on_and_close_nobody() {
    let seen = run_class(Class::Reload, 300);
    seen.has("connections handed over", |counters| counters.taken_over);
    seen.has("pauses", |counters| counters.receive_pauses);
    seen.has("overload", |counters| counters.overloaded);
    seen.has_ends(&[
        CloseCause::PeerClosed,
        CloseCause::Limit,
        CloseCause::Idle,
        CloseCause::FirstFrame,
        CloseCause::WriteTimeout,
        CloseCause::Flood,
        CloseCause::Drain,
        CloseCause::Stop,
    ]);
    let unfinished = seen.0.iter().map(|outcome| outcome.unfinished_turns);
    let unfinished: u64 = unfinished.sum();
    assert!(seen.0.is_empty() || unfinished > 300, "{unfinished}");
}

#[test]
fn whoever_is_pushed_to_gets_it_once_and_in_order() {
    let seen = run_class(Class::Mesh, 300);
    seen.has("pushes", |counters| counters.pushes);
    seen.has("stale pushes", |counters| counters.stale_pushes);
    seen.has("refused errands", |counters| counters.errands_refused);
    seen.has("functions", |counters| counters.runs);
    seen.has("panics of functions", |counters| counters.run_panics);
    seen.has("panics of hooks", |counters| counters.hook_panics);
    seen.has("short sends", |counters| counters.short_sends);
    seen.has_ends(&[
        CloseCause::Drain,
        CloseCause::SlowConsumer,
        CloseCause::PeerClosed,
        CloseCause::Reset,
        CloseCause::Stop,
    ]);
}

#[test]
fn events_come_to_subscribers_in_order_and_without_gaps() {
    let seen = run_class(Class::Topics, 100);
    seen.has("events", |counters| counters.pushes);
    seen.has("refused errands", |counters| counters.errands_refused);
    seen.has("refused publishes and subscribes", |counters| {
        counters.overloaded_by_handlers
    });
    seen.has("batches", |counters| counters.runs);
    seen.has("stale events", |counters| counters.stale_pushes);
    seen.has_ends(&[
        CloseCause::Drain,
        CloseCause::SlowConsumer,
        CloseCause::PeerClosed,
        CloseCause::Reset,
        CloseCause::Stop,
    ]);
}

#[test]
fn a_seed_gives_the_same_run_again() {
    silence_panics_on_purpose();
    for (class, first) in Class::ALL.into_iter().zip((0..).step_by(1_000_000)) {
        let [one, other] = [(); 2].map(|()| Run::new(class, first, true).finish());
        assert_eq!(one.trace, other.trace, "{class:?}");
        assert_eq!(one.counters, other.counters, "{class:?}");
        assert_eq!(one.turns, other.turns, "{class:?}");
    }
}

/// What the seeds of a class came to; nothing if they were not the usual ones.
struct Seen(Vec<Outcome>);

impl Seen {
    /// What a class is there for must come about in it, else it tests nothing.
    #[track_caller]
    fn has(&self, what: &str, count: impl Fn(&Counters) -> u64) {
        let counters = self.0.iter().flat_map(|outcome| &outcome.counters);
        let seen: u64 = counters.map(count).sum();
        assert!(self.0.is_empty() || seen >= 10, "{what}: {seen}");
    }

    /// The same of connections that end for these causes.
    #[track_caller]
    fn has_ends(&self, causes: &[CloseCause]) {
        for cause in causes {
            self.has(cause.name(), |counters| counters.closed(*cause));
        }
    }
}

/// Runs the seeds of a class, or the one that the environment names if it is of this class.
fn run_class(class: Class, seeds: u64) -> Seen {
    silence_panics_on_purpose();
    let first = class as u64 * SEEDS_PER_CLASS;
    if let Some(seed) = number_in("CORELANE_SEED") {
        if (first..first + SEEDS_PER_CLASS).contains(&seed) {
            run_seed(class, seed, usize::MAX);
        }
        return Seen(Vec::new());
    }
    let seeds = number_in("CORELANE_SEEDS")
        .unwrap_or(seeds)
        .min(SEEDS_PER_CLASS);
    let outcomes: Vec<Outcome> = (first..first + seeds)
        .map(|seed| run_seed(class, seed, 0))
        .collect();
    let turns: u64 = outcomes.iter().map(|outcome| outcome.turns).sum();
    eprintln!("{class:?}: {seeds} seeds, {turns} turns");
    Seen(outcomes)
}

/// Runs one seed; if it fails, says which, and prints the last lines of its trace.
fn run_seed(class: Class, seed: u64, trace_lines: usize) -> Outcome {
    let mut run = Run::new(class, seed, trace_lines > 0);
    let finished = catch_unwind(AssertUnwindSafe(|| run.finish()));
    let (trace, result) = match finished {
        Ok(outcome) if trace_lines == 0 => return outcome,
        Ok(mut outcome) => (std::mem::take(&mut outcome.trace), Ok(outcome)),
        // Once more, with a trace: the same happens again.
        Err(_) if trace_lines == 0 => return run_seed(class, seed, TRACE_LINES),
        Err(panic) => (run.take_trace(), Err(panic)),
    };
    for line in &trace[trace.len().saturating_sub(trace_lines)..] {
        eprintln!("{line}");
    }
    result.unwrap_or_else(|panic| {
        eprintln!("{:?}\n{class:?}: seed {seed} fails", run.scenario.settings);
        eprintln!("replay it: CORELANE_SEED={seed} cargo test --test simulation -- --nocapture");
        resume_unwind(panic)
    })
}

fn number_in(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    match value.parse() {
        Ok(number) => Some(number),
        Err(error) => panic!("{variable}={value}: {error}"),
    }
}

/// Handlers panic by the thousand here, and are to; every other panic is still told.
fn silence_panics_on_purpose() {
    static SILENCED: Once = Once::new();
    SILENCED.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_on_purpose = info
                .payload_as_str()
                .is_some_and(|message| message.starts_with(ON_PURPOSE));
            if !is_on_purpose {
                former(info);
            }
        }));
    });
}
