//! Shards that drain end together: none while there is anything left on any of them or on its way
//! between them, and all of them soon after.

use corelane::shard::{Message, Shard};

use crate::network::Link;
use crate::run::Run;

/// How long all of them may take to notice, in virtual microseconds: many turns, and late messages.
const NOTICE_US: u64 = 200_000;

/// How far the end of a run has got.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Since when nothing has been left.
    nothing_left_us: Option<u64>,
    /// By shard: when it stopped.
    stopped_us: Vec<Option<u64>>,
}

impl Ends {
    pub(crate) fn new(shards: usize) -> Ends {
        Ends {
            nothing_left_us: None,
            stopped_us: vec![None; shards],
        }
    }
}

/// After a turn of this shard.
pub(crate) fn judge_rest(run: &mut Run, number: usize) {
    let errands = what_waits(run);
    let has_errands = errands.is_some();
    // A task may want something after its shard has gone to rest.
    let may_want = has_errands && run.has_topics();
    let left = errands.or_else(|| what_is_left(run));
    if left.is_none() {
        run.ends.nothing_left_us.get_or_insert(run.now_us);
    } else {
        run.ends.nothing_left_us = None;
    }
    if !run.turns[number].stopped || run.ends.stopped_us[number].is_some() {
        return;
    }
    // Asynchronous handlers may outlive their connections, and want things of shards that are over.
    let is_first = run.ends.stopped_us.iter().all(Option::is_none);
    let io = run.shards[number].io_mut();
    if is_first && !may_want && io.going_down.draining_since_us().is_some() {
        assert_eq!(left, None, "shard {number} has ended in a drain");
    }
    run.ends.stopped_us[number] = Some(run.now_us);
}

/// When it is all over.
pub(crate) fn judge_ends(run: &Run) {
    let Some(nothing_left_us) = run.ends.nothing_left_us else {
        return;
    };
    for (number, stopped_us) in run.ends.stopped_us.iter().enumerate() {
        let in_time = stopped_us.is_some_and(|at_us| at_us <= nothing_left_us + NOTICE_US);
        assert!(
            in_time,
            "shard {number} stopped at {stopped_us:?}, and nothing was left from {nothing_left_us} on"
        );
    }
}

/// Errands that are to be carried out, if there are any.
fn what_waits(run: &Run) -> Option<String> {
    let number = run.shards.iter().position(Shard::has_errands)?;
    Some(format!("shard {number} has errands"))
}

/// Something else that keeps shards from ending, if there is anything.
fn what_is_left(run: &mut Run) -> Option<String> {
    for (number, shard) in run.shards.iter_mut().enumerate() {
        if !shard.io_mut().going_down.is_begun() {
            return Some(format!("shard {number} was not told"));
        }
    }
    let network = &run.network;
    if let Some(peer) = network.links.iter().position(Link::is_open) {
        return Some(format!("peer {peer} is connected"));
    }
    let mut listeners = network.listeners.iter().flatten();
    if listeners.any(|listener| !listener.closed) {
        return Some("a listener is open".to_owned());
    }
    let mut messages = network.mesh.messages();
    let message = messages.find(|message| !matches!(message, Message::Drained));
    message.map(|message| format!("{message:?} is on its way"))
}
