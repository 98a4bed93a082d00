//! The blocking client with servers that fail it.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use corelane::client::{Client, ClientError};
use corelane::protocol::{Reason, codes};

use crate::scripted::{Peer, Scripted, script};
use crate::server::{DEADLINE, options, quickly};

#[test]
fn what_was_in_flight_when_the_connection_went_fails_and_is_not_sent_again() {
    let (went, second) = mpsc::channel();
    let server = Scripted::start([
        script(|peer| {
            for _ in 0..3 {
                peer.expect(1000);
            }
            peer.send(1000, b"one");
        }),
        script(move |peer| {
            went.send(peer.next()).unwrap();
            peer.send(1000, b"four");
            peer.expect_end();
        }),
    ]);
    let options = options().reconnect(quickly());
    let mut client = options.connect(server.address()).unwrap();
    for body in [b"one", b"two", b"tre"] {
        client.send(1000, body).unwrap();
    }
    assert_eq!(client.reply().unwrap().body, b"one");
    for _ in 0..2 {
        let error = client.reply().unwrap_err();
        assert!(matches!(error, ClientError::Lost { .. }), "{error}");
    }
    let error = client.reply().unwrap_err();
    assert!(matches!(error, ClientError::NothingInFlight), "{error}");

    assert_eq!(client.request(1000, b"four").unwrap().body, b"four");
    assert_eq!(client.connects(), 2);
    let first = second.recv_timeout(DEADLINE).unwrap();
    assert_eq!(first, Some((1000, b"four".to_vec())));
    drop(client);
    server.ended();
}

#[test]
fn a_request_that_can_no_longer_be_sent_is_told_once() {
    let (went, goes) = mpsc::channel();
    let server = Scripted::start([script(move |peer| {
        // Gone with a frame unread: the client gets a reset, at some time while it sends.
        peer.wait_for_more();
        went.send(()).unwrap();
    })]);
    let mut client = options()
        .in_flight_max(100_000)
        .connect(server.address())
        .unwrap();
    client.send(1000, b"").unwrap();
    goes.recv_timeout(DEADLINE).unwrap();
    server.ended();
    let mut sent = 1;
    let error = loop {
        match client.send(1000, b"") {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    // Where its end was seen before, nothing was sent.
    let is_loss = matches!(
        error,
        ClientError::Lost { .. } | ClientError::Closed | ClientError::Broken(_)
    );
    assert!(is_loss, "{error}");
    for _ in 0..sent {
        let error = client.reply().unwrap_err();
        assert!(matches!(error, ClientError::Lost { .. }), "{error}");
    }
    let error = client.reply().unwrap_err();
    assert!(matches!(error, ClientError::NothingInFlight), "{error}");
}

#[test]
fn without_reconnecting_a_lost_connection_stays_lost() {
    let server = Scripted::start([script(|peer| {
        peer.expect(1000);
    })]);
    let mut client = options().connect(server.address()).unwrap();
    let error = client.request(1000, b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server closed the connection; whether the request was carried out is not known"
    );
    for _ in 0..2 {
        let error = client.request(1000, b"").unwrap_err();
        assert!(matches!(error, ClientError::Closed), "{error}");
    }
    assert_eq!(client.connects(), 1);
    server.ended();
}

#[test]
fn a_connection_that_went_unseen_is_replaced_before_the_request_is_sent() {
    let server = Scripted::start([
        script(|peer| {
            peer.expect(1000);
            peer.send(1000, b"");
        }),
        script(Peer::echo_to_the_end),
    ]);
    let options = options().reconnect(quickly());
    let mut client = options.connect(server.address()).unwrap();
    client.request(1000, b"").unwrap();
    // Its end is here when the push that does not come is waited for.
    let error = client.push().unwrap_err();
    assert!(matches!(error, ClientError::Closed), "{error}");
    assert_eq!(client.request(1000, b"again").unwrap().body, b"again");
    assert_eq!(client.connects(), 2);
}

#[test]
fn attempts_to_reconnect_are_so_many_and_then_it_is_told() {
    let server = Scripted::start([script(|peer| {
        peer.expect(1000);
        peer.send(1000, b"");
    })]);
    let options = options().reconnect(quickly());
    let mut client = options.connect(server.address()).unwrap();
    client.request(1000, b"").unwrap();
    let address = server.address();
    server.ended();
    client.push().unwrap_err();
    let error = client.request(1000, b"").unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");

    // Another one listens there later.
    let listener = TcpListener::bind(address).unwrap();
    let accepts = std::thread::spawn(move || listener.accept().unwrap());
    client.send(1000, b"").unwrap();
    accepts.join().unwrap();
    assert_eq!(client.connects(), 2);
}

#[test]
fn a_server_that_never_answers_is_waited_for_so_long() {
    let server = Scripted::start([script(|peer| {
        assert_eq!(peer.expect(1000), b"one");
        assert_eq!(peer.expect(1000), b"two");
        peer.send(1000, b"late");
        peer.send(1000, b"in time");
        peer.expect_end();
    })]);
    let options = Client::options().timeout(Duration::from_millis(50));
    let mut client = options.connect(server.address()).unwrap();
    let error = client.request(1000, b"one").unwrap_err();
    assert_eq!(error.to_string(), "no reply came within 50 ms");
    // The late reply is not taken for that of the next request, however late both are.
    client.send(1000, b"two").unwrap();
    let reply = loop {
        match client.reply() {
            Err(ClientError::TimedOut { .. }) => {}
            outcome => break outcome.unwrap(),
        }
    };
    assert_eq!(reply.body, b"in time");
}

#[test]
fn a_server_that_answers_no_heartbeat_is_lost() {
    let server = Scripted::start([
        script(|peer| {
            peer.expect(codes::PING);
            peer.expect_end();
        }),
        script(Peer::echo_to_the_end),
    ]);
    let options = Client::options()
        .timeout(Duration::from_millis(500))
        .heartbeat(Duration::from_millis(20))
        .reconnect(quickly());
    let mut client = options.connect(server.address()).unwrap();
    let error = loop {
        match client.push() {
            Err(ClientError::TimedOut { .. }) => {}
            outcome => break outcome.unwrap_err(),
        }
    };
    assert!(matches!(error, ClientError::Silent { .. }), "{error}");
    // On a slow host, not within that time either.
    let reply = loop {
        match client.request(1000, b"x") {
            Err(ClientError::TimedOut { .. }) => {}
            outcome => break outcome.unwrap(),
        }
    };
    assert_eq!(reply.body, b"x");
}

#[test]
fn garbage_is_told_as_what_it_is() {
    let cases: [(&[u8], &str); 5] = [
        // "HT" is a length of 18516, which nothing comes up to.
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "it ended within a frame",
        ),
        (b"\0\x07\0\x01", "a length is out of range"),
        (b"\0\x0c\0\x01\0\0\0\0abcd", "a checksum is wrong"),
        (b"\0\x0c\0\x01", "it ended within a frame"),
        (b"\0\x08\0\x02\0\0\0\0", "the body of an ERROR is not one"),
    ];
    for (garbage, expected) in cases {
        let server = Scripted::start([script(|peer| {
            peer.expect(1000);
            peer.send_bytes(garbage);
        })]);
        let mut client = options().connect(server.address()).unwrap();
        let error = client.request(1000, b"").unwrap_err();
        let ClientError::Lost { cause } = error else {
            panic!("{error:?}");
        };
        let ClientError::NotTheProtocol(what) = *cause else {
            panic!("{cause:?}");
        };
        assert_eq!(what, expected);
    }
}

#[test]
fn a_frame_that_nobody_asked_for_ends_the_connection() {
    let server = Scripted::start([script(|peer| {
        peer.send(1000, b"hello?");
        peer.expect_end();
    })]);
    let mut client = options().connect(server.address()).unwrap();
    let error = client.push().unwrap_err();
    assert!(matches!(error, ClientError::NotTheProtocol(_)), "{error}");
    server.ended();
}

#[test]
fn a_request_that_ends_the_connection_is_refused_and_the_others_are_lost() {
    let server = Scripted::start([script(|peer| {
        peer.expect(1000);
        peer.expect(1000);
        peer.send_error(1000, Reason::Internal);
    })]);
    let mut client = options().connect(server.address()).unwrap();
    client.send(1000, b"").unwrap();
    client.send(1000, b"").unwrap();
    let error = client.reply().unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
    let error = client.reply().unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error}");
}

#[test]
fn a_close_tells_of_requests_that_were_lost_and_not_of_those_that_were_refused() {
    for lost in [false, true] {
        let (went, goes) = mpsc::channel();
        let server = Scripted::start([script(move |peer| {
            peer.expect(1000);
            peer.expect(1001);
            peer.send(1000, b"");
            if !lost {
                peer.send_error(1001, Reason::Internal);
            }
            went.send(()).unwrap();
        })]);
        let mut client = options().connect(server.address()).unwrap();
        client.send(1000, b"").unwrap();
        client.send(1001, b"").unwrap();
        goes.recv_timeout(DEADLINE).unwrap();
        let outcome = client.close();
        let is_told = matches!(outcome, Err(ClientError::Lost { .. }));
        assert!(is_told == lost && outcome.is_ok() != lost, "{outcome:?}");
        server.ended();
    }
}

#[test]
fn a_close_tells_of_requests_that_were_lost_before() {
    let server = Scripted::start([script(|peer| {
        peer.expect(1000);
    })]);
    let mut client = options().connect(server.address()).unwrap();
    client.send(1000, b"").unwrap();
    client.push().unwrap_err();
    let error = client.close().unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error}");
    server.ended();
}

/// A request that was given up was waited for as if it could be answered.
#[test]
fn nothing_is_in_flight_where_all_was_given_up() {
    let (done, is_done) = mpsc::channel::<()>();
    let server = Scripted::start([script(move |peer| {
        peer.expect(1000);
        is_done.recv_timeout(DEADLINE).unwrap();
    })]);
    let options = Client::options().timeout(Duration::from_millis(50));
    let mut client = options.connect(server.address()).unwrap();
    client.request(1000, b"").unwrap_err();
    let error = client.reply().unwrap_err();
    assert!(matches!(error, ClientError::NothingInFlight), "{error}");
    done.send(()).unwrap();
    server.ended();
}

#[test]
fn nobody_who_listens_is_told_with_the_address() {
    // Nobody listens any more on a port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = options().connect(address).unwrap_err().to_string();
    let expected = format!("cannot connect to {address}: Connection refused");
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn a_close_waits_for_the_server_and_not_forever() {
    let (done, is_done) = mpsc::channel::<()>();
    let server = Scripted::start([script(move |peer| {
        peer.expect(1000);
        peer.expect_end();
        // Keeps it open until the client has given up.
        is_done.recv_timeout(DEADLINE).unwrap();
    })]);
    let options = Client::options().timeout(Duration::from_millis(50));
    let mut client = options.connect(server.address()).unwrap();
    client.tell(1000, b"").unwrap();
    let error = client.close().unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
    done.send(()).unwrap();
    server.ended();
}
