//! Why connections were closed, in the log: each cause once, with the peer and the connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use corelane::Reply;
use corelane::protocol::{Reason, codes};
use rustix::process::Signal;
use serde_json::Value;

use crate::clients::{connect_from, loopback, send_until_it_fails};
use crate::support::library::{address_of, builder, stopped};
use crate::support::log_capture;
use crate::support::peer::{Peer, frame, header};
use crate::support::program::serve;
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

fn local(peer: &Peer) -> SocketAddr {
    peer.sender().local_addr().unwrap()
}

/// A line of the log about one connection.
#[derive(Debug)]
struct Line {
    message: String,
    peer: SocketAddr,
    connection: Option<String>,
    cause: Option<String>,
}

fn lines(log: &str) -> Vec<Line> {
    log.lines()
        .filter_map(|line| {
            let entry: Value = serde_json::from_str(line).expect(line);
            let fields = &entry["fields"];
            let text = |key: &str| fields[key].as_str().map(str::to_owned);
            Some(Line {
                message: text("message").expect(line),
                peer: text("peer")?.parse().expect(line),
                connection: text("connection"),
                cause: text("cause"),
            })
        })
        .collect()
}

/// Ends a connection of each cause that a peer can bring about. They come from addresses of
/// their own, so that one a time fits the limit of an address.
fn end_in_every_way(address: SocketAddr) -> BTreeMap<&'static str, SocketAddr> {
    let mut peers = BTreeMap::new();
    let mut connect = |number: u8, cause: &'static str| {
        let peer = connect_from(loopback(number), address);
        peers.insert(cause, local(&peer));
        peer
    };
    let mut silent = connect(2, "first_frame");
    let mut idle = connect(3, "idle");
    idle.ping();

    let mut closing = connect(4, "peer_closed");
    closing.ping();
    closing.shut();
    closing.expect_end();

    let mut breaking = connect(5, "reset");
    breaking.ping();
    breaking.reset();

    let mut flooding = connect(6, "flood");
    flooding.send_bytes(&frame(codes::PING, b"").repeat(3000));
    let error = std::iter::from_fn(|| flooding.next()).find(|frame| frame.code == codes::ERROR);
    assert!(error.is_some());
    flooding.expect_end();

    let mut wrong = connect(7, "bad_length");
    wrong.send_bytes(&header(7, codes::ECHO, 0));
    wrong.expect_error(codes::ECHO, Reason::BadLength);
    wrong.expect_end();

    let mut unknown = connect(8, "bad_frames");
    for _ in 0..3 {
        unknown.send(999, b"");
        unknown.expect_error(999, Reason::UnknownCode);
    }
    unknown.expect_end();

    let mut first = connect(9, "the first of its address");
    first.ping();
    connect(9, "limit").expect_end();
    first.ping();

    silent.expect_error(codes::ERROR, Reason::TimedOut);
    silent.expect_end();
    idle.expect_error(codes::ERROR, Reason::TimedOut);
    idle.expect_end();
    peers.remove("the first of its address");
    peers
}

#[test]
fn each_cause_is_logged_once_with_peer_and_connection() {
    let server = serve(&[
        "shards.count=2",
        "log.level=debug",
        "log.format=json",
        // What a busy host makes slow is not to be told in between.
        "handlers.slow_ms=60000",
        "limits.connections_per_ip=1",
        "flood.frames_per_second=1",
        "flood.burst=2000",
        "timeouts.first_frame_ms=1000",
        "timeouts.idle_ms=5000",
        "timeouts.write_ms=1000",
        "timeouts.drain_ms=3600000",
    ]);
    let address = server.address();
    let hoarder = Peer::connect_small(address);
    let sender = hoarder.sender();
    let hoarding = thread::spawn(move || send_until_it_fails(sender));
    let mut peers = end_in_every_way(address);
    peers.insert("write_timeout", local(&hoarder));
    hoarding.join().unwrap();

    let mut quiet = connect_from(loopback(10), address);
    let mut talking = connect_from(loopback(11), address);
    peers.insert("drain", local(&quiet));
    peers.insert("stop", local(&talking));
    talking.ping();
    quiet.ping();
    server.signal(Signal::QUIT);
    talking.expect(codes::GOAWAY, &3_600_000u32.to_be_bytes());
    quiet.expect(codes::GOAWAY, &3_600_000u32.to_be_bytes());
    let waits = thread::spawn(move || {
        quiet.expect_end();
        drop(quiet);
    });
    until("the quiet one is closed", || {
        talking.ping();
        waits.is_finished().then_some(())
    });
    waits.join().unwrap();
    server.signal(Signal::TERM);
    talking.expect_end();
    drop(talking);

    let ended = server.ended();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let lines = lines(&ended.stderr);
    for (cause, peer) in peers {
        assert_ended_once(&lines, cause, peer);
    }
}

#[test]
fn what_a_handler_is_to_blame_for_is_logged_as_well() {
    const PANICS: u16 = codes::APPLICATION;
    const FAILS: u16 = codes::APPLICATION + 1;
    log_capture::start();
    let server = builder()
        .handler(PANICS, |(), _context, _body| panic!("on purpose"))
        .handler(FAILS, |(), _context, _body| {
            Reply::error(Reason::Internal, "on purpose")
        })
        .start()
        .unwrap();
    let mut peers = Vec::new();
    for (code, cause) in [(PANICS, "handler_panic"), (FAILS, "handler_failed")] {
        let mut client = connect(address_of(&server));
        peers.push((cause, client.local_address().unwrap()));
        client.ask_in_vain(code, b"", Reason::Internal);
        client.expect_end();
    }
    stopped(server);
    let log = log_capture::text();
    let lines = lines(&log);
    for (cause, peer) in peers {
        assert_ended_once(&lines, cause, peer);
    }
}

#[track_caller]
fn assert_ended_once(lines: &[Line], cause: &str, peer: SocketAddr) {
    let about: Vec<&Line> = lines.iter().filter(|line| line.peer == peer).collect();
    let ends: Vec<&&Line> = about.iter().filter(|line| line.cause.is_some()).collect();
    let [end] = ends[..] else {
        panic!("{cause} of {peer} is to be told once: {about:?}");
    };
    assert_eq!(end.cause.as_deref(), Some(cause), "{about:?}");
    if cause == "limit" {
        // It never became a connection of a shard's.
        assert_eq!((about.len(), &end.connection), (1, &None), "{about:?}");
        return;
    }
    let messages: Vec<&str> = about.iter().map(|line| &*line.message).collect();
    let panicked = "a handler panicked; its connection is closed";
    match cause {
        "handler_panic" => assert_eq!(messages, ["accepted", panicked, "closed"]),
        _ => assert_eq!(messages, ["accepted", "closed"]),
    }
    assert!(end.connection.is_some(), "{about:?}");
    assert!(
        about.iter().all(|line| line.connection == end.connection),
        "{about:?}"
    );
}
