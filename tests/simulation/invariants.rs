//! What must hold after every turn of a shard.

use std::rc::Rc;

use corelane::metrics::Counters;
use corelane::shard::Turn;
use corelane::shard::timer::TICK_US;

use crate::ends;
use crate::io::Told;
use crate::life::{deadlines, due};
use crate::mesh;
use crate::network::{Counted, Link, is_clearly_more};
use crate::reload::{Before, Left};
use crate::rest;
use crate::run::Run;
use crate::scenario::Class;
use crate::state::Flow;

/// How long a connection that the server ends may take, in microseconds: the shard's own limit.
pub(crate) const CLOSE_US: u64 = 5_000_000;

/// What a drain gives the last words when its time is over: the shard's own limit.
pub(crate) const FLUSH_US: u64 = 500_000;

/// What cancelled operations may take on top, in virtual microseconds: many turns.
const GRACE_US: u64 = 200_000;

/// Bytes that may wait for a handler before receiving pauses: the shard's own limit.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// After every turn.
pub(crate) fn judge_turn(run: &mut Run, number: usize, (before, turn, left): (Before, Turn, Left)) {
    run.state.violations.assert_none();
    if let Err(problem) = run.shards[number].audit() {
        panic!("shard {number}: {problem}");
    }
    judge_numbers(run, number, before, (turn, left));
    judge_handlers(run, number, before);
    judge_places(run);
    judge_claims(run, number);
    judge_balance(run, number);
    judge_room(run, number);
    ends::judge_closes(run, number);
    run.topics.note_turn(&run.network, &run.peers);
    judge_replies(run);
    let served = served(run, number);
    judge_pauses(run, &served);
    judge_fairness(run, &served);
    judge_deadlines(run, number, &served);
    judge_lingering(run, number);
    judge_going_down(run, number);
    rest::judge_rest(run, number);
    run.counters[number] = run.shards[number].counters().clone();
}

fn judge_numbers(run: &mut Run, number: usize, before: Before, (turn, left): (Turn, Left)) {
    let now_us = run.now_us;
    assert!(
        turn.wake_at_us.is_none_or(|at_us| at_us > now_us),
        "shard {number} wants to be woken at {:?}, and it is {now_us}",
        turn.wake_at_us
    );
    let links = &run.network.links;
    let closed = links.iter().filter_map(|link| link.closed);
    let closed = closed.filter(|closed| closed.by == number).count();
    let open = links
        .iter()
        .filter(|link| link.is_of(number) && link.closed.is_none());
    let open = open.count();
    // What is pushed comes before what completes, and may close whom a reply is for.
    let handled = std::mem::take(&mut run.shards[number].io_mut().handled);
    let settings = run.settings(number);
    let may_be_late =
        |peer: &&usize| mesh::may_be_slow((&run.network, &run.state), settings, **peer);
    let may_be_late = handled.iter().filter(may_be_late).count() as u64;
    let shard = &mut run.shards[number];
    assert_eq!(shard.connections(), open, "connections");
    let io = shard.io_mut();
    io.told.maybe_late_replies += may_be_late;
    io.assert_buffers_are_back();
    let (reaped, told) = (io.reaped, io.told.clone());
    let counters = shard.counters();
    assert_eq!(counters.closed_total(), closed as u64, "closed");
    judge_counters(counters, &told);
    let puts_off = counters.deferrals > run.counters[number].deferrals;
    let had_put_off = std::mem::replace(&mut run.put_off[number], puts_off);
    let works = reaped > 0 || puts_off || had_put_off || left == Left::Something;
    // Errands may be left to do, or have been.
    let may_work = works || left == Left::Maybe || run.state.mesh.is_used();
    assert!(
        (works..=may_work).contains(&turn.worked),
        "shard {number} worked: {}, reaped {reaped}, puts off: {puts_off}, had put off: {had_put_off}, \
         left: {left:?}, may work: {may_work}",
        turn.worked
    );
    // Those beyond a new limit stay.
    let open_max = run.settings(number).connections_max;
    assert!(
        open <= open_max.max(before.connections),
        "{open} connections"
    );
}

/// What a shard counts is what it was told.
fn judge_counters(counters: &Counters, told: &Told) {
    for (name, counted, expected) in [
        ("accepted", counters.accepted, told.accepted),
        ("handed over", counters.handed_over, told.handed_over),
        ("taken over", counters.taken_over, told.taken_over),
        (
            "accept failures",
            counters.accept_failures,
            told.accept_failures,
        ),
        (
            "received bytes",
            counters.received_bytes,
            told.received_bytes,
        ),
        ("sent bytes", counters.sent_bytes, told.sent_bytes),
        ("short sends", counters.short_sends, told.short_sends),
        (
            "no buffers",
            counters.buffers_exhausted,
            told.buffers_exhausted,
        ),
    ] {
        assert_eq!(counted, expected, "{name}");
    }
    let late = told.late_replies..=told.late_replies + told.maybe_late_replies;
    let counted = counters.late_replies;
    assert!(
        late.contains(&counted),
        "late replies: {counted}, not {late:?}"
    );
    let (pauses, cancels) = (counters.receive_pauses, told.receive_cancels);
    assert!(pauses <= cancels, "receive pauses: {pauses} of {cancels}");
}

fn judge_handlers(run: &mut Run, number: usize, before: Before) {
    let handlers_max = run.settings(number).handlers_max as u64;
    let shard = &mut run.shards[number];
    let handlers = shard.handlers() as u64;
    let io = shard.io_mut();
    let (told, handlers_peak) = (&io.told, io.handlers_peak);
    assert_eq!(
        handlers,
        told.handlers_started - told.handlers_finished,
        "handlers"
    );
    assert!(
        handlers <= handlers_max.max(before.handlers as u64),
        "{handlers} handlers"
    );
    let overloaded = shard.counters().overloaded - run.counters[number].overloaded;
    assert!(
        overloaded == 0 || handlers_peak >= handlers_max,
        "{overloaded} requests were turned away at {handlers_peak} handlers"
    );
    assert!(
        overloaded == 0 || run.scenario.kind == Class::Overload,
        "turned away"
    );
}

/// Every connection is counted where it is, and for its address.
fn judge_places(run: &mut Run) {
    for shard in 0..run.shards.len() {
        let (placed, expected) = (
            run.loads.connections(shard as u16),
            run.network.placed(shard),
        );
        assert_eq!(placed, expected, "connections placed on shard {shard}");
    }
    let max = run.scenario.settings.connections_per_address_max;
    let has_reloads = !run.scenario.reloads.is_empty();
    if max.is_none() && !has_reloads {
        return;
    }
    let counts = run.network.counts();
    // A reload may bring a limit that is lower than what is there.
    if let (Some(max), false) = (max, has_reloads) {
        for (address, count) in &counts {
            let count = count.max;
            assert!(
                count <= i64::from(max.get()),
                "{address} has {count} connections"
            );
        }
    }
    let counted: u64 = run
        .shards
        .iter()
        .map(corelane::shard::Shard::counted_connections)
        .sum();
    let min: i64 = counts.values().map(|count| count.min).sum();
    let max: i64 = counts.values().map(|count| count.max).sum();
    assert!(
        (min..=max).contains(&counted.cast_signed()),
        "connections by address: {counted}, not {min} to {max}"
    );
}

/// Whoever was let in while there is a limit was not one too many, as far as was known.
fn judge_claims(run: &mut Run, number: usize) {
    let claimed = std::mem::take(&mut run.shards[number].io_mut().claimed);
    let Some(max) = run.settings(number).connections_per_address_max else {
        return;
    };
    let network = &run.network;
    for link in claimed.iter().map(|link| &network.links[*link]) {
        if link.closed.is_some() || link.counted != Counted::Yes {
            continue;
        }
        let address = link.address.ip().to_canonical();
        let presented = &network.mesh.presented;
        let presented = presented.iter().filter(|there| **there == address).count();
        let count = network.counts()[&address].min - presented.cast_signed() as i64;
        assert!(
            count <= i64::from(max.get()),
            "{address} has {count} connections, and got one more"
        );
    }
}

/// Who stays where it arrived is not better off elsewhere; judged where nothing else happened.
fn judge_balance(run: &mut Run, number: usize) {
    let settings = Rc::clone(run.settings(number));
    let io = run.shards[number].io_mut();
    // Whoever goes down hands nobody on.
    let is_single = io.reaped == 1 && !io.going_down.is_begun();
    let (counters, before) = (run.shards[number].counters(), &run.counters[number]);
    let has_stayed = counters.accepted == before.accepted + 1
        && counters.handed_over == before.handed_over
        && counters.closed_total() == before.closed_total();
    if !settings.balanced
        || settings.connections_per_address_max.is_some()
        || !is_single
        || !has_stayed
    {
        return;
    }
    let own = run.loads.connections(number as u16) - 1;
    for other in (0..run.shards.len()).filter(|other| *other != number) {
        let others = run.loads.connections(other as u16);
        assert!(
            run.network.full[other] || !is_clearly_more(own, others),
            "shard {number} keeps a connection with {own}, and {other} has {others}"
        );
    }
}

/// A shard whose connections hold too much accepts nobody.
fn judge_room(run: &mut Run, number: usize) {
    let held_bytes = run.shards[number].memory_bytes();
    let settings = run.settings(number);
    // What is pushed may come to hold more when its send begins, which is after that.
    let is_short = held_bytes > settings.memory_bytes_max && !run.state.mesh.is_used();
    let is_full = is_short || run.shards[number].connections() >= settings.connections_max;
    let accepts = run.network.listeners[number]
        .iter()
        .any(|listener| listener.accept.is_some_and(|accept| !accept.cancelled));
    assert!(
        !(is_full && accepts),
        "shard {number} accepts with {held_bytes} bytes held"
    );
}

fn judge_replies(run: &mut Run) {
    let settings = &run.scenario.settings;
    for peer in &mut run.peers {
        peer.judge(
            (&run.network, &run.state.mesh, &mut run.topics),
            settings.frame_bytes_max,
            settings.reply_errors,
        );
    }
}

/// Whether a shard still handles what comes on this connection, as far as can be told.
fn is_served(run: &Run, number: usize, peer: usize) -> bool {
    let link = &run.network.links[peer];
    let life = &link.life;
    link.is_of(number)
        && link.closed.is_none()
        && link.shutdown_us.is_none()
        && !link.broken
        && life.ended.is_none()
        && !life.cancelled
        && !life.may_outgrow
        && !mesh::may_be_slow((&run.network, &run.state), run.settings(number), peer)
        && run.peers[peer]
            .expected
            .end_at
            .is_none_or(|at| at > link.received_bytes)
}

/// The connections that a shard serves, unless it stops.
fn served(run: &mut Run, number: usize) -> Vec<usize> {
    if run.shards[number].io_mut().going_down.stop_us.is_some() {
        return Vec::new();
    }
    (0..run.peers.len())
        .filter(|peer| is_served(run, number, *peer))
        .collect()
}

/// Nothing is received from a peer that does not take its replies, nor beyond what may wait.
fn judge_pauses(run: &Run, served: &[usize]) {
    for &peer in served {
        let flow = &run.state.flows.borrow()[peer];
        let link = &run.network.links[peer];
        let is_receiving = link.receive.is_some_and(|receive| !receive.cancelled);
        if may_be_flooded(link, flow) {
            continue;
        }
        if let Some(queued_bytes) = flow.queued_bytes_min() {
            assert!(
                !is_receiving || queued_bytes < flow.high_bytes,
                "peer {peer}: {queued_bytes} bytes are queued, and receiving goes on"
            );
        }
        if let Some(ends_at) = flow.at_work_ends_at() {
            let held_bytes = link.received_bytes - ends_at;
            assert!(
                !is_receiving || held_bytes < HELD_BYTES_MAX,
                "peer {peer}: {held_bytes} bytes are held, and receiving goes on"
            );
        }
    }
}

/// Whether a connection may have been ended for its rate without a word so far.
fn may_be_flooded(link: &Link, flow: &Flow) -> bool {
    flow.has_unhandled(link.received_bytes) && flow.is_flood(flow.frame_us)
}

/// Nobody waits for others: whose frames wait, and neither for a handler nor for the peer to take
/// something, had some of them handled in this very turn.
fn judge_fairness(run: &Run, served: &[usize]) {
    for &peer in served {
        let link = &run.network.links[peer];
        let flow = &run.state.flows.borrow()[peer];
        let waits = flow.has_next(link.received_bytes)
            && link.send.is_none()
            && link.life.handling.is_none();
        assert!(
            !waits || flow.turn == run.network.turn || may_be_flooded(link, flow),
            "peer {peer} waits, and had nothing of this turn"
        );
    }
}

/// Who is to end its own side does not take for ever.
fn judge_lingering(run: &Run, number: usize) {
    let now_us = run.now_us;
    for link in run.network.links.iter().filter(|link| link.is_of(number)) {
        if let (Some(shutdown_us), None) = (link.shutdown_us, link.closed) {
            let late = now_us > shutdown_us + CLOSE_US + GRACE_US;
            assert!(!late, "{:?} is not closed in time", link.id);
        }
    }
}

/// What is due is seen to within a tick.
fn judge_deadlines(run: &mut Run, number: usize, served: &[usize]) {
    let now_us = run.now_us;
    let since_us = run.shards[number].io_mut().going_down.draining_since_us();
    let reply_errors = run.scenario.settings.reply_errors;
    let settings = run.rules[number].all_settings();
    for &peer in served {
        let expected = &run.peers[peer].expected;
        let link = &run.network.links[peer];
        let flow = &run.state.flows.borrow()[peer];
        // Frames that no handler gets are no silence, but leave no trace here.
        let may_be_unseen = expected.bad_frames > 0 || flow.may_be_refused(link.received_bytes);
        let is_unknown = may_be_unseen && !reply_errors;
        if is_unknown || may_be_flooded(link, flow) {
            continue;
        }
        // Its timer may still be by former settings, and then tells of what is due by these.
        let deadlines = settings
            .iter()
            .map(|settings| deadlines(link, flow, settings, since_us));
        let deadlines: Vec<_> = deadlines.collect();
        let is_overdue = deadlines
            .iter()
            .all(|deadlines| !due(deadlines, now_us.saturating_sub(TICK_US)).is_empty());
        assert!(
            !is_overdue,
            "peer {peer} is still there at {now_us}, although {deadlines:?}"
        );
    }
}

fn judge_going_down(run: &mut Run, number: usize) {
    let settings = Rc::clone(run.settings(number));
    let io = run.shards[number].io_mut();
    let stop_us = io.stop_told_us.map(|at_us| at_us + settings.stop_us);
    let drain_us = io
        .going_down
        .drain_us
        .map(|at_us| at_us + settings.drain_us + FLUSH_US);
    // A stop in a drain goes on by its own time, unless the drain's was over.
    let end_us = match (stop_us, drain_us) {
        (Some(stop_us), Some(drain_us)) if io.drained_out => Some(stop_us.min(drain_us)),
        _ => stop_us.or(drain_us),
    };
    let end_us = end_us.unwrap_or(u64::MAX);
    let open = run.shards[number].connections();
    assert!(
        open == 0 || run.now_us <= end_us.saturating_add(GRACE_US),
        "{open} connections are left at the end of shard {number}"
    );
}
