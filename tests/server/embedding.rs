//! The life of a server in a program of somebody else: started, stopped, waited for, dropped.

use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use corelane::client::{Client, ClientError, Reply as ClientReply};
use corelane::metrics::CloseCause;
use corelane::protocol::{HEADER_BYTES, Reason, codes};
use corelane::{Local, Server, ServerHandle, StartError, apps};

use crate::support::backlogged::Backlogged;
use crate::support::gate::{self, Passing};
use crate::support::library::{address_of, builder, builder_with, config, stopped};
use crate::support::user::{User as _, connect};
use crate::support::waiting::DEADLINE;

const WAIT: u16 = codes::APPLICATION;

#[test]
fn what_a_server_has_counted_adds_up() {
    let server = builder().start().unwrap();
    assert_eq!(server.shards(), 1);
    assert_ne!(address_of(&server).port(), 0);
    assert!(address_of(&server).ip().is_loopback());
    for _ in 0..10 {
        let mut client = connect(address_of(&server));
        for _ in 0..10 {
            client.echo(&[7; 100]);
        }
        client.ask_in_vain(99, b"", Reason::UnknownCode);
        client.close().unwrap();
    }
    let mut left = connect(address_of(&server));
    left.ping();

    let counters = stopped(server);
    left.expect_end();
    assert_eq!(counters.accepted, 11);
    assert_eq!(counters.closed(CloseCause::PeerClosed), 10);
    assert_eq!(counters.closed(CloseCause::Stop), 1);
    assert_eq!(counters.closed_total(), 11);
    assert_eq!(counters.frames_received, 10 * 11 + 1);
    assert_eq!(counters.frames_sent, 10 * 11 + 1);
    assert_eq!(counters.bad_frames(Reason::UnknownCode), 10);
    let echoes = 100 * (HEADER_BYTES as u64 + 100);
    let received = echoes + 11 * HEADER_BYTES as u64;
    let errors = 10 * (HEADER_BYTES + 4 + "unknown message code 99".len()) as u64;
    let sent = echoes + errors + HEADER_BYTES as u64;
    assert_eq!(counters.received_bytes, received);
    assert_eq!(counters.sent_bytes, sent);
    assert_eq!((counters.late_replies, counters.handler_panics), (0, 0));
}

#[test]
fn the_client_of_the_crate_talks_to_the_server_of_the_crate() {
    let server = builder().start().unwrap();
    let mut client = connect(address_of(&server));
    for number in 0..100u8 {
        client.send(codes::ECHO, &[number; 1000]).unwrap();
    }
    for number in 0..100u8 {
        let expected = ClientReply {
            code: codes::ECHO,
            body: vec![number; 1000],
        };
        assert_eq!(client.receive().unwrap(), expected);
    }
    drop(server);
    assert!(matches!(client.receive(), Err(ClientError::Closed)));
}

#[test]
fn a_handle_stops_the_server_from_another_thread() {
    fn sendable<T: Send + Sync + Clone + 'static>(handle: T) -> T {
        handle
    }
    let server = builder_with(config(2)).start().unwrap();
    let address = address_of(&server);
    let handle: ServerHandle = sendable(server.handle());
    let waits = thread::spawn(move || server.wait().unwrap());
    connect(address).ping();
    handle.stop();
    let counters = waits.join().unwrap();
    assert_eq!(counters.len(), 2);
    assert_eq!(counters.iter().map(|each| each.accepted).sum::<u64>(), 1);
    // It is over: to stop it again does nothing.
    handle.stop();
    handle.stop_at_once();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn dropping_the_server_stops_it() {
    let server = builder().start().unwrap();
    let address = address_of(&server);
    let mut client = connect(address);
    client.ping();
    drop(server);
    client.expect_end();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_server_can_be_started_and_stopped_over_and_over() {
    for _ in 0..10 {
        let server = builder().start().unwrap();
        connect(address_of(&server)).ping();
        stopped(server);
    }
}

#[test]
fn two_handlers_for_one_code_are_refused() {
    let outcome = builder().handler(codes::ECHO, apps::echo).start();
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, StartError::DuplicateHandler { code: 1 }),
        "{error:?}"
    );
    let expected = "message code 1 has two handlers: give each code one";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_configuration_by_hand_is_checked() {
    let mut wrong = config(1);
    wrong.limits.max_frame_bytes = 7;
    let error = Server::builder(wrong).start().unwrap_err();
    let expected = "limits.max_frame_bytes is 7, but must be between 8 and 65535";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_address_in_use_is_refused_and_nothing_is_left_running() {
    let server = builder().start().unwrap();
    let mut both = config(1);
    both.server.listen.push(address_of(&server));
    let error = Server::builder(both).start().unwrap_err();
    let expected = format!(
        "cannot listen on {}: another program listens there already",
        address_of(&server)
    );
    assert_eq!(error.to_string(), expected);
    connect(address_of(&server)).ping();
}

#[test]
fn a_factory_that_panics_is_a_shard_that_did_not_start() {
    for broken in [0, 1] {
        let factory = move |local: Local<()>| {
            assert_ne!(local.shard(), broken, "no state for this one");
        };
        let error = Server::builder_with_state(config(2), factory)
            .start()
            .unwrap_err();
        let text = error.to_string();
        let expected = format!("shard {broken} did not start: it panicked: ");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.contains("no state for this one"), "{text}");
    }
}

#[test]
fn handlers_that_wait_are_dropped_by_a_stop() {
    let (gate, passings) = gate::closed();
    let mut config = config(1);
    config.timeouts.stop_ms = 3_600_000;
    let handler = gate.clone();
    let server = builder_with(config)
        .async_handler(WAIT, move |_state, request| handler.clone().handle(request))
        .start()
        .unwrap();
    let mut clients: Vec<Client> = (0..3).map(|_| connect(address_of(&server))).collect();
    for client in &mut clients {
        client.send(codes::ECHO, b"before").unwrap();
        client.send(WAIT, b"").unwrap();
        passings.expect(Passing::Arrived);
    }
    server.handle().stop();
    for client in &mut clients {
        client.expect(codes::ECHO, b"before");
        client.expect_refusal(WAIT, Reason::ShuttingDown);
        client.expect_end();
    }
    drop(clients);
    let [counters] = server.wait().unwrap().try_into().unwrap();
    for _ in 0..3 {
        passings.expect(Passing::Dropped);
    }
    assert_eq!(counters.closed(CloseCause::Stop), 3);
    drop(gate);
}

#[test]
fn stopping_at_once_waits_for_no_peer() {
    let mut config = config(1);
    config.timeouts.stop_ms = 3_600_000;
    let server = builder_with(config).start().unwrap();
    let slow = Backlogged::connect(address_of(&server));
    let (stopped, stops) = mpsc::channel();
    let handle = server.handle();
    let waits = thread::spawn(move || stopped.send(server.wait().unwrap()));
    handle.stop();
    // The peer holds it up for an hour.
    let early = stops.recv_timeout(Duration::from_millis(300));
    assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout));
    handle.stop_at_once();
    let counters = stops.recv_timeout(DEADLINE).unwrap();
    assert_eq!(counters[0].closed(CloseCause::Stop), 1);
    waits.join().unwrap().unwrap();
    slow.leave();
}

#[test]
fn a_server_that_is_stopped_before_it_is_up_says_so() {
    for stop in [ServerHandle::stop, ServerHandle::drain] {
        let started = Server::builder(config(2)).start_with(|handle| stop(&handle));
        assert!(matches!(started, Err(StartError::Stopped)));
    }
}
