//! The blocking client with servers that do as they should.

use std::sync::mpsc;
use std::time::Duration;

use corelane::client::ClientError;
use corelane::protocol::messages::{Event, GoAway};
use corelane::protocol::{Reason, codes, encode};

use crate::scripted::{Peer, Scripted, script};
use crate::server::{COUNT, DEADLINE, MUTE, builder, config, options, quickly, started};

#[test]
fn requests_are_answered_each_with_its_own_reply() {
    let server = started(config());
    let mut client = options().connect(server.addresses()[0]).unwrap();
    for number in 0..10_u32 {
        let reply = client.request(COUNT, b"").unwrap();
        assert_eq!(reply.body, number.to_be_bytes());
    }
    let refused = client.request(99, b"").unwrap_err().to_string();
    let expected = "the server answered ERROR UNKNOWN_CODE to code 99: unknown message code 99";
    assert_eq!(refused, expected);
    assert_eq!(client.connects(), 1);
    client.close().unwrap();
}

#[test]
fn many_at_once_are_answered_in_order_whatever_their_size() {
    // Its server takes no request while it can't get rid of a reply.
    let server = Scripted::start([script(Peer::echo_to_the_end)]);
    let mut client = options().connect(server.address()).unwrap();
    // More than the sockets' buffers hold: the client reads while it still sends.
    let body = |number: u32| number.to_be_bytes().repeat(5000);
    for number in 0..1000 {
        client.send(codes::ECHO, &body(number)).unwrap();
    }
    // A request of its own does not get in the way of those.
    let reply = client.request(1000, b"its own").unwrap();
    assert_eq!(reply.body, b"its own");
    for number in 0..1000 {
        assert_eq!(client.reply().unwrap().body, body(number));
    }
    let error = client.reply().unwrap_err();
    assert!(matches!(error, ClientError::NothingInFlight), "{error}");
}

#[test]
fn no_more_than_so_many_are_in_flight() {
    let server = started(config());
    let options = options().in_flight_max(2);
    let mut client = options.connect(server.addresses()[0]).unwrap();
    client.send(COUNT, b"").unwrap();
    client.send(COUNT, b"").unwrap();
    let error = client.send(COUNT, b"").unwrap_err();
    let expected = "2 requests wait for a reply already: take some before sending more";
    assert_eq!(error.to_string(), expected);
    client.reply().unwrap();
    client.send(COUNT, b"").unwrap();
    for number in 1..3_u32 {
        assert_eq!(client.reply().unwrap().body, number.to_be_bytes());
    }
}

#[test]
fn a_host_is_found_by_its_name_and_each_of_its_addresses_is_tried() {
    let server = started(config());
    // Often ::1 as well, where nobody listens.
    let name = format!("localhost:{}", server.addresses()[0].port());
    let mut client = options().connect(name).unwrap();
    client.request(codes::PING, b"").unwrap();

    let error = options().connect("nowhere").unwrap_err();
    assert!(matches!(error, ClientError::Resolve { .. }), "{error}");
    let sentence = error.to_string();
    assert!(
        sentence.starts_with("nowhere is no address: "),
        "{sentence}"
    );
}

#[test]
fn the_addresses_are_those_of_the_connection_that_there_is() {
    let (seen, sees) = mpsc::channel();
    let show_address = |seen: mpsc::Sender<_>| {
        script(move |peer| {
            peer.expect(1000);
            seen.send(peer.address()).unwrap();
            peer.send(1000, b"");
        })
    };
    let server = Scripted::start([show_address(seen.clone()), show_address(seen)]);
    let options = options().reconnect(quickly());
    let mut client = options.connect(server.address()).unwrap();
    for _ in 0..2 {
        client.request(1000, b"").unwrap();
        let address = sees.recv_timeout(DEADLINE).unwrap();
        assert_eq!(client.local_address(), Some(address));
        assert_eq!(client.peer_address(), Some(server.address()));
        // The loss is here when the push that does not come is waited for.
        client.push().unwrap_err();
        let addresses = (client.local_address(), client.peer_address());
        assert_eq!(addresses, (None, None));
    }
    assert_eq!(client.connects(), 2);
}

#[test]
fn what_is_told_is_not_answered_and_nobody_waits() {
    let server = started(config());
    let mut client = options().connect(server.addresses()[0]).unwrap();
    for _ in 0..3 {
        client.tell(MUTE, b"by the way").unwrap();
    }
    assert_eq!(client.request(codes::ECHO, b"x").unwrap().body, b"x");
    // An error all the same is no reply to what comes after it.
    client.tell(99, b"").unwrap();
    client.request(codes::ECHO, b"y").unwrap();
    assert_eq!(client.try_push().unwrap().code, codes::ERROR);
}

#[test]
fn pushes_between_replies_are_kept_apart_from_them() {
    let server = Scripted::start([script(|peer| {
        peer.expect(1000);
        peer.send_event(b"one");
        peer.send(2000, b"two");
        peer.send(1000, b"reply");
        peer.send_event(b"three");
        peer.echo_to_the_end();
    })]);
    let options = options().push_code(2000);
    let mut client = options.connect(server.address()).unwrap();
    assert_eq!(client.request(1000, b"").unwrap().body, b"reply");
    let first = client.push().unwrap();
    let event = first.message::<Event>().unwrap();
    assert_eq!((event.topic, event.payload), ("t", &b"one"[..]));
    let second = client.push().unwrap();
    assert_eq!((second.code, &second.body[..]), (2000, &b"two"[..]));
    let error = second.message::<Event>().unwrap_err();
    assert!(matches!(
        error,
        ClientError::OtherCode {
            expected: 10,
            code: 2000
        }
    ));
    let third = client.push().unwrap();
    assert_eq!(third.message::<Event>().unwrap().payload, b"three");
    assert_eq!(client.try_push(), None);
    client.close().unwrap();
}

#[test]
fn pushes_that_find_no_room_are_counted() {
    let server = Scripted::start([script(|peer| {
        peer.expect(1000);
        for number in 0..10 {
            peer.send_event(&[number]);
        }
        peer.send(1000, b"");
        peer.expect(1000);
        peer.send_event(&[10]);
        peer.send(1000, b"");
        peer.expect_end();
    })]);
    let options = options().pushes_waiting_max(3);
    let mut client = options.connect(server.address()).unwrap();
    client.request(1000, b"").unwrap();
    for number in 0..3 {
        let push = client.push().unwrap();
        assert_eq!((push.body[2], push.lost_before), (number, 0));
    }
    client.request(1000, b"").unwrap();
    let push = client.push().unwrap();
    assert_eq!((push.body[2], push.lost_before), (10, 7));
}

/// More than may wait come in one read.
#[test]
fn whoever_keeps_up_loses_no_push() {
    const EVENTS: u32 = 20_000;
    let server = Scripted::start([script(|peer| {
        let mut events = Vec::new();
        for number in 0..EVENTS {
            let body = [b"\x01t", &number.to_be_bytes()[..]].concat();
            encode(&mut events, codes::EVENT, &body).unwrap();
        }
        peer.send_bytes(&events);
        peer.echo_to_the_end();
    })]);
    let mut client = options().connect(server.address()).unwrap();
    for number in 0..EVENTS {
        let push = client.push().unwrap();
        let event = push.message::<Event>().unwrap();
        assert_eq!(
            (event.payload, push.lost_before),
            (&number.to_be_bytes()[..], 0)
        );
    }
    client.close().unwrap();
}

#[test]
fn a_heartbeat_keeps_an_idle_connection_and_is_not_seen() {
    const BEATS: u32 = 60;
    let every = Duration::from_millis(50);
    let mut config = config();
    config.timeouts.idle_ms = 1500;
    let (beat, beats) = mpsc::channel();
    let server = builder(config)
        .handler(codes::PING, move |_count, context, _body| {
            beat.send(()).unwrap();
            context.reply(b"")
        })
        .start()
        .unwrap();
    let options = options().heartbeat(every);
    let mut client = options.connect(server.addresses()[0]).unwrap();
    client.send(codes::ECHO, b"before").unwrap();
    // They take longer than the server waits for somebody idle.
    for _ in 0..BEATS {
        beats.recv_timeout(DEADLINE).unwrap();
    }
    assert_eq!(client.reply().unwrap().body, b"before");
    assert_eq!(client.request(codes::PING, b"").unwrap().code, codes::PING);
    assert_eq!((client.connects(), client.try_push()), (1, None));
    client.close().unwrap();
}

#[test]
fn a_heartbeat_goes_out_while_its_program_does_something_else_and_while_it_waits() {
    let (beat, beats) = mpsc::channel();
    let server = Scripted::start([script(move |peer| {
        for _ in 0..2 {
            assert_eq!(peer.expect(codes::PING), b"");
            beat.send(()).unwrap();
            peer.send(codes::PING, b"");
        }
        peer.expect(codes::PING);
        peer.send_event(b"at last");
        peer.echo_to_the_end();
    })]);
    let options = options().heartbeat(Duration::from_millis(20));
    let mut client = options.connect(server.address()).unwrap();
    for _ in 0..2 {
        beats.recv_timeout(DEADLINE).unwrap();
    }
    let push = client.push().unwrap();
    assert_eq!(push.message::<Event>().unwrap().payload, b"at last");
}

#[test]
fn a_server_that_drains_is_left_once_nothing_is_in_flight() {
    let server = Scripted::start([
        script(|peer| {
            peer.expect(1000);
            peer.send_goaway();
            peer.send(1000, b"old");
            // Before it closes, it says farewell.
            peer.expect_end();
        }),
        script(Peer::echo_to_the_end),
    ]);
    let options = options().reconnect(quickly());
    let mut client = options.connect(server.address()).unwrap();
    assert_eq!(client.request(1000, b"").unwrap().body, b"old");
    assert!(client.is_going_away());
    let push = client.push().unwrap();
    assert_eq!(push.message::<GoAway>().unwrap().closes_in_ms, 30_000);
    assert_eq!(client.request(1000, b"new").unwrap().body, b"new");
    assert_eq!(client.connects(), 2);
    assert!(!client.is_going_away());
    client.close().unwrap();
    server.ended();
}

#[test]
fn a_real_server_that_drains_says_so_and_closes() {
    let server = started(config());
    let mut client = options().connect(server.addresses()[0]).unwrap();
    client.request(codes::PING, b"").unwrap();
    server.handle().drain();
    let push = client.push().unwrap();
    push.message::<GoAway>().unwrap();
    client.close().unwrap();
    server.wait().unwrap();
}

#[test]
fn an_idle_client_is_told_why_it_is_closed() {
    let mut config = config();
    config.timeouts.first_frame_ms = 100;
    let server = started(config);
    let mut client = options().connect(server.addresses()[0]).unwrap();
    let push = client.push().unwrap();
    assert_eq!(push.code, codes::ERROR);
    match client.push() {
        Err(ClientError::Dismissed(refusal)) => {
            assert_eq!(refusal.reason(), Some(Reason::TimedOut));
        }
        other => panic!("{other:?}"),
    }
}
