//! PUBLISH: who gets the event, and in which order.

use std::collections::BTreeMap;
use std::thread;

use corelane::client::Client;
use corelane::protocol::codes;
use corelane::protocol::messages::{Publish, Published};

use crate::forum::{Member, start};
use crate::support::library::address_of;
use crate::support::program;
use crate::support::user::{User as _, connect};

#[test]
fn an_event_reaches_the_subscribers_of_all_shards() {
    let server = start();
    let address = address_of(&server);
    let mut subscribers: Vec<Member> = (0..20).map(|_| Member::join(address)).collect();
    let on_first = subscribers.iter().filter(|member| member.shard == 0);
    assert!((1..20).contains(&on_first.count()), "both shards have some");
    for subscriber in &mut subscribers {
        subscriber.subscribe("news");
    }
    let mut others: Vec<Member> = (0..4).map(|_| Member::join(address)).collect();
    for other in &mut others {
        other.subscribe("other news");
    }
    for shard in [0, 1] {
        let mut publisher = Member::on(shard, address);
        for payload in [&b"hello"[..], b"", &[0; 10_000]] {
            assert_eq!(publisher.publish("news", payload), 20);
            for subscriber in &mut subscribers {
                subscriber.expect_event("news", payload);
            }
        }
    }
    for other in &mut others {
        assert_eq!(other.events(), []);
    }
    // Who publishes gets its own event like everybody.
    assert_eq!(subscribers[0].publish("news", b"mine"), 20);
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.events(), [("news".to_owned(), b"mine".to_vec())]);
    }
}

/// Each publisher has many requests in flight, and each subscriber sees them in their order.
#[test]
fn what_one_connection_publishes_arrives_in_its_order() {
    const PUBLISHERS: u8 = 6;
    const EVENTS: u32 = 500;
    let server = start();
    let address = address_of(&server);
    let mut subscribers: Vec<Member> = (0..6).map(|at| Member::on(at % 2, address)).collect();
    for subscriber in &mut subscribers {
        subscriber.subscribe("a");
        subscriber.subscribe("b");
    }
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let mut member = Member::on(usize::from(publisher) % 2, address);
        thread::spawn(move || {
            for event in 0..EVENTS {
                let payload = &[&[publisher][..], &event.to_be_bytes()].concat();
                let topic = ["a", "b"][event as usize % 2];
                let publish = Publish { topic, payload };
                member.client.send_message(&publish).unwrap();
            }
            for _ in 0..EVENTS {
                let reply = member.client.reply().unwrap();
                assert_eq!(reply.message::<Published>().unwrap().receivers, 6);
            }
        })
    });
    let publishers: Vec<_> = publishers.collect();
    for subscriber in &mut subscribers {
        let mut next = BTreeMap::new();
        for _ in 0..u32::from(PUBLISHERS) * EVENTS {
            let (topic, payload) = subscriber.event();
            let number = u32::from_be_bytes(payload[1..].try_into().unwrap());
            let expected: &mut u32 = next.entry(payload[0]).or_default();
            assert_eq!(number, *expected);
            assert_eq!(topic, ["a", "b"][number as usize % 2]);
            *expected += 1;
        }
        assert_eq!(subscriber.events(), []);
    }
    for publisher in publishers {
        publisher.join().unwrap();
    }
}

/// By their bytes: what a client in any other language sends and gets.
#[test]
fn the_binary_has_topics() {
    let server = program::serve(&["shards.count=2"]);
    let mut clients: Vec<Client> = (0..8).map(|_| connect(server.address())).collect();
    for client in &mut clients {
        assert_eq!(client.ask(codes::SUBSCRIBE, b"news"), b"news");
    }
    let mut publisher = connect(server.address());
    let receivers = publisher.ask(codes::PUBLISH, b"\x04newshello");
    assert_eq!(receivers, 8_u32.to_be_bytes());
    for client in &mut clients {
        client.expect_push(codes::EVENT, b"\x04newshello");
        assert_eq!(client.ask(codes::UNSUBSCRIBE, b"news"), b"news");
    }
    let receivers = publisher.ask(codes::PUBLISH, b"\x04newshello");
    assert_eq!(receivers, 0_u32.to_be_bytes());
}
