//! Connections that end leave nothing behind, and those that are slow hold up nobody.

use std::sync::mpsc;

use corelane::Server;
use corelane::metrics::CloseCause;
use corelane::metrics::latency::Latencies;
use corelane::protocol::codes;

use crate::forum::{Member, builder, peer_on, start, until_counts};
use crate::support::library::{address_of, config};
use crate::support::peer::Peer;
use crate::support::waiting::until;

#[test]
fn a_connection_that_ends_leaves_nothing() {
    let server = start();
    let address = address_of(&server);
    let mut watcher = Member::on(0, address);
    watcher.subscribe("news");
    let alone = [[1, 1, 1, 0], [0, 0, 1, 0]];
    until_counts(&server, &alone);
    for round in 0..30 {
        // No client: none resets its connection, or half closes it and then doesn't wait.
        let mut peer = peer_on(round % 2, || Peer::connect(address));
        if round % 3 == 0 {
            peer.send(codes::SUBSCRIBE, b"news");
            peer.expect(codes::SUBSCRIBE, b"news");
        }
        for number in 0..20 {
            // Some of them are not answered before it ends.
            let topic = format!("{round} {number}");
            peer.send(codes::SUBSCRIBE, topic.as_bytes());
            if number < 10 {
                peer.expect(codes::SUBSCRIBE, topic.as_bytes());
            }
        }
        match round % 4 {
            0 => peer.reset(),
            1 => peer.shut(),
            _ => {}
        }
    }
    until_counts(&server, &alone);
    assert_eq!(watcher.publish("news", b"to myself"), 1);
    watcher.unsubscribe("news");
    until_counts(&server, &[[0; 4]; 2]);
}

#[test]
fn a_slow_subscriber_is_closed_and_the_others_get_everything() {
    const PAYLOAD: [u8; 8000] = [7; 8000];
    let mut config = config(2);
    config.outbound.low_bytes = 20_000;
    config.outbound.high_bytes = 40_000;
    config.outbound.max_bytes = 100_000;
    let server = builder(config).start().unwrap();
    let address = address_of(&server);
    for shard in [0, 1] {
        let mut publisher = Member::on(1, address);
        let mut good: Vec<Member> = (0..4).map(|at| Member::on(at % 2, address)).collect();
        for member in &mut good {
            member.subscribe("news");
        }
        // No client: it does not read.
        let mut slow = peer_on(shard, || Peer::connect_small(address));
        slow.send(codes::SUBSCRIBE, b"news");
        slow.expect(codes::SUBSCRIBE, b"news");
        let closed = closed_as_slow(&server, shard);
        // What the kernel takes besides is some megabytes at most.
        until("the slow one is closed", || {
            for _ in 0..20 {
                let receivers = publisher.publish("news", &PAYLOAD);
                assert!((4..=5).contains(&receivers));
                for member in &mut good {
                    member.expect_event("news", &PAYLOAD);
                }
            }
            (closed_as_slow(&server, shard) == closed + 1).then_some(())
        });
        assert_eq!(publisher.publish("news", b"the last"), 4);
        for member in &mut good {
            let last = ("news".to_owned(), b"the last".to_vec());
            assert_eq!(member.events(), [last]);
        }
    }
}

fn closed_as_slow(server: &Server, shard: usize) -> u64 {
    let (send, receive) = mpsc::channel();
    server
        .handle()
        .show(shard, Latencies::default(), 0, move |snapshot| {
            send.send(snapshot).unwrap();
        });
    let snapshot = receive.recv().unwrap();
    snapshot.counters.closed(CloseCause::SlowConsumer)
}
