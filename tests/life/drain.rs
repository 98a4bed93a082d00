//! A drain: everybody is told, answered and let go, and who does not go is cut off in time.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corelane::client::Client;
use corelane::metrics::{CloseCause, Counters};
use corelane::protocol::{Decoded, Decoder, codes};
use corelane::{Reply, glommio};
use fastrand::Rng;
use rustix::process::Signal;

use crate::support::backlogged::Backlogged;
use crate::support::library::{address_of, builder_with, config};
use crate::support::peer::{Peer, frame};
use crate::support::program::{Program, serve};
use crate::support::seed;
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

/// Answers after a while.
const LATER: u16 = codes::APPLICATION;

/// Requests that a client has on their way.
const PIPELINE: usize = 8;

/// What came of a client.
struct Told {
    requests: u64,
    goaway_ms: Option<u32>,
}

/// Sends requests without end until GOAWAY comes, and reads to the end of the stream. Asserts that
/// each request has got its reply, in order. No client: it may see the end before it has taken the
/// GOAWAY, and send nothing more.
fn converse(address: SocketAddr, requests: &[u16], mut rng: Rng, progress: &AtomicU64) -> Told {
    let mut peer = Peer::connect(address);
    let mut open = VecDeque::new();
    let mut told = Told {
        requests: 0,
        goaway_ms: None,
    };
    loop {
        while told.goaway_ms.is_none() && open.len() < PIPELINE {
            let code = requests[rng.usize(..requests.len())];
            peer.send(code, &told.requests.to_be_bytes());
            open.push_back((code, told.requests));
            told.requests += 1;
        }
        let Some(frame) = peer.next() else {
            assert_eq!(open, [], "requests without a reply");
            return told;
        };
        if frame.code == codes::GOAWAY {
            assert_eq!(told.goaway_ms, None, "it is told once");
            told.goaway_ms = Some(u32::from_be_bytes(frame.body.try_into().unwrap()));
        } else {
            let (code, number) = open.pop_front().expect("a reply without a request");
            assert_eq!(
                (frame.code, &*frame.body),
                (code, &number.to_be_bytes()[..])
            );
            progress.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Lets so many clients converse, calls `drain` when all are at it, and gives back what came of
/// them.
fn converse_all(address: SocketAddr, codes: &[u16], drain: impl FnOnce()) -> Vec<Told> {
    const CLIENTS: usize = 12;
    let mut rng = seed::rng();
    let progress: Vec<AtomicU64> = (0..CLIENTS).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        let clients: Vec<_> = progress
            .iter()
            .map(|progress| {
                let rng = rng.fork();
                scope.spawn(move || converse(address, codes, rng, progress))
            })
            .collect();
        until("all clients are at it", || {
            let at_it = |each: &AtomicU64| each.load(Ordering::Relaxed) > 30;
            progress.iter().all(at_it).then_some(())
        });
        drain();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    })
}

/// Waits until connects are refused. Who was on the way when the drain began is still let in, told,
/// and answered.
pub(crate) fn until_refused(address: SocketAddr) {
    until("connects are refused", || {
        let Ok(mut stream) = TcpStream::connect(address) else {
            return Some(());
        };
        let _ = stream.write_all(&frame(codes::PING, b""));
        let mut reply = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut reply);
        // Its PING may have been answered, before the drain began or in it.
        let mut decoder = Decoder::new();
        let mut frames = decoder.frames(&reply, reply.len());
        while let Some(Decoded::Whole(frame)) = frames.next() {
            assert!(
                [codes::PING, codes::GOAWAY].contains(&frame.code),
                "{reply:?}"
            );
        }
        None
    });
}

#[test]
fn every_request_is_answered_also_by_handlers_that_take_a_while() {
    let mut config = config(2);
    config.timeouts.drain_ms = 3_600_000;
    let server = builder_with(config)
        .async_handler(LATER, |_state, request| async move {
            glommio::timer::sleep(Duration::from_millis(20)).await;
            Reply::new(request.into_body())
        })
        .start()
        .unwrap();
    let requests = [codes::ECHO, codes::ECHO, codes::ECHO, LATER];
    let all = converse_all(address_of(&server), &requests, || server.handle().drain());
    let counters = server.wait().unwrap();
    let sum = |of: fn(&Counters) -> u64| counters.iter().map(of).sum::<u64>();
    let requests: u64 = all.iter().map(|told| told.requests).sum();
    let clients = all.len() as u64;
    for told in all {
        assert_eq!(told.goaway_ms, Some(3_600_000));
    }
    assert_eq!(sum(|each| each.frames_received), requests);
    assert_eq!(sum(|each| each.frames_sent), requests + clients);
    assert_eq!(sum(|each| each.closed(CloseCause::Drain)), clients);
    assert_eq!(sum(Counters::closed_total), clients);
    assert_eq!(sum(|each| each.late_replies), 0);
}

#[test]
fn quit_answers_everybody_refuses_newcomers_and_ends_with_status_0() {
    let server = serve(&["shards.count=2", "timeouts.drain_ms=3600000"]);
    let address = server.address();
    // Holds the drain up: half a request that has come is waited for.
    let mut slow = Peer::connect(address);
    slow.ping();
    let request = frame(codes::ECHO, b"the second half is to come");
    slow.send_bytes(&request[..15]);

    let all = converse_all(address, &[codes::ECHO], || {
        server.signal(Signal::QUIT);
    });
    assert!(all.iter().all(|told| told.goaway_ms == Some(3_600_000)));
    until_refused(address);
    slow.send_bytes(&request[15..]);
    slow.expect(codes::GOAWAY, &3_600_000_u32.to_be_bytes());
    slow.expect(codes::ECHO, b"the second half is to come");
    slow.expect_end();
    drop(slow);
    let ended = server.ended();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("draining"), "{ended:?}");
}

#[test]
fn idle_connections_do_not_hold_a_drain_up() {
    let server = serve(&["shards.count=2", "timeouts.drain_ms=3600000"]);
    let mut clients: Vec<Client> = (0..20).map(|_| connect(server.address())).collect();
    // Half of them never said anything.
    clients.iter_mut().skip(10).for_each(Client::ping);
    server.signal(Signal::QUIT);
    for client in &mut clients {
        client.expect_push(codes::GOAWAY, &3_600_000_u32.to_be_bytes());
        client.expect_end();
    }
    drop(clients);
    assert_eq!(server.ended().status, Some(0));
}

#[test]
fn an_idle_server_drains_at_once() {
    let server = serve(&["timeouts.drain_ms=3600000"]);
    server.signal(Signal::QUIT);
    assert_eq!(server.ended().status, Some(0));
}

#[test]
fn silent_servers_drain_without_a_word() {
    let server = serve(&["protocol.errors=silent", "timeouts.drain_ms=3600000"]);
    let mut client = connect(server.address());
    client.echo(b"before");
    server.signal(Signal::QUIT);
    server.wait_for_log("draining");
    client.echo(b"meanwhile");
    client.expect_end();
    drop(client);
    assert_eq!(server.ended().status, Some(0));
}

/// One that goes on whatever it is told, until its connection fails. No client: it sends once more
/// though it may have seen the end.
fn go_on(address: SocketAddr) -> thread::JoinHandle<u64> {
    let mut peer = Peer::connect(address);
    peer.ping();
    thread::spawn(move || {
        let mut sender = peer.sender();
        let mut frames = 0;
        loop {
            // It fails once the server has closed.
            let sent = sender.write_all(&frame(codes::ECHO, b"on and on")).is_ok();
            match peer.next() {
                Some(_) => frames += 1,
                None => return frames,
            }
            assert!(sent, "replies to what was not sent");
        }
    })
}

fn ended_after(server: Program, asked_at: Instant) -> Duration {
    let ended = server.ended();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    asked_at.elapsed()
}

#[test]
fn who_goes_on_and_who_takes_nothing_are_cut_off_at_drain_ms() {
    const DRAIN: Duration = Duration::from_secs(2);
    let attempt = || {
        let server = serve(&["timeouts.drain_ms=2000"]);
        let talking = go_on(server.address());
        let hoarding = Backlogged::connect(server.address());
        let asked_at = Instant::now();
        server.signal(Signal::QUIT);
        let took = ended_after(server, asked_at);
        assert!(talking.join().unwrap() > 0);
        hoarding.leave();
        assert!(took >= DRAIN, "it did not wait: {took:?}");
        took
    };
    // The promise is a second; on a host that is too busy to keep it once, it is kept the next time.
    let tries: Vec<Duration> = std::iter::repeat_with(attempt)
        .take(3)
        .scan(false, |done, took| {
            (!std::mem::replace(done, took < DRAIN + Duration::from_secs(1))).then_some(took)
        })
        .collect();
    assert!(
        tries
            .iter()
            .any(|&took| took < DRAIN + Duration::from_secs(1)),
        "{tries:?}"
    );
}

#[test]
fn drain_ms_of_zero_does_not_wait() {
    let server = serve(&["timeouts.drain_ms=0"]);
    let hoarding = Backlogged::connect(server.address());
    server.signal(Signal::QUIT);
    assert_eq!(server.ended().status, Some(0));
    hoarding.leave();
}

#[test]
fn a_second_signal_makes_a_stop_of_a_drain() {
    for second in [Signal::QUIT, Signal::TERM, Signal::INT] {
        let server = serve(&["timeouts.drain_ms=3600000", "timeouts.stop_ms=1000"]);
        let talking = go_on(server.address());
        let hoarding = Backlogged::connect(server.address());
        server.signal(Signal::QUIT);
        server.wait_for_log("draining");
        let asked_at = Instant::now();
        server.signal(second);
        let took = ended_after(server, asked_at);
        // The one that takes nothing is given all of stop_ms; room for a slow host on top.
        assert!(took >= Duration::from_secs(1), "it did not wait: {took:?}");
        assert!(took < Duration::from_secs(4), "it took {took:?}");
        assert!(talking.join().unwrap() > 0);
        hoarding.leave();
    }
}
