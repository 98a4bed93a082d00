//! What is sent when, where that is not all the same to the peer.

use super::*;
use crate::metrics::latency::Latencies;

const LARGE_BYTES: usize = 100;
const BULK_BYTES: usize = 1000;

/// A shard with one connection, from which it receives as from a peer that sends much at a time.
fn with_a_large_peer() -> (Shard<Still, ()>, ConnectionId) {
    let settings = Settings {
        large_bytes: LARGE_BYTES,
        bulk_bytes: BULK_BYTES,
        ..Settings::from(&Config::default())
    };
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), context, body| context.reply(body));
    let mut shard = with_one_connection(settings, router);
    let id = shard.connections.ids().next().unwrap();
    let large = [LARGE_BYTES; 4].map(|bytes| Ok(echo(&vec![1; bytes])));
    for result in large.into_iter().chain([Err(Failure::Cancelled)]) {
        let more = result.is_ok();
        complete(&mut shard, Completion::Received { id, result, more });
        let sends = std::mem::take(&mut shard.io.sends);
        for buffer in sends {
            let result = Ok(buffer.remaining().len());
            complete(&mut shard, Completion::Sent { id, buffer, result });
        }
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

/// An ECHO comes whose reply has so many bytes.
fn come(shard: &mut Shard<Still, ()>, id: ConnectionId, bytes: usize, now_us: u64) {
    let empty_bytes = echo(&[]).len();
    shard.io.completions.push(Completion::Received {
        id,
        result: Ok(echo(&vec![1; bytes - empty_bytes])),
        more: true,
    });
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
    come(&mut shard, id, BULK_BYTES - 1, 3);
    assert!(shard.io.at_once.is_empty());
    assert_eq!(asked(&shard, "Send"), 1);
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
        let latencies = shard.recorder.exchange(Latencies::default());
        let of_codes = (0..latencies.len()).filter_map(|series| latencies.get(series));
        let sent: Vec<(u64, u64, u64)> = of_codes
            .map(|latency| (latency.sent.len(), latency.sent.min(), latency.sent.max()))
            .filter(|&(count, ..)| count > 0)
            .collect();
        assert_eq!(sent, [(1, 300, 300)]);
        let connection = shard.connections.get_mut(id).unwrap();
        assert_eq!(connection.traffic.slowest_us, 300);
    }
}
