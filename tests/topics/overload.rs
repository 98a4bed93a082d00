//! A shard that does not keep up: what it has no room for is refused as a whole, and nothing else is
//! lost.

use std::sync::mpsc;
use std::thread;

use corelane::Reply;
use corelane::protocol::{Reason, codes};

use crate::forum::{Member, News, builder, error_in, publish_body};
use crate::support::library::{address_of, config};

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
    stalling.peer.send(STALL, b"");
    stalled.recv().unwrap();

    for (number, publisher) in publishers.iter_mut().enumerate() {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(28_000, 7);
        publisher
            .peer
            .send(codes::PUBLISH, &publish_body("news", &payload));
    }
    // Refusals come while the other shard stands still: the limit of what waits for it is 4 MiB.
    let [here, there] = subscribers;
    let here = thread::spawn(move || events_of(here));
    let (last, others) = publishers.split_last_mut().unwrap();
    let last = last.reply();
    assert_eq!(error_in(&last).1, Reason::Overloaded.number());
    let_go.send(()).unwrap();
    stalling.reply();

    let mut accepted = Vec::new();
    for (number, publisher) in others.iter_mut().enumerate() {
        let reply = publisher.reply();
        if reply.code == codes::PUBLISH {
            assert_eq!(reply.body, 2_u32.to_be_bytes());
            accepted.push(number);
        } else {
            assert_eq!(error_in(&reply).1, Reason::Overloaded.number());
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
    let mut publishers: Vec<Member> = (0..10).map(|_| Member::join(address)).collect();
    for (number, publisher) in publishers.iter_mut().enumerate() {
        let one = crate::support::peer::frame(
            codes::PUBLISH,
            &publish_body("news", &number.to_be_bytes()),
        );
        publisher.peer.send_bytes(&one.repeat(EVENTS as usize / 10));
    }
    for publisher in &mut publishers {
        for _ in 0..EVENTS / 10 {
            let reply = publisher.reply();
            assert_eq!(reply.code, codes::PUBLISH, "{reply:?}");
            assert_eq!(reply.body, 300_u32.to_be_bytes());
        }
    }
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.events().len(), EVENTS as usize);
    }
}
