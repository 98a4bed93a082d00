//! A shard that does not keep up: what it has no room for is refused as a whole, and nothing else is
//! lost.

use std::sync::mpsc;
use std::thread;

use corelane::Reply;
use corelane::protocol::messages::{Publish, Published};
use corelane::protocol::{Reason, codes};

use crate::forum::{Member, News, builder, publish_body};
use crate::support::library::{address_of, config};
use crate::support::peer::{Peer, frame};
use crate::support::user::{User as _, refused};

/// Holds up its shard until it is let go.
const STALL: u16 = 1002;

#[test]
fn a_publish_is_carried_out_on_all_shards_or_on_none() {
    const PUBLISHERS: usize = 200;
    let mut config = config(2);
    config.outbound.max_bytes = 64 << 20;
    let (let_go, gate) = mpsc::channel::<()>();
    let (stalls, stalled) = mpsc::channel();
    let gate = std::sync::Mutex::new(gate);
    let server = builder(config)
        .handler(STALL, move |_state, context, body| {
            stalls.send(()).unwrap();
            if gate.lock().unwrap().recv().is_err() {
                return Reply::error(Reason::Internal, "nobody lets go any more");
            }
            context.reply(body)
        })
        .start()
        .unwrap();
    let address = address_of(&server);
    let mut subscribers = [0, 1].map(|shard| Member::on(shard, address));
    for subscriber in &mut subscribers {
        subscriber.subscribe("news");
    }
    let mut stalling = Member::on(1, address);
    // Every other one, about.
    let mut publishers: Vec<Member> = (0..2 * PUBLISHERS).map(|_| Member::join(address)).collect();
    publishers.retain(|member| member.shard == 0);
    stalling.client.send(STALL, b"let me go").unwrap();
    stalled.recv().unwrap();

    for (number, publisher) in publishers.iter_mut().enumerate() {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(28_000, 7);
        let (topic, payload) = ("news", &payload[..]);
        let publish = Publish { topic, payload };
        publisher.client.send_message(&publish).unwrap();
    }
    // Refusals come while the other shard stands still: the limit of what waits for it is 4 MiB.
    let [here, there] = subscribers;
    let here = thread::spawn(move || events_of(here));
    let (last, others) = publishers.split_last_mut().unwrap();
    refused(last.client.reply(), Reason::Overloaded);
    let_go.send(()).unwrap();
    stalling.client.expect(STALL, b"let me go");

    let mut accepted = Vec::new();
    for (number, publisher) in others.iter_mut().enumerate() {
        match publisher.client.reply() {
            Ok(reply) => {
                assert_eq!(reply.message::<Published>().unwrap().receivers, 2);
                accepted.push(number);
            }
            outcome => drop(refused(outcome, Reason::Overloaded)),
        }
    }
    assert!(accepted.len() > 100, "{accepted:?}");
    assert_eq!(stalling.publish("news", b"the end"), 2);
    for events in [here.join().unwrap(), events_of(there)] {
        let mut numbers: Vec<usize> = events
            .iter()
            .map(|(_, payload)| usize::from_be_bytes(payload[..8].try_into().unwrap()))
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, accepted, "each accepted one came once");
    }
}

/// What comes before the end.
fn events_of(mut member: Member) -> Vec<News> {
    let next = || Some(member.event()).filter(|(_, payload)| payload != b"the end");
    std::iter::from_fn(next).collect()
}

/// More pushes than may wait at once: the rest of them follows, and nothing is lost or doubled.
#[test]
fn more_than_may_wait_is_delivered_all_the_same() {
    const SUBSCRIBERS: usize = 300;
    const EVENTS: u32 = 1000;
    let server = builder(config(1)).start().unwrap();
    let address = address_of(&server);
    let mut subscribers: Vec<Member> = (0..SUBSCRIBERS).map(|_| Member::join(address)).collect();
    for subscriber in &mut subscribers {
        subscriber.subscribe("news");
    }
    // No clients: many requests come in one piece, so that the shard takes them in one turn.
    let mut publishers: Vec<Peer> = (0..10).map(|_| Peer::connect(address)).collect();
    for (number, publisher) in publishers.iter_mut().enumerate() {
        let one = frame(codes::PUBLISH, &publish_body("news", &number.to_be_bytes()));
        publisher.send_bytes(&one.repeat(EVENTS as usize / 10));
    }
    for publisher in &mut publishers {
        for _ in 0..EVENTS / 10 {
            publisher.expect(codes::PUBLISH, &300_u32.to_be_bytes());
        }
    }
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.events().len(), EVENTS as usize);
    }
}
