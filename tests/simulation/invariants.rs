//! What must hold after every turn, and what at the end.

use corelane::metrics::CloseCause;
use corelane::shard::Turn;

use crate::run::Run;
use crate::scenario::Class;

/// How long a connection that the server ends may take, in microseconds: the shard's own limit.
const CLOSE_US: u64 = 5_000_000;

/// What cancelled operations may take on top, in virtual microseconds: many turns.
const GRACE_US: u64 = 200_000;

/// Bytes that may wait for a handler before receiving pauses: the shard's own limit.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// After every turn.
pub(crate) fn judge_turn(run: &mut Run, turn: Turn) {
    run.state.violations.assert_none();
    judge_numbers(run, turn);
    judge_closes(run);
    judge_replies(run);
    judge_pauses(run);
    judge_deadlines(run);
    run.counters = run.shard.counters().clone();
}

fn judge_numbers(run: &mut Run, turn: Turn) {
    let settings = run.scenario.settings.clone();
    let now_us = run.now_us;
    assert!(
        turn.wake_at_us.is_none_or(|at_us| at_us > now_us),
        "it wants to be woken at {:?}, and it is {now_us}",
        turn.wake_at_us
    );
    let io = run.shard.io_mut();
    io.assert_buffers_are_back();
    assert_eq!(turn.worked, io.reaped > 0, "worked");
    let (told, handlers_peak) = (io.told.clone(), io.handlers_peak);
    let closed = io
        .links
        .iter()
        .filter(|link| link.id.is_some() && link.closed.is_some());
    let (closed, open) = (closed.count() as u64, run.shard.connections() as u64);
    let counters = run.shard.counters();
    assert_eq!(counters.accepted, told.admitted, "accepted");
    assert_eq!(counters.closed_total(), closed, "closed");
    assert_eq!(counters.accepted, closed + open, "connections");
    assert_eq!(
        counters.accept_failures, told.accept_failures,
        "accept failures"
    );
    assert_eq!(
        counters.received_bytes, told.received_bytes,
        "received bytes"
    );
    assert_eq!(counters.sent_bytes, told.sent_bytes, "sent bytes");
    assert_eq!(counters.short_sends, told.short_sends, "short sends");
    assert!(
        counters.receive_pauses <= told.receive_cancels,
        "receive pauses"
    );
    assert_eq!(
        counters.buffers_exhausted, told.buffers_exhausted,
        "no buffers"
    );
    assert_eq!(counters.late_replies, told.late_replies, "late replies");
    assert!(
        open <= settings.connections_max as u64,
        "{open} connections"
    );

    let handlers = run.shard.handlers() as u64;
    assert_eq!(
        handlers,
        told.handlers_started - told.handlers_finished,
        "handlers"
    );
    assert!(
        handlers <= settings.handlers_max as u64,
        "{handlers} handlers"
    );
    let overloaded = counters.overloaded - run.counters.overloaded;
    assert!(
        overloaded == 0 || handlers_peak >= settings.handlers_max as u64,
        "{overloaded} requests were turned away at {handlers_peak} handlers"
    );
    assert!(
        overloaded == 0 || run.class == Class::Overload,
        "turned away"
    );
}

/// Every connection that was closed since then was closed for a reason that it had.
fn judge_closes(run: &mut Run) {
    let mut certain = [0_u64; CloseCause::ALL.len()];
    let mut possible = [0_u64; CloseCause::ALL.len()];
    for number in 0..run.peers.len() {
        let link = &run.shard.io_mut().links[number];
        if link.closed.is_none() || link.id.is_none() || run.closes_judged[number] {
            continue;
        }
        run.closes_judged[number] = true;
        let causes = run.possible_causes(number);
        assert!(!causes.is_empty(), "peer {number} was closed for no reason");
        for cause in &causes {
            possible[*cause as usize] += 1;
        }
        if let [cause] = causes[..] {
            certain[cause as usize] += 1;
        }
    }
    for cause in CloseCause::ALL {
        let closed = run.shard.counters().closed(cause) - run.counters.closed(cause);
        let expected = certain[cause as usize]..=possible[cause as usize];
        assert!(
            expected.contains(&closed),
            "closed for {cause}: {closed}, not {expected:?}"
        );
    }
}

fn judge_replies(run: &mut Run) {
    let settings = &run.scenario.settings;
    let io = run.shard.io_mut();
    for peer in &mut run.peers {
        peer.judge(io, settings.frame_bytes_max, settings.reply_errors);
    }
}

/// Nothing is received from a peer that does not take its replies, nor beyond what may wait.
fn judge_pauses(run: &mut Run) {
    if run.stop_us.is_some() {
        return;
    }
    let high_bytes = run.scenario.settings.outbound_high_bytes;
    let flows = run.state.flows.borrow();
    let io = run.shard.io_mut();
    for (number, (link, flow)) in io.links.iter().zip(flows.iter()).enumerate() {
        let is_receiving = link.receive.is_some_and(|receive| !receive.cancelled);
        if link.id.is_none() || link.broken || run.peers[number].expected.end.is_some() {
            continue;
        }
        if let Some(queued_bytes) = flow.queued_bytes_min() {
            assert!(
                !is_receiving || queued_bytes < high_bytes,
                "peer {number}: {queued_bytes} bytes are queued, and receiving goes on"
            );
        }
        if let Some(ends_at) = flow.at_work_ends_at() {
            let held_bytes = link.received_bytes - ends_at;
            assert!(
                !is_receiving || held_bytes < HELD_BYTES_MAX,
                "peer {number}: {held_bytes} bytes are held, and receiving goes on"
            );
        }
    }
}

fn judge_deadlines(run: &mut Run) {
    let now_us = run.now_us;
    for (number, link) in run.shard.io_mut().links.iter().enumerate() {
        if let (Some(shutdown_us), None) = (link.shutdown_us, link.closed) {
            let late = now_us > shutdown_us + CLOSE_US + GRACE_US;
            assert!(!late, "peer {number} is not closed in time");
        }
    }
    if let Some(stop_us) = run.stop_us {
        let end_us = stop_us + run.scenario.settings.stop_us + GRACE_US;
        let open = run.shard.connections();
        assert!(
            open == 0 || now_us <= end_us,
            "{open} connections are left after the stop"
        );
    }
}

/// When it is all over.
pub(crate) fn judge_end(run: &mut Run) {
    assert_eq!(run.shard.connections(), 0);
    assert_eq!(run.shard.handlers(), 0);
    run.state.violations.assert_none();
    let listeners = &run.shard.io_mut().listeners;
    assert!(listeners.iter().all(|listener| listener.closed));
    for (number, link) in run.shard.io_mut().links.iter().enumerate() {
        let is_open = link.accepted && link.closed.is_none();
        assert!(!is_open, "the socket of peer {number} was never closed");
    }
    for number in 0..run.peers.len() {
        judge_peer(run, number);
    }
    judge_totals(run);
}

/// Guarantees 2 and 4: who keeps to the rules gets all that it must get, in whole frames.
fn judge_peer(run: &mut Run, number: usize) {
    let reply_errors = run.scenario.settings.reply_errors;
    let (is_cut_short, stop_us) = (is_cut_short(run, number), run.stop_us);
    let (link, peer) = (&run.shard.io_mut().links[number], &run.peers[number]);
    if is_cut_short || link.id.is_none() || !peer.is_good() {
        return;
    }
    let rest_bytes = peer.reader.rest_bytes();
    assert_eq!(rest_bytes, 0, "peer {number} got a part of a frame");
    let was_stopped = link.closed.is_some_and(|(at_us, _)| Some(at_us) >= stop_us);
    if was_stopped {
        let answered_bytes = run.state.flows.borrow()[number].answered_bytes_min();
        let taken_bytes = link.taken.len();
        assert!(
            taken_bytes >= answered_bytes,
            "peer {number} got {taken_bytes} bytes of at least {answered_bytes}"
        );
    } else {
        let missing = peer.missing(reply_errors);
        assert_eq!(missing, 0, "peer {number} misses replies");
        let has_ended = peer.end(link.end_told).is_some();
        assert!(has_ended, "peer {number} was closed before its end");
    }
    // Closing over bytes that nobody has received, or that are still to come, makes the kernel
    // send a reset that may destroy the last replies.
    assert!(
        link.end_told && !link.destroyed,
        "peer {number} may have lost replies"
    );
}

/// Its connection broke, or its time was over.
fn is_cut_short(run: &mut Run, number: usize) -> bool {
    let stop_limit_us = run.scenario.settings.stop_us;
    let stop_end_us = run.stop_us.map(|stop_us| stop_us + stop_limit_us);
    let link = &run.shard.io_mut().links[number];
    let linger_end_us = link.shutdown_us.map(|shutdown_us| shutdown_us + CLOSE_US);
    let closed_us = link.closed.map(|(at_us, _)| at_us);
    let is_over = |end_us: Option<u64>| end_us.is_some() && closed_us >= end_us;
    link.broken || run.stop_us.is_some() && (is_over(stop_end_us) || is_over(linger_end_us))
}

/// Counters that can only be told from the whole: exact if nobody's part of it is uncertain.
fn judge_totals(run: &mut Run) {
    let mut is_exact = true;
    let mut is_lossless = true;
    let (mut frames_received, mut bad_frames, mut panics) = (0, 0, 0);
    let (mut frames, mut overloaded) = (0, 0);
    for number in 0..run.peers.len() {
        let is_cut_short = is_cut_short(run, number);
        let stop_us = run.stop_us;
        let (link, peer) = (&run.shard.io_mut().links[number], &run.peers[number]);
        frames += peer.progress.frames;
        overloaded += peer.progress.overloaded;
        frames_received += peer.expected.frames_received;
        bad_frames += peer.expected.bad_frames;
        panics += peer.expected.panics;
        is_lossless &= !is_cut_short && peer.is_good();
        let stopped = link
            .closed
            .is_none_or(|(at, _)| stop_us.is_some_and(|stop| at >= stop));
        let is_settled = link.id.is_some() && (!stopped || run.class != Class::Stopping);
        is_exact &= !is_cut_short && peer.is_good() && is_settled;
    }
    let counters = run.shard.counters();
    for (name, counted, expected) in [
        ("frames received", counters.frames_received, frames_received),
        ("bad frames", counters.bad_frames, bad_frames),
        ("panics", counters.handler_panics, panics),
    ] {
        assert!(counted <= expected, "{name}: {counted} of {expected}");
        assert!(
            !is_exact || counted == expected,
            "{name}: {counted}, not {expected}"
        );
    }
    let frames_sent = counters.frames_sent;
    assert!(
        frames <= frames_sent,
        "{frames} frames came, {frames_sent} were sent"
    );
    assert!(
        !is_lossless || frames == frames_sent,
        "{frames} frames came of {frames_sent}"
    );
    if run.scenario.settings.reply_errors {
        let turned_away = counters.overloaded;
        assert!(
            overloaded <= turned_away,
            "overloaded: {overloaded} of {turned_away}"
        );
        assert!(
            !is_lossless || overloaded == turned_away,
            "overloaded: {overloaded}"
        );
    }
}
