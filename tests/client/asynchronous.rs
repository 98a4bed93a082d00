//! The asynchronous client, with servers that do as they should and servers that fail it.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use corelane::client::{AsyncClient, ClientError, Options, Push};
use corelane::protocol::messages::{Event, Publish, Subscribe};
use corelane::protocol::{Reason, codes, encode};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::scripted::{Peer, Scripted, script};
use crate::server::{COUNT, DEADLINE, MUTE, config, options, quickly, started};

pub(crate) async fn connected(options: Options, server: &Scripted) -> AsyncClient {
    options.connect_async(server.address()).await.unwrap()
}

/// The next push or loss, with the deadline.
pub(crate) async fn next(client: &AsyncClient) -> Result<Push, ClientError> {
    let next = timeout(DEADLINE, client.push()).await;
    next.expect("a push or a loss comes")
}

#[tokio::test]
async fn concurrent_requests_share_a_connection_and_get_their_own_replies() {
    let server = started(config());
    let client = options().connect_async(server.addresses()[0]).await;
    let client = client.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..500_u32 {
        let client = client.clone();
        tasks.spawn(async move {
            let body = number.to_be_bytes().repeat(1000);
            assert_eq!(client.request(codes::ECHO, &body).await.unwrap().body, body);
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    let (first, second) = tokio::join!(client.request(COUNT, b""), client.request(COUNT, b""));
    assert_eq!(first.unwrap().body, 0_u32.to_be_bytes());
    assert_eq!(second.unwrap().body, 1_u32.to_be_bytes());
    assert_eq!(client.connects(), 1);
    client.close().await.unwrap();
    let over = client.request(COUNT, b"").await.unwrap_err();
    assert!(matches!(over, ClientError::Over), "{over}");
}

#[tokio::test]
async fn messages_go_to_their_handlers_and_back() {
    let server = started(config());
    let name = format!("localhost:{}", server.addresses()[0].port());
    let client = options().connect_async(name).await.unwrap();
    let publish = Publish {
        topic: "news",
        payload: b"12345",
    };
    let subscribe = Subscribe { topic: "news" };
    let (published, subscribed) = tokio::join!(client.call(&publish), client.call(&subscribe));
    assert_eq!(published.unwrap().message().receivers, 5);
    assert_eq!(subscribed.unwrap().message(), subscribe);

    client.tell(MUTE, b"by the way").await.unwrap();
    let error = client.request(codes::SUBSCRIBE, b"").await.unwrap_err();
    let ClientError::Refused(refusal) = error else {
        panic!("{error:?}");
    };
    assert_eq!(refusal.reason(), Some(Reason::BadBody));
}

#[tokio::test]
async fn no_more_than_so_many_are_in_flight_and_the_others_wait() {
    let (go, goes) = mpsc::channel::<()>();
    let server = Scripted::start([script(move |peer| {
        peer.expect(1000);
        peer.expect(1000);
        peer.send_event(b"");
        goes.recv_timeout(DEADLINE).unwrap();
        // By now it would be here.
        assert!(!peer.has_more());
        peer.send(1000, b"a");
        peer.expect(1000);
        peer.send(1000, b"b");
        peer.send(1000, b"c");
        peer.expect_end();
    })]);
    let client = connected(options().in_flight_max(2), &server).await;
    let ask = || client.request(1000, b"");
    let (a, b, c, ()) = tokio::join!(ask(), ask(), ask(), async {
        next(&client).await.unwrap();
        go.send(()).unwrap();
    });
    let bodies = [a, b, c].map(|reply| reply.unwrap().body);
    assert_eq!(bodies, [b"a", b"b", b"c"]);
    client.close().await.unwrap();
    server.ended();
}

#[tokio::test]
async fn pushes_come_to_whoever_waits_and_what_finds_no_room_is_counted() {
    let server = Scripted::start([script(|peer| {
        peer.expect(1000);
        for number in 0..10 {
            peer.send_event(&[number]);
        }
        peer.send(1000, b"");
        peer.expect(1000);
        peer.send_event(&[10]);
        peer.send(1000, b"");
        peer.echo_to_the_end();
    })]);
    let client = connected(options().pushes_waiting_max(3), &server).await;
    client.request(1000, b"").await.unwrap();
    for number in 0..3 {
        let push = next(&client).await.unwrap();
        let event = push.message::<Event>().unwrap();
        assert_eq!((event.payload, push.lost_before), (&[number][..], 0));
    }
    let (push, reply) = tokio::join!(next(&client), client.request(1000, b""));
    reply.unwrap();
    let push = push.unwrap();
    assert_eq!((push.body[2], push.lost_before), (10, 7));
    assert_eq!(client.try_push(), None);
    client.close().await.unwrap();
    let over = next(&client).await.unwrap_err();
    assert!(matches!(over, ClientError::Over), "{over}");
}

/// They come faster than one task can take them.
#[tokio::test]
async fn whoever_keeps_up_loses_no_push() {
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
    let client = connected(options(), &server).await;
    for number in 0..EVENTS {
        let push = next(&client).await.unwrap();
        let event = push.message::<Event>().unwrap();
        assert_eq!(
            (event.payload, push.lost_before),
            (&number.to_be_bytes()[..], 0)
        );
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    client.close().await.unwrap();
}

#[tokio::test]
async fn what_was_in_flight_when_the_connection_went_fails_and_is_not_sent_again() {
    let (went, second) = mpsc::channel();
    let server = Scripted::start([
        script(|peer| {
            peer.expect(1000);
            peer.expect(1000);
            peer.send_event(b"old");
            peer.send(1000, b"one");
        }),
        script(move |peer| {
            went.send(peer.next()).unwrap();
            peer.send_event(b"new");
            peer.send(1000, b"three");
            peer.expect_end();
        }),
    ]);
    let client = connected(options().reconnect(quickly()), &server).await;
    let (one, two) = tokio::join!(client.request(1000, b"one"), client.request(1000, b"two"));
    assert_eq!(one.unwrap().body, b"one");
    let error = two.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error}");

    let reply = client.request(1000, b"three").await.unwrap();
    assert_eq!(reply.body, b"three");
    let first = second.recv_timeout(DEADLINE).unwrap();
    assert_eq!(first, Some((1000, b"three".to_vec())));
    assert_eq!(client.connects(), 2);
    // The loss stands between the pushes of the old connection and those of the new one.
    assert_eq!(next(&client).await.unwrap().body, b"\x01told");
    let loss = next(&client).await.unwrap_err();
    assert!(matches!(loss, ClientError::Closed), "{loss}");
    assert_eq!(next(&client).await.unwrap().body, b"\x01tnew");
    client.close().await.unwrap();
    server.ended();
}

#[tokio::test]
async fn without_reconnecting_a_lost_connection_stays_lost() {
    let server = Scripted::start([script(|peer| {
        peer.expect(1000);
    })]);
    let client = connected(options(), &server).await;
    let error = client.request(1000, b"").await.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error}");
    for _ in 0..2 {
        let error = client.request(1000, b"").await.unwrap_err();
        assert!(matches!(error, ClientError::Closed), "{error}");
        let error = next(&client).await.unwrap_err();
        assert!(matches!(error, ClientError::Closed), "{error}");
    }
    server.ended();
}

#[tokio::test]
async fn whoever_waits_is_told_of_attempts_that_failed_and_it_goes_on_trying() {
    let server = Scripted::start([script(|peer| {
        peer.expect(1000);
        peer.send(1000, b"");
    })]);
    let client = connected(options().reconnect(quickly()), &server).await;
    client.request(1000, b"").await.unwrap();
    let address = server.address();
    server.ended();
    let error = client.request(1000, b"").await.unwrap_err();
    let is_told = matches!(
        error,
        ClientError::Connect { .. } | ClientError::Lost { .. }
    );
    assert!(is_told, "{error}");

    let listener = TcpListener::bind(address).unwrap();
    let accepts = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        Peer::over(stream).echo_to_the_end();
    });
    // Attempts that have failed meanwhile may still be told.
    let reply = loop {
        match client.request(1000, b"again").await {
            Err(ClientError::Connect { .. }) => {}
            outcome => break outcome.unwrap(),
        }
    };
    assert_eq!(reply.body, b"again");
    client.close().await.unwrap();
    accepts.join().unwrap();
}

#[tokio::test]
async fn a_server_that_drains_is_left_once_nothing_is_in_flight() {
    let (went, goes) = mpsc::channel();
    let server = Scripted::start([
        script(|peer| {
            peer.expect(1000);
            peer.send_goaway();
            peer.send(1000, b"old");
            peer.expect_end();
        }),
        script(move |peer| {
            went.send(peer.next()).unwrap();
            peer.send(1000, b"new");
            peer.echo_to_the_end();
        }),
    ]);
    let client = connected(options().reconnect(quickly()), &server).await;
    assert_eq!(client.request(1000, b"a").await.unwrap().body, b"old");
    assert_eq!(next(&client).await.unwrap().code, codes::GOAWAY);
    assert_eq!(client.request(1000, b"b").await.unwrap().body, b"new");
    let first = goes.recv_timeout(DEADLINE).unwrap();
    assert_eq!(first, Some((1000, b"b".to_vec())));
    assert_eq!((client.connects(), client.is_going_away()), (2, false));
    client.close().await.unwrap();
    server.ended();
}

#[tokio::test]
async fn a_late_reply_goes_to_nobody() {
    let (came, comes) = tokio::sync::oneshot::channel();
    let server = Scripted::start([script(|peer| {
        assert_eq!(peer.expect(1000), b"one");
        came.send(()).unwrap();
        assert_eq!(peer.expect(1000), b"two");
        peer.send(1000, b"late");
        peer.send(1000, b"in time");
        peer.expect_end();
    })]);
    let client = connected(options(), &server).await;
    tokio::select! {
        outcome = client.request(1000, b"one") => panic!("{outcome:?}"),
        // It has arrived, and nobody waits for it any more.
        outcome = comes => outcome.unwrap(),
    }
    let reply = client.request(1000, b"two").await.unwrap();
    assert_eq!(reply.body, b"in time");
    client.close().await.unwrap();
    server.ended();
}

#[tokio::test]
async fn a_server_that_never_answers_is_waited_for_so_long_and_then_left() {
    let server = Scripted::start([
        script(|peer| {
            peer.expect(1000);
            peer.expect_end();
        }),
        script(Peer::echo_to_the_end),
    ]);
    let options = options()
        .timeout(Duration::from_millis(500))
        .heartbeat(Duration::from_millis(20))
        .reconnect(quickly());
    let client = connected(options, &server).await;
    let error = client.request(1000, b"").await.unwrap_err();
    assert_eq!(error.to_string(), "no reply came within 500 ms");
    // Nothing comes after it, either.
    let error = next(&client).await.unwrap_err();
    assert!(matches!(error, ClientError::Silent { .. }), "{error}");
    // Slow hosts may need more than one attempt.
    let reply = loop {
        match client.request(1000, b"x").await {
            Err(ClientError::TimedOut { .. }) => {}
            outcome => break outcome.unwrap(),
        }
    };
    assert_eq!(reply.body, b"x");
    client.close().await.unwrap();
}

#[tokio::test]
async fn heartbeats_go_out_and_their_replies_are_not_seen() {
    let (beat, mut beats) = tokio::sync::mpsc::unbounded_channel();
    let server = Scripted::start([script(move |peer| {
        for _ in 0..3 {
            peer.expect(codes::PING);
            peer.send(codes::PING, b"");
            beat.send(()).unwrap();
        }
        peer.echo_to_the_end();
    })]);
    let options = options().heartbeat(Duration::from_millis(20));
    let client = connected(options, &server).await;
    for _ in 0..3 {
        let beat = timeout(DEADLINE, beats.recv()).await.unwrap();
        beat.unwrap();
    }
    assert_eq!(client.request(1000, b"x").await.unwrap().body, b"x");
    assert_eq!(client.try_push(), None);
    client.close().await.unwrap();
}

#[tokio::test]
async fn garbage_is_told_as_what_it_is() {
    let server = Scripted::start([script(|peer| {
        peer.expect(1000);
        peer.send_bytes(b"\0\x0c\0\x01\0\0\0\0abcd");
    })]);
    let client = connected(options(), &server).await;
    let error = client.request(1000, b"").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "what the server sent is not corelane's protocol: a checksum is wrong; \
         whether the request was carried out is not known"
    );
}

#[tokio::test]
async fn the_addresses_are_those_of_the_connection_that_there_is() {
    let (seen, sees) = mpsc::channel();
    let show_address = |seen: mpsc::Sender<_>| {
        script(move |peer| {
            peer.expect(1000);
            seen.send(peer.address()).unwrap();
            peer.send(1000, b"");
            peer.expect(1001);
        })
    };
    let server = Scripted::start([show_address(seen.clone()), show_address(seen)]);
    let client = connected(options().reconnect(quickly()), &server).await;
    for connects in 1..3 {
        client.request(1000, b"").await.unwrap();
        assert_eq!(client.connects(), connects);
        let address = sees.recv_timeout(DEADLINE).unwrap();
        assert_eq!(client.local_address(), Some(address));
        assert_eq!(client.peer_address(), Some(server.address()));
        client.request(1001, b"").await.unwrap_err();
        // What it has by now, if it was quick, is another one.
        assert_ne!(client.local_address(), Some(address));
    }
    client.close().await.unwrap();
    let addresses = (client.local_address(), client.peer_address());
    assert_eq!(addresses, (None, None));
}

#[tokio::test]
async fn nobody_who_listens_is_told_with_the_address() {
    // Nobody listens any more on a port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = options().connect_async(address).await.unwrap_err();
    let sentence = error.to_string();
    let expected = format!("cannot connect to {address}: Connection refused");
    assert!(sentence.starts_with(&expected), "{sentence}");
    let error = options().connect_async("nowhere").await.unwrap_err();
    assert!(matches!(error, ClientError::Resolve { .. }), "{error}");
}
