//! Receiving by readiness, on real sockets.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;

use super::*;
use crate::sys::ring::tests::{TOKEN, connect, next, received, ring};

/// Waits until the kernel has all of this to give out: what comes later is told by itself.
fn has_arrived(socket: &Socket, bytes: usize) {
    let fd = &socket.open.as_ref().unwrap().fd;
    let mut buffer = vec![0; bytes + 1];
    while bytes > 0 && recv(fd, &mut buffer[..], RecvFlags::PEEK).unwrap().0 < bytes {}
}

fn is_last(event: Event, errno: i32) -> bool {
    matches!(event, Event::Received { token: TOKEN, result: Err(error), more: false }
        if error.raw_os_error() == Some(errno))
}

#[test]
fn bytes_come_each_time_and_the_end_is_the_last() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    ring.receive_large(TOKEN, &socket);
    for message in [&b"one"[..], b"two", b"three"] {
        client.write_all(message).unwrap();
        assert_eq!(&*received(next(&mut ring)), message);
        assert!(!ring.has_events());
    }
    client.shutdown(Shutdown::Write).unwrap();
    match next(&mut ring) {
        Event::Received {
            result: Ok(end),
            more: false,
            ..
        } => assert!(end.is_empty()),
        other => panic!("not the end: {other:?}"),
    }
    assert!(ring.readiness.readers.is_empty() && ring.readiness.tokens.is_empty());
    // The poll is cancelled: only the accept is left.
    while ring.in_flight > 1 {
        ring.enter().unwrap();
        ring.reap(1, |event| panic!("{event:?} after the end"));
    }
}

/// The kernel tells once that there is something.
#[test]
fn what_one_buffer_does_not_hold_follows_and_so_does_the_end() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    let all: Vec<u8> = (0_u8..251)
        .cycle()
        .take(NEAR_BYTES as usize + 1000)
        .collect();
    client.write_all(&all).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    has_arrived(&socket, all.len());
    ring.receive_large(TOKEN, &socket);
    let mut seen = Vec::new();
    let mut sizes = Vec::new();
    loop {
        let bytes = received(next(&mut ring));
        sizes.push(bytes.len());
        if bytes.is_empty() {
            break;
        }
        seen.extend_from_slice(&bytes);
    }
    assert_eq!(sizes, [NEAR_BYTES as usize, 1000, 0]);
    assert!(seen == all);
}

/// The kernel has told all that it will.
#[test]
fn nobody_sleeps_while_there_is_something_to_receive_again() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    let bytes = NEAR_BYTES as usize + 1000;
    client.write_all(&vec![1; bytes]).unwrap();
    has_arrived(&socket, bytes);
    ring.receive_large(TOKEN, &socket);
    assert_eq!(received(next(&mut ring)).len(), NEAR_BYTES as usize);
    let began = Instant::now();
    ring.wait(0, 30_000_000_000).unwrap();
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(!ring.has_completions());
    assert_eq!(received(next(&mut ring)).len(), 1000);
}

/// A receive ends in front of an urgent byte, which is left out, though there is more behind it.
#[test]
fn what_is_behind_an_urgent_byte_follows() {
    let (mut ring, address) = ring();
    for receive in [Ring::receive, Ring::receive_large] {
        let (mut client, socket) = connect(&mut ring, address);
        receive(&mut ring, TOKEN, &socket);
        for _ in 0..2 {
            client.write_all(b"before").unwrap();
            send(&client, b"!", SendFlags::OOB).unwrap();
            client.write_all(b"behind").unwrap();
            let mut seen = Vec::new();
            while seen.len() < 12 {
                seen.extend_from_slice(&received(next(&mut ring)));
            }
            assert_eq!(seen, *b"beforebehind");
        }
        ring.cancel_receive(TOKEN);
        assert!(is_last(next(&mut ring), libc::ECANCELED));
    }
}

/// Who has more than a buffer holds keeps neither the kernel nor anybody else from their turn.
#[test]
fn what_is_received_again_is_no_completion_and_comes_behind_those() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    let (mut other, other_socket) = connect(&mut ring, address);
    let bytes = NEAR_BYTES as usize + 1000;
    client.write_all(&vec![1; bytes]).unwrap();
    has_arrived(&socket, bytes);
    ring.receive_large(TOKEN, &socket);
    assert_eq!(received(next(&mut ring)).len(), NEAR_BYTES as usize);
    assert!(ring.has_events() && !ring.has_completions());

    other.write_all(b"small").unwrap();
    has_arrived(&other_socket, 5);
    ring.receive(Token(8), &other_socket);
    ring.enter().unwrap();
    let mut tokens = Vec::new();
    ring.reap(usize::MAX, |event| match event {
        Event::Received { token, .. } => tokens.push(token),
        other => panic!("not received: {other:?}"),
    });
    assert_eq!(tokens, [Token(8), TOKEN]);
}

#[test]
fn once_cancelled_it_receives_nothing_more() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    // What has been told already, what is to be received again, and nothing at all.
    for bytes in [5, NEAR_BYTES as usize + 5, 0] {
        client.write_all(&vec![1; bytes]).unwrap();
        has_arrived(&socket, bytes);
        ring.receive_large(TOKEN, &socket);
        ring.enter().unwrap();
        assert_eq!(ring.has_completions(), bytes > 0);
        let mut left = bytes;
        if bytes > NEAR_BYTES as usize {
            left -= received(next(&mut ring)).len();
        }
        ring.cancel_receive(TOKEN);
        assert!(is_last(next(&mut ring), libc::ECANCELED));
        assert!(ring.readiness.readers.is_empty());
        if left > 0 {
            ring.receive_once(TOKEN, &socket);
            assert_eq!(received(next(&mut ring)).len(), left);
        }
        assert!(!ring.has_events());
    }
}

#[test]
fn a_reset_is_the_last() {
    let (mut ring, address) = ring();
    let (client, socket) = connect(&mut ring, address);
    ring.receive_large(TOKEN, &socket);
    SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    assert!(is_last(next(&mut ring), libc::ECONNRESET));
    assert!(ring.readiness.readers.is_empty());
}

#[test]
fn while_the_buffer_is_held_nothing_is_received_and_nothing_is_lost() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    ring.receive_large(TOKEN, &socket);
    client.write_all(b"first").unwrap();
    let held = received(next(&mut ring));
    client.write_all(b"second").unwrap();
    match next(&mut ring) {
        Event::Received {
            result: Err(error),
            more: true,
            ..
        } => assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS)),
        other => panic!("not the lack of a buffer: {other:?}"),
    }
    assert_eq!(&*held, b"first");
    drop(held);
    assert_eq!(&*received(next(&mut ring)), b"second");
}

/// Another socket may have its descriptor.
#[test]
fn a_socket_that_is_dropped_or_released_is_not_received_from_any_more() {
    let (mut ring, address) = ring();
    for releases in [false, true] {
        let (mut client, socket) = connect(&mut ring, address);
        ring.receive_large(TOKEN, &socket);
        client.write_all(b"for nobody").unwrap();
        has_arrived(&socket, 10);
        ring.enter().unwrap();
        let released = if releases {
            Some(ring.release(socket))
        } else {
            drop(socket);
            ring.close_dropped();
            None
        };
        assert!(ring.readiness.readers.is_empty() && ring.readiness.tokens.is_empty());
        while ring.in_flight > 1 {
            ring.enter().unwrap();
            ring.reap(usize::MAX, |event| panic!("{event:?} of no socket"));
        }
        drop(released);
    }
}

#[test]
#[should_panic(expected = "received from once at a time")]
fn a_socket_is_not_received_from_twice() {
    let (mut ring, address) = ring();
    let (_client, socket) = connect(&mut ring, address);
    ring.receive_large(TOKEN, &socket);
    ring.receive_large(Token(8), &socket);
}
