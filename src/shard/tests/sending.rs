//! What is sent when, where that is not all the same to the peer.

use hdrhistogram::Histogram;

use super::*;
use crate::metrics::latency::{Latencies, Latency};
use crate::shard::sending::LONE_SENDS_MIN;

const LARGE_BYTES: usize = 100;
const BULK_BYTES: usize = 1000;

/// A shard with one connection, from which it receives as from a peer that sends much at a time.
fn with_a_large_peer() -> (Shard<Still, ()>, ConnectionId) {
    let settings = Settings {
        large_bytes: LARGE_BYTES,
        bulk_bytes: BULK_BYTES,
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings, echo_router());
    let id = shard.connections.ids().next().unwrap();
    let large = [LARGE_BYTES; 4].map(|bytes| Ok(echo(&vec![1; bytes])));
    for result in large.into_iter().chain([Err(Failure::Cancelled)]) {
        let more = result.is_ok();
        complete(&mut shard, Completion::Received { id, result, more });
        end_sends(&mut shard, id);
    }
    let receive = shard.connections.get_mut(id).unwrap().receive;
    assert_eq!(receive, Receiving::As(Reception::Large));
    assert!(shard.io.at_once.is_empty());
    shard.io.asked.clear();
    (shard, id)
}

fn complete(shard: &mut Shard<Still, ()>, completion: Completion<(), Vec<u8>>) {
    shard.io.completions.push(completion);
    shard.turn(2);
}

fn echo_router() -> Router<()> {
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), context, body| context.reply(body));
    router
}

fn accept_another(shard: &mut Shard<Still, ()>) -> ConnectionId {
    accept(shard, "127.0.0.1:10", 2);
    shard.connections.ids().last().unwrap()
}

/// The next turn finds an ECHO whose reply has so many bytes.
fn queue_request(shard: &mut Shard<Still, ()>, id: ConnectionId, bytes: usize) {
    let empty_bytes = echo(&[]).len();
    shard.io.completions.push(Completion::Received {
        id,
        result: Ok(echo(&vec![1; bytes - empty_bytes])),
        more: true,
    });
}

/// Such an ECHO comes, and nothing else.
fn come(shard: &mut Shard<Still, ()>, id: ConnectionId, bytes: usize, now_us: u64) {
    queue_request(shard, id, bytes);
    shard.turn(now_us);
}

fn sent_bytes(shard: &Shard<Still, ()>) -> u64 {
    shard.counters().sent_bytes
}

#[test]
fn much_is_sent_at_once_and_leaves_nothing_behind() {
    let (mut shard, id) = with_a_large_peer();
    shard.io.at_once_max = usize::MAX;
    let before = (sent_bytes(&shard), shard.counters().sends);
    for _ in 0..2 {
        come(&mut shard, id, BULK_BYTES, 3);
    }
    assert_eq!(shard.io.at_once, [BULK_BYTES; 2]);
    assert_eq!(asked(&shard, "Send"), 0);
    let bytes = 2 * BULK_BYTES as u64;
    assert_eq!(
        (sent_bytes(&shard), shard.counters().sends),
        (before.0 + bytes, before.1 + 2)
    );
    let connection = shard.connections.get_mut(id).unwrap();
    assert_eq!(
        (
            connection.outbound.bytes(),
            connection.outbound.memory_bytes()
        ),
        (0, 0)
    );
}

#[test]
fn less_waits_for_the_end_of_the_turn() {
    let (mut shard, id) = with_a_large_peer();
    let other = accept_another(&mut shard);
    queue_request(&mut shard, id, BULK_BYTES - 1);
    queue_request(&mut shard, other, 50);
    shard.turn(3);
    assert!(shard.io.at_once.is_empty());
    assert_eq!(asked(&shard, "Send"), 2);
}

/// A shard with one connection whose replies have been the only ones of their turns for so long that
/// the next is expected to be, too.
fn with_a_lone_peer(settings: Settings) -> (Shard<Still, ()>, ConnectionId) {
    let mut shard = with_one_connection(settings, echo_router());
    let id = shard.connections.ids().next().unwrap();
    shard.io.at_once_max = usize::MAX;
    for _ in 0..LONE_SENDS_MIN {
        come(&mut shard, id, 50, 2);
        end_sends(&mut shard, id);
    }
    assert!(shard.io.at_once.is_empty());
    shard.io.asked.clear();
    (shard, id)
}

/// All that is in flight, which is the connection's, is taken.
fn end_sends(shard: &mut Shard<Still, ()>, id: ConnectionId) {
    for buffer in std::mem::take(&mut shard.io.sends) {
        let result = Ok(buffer.remaining().len());
        complete(shard, Completion::Sent { id, buffer, result });
    }
}

#[test]
fn the_only_send_of_a_turn_needs_no_operation() {
    let (mut shard, id) = with_a_lone_peer(Settings::from(&Config::default()));
    let before = (sent_bytes(&shard), shard.counters().sends);
    for now_us in 3..6 {
        come(&mut shard, id, 50, now_us);
    }
    assert_eq!(shard.io.at_once, [50; 3]);
    assert_eq!(asked(&shard, "Send"), 0);
    let now = (sent_bytes(&shard), shard.counters().sends);
    assert_eq!(now, (before.0 + 150, before.1 + 3));
    let connection = shard.connections.get_mut(id).unwrap();
    assert_eq!(connection.outbound.bytes(), 0);
    assert!(!connection.listed);
    // What was charged for while it was queued.
    let held_bytes = connection.memory_bytes();
    assert_eq!(shard.ledger.held_bytes(), held_bytes);
}

/// Together they take one system call, and so may those that come next.
#[test]
fn two_sends_of_a_turn_are_submitted_and_so_are_the_next() {
    let (mut shard, id) = with_a_lone_peer(Settings::from(&Config::default()));
    let other = accept_another(&mut shard);
    for id in [id, other] {
        queue_request(&mut shard, id, 50);
    }
    shard.turn(3);
    assert_eq!(asked(&shard, "Send"), 2);
    for (id, buffer) in [id, other].into_iter().zip(shard.io.sends.split_off(0)) {
        let result = Ok(50);
        complete(&mut shard, Completion::Sent { id, buffer, result });
    }
    come(&mut shard, id, 50, 4);
    assert_eq!(asked(&shard, "Send"), 3);
    assert!(shard.io.at_once.is_empty());
}

/// What the connection waits for begins with the completion of its send.
#[test]
fn the_only_send_is_an_operation_where_something_is_due_after_it() {
    let bytes = echo(&[1; 50]).len();
    let (mut shard, id) = with_a_lone_peer(Settings {
        outbound_high_bytes: 2 * bytes,
        outbound_low_bytes: bytes,
        ..Settings::from(&Config::default())
    });
    // Two of these pause it, before the third.
    shard.io.completions.push(Completion::Received {
        id,
        result: Ok(echo(&[1; 50]).repeat(3)),
        more: true,
    });
    shard.turn(3);
    assert!(shard.io.at_once.is_empty());
    assert_eq!(shard.io.sends[0].remaining().len(), 2 * bytes);
    end_sends(&mut shard, id);
    assert_eq!(shard.io.at_once, [bytes]);
}

/// What was queued may be the very memory that accepting waits for.
#[test]
fn the_only_send_is_an_operation_while_nobody_is_accepted() {
    let settings = Settings {
        connections_max: 1,
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings, echo_router());
    shard.io.at_once_max = usize::MAX;
    let id = shard.connections.ids().next().unwrap();
    for _ in 0..2 * LONE_SENDS_MIN {
        come(&mut shard, id, 50, 2);
        end_sends(&mut shard, id);
    }
    assert!(shard.io.at_once.is_empty());
}

#[test]
fn what_is_not_taken_of_the_only_send_is_sent_by_an_operation() {
    for taken_bytes in [0, 1, 49] {
        let (mut shard, id) = with_a_lone_peer(Settings::from(&Config::default()));
        shard.io.at_once_max = taken_bytes;
        come(&mut shard, id, 50, 3);
        assert_eq!(shard.io.at_once, [taken_bytes]);
        assert_eq!(shard.io.sends[0].remaining().len(), 50 - taken_bytes);
        // The next waits for that.
        come(&mut shard, id, 50, 4);
        assert_eq!(shard.io.at_once, [taken_bytes]);
        end_sends(&mut shard, id);
        assert_eq!(shard.io.at_once, [taken_bytes; 2]);
    }
}

/// Else the rest, or what comes next, would overtake.
#[test]
fn what_is_not_taken_at_once_is_sent_behind_that_and_before_the_next() {
    for taken_bytes in [0, 1, BULK_BYTES - 1] {
        let (mut shard, id) = with_a_large_peer();
        shard.io.at_once_max = taken_bytes;
        come(&mut shard, id, BULK_BYTES, 3);
        let short_sends = shard.counters().short_sends;
        assert_eq!(short_sends, u64::from(taken_bytes > 0));
        let buffer = shard.io.sends.pop().unwrap();
        assert_eq!(buffer.remaining().len(), BULK_BYTES - taken_bytes);
        // The next waits for that.
        come(&mut shard, id, BULK_BYTES, 4);
        assert_eq!(shard.io.at_once, [taken_bytes]);
        assert!(shard.io.sends.is_empty());
        let result = Ok(buffer.remaining().len());
        complete(&mut shard, Completion::Sent { id, buffer, result });
        let connection = shard.connections.get_mut(id).unwrap();
        assert_eq!(connection.outbound.bytes(), BULK_BYTES - taken_bytes);
    }
}

/// When the last has been taken, the connection is closed, which the completion of a send begins.
#[test]
fn the_last_of_a_stream_is_sent_by_an_operation() {
    let (mut shard, id) = with_a_large_peer();
    for _ in 0..2 {
        come(&mut shard, id, BULK_BYTES, 3);
    }
    shard.io.at_once_max = usize::MAX;
    complete(
        &mut shard,
        Completion::Received {
            id,
            result: Ok(Vec::new()),
            more: false,
        },
    );
    for _ in 0..2 {
        assert_eq!(asked(&shard, "Close"), 0);
        let buffer = shard.io.sends.pop().unwrap();
        let result = Ok(buffer.remaining().len());
        complete(&mut shard, Completion::Sent { id, buffer, result });
    }
    assert_eq!(shard.io.at_once, [0]);
    assert_eq!(asked(&shard, "Close"), 1);
}

/// A turn has no clock: when it began, they had not been sent. Who does not say when it ended begins the
/// next one.
#[test]
fn how_long_it_took_is_known_when_the_turn_ends() {
    let end: fn(&mut Shard<Still, ()>, u64) = |shard, now_us| shard.end_turn(now_us);
    let begin_next: fn(&mut Shard<Still, ()>, u64) = |shard, now_us| _ = shard.turn(now_us);
    for end_turn in [end, begin_next] {
        let (mut shard, id) = with_a_large_peer();
        shard.io.at_once_max = usize::MAX;
        shard.end_turn(2);
        shard.recorder.exchange(Latencies::default());
        come(&mut shard, id, BULK_BYTES, 1_000);
        end_turn(&mut shard, 1_300);
        shard.end_turn(1_400);
        assert_eq!(recorded(&mut shard)[1], [(1, 300, 300)]);
        let connection = shard.connections.get_mut(id).unwrap();
        assert_eq!(connection.traffic.slowest_us, 300);
    }
}

/// Else the system call, which is most of such a turn, would count among what it took to queue it.
#[test]
fn what_is_sent_alone_was_queued_before() {
    let (mut shard, id) = with_a_lone_peer(Settings::from(&Config::default()));
    shard.end_turn(2);
    shard.recorder.exchange(Latencies::default());
    shard.io.now_us = Some(1_020);
    come(&mut shard, id, 50, 1_000);
    shard.end_turn(1_300);
    let once_after = |us| vec![(1, us, us)];
    assert_eq!(recorded(&mut shard), [once_after(20), once_after(300)]);
}

/// Number, least and most of the latencies of each code that has some, in microseconds: until replies
/// were queued, and until they were sent.
fn recorded(shard: &mut Shard<Still, ()>) -> [Vec<(u64, u64, u64)>; 2] {
    let latencies = shard.recorder.exchange(Latencies::default());
    let summed = |of: fn(&Latency) -> &Histogram<u64>| {
        let of_codes = (0..latencies.len()).filter_map(|series| latencies.get(series));
        of_codes
            .map(of)
            .filter(|histogram| !histogram.is_empty())
            .map(|histogram| (histogram.len(), histogram.min(), histogram.max()))
            .collect()
    };
    [
        summed(|latency| &latency.queued),
        summed(|latency| &latency.sent),
    ]
}
