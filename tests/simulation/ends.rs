//! What must hold when a connection ends, and when all is over.

use corelane::metrics::{CloseCause, Counters};

use crate::invariants::{CLOSE_US, FLUSH_US};
use crate::life::Word;
use crate::network::Closed;
use crate::peer::Reading;
use crate::rest;
use crate::run::Run;
use crate::scenario::Class;

/// Every connection that this shard closed since then was closed for a reason that it had.
pub(crate) fn judge_closes(run: &mut Run, number: usize) {
    let counters = run.shards[number].counters();
    let closed_before = run.counters[number].closed_total();
    // How many it closed has been compared with the sum of the causes by now.
    if counters.closed_total() == closed_before {
        return;
    }
    let mut certain = [0_u64; CloseCause::ALL.len()];
    let mut possible = [0_u64; CloseCause::ALL.len()];
    for peer in 0..run.peers.len() {
        let Some(closed) = run.network.links[peer].closed else {
            continue;
        };
        if closed.by != number || std::mem::replace(&mut run.closes_judged[peer], true) {
            continue;
        }
        let causes = possible_causes(run, peer, closed);
        assert!(!causes.is_empty(), "peer {peer} was closed for no reason");
        for cause in &causes {
            possible[*cause as usize] += 1;
        }
        if let [cause] = causes[..] {
            certain[cause as usize] += 1;
        }
    }
    for cause in CloseCause::ALL {
        let counters = run.shards[number].counters();
        let closed = counters.closed(cause) - run.counters[number].closed(cause);
        let expected = certain[cause as usize]..=possible[cause as usize];
        assert!(
            expected.contains(&closed),
            "closed for {cause}: {closed}, not {expected:?}"
        );
    }
}

/// What may have ended this peer's connection.
fn possible_causes(run: &mut Run, number: usize, closed: Closed) -> Vec<CloseCause> {
    let io = run.shards[closed.by].io_mut();
    let (going_down, drained_out) = (io.going_down, io.drained_out);
    let was_told_to_stop = io.stop_told_us.is_some();
    let (link, peer) = (&run.network.links[number], &run.peers[number]);
    let mut causes = Vec::new();
    if link.id.is_none() {
        causes.extend(closed.at_limit.then_some(CloseCause::Limit));
        // Who waits for room when a drain begins, or when its time is over; nobody in between.
        let is_turned_away = drained_out || going_down.drain_us == Some(closed.at_us);
        causes.extend(is_turned_away.then_some(CloseCause::Drain));
        causes.extend(going_down.stop_us.map(|_| CloseCause::Stop));
        return causes;
    }
    if let Some(ended) = &link.life.ended {
        return ended.clone();
    }
    if closed.reset {
        let life = &link.life;
        causes.extend(life.write_timed_out.then_some(CloseCause::WriteTimeout));
        causes.extend(life.may_outgrow.then_some(CloseCause::SlowConsumer));
        return causes;
    }
    causes.extend(peer.end(link.end_told));
    causes.extend(link.broken.then_some(CloseCause::Reset));
    causes.extend(was_told_to_stop.then_some(CloseCause::Stop));
    causes.extend(drained_out.then_some(CloseCause::Drain));
    causes.extend(link.life.shut_due.iter().copied());
    causes.extend(may_be_flooded(run, number).then_some(CloseCause::Flood));
    causes
}

/// Whether its connection may have been ended for its rate, without a word about it.
fn may_be_flooded(run: &Run, number: usize) -> bool {
    let (link, flow) = (
        &run.network.links[number],
        &run.state.flows.borrow()[number],
    );
    flow.has_unhandled(link.received_bytes) && flow.is_flood(flow.frame_us)
}

/// When it is all over.
pub(crate) fn judge_end(run: &mut Run) {
    run.state.violations.assert_none();
    for number in 0..run.shards.len() {
        let shard = &run.shards[number];
        assert_eq!(shard.connections(), 0);
        assert_eq!(shard.handlers(), 0);
        assert_eq!(shard.memory_bytes(), 0, "bytes are held for nobody");
        assert_eq!(shard.counted_connections(), 0, "connections by address");
        assert_eq!(run.loads.connections(number as u16), 0, "load");
        let listeners = &run.network.listeners[number];
        assert!(listeners.iter().all(|listener| listener.closed));
    }
    for (number, link) in run.network.links.iter().enumerate() {
        let is_open = link.is_accepted() && link.closed.is_none();
        assert!(!is_open, "the socket of peer {number} was never closed");
    }
    for number in 0..run.peers.len() {
        judge_peer(run, number);
        judge_last_word(run, number);
    }
    judge_totals(run);
    if run.has_topics() {
        judge_topics(run);
    } else {
        judge_mesh(run);
    }
    rest::judge_ends(run);
}

/// What was pushed and called for has come to what it had to.
fn judge_mesh(run: &mut Run) {
    let mesh = &run.state.mesh;
    mesh.judge_end();
    let let_in = run.network.links.iter().filter(|link| link.id.is_some());
    assert_eq!(mesh.told(), let_in.count(), "hooks");
    let total = |count: fn(&Counters) -> u64| -> u64 {
        run.shards.iter().map(|shard| count(shard.counters())).sum()
    };
    assert_eq!(total(|c| c.errands_refused), mesh.refused(), "refused");
    let (runs, panics) = mesh.runs();
    assert_eq!(total(|c| c.runs), runs, "functions");
    assert_eq!(total(|c| c.run_panics), panics, "panics of functions");
    assert_eq!(
        total(|c| c.hook_panics),
        mesh.panics.get(),
        "panics of hooks"
    );
    let mut stays = Vec::new();
    for number in 0..run.peers.len() {
        if stays_to_the_end(run, number) {
            stays.push(number);
        }
    }
    for number in stays {
        let link = &run.network.links[number];
        if let Some(id) = link.id {
            let stop_us = run.scenario.stop_us.unwrap_or(u64::MAX);
            let mesh = &run.state.mesh;
            let missing = mesh.missing(id, link.life.admitted_us, stop_us);
            assert!(
                missing.is_empty(),
                "peer {number} misses pushes {missing:?}"
            );
        }
    }
    let mesh = &run.state.mesh;
    let (pushes, arrived) = (mesh.pushes.get(), mesh.pushes_arrived.get());
    let stale = run.shards.iter().map(|shard| shard.counters().stale_pushes);
    let accounted = arrived + stale.sum::<u64>();
    assert!(accounted <= pushes, "{accounted} pushes of {pushes}");
    let mut is_lossless = true;
    for number in 0..run.peers.len() {
        let was_let_in = run.network.links[number].id.is_some();
        let is_whole = end_of(run, number) != End::CutShort && run.peers[number].is_good();
        is_lossless &= !was_let_in || is_whole;
    }
    assert!(
        !is_lossless || accounted == pushes,
        "{accounted} pushes of {pushes}"
    );
}

/// Every event went where it had to, and nothing is left of those who have left.
fn judge_topics(run: &mut Run) {
    let stays = (0..run.peers.len()).filter(|number| stays_to_the_end(run, *number));
    let stays: Vec<usize> = stays.collect();
    let stop_us = run.scenario.stop_us.unwrap_or(u64::MAX);
    run.topics.judge_end(&stays, stop_us);
    let forum = &run.state.forum;
    run.topics.judge_figures(&forum.figures());
}

/// Whether a peer took everything and its connection was open until there was nothing left to do,
/// which a drain does not wait for.
fn stays_to_the_end(run: &mut Run, number: usize) -> bool {
    if run.scenario.drain_us.is_some() {
        return false;
    }
    let end = end_of(run, number);
    let (link, peer) = (&run.network.links[number], &run.peers[number]);
    end != End::CutShort && peer.is_good() && link.life.open_at_stop
}

/// How a connection ended, as far as its peer's replies depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Broken, refused, or its time was over: replies may be lost.
    CutShort,
    /// By the server, for what has nothing to do with the requests: those that were not handled by
    /// then are not answered.
    Early,
    /// With everything answered that the peer sent.
    Whole,
}

fn end_of(run: &mut Run, number: usize) -> End {
    let link = &run.network.links[number];
    let (Some(closed), true) = (link.closed, link.id.is_some()) else {
        return End::CutShort;
    };
    let io = run.shards[closed.by].io_mut();
    let settings = &io.settings;
    let stop_end_us = io.stop_told_us.map(|at_us| at_us + settings.stop_us);
    let drain_end_us = io
        .going_down
        .drain_us
        .map(|at_us| at_us + settings.drain_us + FLUSH_US);
    let linger_end_us = link.shutdown_us.map(|at_us| at_us + CLOSE_US);
    let is_over = |end_us: Option<u64>| end_us.is_some_and(|end_us| closed.at_us >= end_us);
    if link.broken || closed.reset || is_over(stop_end_us) || is_over(drain_end_us) {
        return End::CutShort;
    }
    let is_begun = io.going_down.is_begun();
    if is_begun && is_over(linger_end_us) {
        return End::CutShort;
    }
    let is_early = link.life.ended.is_some() || !link.life.shut_due.is_empty();
    if is_begun || is_early || may_be_flooded(run, number) {
        return End::Early;
    }
    End::Whole
}

/// Guarantees 2 and 4: who keeps to the rules gets all that it must get, in whole frames.
fn judge_peer(run: &mut Run, number: usize) {
    let reply_errors = run.scenario.settings.reply_errors;
    let end = end_of(run, number);
    let (link, peer) = (&run.network.links[number], &run.peers[number]);
    if end == End::CutShort || !peer.is_good() {
        return;
    }
    let rest_bytes = peer.reader.rest_bytes();
    assert_eq!(rest_bytes, 0, "peer {number} got a part of a frame");
    if end == End::Early {
        let flow = &run.state.flows.borrow()[number];
        let answered_bytes = flow.answered_bytes_min();
        let taken_bytes = link.taken.len() - 12 * peer.progress.goaways as usize;
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
    judge_drained(run, number);
}

/// Who had sent its requests before a drain got its replies, and was told, unless the drain's time
/// was over before.
fn judge_drained(run: &mut Run, number: usize) {
    let (link, peer) = (&run.network.links[number], &run.peers[number]);
    let (Some(sent_bytes), Some(closed)) = (link.life.sent_before_drain, link.closed) else {
        return;
    };
    let told = u64::from(run.scenario.settings.reply_errors);
    assert_eq!(
        peer.progress.goaways, told,
        "peer {number} was told to go away"
    );
    let io = run.shards[closed.by].io_mut();
    let flow = &run.state.flows.borrow()[number];
    let was_stopped = io
        .going_down
        .stop_us
        .is_some_and(|at_us| at_us <= closed.at_us);
    let is_at_its_end = peer
        .expected
        .end_at
        .is_some_and(|at| at <= link.received_bytes);
    let is_late = |cause: &CloseCause| *cause != CloseCause::Drain;
    let is_timed_out = link.life.ended.is_some() || link.life.shut_due.iter().any(is_late);
    if was_stopped || is_at_its_end || is_timed_out || peer.script.reading != Reading::Eager {
        return;
    }
    assert!(
        !flow.has_unhandled(sent_bytes),
        "peer {number} had sent requests before the drain that were not handled"
    );
}

/// What the server said last had its reason, and who was cut off was told.
fn judge_last_word(run: &mut Run, number: usize) {
    let end = end_of(run, number);
    let (link, peer) = (&run.network.links[number], &run.peers[number]);
    let cut_off = link.life.cut_off;
    match peer.progress.last_word {
        Some(Word::ShuttingDown(code)) => {
            assert_eq!(cut_off, Some(code), "peer {number} was not cut off");
        }
        Some(word) => assert!(link.life.ended.is_some(), "peer {number} got {word:?}"),
        None => {
            let is_told = run.scenario.settings.reply_errors && peer.is_good();
            let is_cut_off = cut_off.is_some() && end != End::CutShort;
            assert!(
                !is_told || !is_cut_off,
                "peer {number} was cut off without a word"
            );
        }
    }
    let may_be_told = run.scenario.drain_us.is_some() && run.scenario.settings.reply_errors;
    let goaways = peer.progress.goaways;
    assert!(
        goaways <= u64::from(may_be_told),
        "peer {number} got {goaways} GOAWAY"
    );
}

/// Counters that can only be told from the whole: exact if nobody's part of it is uncertain.
fn judge_totals(run: &mut Run) {
    let mut is_exact = true;
    let mut is_lossless = true;
    let (mut frames_received, mut bad_frames, mut panics) = (0, 0, 0);
    let (mut frames, mut overloaded) = (0, 0);
    for number in 0..run.peers.len() {
        let end = end_of(run, number);
        let peer = &run.peers[number];
        frames += peer.progress.frames;
        overloaded += peer.progress.overloaded;
        frames_received += peer.expected.frames_received;
        bad_frames += peer.expected.bad_frames;
        panics += peer.expected.panics;
        let was_let_in = run.network.links[number].id.is_some();
        is_lossless &= !was_let_in || end != End::CutShort && peer.is_good();
        let is_whole = end == End::Whole || end == End::Early && run.scenario.kind == Class::Calm;
        is_exact &= is_whole && peer.is_good();
    }
    let total = |count: fn(&Counters) -> u64| -> u64 {
        run.shards.iter().map(|shard| count(shard.counters())).sum()
    };
    assert_eq!(
        total(|c| c.accepted),
        total(Counters::closed_total),
        "accepted and closed"
    );
    for (name, counted, expected) in [
        (
            "frames received",
            total(|c| c.frames_received),
            frames_received,
        ),
        ("bad frames", total(Counters::bad_frames_total), bad_frames),
        ("panics", total(|c| c.handler_panics), panics),
    ] {
        assert!(counted <= expected, "{name}: {counted} of {expected}");
        assert!(
            !is_exact || counted == expected,
            "{name}: {counted}, not {expected}"
        );
    }
    let frames_sent = total(|c| c.frames_sent);
    assert!(
        frames <= frames_sent,
        "{frames} frames came, {frames_sent} were sent"
    );
    assert!(
        !is_lossless || frames == frames_sent,
        "{frames} frames came of {frames_sent}"
    );
    if run.scenario.settings.reply_errors {
        let turned_away = total(|c| c.overloaded);
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
