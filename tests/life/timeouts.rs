//! Time-outs: the first frame, silence, and peers that do not take what is for them.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use corelane::client::{Client, ClientError};
use corelane::protocol::{Reason, codes};

use crate::clients::{SetOnDrop, has_news, raise_file_limit, send_until_it_fails};
use crate::support::peer::{Peer, frame};
use crate::support::program::serve;
use crate::support::user::{User as _, connect};
use crate::support::waiting::{DEADLINE, until};

/// Asserts that the server says that it ends the connection for a time-out, and ends it in good order.
/// Gives back its text.
#[track_caller]
fn expect_dismissal(client: &mut Client) -> String {
    assert_eq!(client.push().unwrap().code, codes::ERROR);
    match client.push() {
        Err(ClientError::Dismissed(refusal)) => {
            assert_eq!(refusal.reason(), Some(Reason::TimedOut), "{refusal}");
            // It answers no frame.
            assert_eq!(refusal.answered, codes::ERROR, "{refusal}");
            refusal.text
        }
        other => panic!("the end was to come, not {other:?}"),
    }
}

/// The same of one that is no client: it sends half a frame.
#[track_caller]
fn expect_timed_out(peer: &mut Peer) -> String {
    let text = peer.expect_error(codes::ERROR, Reason::TimedOut);
    peer.expect_end();
    text
}

#[test]
fn who_never_says_anything_is_told_and_closed() {
    let server = serve(&["timeouts.first_frame_ms=300", "log.level=debug"]);
    let began = Instant::now();
    let mut silent = connect(server.address());
    let text = expect_dismissal(&mut silent);
    assert!(began.elapsed() >= Duration::from_millis(300), "too early");
    assert!(text.contains("no whole frame came in time"), "{text}");
    drop(silent);
    server.wait_for_log("cause=first_frame");
}

#[test]
fn who_falls_silent_is_told_and_closed() {
    let server = serve(&["timeouts.idle_ms=500", "log.level=debug"]);
    let mut client = connect(server.address());
    for _ in 0..3 {
        client.ping();
    }
    let asked_at = Instant::now();
    client.echo(b"the last one");
    let text = expect_dismissal(&mut client);
    assert!(
        asked_at.elapsed() >= Duration::from_millis(500),
        "too early"
    );
    assert!(text.contains("a PING now and then"), "{text}");
    drop(client);
    server.wait_for_log("cause=idle");
}

#[test]
fn silent_servers_only_close() {
    let server = serve(&["protocol.errors=silent", "timeouts.first_frame_ms=300"]);
    connect(server.address()).expect_end();
}

#[test]
fn ping_keeps_a_connection_and_single_bytes_do_not() {
    let server = serve(&["timeouts.idle_ms=2500"]);
    let mut pinging = connect(server.address());
    let mut dripping = Peer::connect(server.address());
    let mut silent = connect(server.address());
    pinging.ping();
    dripping.ping();
    silent.ping();
    let mut drip = dripping.sender();
    let done = AtomicBool::new(false);
    let drops = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                pinging.ping();
                sleep(Duration::from_millis(20));
            }
        });
        scope.spawn(|| {
            for byte in &frame(codes::ECHO, &[7; 10_000]) {
                // It fails where the server has closed before `done` is seen.
                if done.load(Ordering::Acquire) || drip.write_all(&[*byte]).is_err() {
                    return;
                }
                drops.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(20));
            }
        });
        let _ends = SetOnDrop(&done);
        expect_dismissal(&mut silent);
        expect_timed_out(&mut dripping);
    });
    assert!(drops.load(Ordering::Relaxed) > 10, "hardly a byte was sent");
    pinging.ping();
}

/// All of its requests have come and are answered at once, so nothing but the progress of what is
/// queued shows that it lives. No client: one reads what there is.
#[test]
fn who_takes_a_long_reply_slowly_is_not_idle() {
    const FRAMES: u32 = 600;
    const IDLE: Duration = Duration::from_secs(2);
    let server = serve(&[
        "timeouts.idle_ms=2000",
        "outbound.high_bytes=33554432",
        "outbound.max_bytes=67108864",
    ]);
    let mut slow = Peer::connect_small(server.address());
    let mut sender = slow.sender();
    let body = |number: u32| number.to_be_bytes().repeat(5000);
    for number in 0..FRAMES {
        sender
            .write_all(&frame(codes::ECHO, &body(number)))
            .unwrap();
    }
    let sent_at = Instant::now();
    for number in 0..FRAMES {
        // The pace of a slow line. What fits the kernel's buffers is read without it: when the
        // server has got rid of it, the connection may count as idle.
        if number < FRAMES * 6 / 10 {
            sleep(Duration::from_millis(10));
        }
        slow.expect(codes::ECHO, &body(number));
    }
    assert!(sent_at.elapsed() > IDLE + IDLE / 2, "it was not slow");
    slow.ping();
}

#[test]
fn who_takes_nothing_is_reset_after_write_ms() {
    let server = serve(&[
        "timeouts.write_ms=1000",
        "timeouts.idle_ms=500",
        "log.level=debug",
    ]);
    let hoarder = Peer::connect_small(server.address());
    let began = Instant::now();
    let end = send_until_it_fails(hoarder.sender());
    assert_eq!(end, ErrorKind::ConnectionReset);
    assert!(began.elapsed() >= Duration::from_secs(1), "too early");
    server.wait_for_log("cause=write_timeout");
    assert_eq!(server.count_logged("cause="), 1);
}

#[test]
fn a_timeout_of_0_is_off() {
    // Each off on a server where another shows that time goes by.
    let server = serve(&[
        "timeouts.first_frame_ms=0",
        "timeouts.idle_ms=500",
        "log.level=debug",
    ]);
    expect_dismissal(&mut connect(server.address()));
    server.wait_for_log("cause=idle");

    let server = serve(&[
        "timeouts.idle_ms=0",
        "timeouts.write_ms=0",
        "timeouts.first_frame_ms=500",
        "log.level=debug",
    ]);
    let mut quiet = connect(server.address());
    quiet.ping();
    let hoarder = Peer::connect_small(server.address());
    let sender = hoarder.sender();
    let sending = thread::spawn(move || send_until_it_fails(sender));
    for _ in 0..3 {
        expect_dismissal(&mut connect(server.address()));
    }
    quiet.ping();
    assert!(!sending.is_finished(), "the server has closed it");
    assert_eq!(server.count_logged("cause=write_timeout"), 0);
    drop(server);
    assert_eq!(sending.join().unwrap(), ErrorKind::ConnectionReset);
}

/// An attack by thousands that each send a byte now and then to hold a connection for nothing.
#[test]
fn a_thousand_that_drip_are_all_closed_and_disturb_nobody() {
    const DRIPPING: usize = 1000;
    raise_file_limit();
    let server = serve(&["timeouts.first_frame_ms=2500", "log.level=debug"]);
    let mut steady = connect(server.address());
    let done = AtomicBool::new(false);
    let pings = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                steady.ping();
                pings.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(2));
            }
        });
        let _ends = SetOnDrop(&done);
        let mut dripping: Vec<Peer> = (0..DRIPPING)
            .map(|_| Peer::connect(server.address()))
            .collect();
        let request = frame(codes::ECHO, &[7; 10_000]);
        let deadline = Instant::now() + DEADLINE;
        let mut rounds = 0;
        while !dripping.is_empty() {
            assert!(Instant::now() < deadline, "{} are left", dripping.len());
            dripping.retain_mut(|peer| {
                let mut stream = peer.sender();
                if has_news(&stream) {
                    expect_timed_out(peer);
                    return false;
                }
                // It fails where the server has just closed for good.
                let _ = stream.write_all(&request[rounds..=rounds]);
                true
            });
            rounds += 1;
            sleep(Duration::from_millis(100));
        }
        assert!(rounds > 5, "they hardly dripped");
    });
    assert!(pings.load(Ordering::Relaxed) > 100, "it was hardly served");
    steady.ping();
    until("all are in the log", || {
        (server.count_logged("cause=first_frame") == DRIPPING).then_some(())
    });
    assert_eq!(server.count_logged("cause="), DRIPPING);
}
