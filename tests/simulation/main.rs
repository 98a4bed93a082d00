//! The shard in a simulation: the real event loop over an [`Io`](corelane::shard::Io) that does
//! whatever a kernel and a network may do, in virtual time, by the seed.
//!
//! Each seed is one run: a few peers with scripts, limits and faults of its own. After every turn
//! the shard is judged by what the protocol and the contract of `Io` say: replies in order and
//! whole and for nobody else, one send and one receive in flight, buffers given back, every socket
//! closed once, every counter right. At the end whoever kept to the rules must have got all of its
//! replies.
//!
//! A run that fails prints its seed. `CORELANE_SEED=2000123 cargo test --test simulation -- --nocapture`
//! runs that one alone and prints what happened in it; `CORELANE_SEEDS=10000` runs so many seeds
//! of each class instead of the usual ones.

#![allow(
    clippy::unwrap_used,              // a test that can't go on is to fail
    clippy::cast_possible_truncation, // numbers here are small by construction
)]

mod executor;
mod handlers;
mod invariants;
mod io;
mod model;
mod peer;
mod random;
mod run;
mod scenario;
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
    let seen = run_class(Class::Calm, 450);
    seen.has("short sends", |counters| counters.short_sends);
    seen.has("pauses", |counters| counters.receive_pauses);
    seen.has("empty pools", |counters| counters.buffers_exhausted);
    for cause in CloseCause::ALL {
        // Nobody breaks anything, and the shard stops when nothing else is left to do.
        if cause != CloseCause::Reset {
            seen.has(cause.name(), |counters| counters.closed(cause));
        }
    }
}

#[test]
fn faults_hurt_nobody_else() {
    let seen = run_class(Class::Faulty, 500);
    seen.has("full hosts", |counters| counters.accept_failures);
    seen.has("late replies", |counters| counters.late_replies);
    for cause in CloseCause::ALL {
        seen.has(cause.name(), |counters| counters.closed(cause));
    }
}

#[test]
fn slots_that_are_used_again_at_once_mix_nothing_up() {
    let seen = run_class(Class::Crowded, 450);
    seen.has("late replies", |counters| counters.late_replies);
    seen.has("resets", |counters| counters.closed(CloseCause::Reset));
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
    seen.has("stops", |counters| counters.closed(CloseCause::Stop));
    seen.has("late replies", |counters| counters.late_replies);
}

#[test]
fn long_frames_wait_within_limits() {
    let seen = run_class(Class::Large, 60);
    seen.has("pauses", |counters| counters.receive_pauses);
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
struct Seen(Vec<Counters>);

impl Seen {
    /// What a class is there for must come about in it, else it tests nothing.
    #[track_caller]
    fn has(&self, what: &str, count: impl Fn(&Counters) -> u64) {
        let seen: u64 = self.0.iter().map(count).sum();
        assert!(self.0.is_empty() || seen >= 10, "{what}: {seen}");
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
    Seen(
        outcomes
            .into_iter()
            .map(|outcome| outcome.counters)
            .collect(),
    )
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
