//! Nothing is unbounded: connections, and what is queued for those who do not read.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use corelane::client::Client;
use corelane::protocol::codes;
use rustix::process::Signal;

use crate::support::peer::{Peer, frame};
use crate::support::program::{Program, serve, start_limited};
use crate::support::user::{User as _, connect};
use crate::support::waiting::{until, until_still};

#[test]
fn a_connection_beyond_the_limit_waits_until_another_closes() {
    let server = serve(&["limits.connections=3", "log.level=debug"]);
    let address = server.address();
    let assert_accepted = |count: usize, served: &mut [Client]| {
        let accepted = || server.count_logged("accepted connection=");
        until("the accepted connections are in the log", || {
            (accepted() >= count).then_some(())
        });
        // Every chance to serve more than that.
        for _ in 0..100 {
            served.iter_mut().for_each(Client::ping);
        }
        assert_eq!(accepted(), count);
    };
    let mut served: Vec<Client> = (0..3).map(|_| connect(address)).collect();
    served.iter_mut().for_each(Client::ping);

    // Both get through to the backlog, and may even send.
    let mut fourth = connect(address);
    fourth.send(codes::ECHO, b"fourth").unwrap();
    let mut fifth = connect(address);
    fifth.send(codes::ECHO, b"fifth").unwrap();
    assert_accepted(3, &mut served);

    drop(served.pop());
    fourth.expect(codes::ECHO, b"fourth");
    assert_accepted(4, &mut served);

    drop(fourth);
    fifth.expect(codes::ECHO, b"fifth");
    fifth.ping();
}

#[test]
fn who_never_reads_is_stopped_from_sending_and_loses_nothing() {
    const FRAMES: u64 = 24_000;
    let server = serve(&[]);
    let mut other = connect(server.address());
    // No client: one reads while the server takes no more.
    let mut greedy = Peer::connect_small(server.address());
    greedy.ping();
    let resident_bytes = server.resident_bytes();

    let sent = AtomicU64::new(0);
    let mut sender = greedy.sender();
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..FRAMES {
                let body = number.to_be_bytes().repeat(128);
                sender.write_all(&frame(codes::ECHO, &body)).unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        let taken = until_still("the server takes no more", &sent);
        assert!(taken < FRAMES, "the server took all {taken} frames");
        let grown_bytes = server.resident_bytes().saturating_sub(resident_bytes);
        assert!(
            grown_bytes < 10 << 20,
            "{grown_bytes} bytes for one connection"
        );
        for _ in 0..100 {
            other.echo(b"still served");
        }
        for number in 0..FRAMES {
            greedy.expect(codes::ECHO, &number.to_be_bytes().repeat(128));
        }
    });
    greedy.shut();
    greedy.expect_end();
}

#[test]
fn a_server_without_descriptors_waits_and_serves_who_came_when_there_are_some() {
    let words = [
        &["--admin", "off", "--listen", "127.0.0.1:0", "--shards", "1"][..],
        &["--set", "shards.pin=false", "--set", "log.level=debug"],
        &["--set", "shards.busy_poll_us=0"],
        &["--set", "log.repeats_per_second=0"],
    ];
    let server = start_limited("ulimit -n 135", &words.concat());
    let mut clients: VecDeque<Client> = (0..130)
        .map(|_| {
            let mut client = connect(server.address());
            client.send(codes::ECHO, b"served in the end").unwrap();
            client
        })
        .collect();
    // Who leaves makes room for the next.
    server.wait_for_log("accepting pauses until there is room");
    assert_waits_idly(&server);
    while let Some(mut client) = clients.pop_front() {
        client.expect(codes::ECHO, b"served in the end");
    }
    // All of the log is there when the server has ended.
    server.signal(Signal::TERM);
    let log = server.ended().stderr;
    let logged = |text: &str| log.matches(text).count();
    assert_eq!(logged("accepted connection="), 130);
    // One line each time that there was no room again, not one for each time it tried.
    let closes = logged("closed connection=");
    assert!(logged("accepting pauses") <= closes + 1);
}

/// Asserts that the server does nearly nothing while it waits for room: it tries ten times a second.
/// That nothing happens can only be seen over some time.
#[track_caller]
fn assert_waits_idly(server: &Program) {
    let (began, used) = (Instant::now(), server.cpu_time());
    sleep(Duration::from_secs(1));
    let used = server.cpu_time().saturating_sub(used);
    assert!(used * 4 < began.elapsed(), "it has used {used:?}");
}
