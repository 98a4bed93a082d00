//! The ring on real sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::sys::buffers::Received;
use crate::sys::clock::Clock;
use crate::sys::socket::listen;

pub(super) const TOKEN: Token = Token(7);

pub(super) fn ring() -> (Ring, SocketAddr) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (address, listeners) = listen(any, 16, 1).unwrap();
    // Too few slots for some of the tests' sockets, so that both kinds are tried.
    let mut ring = Ring::new(listeners, 1, Wakeup::new().unwrap()).unwrap();
    ring.accept(0);
    (ring, address)
}

/// The next event; the peer has done what causes it.
pub(super) fn next(ring: &mut Ring) -> Event {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut event = None;
    while event.is_none() {
        assert!(Instant::now() < deadline, "no event came");
        ring.enter().unwrap();
        ring.reap(1, |next| event = Some(next));
    }
    event.unwrap()
}

pub(super) fn connect(ring: &mut Ring, address: SocketAddr) -> (TcpStream, Socket) {
    let client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    match next(ring) {
        Event::Accepted {
            result: Ok(socket),
            more: true,
            ..
        } => (client, socket),
        other => panic!("not a connection: {other:?}"),
    }
}

pub(super) fn received(event: Event) -> Received {
    match event {
        Event::Received {
            token: TOKEN,
            result: Ok(received),
            ..
        } => received,
        other => panic!("nothing received: {other:?}"),
    }
}

#[test]
fn bytes_come_and_go_and_the_stream_ends() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    ring.receive(TOKEN, &socket);
    client.write_all(b"request").unwrap();
    assert_eq!(&*received(next(&mut ring)), b"request");

    ring.send(TOKEN, &socket, b"xxreply".to_vec(), 2);
    match next(&mut ring) {
        Event::Sent {
            token: TOKEN,
            bytes,
            offset: 2,
            result: Ok(5),
        } => assert_eq!(bytes.bytes(), b"xxreply"),
        other => panic!("not sent: {other:?}"),
    }
    let mut reply = [0; 5];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply, *b"reply");

    let mut all = b"whole".to_vec();
    ring.send_all_of(&mut all, TOKEN, &socket);
    assert!(all.is_empty());
    match next(&mut ring) {
        Event::Sent {
            token: TOKEN,
            bytes,
            offset: 0,
            result: Ok(5),
        } => assert_eq!(bytes.bytes(), b"whole"),
        other => panic!("not sent: {other:?}"),
    }
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply, *b"whole");

    client.shutdown(Shutdown::Write).unwrap();
    assert!(received(next(&mut ring)).is_empty());
    socket.shutdown_send();
    ring.enter().unwrap();
    assert_eq!(client.read(&mut reply).unwrap(), 0);
}

/// The sender may let go of what it shares as soon as it has handed it over.
#[test]
fn shared_bytes_are_kept_until_they_are_sent() {
    const LEN: usize = 1 << 20;
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    let shared: Rc<dyn AsRef<[u8]>> = Rc::new(vec![7_u8; LEN]);
    let watched = Rc::downgrade(&shared);
    ring.send(TOKEN, &socket, SendBytes::Shared(shared), 10);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    });
    let (mut sent, mut rest) = (10, None);
    while sent < LEN {
        assert!(watched.upgrade().is_some(), "gone while it is in flight");
        if let Some(bytes) = rest.take() {
            ring.send(TOKEN, &socket, SendBytes::Shared(bytes), sent);
        }
        match next(&mut ring) {
            Event::Sent {
                bytes: SendBytes::Shared(bytes),
                offset,
                result: Ok(taken),
                ..
            } if offset == sent => {
                sent += taken;
                rest = Some(bytes);
            }
            other => panic!("not sent: {other:?}"),
        }
    }
    drop(rest);
    assert!(watched.upgrade().is_none());
    drop(socket);
    ring.enter().unwrap();
    assert_eq!(reader.join().unwrap(), vec![7; LEN - 10]);
}

#[test]
fn a_dropped_socket_is_closed_behind_what_was_asked_of_it() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    ring.send(TOKEN, &socket, b"last words".to_vec(), 0);
    drop(socket);
    assert!(ring.has_work());
    assert!(matches!(
        next(&mut ring),
        Event::Sent { result: Ok(10), .. }
    ));
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"last words");
}

#[test]
fn buffers_run_out_and_come_back() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    ring.receive(TOKEN, &socket);
    let mut held = Vec::new();
    loop {
        client.write_all(b"x").unwrap();
        match next(&mut ring) {
            Event::Received {
                result: Ok(bytes), ..
            } => held.push(bytes),
            Event::Received {
                result: Err(error),
                more: false,
                ..
            } if error.raw_os_error() == Some(libc::ENOBUFS) => break,
            other => panic!("neither bytes nor the lack of buffers: {other:?}"),
        }
    }
    assert!(held.len() > 1 && held.iter().all(|bytes| **bytes == *b"x"));
    // One is enough to go on with.
    held.pop();
    ring.receive(TOKEN, &socket);
    assert_eq!(&*received(next(&mut ring)), b"x");
}

#[test]
fn received_bytes_outlive_the_ring() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    ring.receive(TOKEN, &socket);
    client.write_all(b"kept").unwrap();
    let kept = received(next(&mut ring));
    drop(ring);
    assert_eq!(&*kept, b"kept");
    // The socket outlived its ring, too.
    drop(socket);
}

#[test]
fn dropping_the_ring_cancels_and_waits_for_everything_in_flight() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    ring.receive(TOKEN, &socket);
    // More than the sockets' buffers hold: it stays in flight, as nobody reads.
    ring.send(TOKEN, &socket, vec![1; 64 << 20], 0);
    match next(&mut ring) {
        Event::Sent {
            bytes,
            result: Ok(sent),
            ..
        } => {
            ring.send(TOKEN, &socket, bytes, sent);
        }
        other => panic!("not sent: {other:?}"),
    }
    ring.enter().unwrap();
    assert_eq!(ring.in_flight, 3, "accept, receive and send");
    assert!(ring.wind_down());
    assert_eq!(ring.in_flight, 0);
    drop(ring);
    drop(socket);
    let mut rest = Vec::new();
    // All that was sent, then the end or a reset.
    let _ = client.read_to_end(&mut rest);
    assert!(rest.iter().all(|&byte| byte == 1));
}

#[test]
fn more_operations_than_submission_entries_all_get_there() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    let count = SUBMISSIONS as usize * 3;
    for number in 0..count {
        ring.send(Token(number as u64), &socket, vec![1], 0);
    }
    assert!(!ring.overflow.is_empty());
    let mut tokens: Vec<u64> = (0..count)
        .map(|_| match next(&mut ring) {
            Event::Sent {
                token,
                result: Ok(1),
                ..
            } => token.number(),
            other => panic!("not sent: {other:?}"),
        })
        .collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..count as u64).collect::<Vec<_>>());
    client.read_exact(&mut vec![0; count]).unwrap();
}

/// Completions that find no room are an allocation each in the kernel, and a slower way out.
#[test]
fn however_much_is_asked_for_at_once_completions_find_room() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    let reader = std::thread::spawn(move || io::copy(&mut client, &mut io::sink()));
    let sends = 2 * COMPLETIONS as usize;
    for _ in 0..sends {
        ring.send(TOKEN, &socket, vec![1], 0);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut sent = 0;
    while sent < sends {
        assert!(Instant::now() < deadline, "{sent} of {sends} were sent");
        assert!(ring.has_work() || ring.has_events());
        ring.enter().unwrap();
        assert!(!ring.uring.submission().cq_overflow(), "after {sent}");
        // A turn takes some of them.
        ring.reap(512, |event| {
            assert!(matches!(event, Event::Sent { result: Ok(1), .. }));
            sent += 1;
        });
    }
    drop(socket);
    ring.enter().unwrap();
    assert_eq!(reader.join().unwrap().unwrap(), sends as u64);
}

#[test]
#[should_panic(expected = "a socket belongs to the ring that took it in")]
fn a_socket_of_another_ring_is_refused() {
    let (mut one, address) = ring();
    let (mut other, _) = ring();
    let (_client, socket) = connect(&mut one, address);
    other.receive(TOKEN, &socket);
}

#[test]
fn sockets_beyond_the_registered_ones_work_and_slots_are_used_again() {
    let (mut ring, address) = ring();
    for _ in 0..3 {
        let mut pairs: Vec<_> = (0..3).map(|_| connect(&mut ring, address)).collect();
        let registered = pairs
            .iter()
            .filter(|(_, socket)| socket.open.as_ref().unwrap().registered.is_some())
            .count();
        assert_eq!(registered, 1);
        for (client, socket) in &mut pairs {
            ring.receive(TOKEN, socket);
            client.write_all(b"request").unwrap();
            assert_eq!(&*received(next(&mut ring)), b"request");
            ring.send(TOKEN, socket, b"reply".to_vec(), 0);
            assert!(matches!(next(&mut ring), Event::Sent { result: Ok(5), .. }));
            ring.cancel_receive(TOKEN);
            assert!(matches!(
                next(&mut ring),
                Event::Received { result: Err(error), more: false, .. }
                    if error.raw_os_error() == Some(libc::ECANCELED)
            ));
        }
        for (mut client, socket) in pairs {
            drop(socket);
            ring.enter().unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"reply");
        }
    }
}

fn slot(socket: &Socket) -> Option<u32> {
    socket.open.as_ref().unwrap().registered
}

/// Asks and answers once, through a ring of its own.
fn answer_elsewhere(fd: OwnedFd) {
    let (mut ring, address) = ring();
    let socket = ring.adopt(fd);
    assert_eq!(slot(&socket), Some(0));
    ring.receive(TOKEN, &socket);
    assert_eq!(&*received(next(&mut ring)), b"request");
    ring.send(TOKEN, &socket, b"from the other".to_vec(), 0);
    assert!(matches!(
        next(&mut ring),
        Event::Sent { result: Ok(14), .. }
    ));
    // This ring goes on with others, too.
    drop(connect(&mut ring, address));
}

#[test]
fn a_released_socket_works_in_the_ring_of_another_thread() {
    let (mut ring, address) = ring();
    let (mut moved, socket) = connect(&mut ring, address);
    assert_eq!(slot(&socket), Some(0));
    let peer = socket.peer().unwrap();
    assert_eq!(peer, moved.local_addr().unwrap());
    let fd = ring.release(socket);
    assert!(ring.has_work(), "the slot is to be cleared");

    std::thread::scope(|scope| {
        let elsewhere = scope.spawn(|| answer_elsewhere(fd));
        // Meanwhile the slot becomes another connection's, and serves that one alone.
        ring.enter().unwrap();
        let (mut stayed, socket) = connect(&mut ring, address);
        assert_eq!(slot(&socket), Some(0));
        ring.receive(TOKEN, &socket);
        moved.write_all(b"request").unwrap();
        stayed.write_all(b"question").unwrap();
        assert_eq!(&*received(next(&mut ring)), b"question");
        ring.send(TOKEN, &socket, b"from the first".to_vec(), 0);
        assert!(matches!(
            next(&mut ring),
            Event::Sent { result: Ok(14), .. }
        ));
        drop(socket);
        ring.cancel_receive(TOKEN);
        ring.enter().unwrap();

        let mut all = Vec::new();
        stayed.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"from the first");
        all.clear();
        // Ends when the other ring closes it: the first one holds on to nothing.
        moved.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"from the other");
        elsewhere.join().unwrap();
    });
}

#[test]
fn a_slot_is_not_used_again_before_it_is_cleared() {
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    assert_eq!(slot(&socket), Some(0));
    let fd = ring.release(socket);
    let socket = ring.adopt(fd);
    assert_eq!(slot(&socket), None);
    ring.receive(TOKEN, &socket);
    client.write_all(b"still here").unwrap();
    assert_eq!(&*received(next(&mut ring)), b"still here");
    let (_other, other) = connect(&mut ring, address);
    assert_eq!(slot(&other), Some(0));
}

#[test]
#[should_panic(expected = "a socket belongs to the ring that took it in")]
fn a_socket_of_another_ring_is_not_released() {
    let (mut one, address) = ring();
    let (mut other, _) = ring();
    let (_client, socket) = connect(&mut one, address);
    other.release(socket);
}

#[test]
fn a_reset_on_close_throws_away_what_the_peer_did_not_take() {
    const LEN: usize = 64 << 20;
    let (mut ring, address) = ring();
    let (mut client, socket) = connect(&mut ring, address);
    // More than the peer has room for, and it does not read.
    ring.send(TOKEN, &socket, vec![1; LEN], 0);
    let Event::Sent {
        result: Ok(taken), ..
    } = next(&mut ring)
    else {
        panic!("nothing was taken");
    };
    assert!(taken < LEN);
    socket.reset_on_close();
    drop(socket);
    ring.enter().unwrap();
    let mut came = Vec::new();
    let error = client.read_to_end(&mut came).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(came.len() < taken, "all {taken} bytes came");
}

#[test]
fn cancelled_operations_complete() {
    let (mut ring, address) = ring();
    let (_client, socket) = connect(&mut ring, address);
    // More than fits, since nobody reads: parts of it are taken until nothing is any more.
    let (mut bytes, mut offset) = (SendBytes::Own(vec![1; 64 << 20]), 0);
    loop {
        let number = ring.send(TOKEN, &socket, bytes, offset);
        ring.cancel_send(number, Token(8));
        ring.cancel_send(number + 1, TOKEN);
        assert!(
            ring.uring.submission().len() == 1,
            "others are not cancelled"
        );
        ring.cancel_send(number, TOKEN);
        match next(&mut ring) {
            Event::Sent {
                bytes: rest,
                result: Ok(taken),
                ..
            } => (bytes, offset) = (rest, offset + taken),
            Event::Sent {
                result: Err(error), ..
            } => {
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                break;
            }
            other => panic!("not a send: {other:?}"),
        }
    }
    assert!(offset > 0, "nothing was taken");
    ring.receive(TOKEN, &socket);
    ring.cancel_receive(TOKEN);
    match next(&mut ring) {
        Event::Received {
            result: Err(error),
            more: false,
            ..
        } => assert_eq!(error.raw_os_error(), Some(libc::ECANCELED)),
        other => panic!("not cancelled: {other:?}"),
    }
    ring.cancel_accept(0);
    match next(&mut ring) {
        Event::Accepted {
            result: Err(error),
            more: false,
            ..
        } => assert_eq!(error.raw_os_error(), Some(libc::ECANCELED)),
        other => panic!("not cancelled: {other:?}"),
    }
    assert_eq!(ring.in_flight, 0);
}

const MS: u64 = 1_000_000;
const LONG: u64 = 20_000 * MS;

#[test]
fn a_wait_ends_when_something_completes_or_time_is_up() {
    let (mut ring, _) = ring();
    let clock = Clock::start();
    ring.wait(clock.now_ns(), 20 * MS).unwrap();
    assert!(clock.now_ns() >= 20 * MS);

    // A connection that somebody else accepts.
    let (address, listeners) = listen(SocketAddr::from(([127, 0, 0, 1], 0)), 16, 1).unwrap();
    let socket = ring.connected(TcpStream::connect(address).unwrap());
    let (mut peer, _) = listeners[0].accept().unwrap();
    ring.receive(TOKEN, &socket);
    ring.send(TOKEN, &socket, b"hello".to_vec(), 0);
    ring.reap(usize::MAX, |event| {
        panic!("time was up, and nothing else: {event:?}")
    });
    ring.wait(clock.now_ns(), LONG).unwrap();
    assert!(ring.has_events());
    assert!(matches!(next(&mut ring), Event::Sent { result: Ok(5), .. }));
    let mut request = [0; 5];
    peer.read_exact(&mut request).unwrap();
    peer.write_all(&request).unwrap();
    ring.wait(clock.now_ns(), LONG).unwrap();
    assert!(ring.has_events());
    assert_eq!(&*received(next(&mut ring)), b"hello");
    assert!(clock.now_ns() < LONG, "a wait was too long");
}

/// What ends a wait stays for those behind it, however they end.
#[test]
fn waits_after_one_that_ended_early_are_not_too_long() {
    let (mut ring, address) = ring();
    let (_client, socket) = connect(&mut ring, address);
    let clock = Clock::start();
    let now_ns = || clock.now_ns();
    let waits_until = |ring: &mut Ring, until_ns: u64| {
        while now_ns() < until_ns {
            ring.wait(now_ns(), until_ns).unwrap();
            ring.reap(usize::MAX, |event| {
                panic!("nothing was asked for: {event:?}")
            });
        }
    };
    ring.send(TOKEN, &socket, b"x".to_vec(), 0);
    ring.wait(now_ns(), LONG).unwrap();
    assert!(matches!(next(&mut ring), Event::Sent { result: Ok(1), .. }));
    // Sooner than what is set by now, and then later.
    waits_until(&mut ring, 20 * MS);
    waits_until(&mut ring, 40 * MS);
    assert!(now_ns() < LONG, "a wait was too long");
}

/// Whoever waits again and again, for no more than a moment, has no timer set each time.
#[test]
fn one_alarm_is_enough_for_many_waits() {
    let (mut ring, address) = ring();
    let (_client, socket) = connect(&mut ring, address);
    let before = ring.in_flight;
    let clock = Clock::start();
    for _ in 0..100 {
        ring.send(TOKEN, &socket, b"x".to_vec(), 0);
        let now_ns = clock.now_ns();
        ring.wait(now_ns, now_ns + LONG).unwrap();
        assert!(matches!(next(&mut ring), Event::Sent { result: Ok(1), .. }));
    }
    assert_eq!(ring.in_flight, before + 1);
}

#[test]
fn a_wait_submits_more_than_the_queue_holds() {
    let (mut ring, address) = ring();
    let (client, socket) = connect(&mut ring, address);
    let sends = 3 * SUBMISSIONS as usize;
    for _ in 0..sends {
        ring.send(TOKEN, &socket, b"x".to_vec(), 0);
    }
    let mut sent = 0;
    let clock = Clock::start();
    while sent < sends {
        assert!(clock.now_ns() < LONG, "{sent} of {sends} were sent");
        ring.wait(clock.now_ns(), LONG).unwrap();
        ring.reap(usize::MAX, |event| {
            assert!(matches!(event, Event::Sent { result: Ok(1), .. }));
            sent += 1;
        });
    }
    drop(client);
}

/// Two rings accept at one socket, as old and new worker do in a reload. The kernel may have woken
/// the one for who has connected by the time that its accept is cancelled, and then wakes the other
/// for nobody: who goes has to look.
#[test]
fn whoever_cancels_an_accept_can_see_who_waits_and_take_them_all() {
    const CLIENTS: usize = 3;
    let (mut goes, address) = ring();
    let listener = goes.listeners[0].as_ref().unwrap().try_clone().unwrap();
    let mut stays = Ring::new(vec![listener], 1, Wakeup::new().unwrap()).unwrap();
    stays.accept(0);
    goes.enter().unwrap();
    stays.enter().unwrap();

    let connect = |_| TcpStream::connect(address).unwrap();
    let clients: Vec<TcpStream> = (0..CLIENTS).map(connect).collect();
    goes.cancel_accept(0);
    let mut accepted = 0;
    let until_cancelled = |ring: &mut Ring, accepted: &mut usize| loop {
        match next(ring) {
            Event::Accepted { result: Ok(_), .. } => *accepted += 1,
            Event::Accepted { more: false, .. } => return,
            other => panic!("not of the accept: {other:?}"),
        }
    };
    until_cancelled(&mut goes, &mut accepted);
    if accepted < CLIENTS {
        assert!(goes.somebody_waits(0));
        goes.accept(0);
        goes.cancel_accept(0);
        until_cancelled(&mut goes, &mut accepted);
    }
    assert_eq!(accepted, CLIENTS);
    assert!(!goes.somebody_waits(0));
    drop(clients);
}

#[test]
fn completions_write_to_the_wakeup_only_while_they_are_to_wake_somebody() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (address, listeners) = listen(any, 16, 1).unwrap();
    let wakeup = Wakeup::new().unwrap();
    let mut ring = Ring::new(listeners, 1, wakeup.clone()).unwrap();
    ring.accept(0);
    let wakes_within = |timeout: Duration| {
        let mut polled = [PollFd::new(&wakeup, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::try_from(timeout).unwrap())).unwrap() > 0
    };
    let (mut client, socket) = connect(&mut ring, address);
    ring.receive(TOKEN, &socket);
    client.write_all(b"before").unwrap();
    assert_eq!(&*received(next(&mut ring)), b"before");
    assert!(!wakes_within(Duration::ZERO));

    // Twice, as a shard parks again and again.
    for _ in 0..2 {
        ring.enable_wakeups().unwrap();
        ring.enter().unwrap();
        client.write_all(b"meanwhile").unwrap();
        assert!(wakes_within(Duration::from_secs(20)));
        ring.disable_wakeups().unwrap();
        wakeup.clear();
        assert_eq!(&*received(next(&mut ring)), b"meanwhile");
        client.write_all(b"after").unwrap();
        assert_eq!(&*received(next(&mut ring)), b"after");
        assert!(!wakes_within(Duration::ZERO));
    }
}

/// A thread has a table of sixteen rings; those of rings that have ended are free again.
#[test]
fn rings_that_find_no_room_in_the_thread_s_table_work_too() {
    for _ in 0..2 {
        let mut rings: Vec<_> = (0..18).map(|_| ring()).collect();
        for (number, (ring, address)) in rings.iter_mut().enumerate() {
            assert_eq!(ring.entrance.is_registered(), number < 16, "{number}");
            let (mut client, socket) = connect(ring, *address);
            ring.receive(TOKEN, &socket);
            client.write_all(b"request").unwrap();
            assert_eq!(&*received(next(ring)), b"request");
        }
    }
}
