//! Signals: what an operator's stop does to clients, and when it is over.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corelane::client::Client;
use corelane::protocol::codes;
use rustix::process::Signal;

use crate::support::backlogged::Backlogged;
use crate::support::peer::{Peer, frame};
use crate::support::program::serve;
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

#[test]
fn term_and_int_end_idle_connections_and_the_server_in_good_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = serve(&["shards.count=2", "timeouts.stop_ms=3600000"]);
        let address = server.address();
        let mut clients: Vec<Client> = (0..8).map(|_| connect(address)).collect();
        // Half of them never said anything.
        clients.iter_mut().skip(4).for_each(Client::ping);
        server.signal(signal);
        clients.iter_mut().for_each(Client::expect_end);
        drop(clients);

        let ended = server.ended();
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("stopping"), "{ended:?}");
        assert!(
            TcpStream::connect(address).is_err(),
            "somebody still listens"
        );
    }
}

#[test]
fn an_idle_server_stops() {
    let server = serve(&["timeouts.stop_ms=3600000"]);
    server.signal(Signal::TERM);
    assert_eq!(server.ended().status, Some(0));
}

#[test]
fn a_slow_reader_gets_what_is_queued_and_then_the_end() {
    let server = serve(&["timeouts.stop_ms=3600000"]);
    let mut slow = Backlogged::connect(server.address());
    server.signal(Signal::TERM);
    server.wait_for_log("stopping");
    let frames = slow.read_to_end();
    // At least what was queued in the server itself when it had enough.
    assert!(frames * 1032 >= 256 * 1024, "{frames} frames");
    slow.leave();
    assert_eq!(server.ended().status, Some(0));
}

/// A connection that stands between two requests at the moment of the stop may have replies in the
/// kernel's buffers and its next requests on the way: closing it at once would make the kernel
/// send a reset. No clients: each sends many requests in one piece, whatever has come meanwhile.
#[test]
fn busy_clients_get_whole_replies_and_then_the_end() {
    let server = serve(&["timeouts.stop_ms=10000"]);
    let address = server.address();
    let rounds = AtomicU64::new(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut peer = Peer::connect(address);
                    let mut sender = peer.sender();
                    let burst = frame(codes::ECHO, &[7; 500]).repeat(8);
                    loop {
                        // It fails once the server has closed.
                        let sent = sender.write_all(&burst).is_ok();
                        for _ in 0..8 {
                            match peer.next() {
                                Some(frame) => assert_eq!(frame.body, [7; 500]),
                                None => return,
                            }
                        }
                        assert!(sent, "replies to what was not sent");
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        until("all are busy", || {
            (rounds.load(Ordering::Relaxed) > 200).then_some(())
        });
        server.signal(Signal::TERM);
        for client in clients {
            client.join().unwrap();
        }
    });
    assert_eq!(server.ended().status, Some(0));
}

#[test]
fn a_peer_that_never_reads_holds_a_stop_up_for_stop_ms_only() {
    let server = serve(&["timeouts.stop_ms=1000"]);
    let slow = Backlogged::connect(server.address());
    let asked_at = Instant::now();
    server.signal(Signal::TERM);
    let ended = server.ended();
    let took = asked_at.elapsed();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(took >= Duration::from_secs(1), "it did not wait: {took:?}");
    // Far below the other deadlines there are, with room for a slow host.
    assert!(took < Duration::from_secs(4), "it took {took:?}");
    slow.leave();
}

#[test]
fn the_second_signal_stops_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let server = serve(&["timeouts.stop_ms=3600000"]);
        let slow = Backlogged::connect(server.address());
        server.signal(first);
        server.wait_for_log("stopping");
        assert!(!server.has_logged("stopping at once"));
        server.signal(second);
        let ended = server.ended();
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("stopping at once"), "{ended:?}");
        slow.leave();
    }
}

#[test]
fn stop_ms_of_zero_does_not_wait() {
    let server = serve(&["timeouts.stop_ms=0"]);
    let slow = Backlogged::connect(server.address());
    server.signal(Signal::TERM);
    assert_eq!(server.ended().status, Some(0));
    slow.leave();
}

#[test]
fn a_stopping_server_serves_nobody_new() {
    let server = serve(&["timeouts.stop_ms=3600000"]);
    let address = server.address();
    let mut slow = Backlogged::connect(address);
    server.signal(Signal::TERM);
    // From here on the server waits for this peer to close, and for nothing else.
    slow.read_to_end();
    // Reset as the listener is closed, then refused; never served.
    until("connects are refused", || {
        let Ok(mut stream) = TcpStream::connect(address) else {
            return Some(());
        };
        let _ = stream.write_all(&frame(codes::PING, b""));
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        assert_eq!(reply, b"");
        None
    });
    slow.leave();
    assert_eq!(server.ended().status, Some(0));
}
