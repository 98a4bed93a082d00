//! What is shown of topics is what clients did, to the last event; also while a shard stands still.

use std::collections::BTreeMap;
use std::sync::{Mutex, mpsc};

use corelane::Reply;
use corelane::protocol::messages::{Publish, Subscribe};
use corelane::protocol::{ErrorBody, Reason, codes, encode_message};

use crate::applications::{
    WHERE, accounts, assert_sample, builder, client_on, refused, until_samples,
};
use crate::http::metrics;
use crate::plane::Admin;
use crate::support::library::{address_of, config};
use crate::support::peer::Peer;
use crate::support::waiting::until;

/// Holds up its shard until it is let go.
const STALL: u16 = 1001;

#[test]
fn topics_are_counted_as_clients_see_them() {
    let mut config = config(2);
    config.topics.per_connection = 2;
    config.topics.distinct_per_shard = 2;
    let accounts = accounts(&mut config);
    let server = builder(config, &accounts).start().unwrap();
    let admin = Admin::of(&server);
    let address = address_of(&server);
    let [mut one, mut third] = [0, 0].map(|shard| client_on(shard, address));
    let mut other = client_on(1, address);
    let publish = Publish {
        topic: "news",
        payload: b"hello",
    };
    // Nobody is there.
    assert_eq!(one.call(&publish).unwrap().message().receivers, 0);
    one.call(&Subscribe { topic: "news" }).unwrap();
    one.call(&Subscribe { topic: "weather" }).unwrap();
    other.call(&Subscribe { topic: "news" }).unwrap();
    for _ in 0..5 {
        assert_eq!(one.call(&publish).unwrap().message().receivers, 2);
    }
    for _ in 0..3 {
        assert_eq!(other.call(&publish).unwrap().message().receivers, 2);
    }
    let sport = Subscribe { topic: "sport" };
    assert_eq!(refused(one.call(&sport)), Reason::Rejected);
    for _ in 0..2 {
        assert_eq!(refused(third.call(&sport)), Reason::Rejected);
    }
    until_samples(
        &admin,
        &[
            ("corelane_topics_known{shard=\"0\"}", 2),
            ("corelane_topics_known{shard=\"1\"}", 2),
            ("corelane_topics_subscribed{shard=\"0\"}", 2),
            ("corelane_topics_subscribed{shard=\"1\"}", 1),
            ("corelane_topics_subscriptions{shard=\"0\"}", 2),
            ("corelane_topics_subscriptions{shard=\"1\"}", 1),
            ("corelane_topics_subscribers{shard=\"0\"}", 1),
            ("corelane_topics_publishes_total{shard=\"0\"}", 6),
            ("corelane_topics_publishes_total{shard=\"1\"}", 3),
            ("corelane_topics_events_queued_total{shard=\"0\"}", 8),
            ("corelane_topics_events_queued_total{shard=\"1\"}", 8),
            ("corelane_topics_links_unsettled{shard=\"0\"}", 0),
            ("corelane_topics_link_events{shard=\"0\"}", 0),
            ("corelane_topics_link_bytes{shard=\"0\"}", 0),
            (
                "corelane_topics_publishes_refused_total{shard=\"0\",reason=\"link\"}",
                0,
            ),
            (
                "corelane_topics_subscribes_refused_total{shard=\"0\",reason=\"per_connection\"}",
                1,
            ),
            (
                "corelane_topics_subscribes_refused_total{shard=\"0\",reason=\"per_shard\"}",
                0,
            ),
            (
                "corelane_topics_subscribes_refused_total{shard=\"0\",reason=\"distinct_per_shard\"}",
                2,
            ),
            (
                "corelane_topics_subscribes_refused_total{shard=\"1\",reason=\"per_connection\"}",
                0,
            ),
        ],
    );
    // What is over leaves its counts behind, and nothing else.
    drop((one, other, third));
    until_samples(
        &admin,
        &[
            ("corelane_topics_known{shard=\"0\"}", 0),
            ("corelane_topics_known{shard=\"1\"}", 0),
            ("corelane_topics_subscriptions{shard=\"0\"}", 0),
            ("corelane_topics_events_queued_total{shard=\"0\"}", 8),
        ],
    );
}

/// A shard that stands still, and many who publish to a topic that somebody has subscribed to there.
/// Gives back how many PUBLISHes were carried out and how many refused, as their publishers heard, and
/// what the metrics of shard 0 had been while it stood still.
fn publish_to_a_shard_that_stands_still(
    memory_bytes: u64,
    payload_bytes: usize,
) -> (u32, u32, BTreeMap<String, f64>) {
    let mut config = config(2);
    config.limits.memory_bytes = memory_bytes;
    config.outbound.max_bytes = 64 << 20;
    let (key, gate) = mpsc::channel::<()>();
    let (stalls, stalled) = mpsc::channel();
    let gate = Mutex::new(gate);
    let accounts = accounts(&mut config);
    let server = builder(config, &accounts)
        .handler(STALL, move |_state, context, body| {
            stalls.send(()).unwrap();
            if gate.lock().unwrap().recv().is_err() {
                return Reply::error(Reason::Internal, "nobody lets go any more");
            }
            context.reply(body)
        })
        .start()
        .unwrap();
    // Dropped before the server is, which waits for its shards.
    let let_go = key;
    let admin = Admin::of(&server);
    let address = address_of(&server);
    let mut stalling = client_on(1, address);
    stalling.call(&Subscribe { topic: "news" }).unwrap();
    let mut publishers: Vec<Peer> = (0..400).map(|_| Peer::connect(address)).collect();
    publishers.retain_mut(|peer| {
        peer.send(WHERE, b"");
        peer.next().unwrap().body == [0]
    });
    stalling.send(STALL, b"").unwrap();
    stalled.recv().unwrap();
    let mut frame = Vec::new();
    let payload = &vec![7; payload_bytes];
    encode_message(
        &mut frame,
        &Publish {
            topic: "news",
            payload,
        },
    )
    .unwrap();
    for publisher in &mut publishers {
        publisher.send_bytes(&frame);
    }
    let meanwhile = until("each PUBLISH was seen to", || {
        let samples = metrics(admin.address);
        let refused =
            |reason| format!("publishes_refused_total{{shard=\"0\",reason=\"{reason}\"}}");
        let counts = [
            "publishes_total{shard=\"0\"}".to_owned(),
            refused("link"),
            refused("memory"),
        ];
        let seen: f64 = counts
            .map(|count| samples[&format!("corelane_topics_{count}")])
            .iter()
            .sum();
        let all = f64::from(u32::try_from(publishers.len()).unwrap());
        (seen >= all).then_some(samples)
    });
    let_go.send(()).unwrap();
    let (mut carried_out, mut refused) = (0, 0);
    for mut publisher in publishers {
        let reply = publisher.next().unwrap();
        if reply.code == codes::PUBLISH {
            carried_out += 1;
        } else {
            let error = ErrorBody::parse(&reply.body).unwrap();
            assert_eq!(error.reason, Reason::Overloaded.number());
            refused += 1;
        }
    }
    until_samples(
        &admin,
        &[
            ("corelane_topics_link_events{shard=\"0\"}", 0),
            ("corelane_topics_link_bytes{shard=\"0\"}", 0),
            (
                "corelane_topics_events_queued_total{shard=\"1\"}",
                carried_out,
            ),
        ],
    );
    (carried_out, refused, meanwhile)
}

const LINK: &str = "corelane_topics_publishes_refused_total{shard=\"0\",reason=\"link\"}";
const MEMORY: &str = "corelane_topics_publishes_refused_total{shard=\"0\",reason=\"memory\"}";

#[test]
fn what_finds_no_room_on_the_way_to_a_shard_is_counted_as_refused() {
    let (carried_out, refused, meanwhile) = publish_to_a_shard_that_stands_still(1 << 30, 28_000);
    // 4 MiB of them.
    assert_eq!(carried_out, (4 << 20) / (28_000 + 5));
    assert_sample(
        &meanwhile,
        "corelane_topics_publishes_total{shard=\"0\"}",
        carried_out,
    );
    assert_sample(&meanwhile, LINK, refused);
    assert_sample(&meanwhile, MEMORY, 0);
    assert_sample(
        &meanwhile,
        "corelane_topics_link_events{shard=\"0\"}",
        carried_out,
    );
    assert_sample(
        &meanwhile,
        "corelane_topics_link_bytes{shard=\"0\"}",
        carried_out * 28_005,
    );
    assert!(
        meanwhile["corelane_memory_charged_bytes{shard=\"0\"}"] > f64::from(carried_out * 28_005)
    );
}

/// Events that waited for other shards were in no account of memory, and what they took came on top of
/// the limit.
#[test]
fn what_waits_for_other_shards_is_a_part_of_the_memory_that_a_shard_may_hold() {
    const MEMORY_MAX: u32 = 2 << 20;
    let (carried_out, refused, meanwhile) =
        publish_to_a_shard_that_stands_still(MEMORY_MAX.into(), 28_000);
    assert!(carried_out > 20 && refused > 0, "{carried_out} {refused}");
    assert_sample(&meanwhile, LINK, 0);
    assert_sample(&meanwhile, MEMORY, refused);
    let waiting = carried_out * 28_005;
    assert_sample(
        &meanwhile,
        "corelane_topics_link_bytes{shard=\"0\"}",
        waiting,
    );
    assert!(waiting < MEMORY_MAX);
    let charged = meanwhile["corelane_memory_charged_bytes{shard=\"0\"}"];
    assert!(charged > waiting.into(), "{charged}");
}
