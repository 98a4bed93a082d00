//! SUBSCRIBE and UNSUBSCRIBE: what they do, how often whoever says them, and what they refuse.

use corelane::protocol::messages::Subscribe;
use corelane::protocol::{Reason, codes};

use crate::forum::{Member, builder, start};
use crate::support::library::{address_of, config};
use crate::support::user::{User as _, refused};

#[test]
fn what_is_said_twice_is_done_once() {
    let server = start();
    let address = address_of(&server);
    for shard in [0, 1] {
        let mut member = Member::on(shard, address);
        let mut publisher = Member::on(0, address);
        member.unsubscribe("news");
        assert_eq!(publisher.publish("news", b"to nobody"), 0);
        member.subscribe("news");
        member.subscribe("news");
        assert_eq!(publisher.publish("news", b"once"), 1);
        member.expect_event("news", b"once");
        member.unsubscribe("news");
        member.unsubscribe("news");
        assert_eq!(publisher.publish("news", b"to nobody"), 0);
        assert_eq!(member.events(), []);
    }
}

#[test]
fn what_is_no_topic_is_a_bad_body() {
    let mut config = config(2);
    config.limits.max_bad_frames = 100;
    let server = builder(config).start().unwrap();
    let mut member = Member::join(address_of(&server));
    let long = "x".repeat(65);
    let cases = [
        (&b""[..], "the topic of Subscribe must be 1 to 64 bytes"),
        (long.as_bytes(), "the topic of Subscribe must be 1 to 64"),
        (b"\xff", "the topic of Subscribe must be UTF-8 text"),
    ];
    for (body, sentence) in cases {
        let text = member
            .client
            .ask_in_vain(codes::SUBSCRIBE, body, Reason::BadBody);
        assert!(text.starts_with(sentence), "{text}");
        let text = member
            .client
            .ask_in_vain(codes::UNSUBSCRIBE, body, Reason::BadBody);
        let sentence = sentence.replace("Subscribe", "Unsubscribe");
        assert!(text.starts_with(&sentence), "{text}");
    }
    for body in [&b""[..], b"\x00", b"\x05news", b"\x01\xff", &[65; 66]] {
        member
            .client
            .ask_in_vain(codes::PUBLISH, body, Reason::BadBody);
    }
    let longest = "x".repeat(64);
    member.subscribe(&longest);
    assert_eq!(member.publish(&longest, b""), 1);
    member.expect_event(&longest, b"");
}

/// Asserts that the member may not subscribe to this; gives back why.
#[track_caller]
fn refused_to(member: &mut Member, topic: &str) -> String {
    refused(member.client.call(&Subscribe { topic }), Reason::Rejected)
}

#[test]
fn what_is_beyond_a_limit_is_rejected() {
    let mut config = config(1);
    config.topics.per_connection = 2;
    config.topics.per_shard = 4;
    config.topics.distinct_per_shard = 3;
    let server = builder(config).start().unwrap();
    let mut members = [(); 3].map(|()| Member::join(address_of(&server)));
    let [first, second, third] = &mut members;
    first.subscribe("a");
    first.subscribe("b");
    first.subscribe("a");
    let text = refused_to(first, "c");
    assert!(text.contains("topics.per_connection"), "{text}");
    second.subscribe("c");
    let text = refused_to(second, "d");
    assert!(text.contains("topics.distinct_per_shard"), "{text}");
    second.subscribe("a");
    let text = refused_to(third, "a");
    assert!(text.contains("topics.per_shard"), "{text}");
    first.unsubscribe("b");
    third.subscribe("d");
    assert_eq!(third.publish("a", b"!"), 2);
    assert_eq!(third.publish("b", b"!"), 0);
}

/// A publish whose event would not fit does not come in either.
#[test]
fn the_largest_publish_fits_its_event() {
    let server = start();
    let mut member = Member::join(address_of(&server));
    member.subscribe("news");
    let payload = vec![7; 29_000 - 8 - 5];
    assert_eq!(member.publish("news", &payload), 1);
    member.expect_event("news", &payload);
}
