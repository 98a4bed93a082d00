//! Handlers that take long: who holds a shard is seen while it does, counted and logged after.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use corelane::glommio::timer;
use corelane::metrics::latency::Latencies;
use corelane::protocol::codes;
use corelane::shard::Snapshot;
use corelane::{Reply, ServerHandle};

use crate::support::library::{address_of, builder_with, config};
use crate::support::log_capture;
use crate::support::user::{User as _, connect};
use crate::support::waiting::{DEADLINE, until};

const HOLD: u16 = codes::APPLICATION + 77;
const LINGER: u16 = codes::APPLICATION + 78;

fn snapshot(handle: &ServerHandle, connections: usize) -> Snapshot {
    let (sender, receiver) = mpsc::channel();
    handle.show(0, Latencies::default(), connections, move |snapshot| {
        let _ = sender.send(snapshot);
    });
    receiver.recv_timeout(DEADLINE).unwrap()
}

fn slow_of(handle: &ServerHandle, snapshot: &Snapshot, code: u16) -> u64 {
    let latency = snapshot.latencies.get(handle.codes().series_of(code));
    latency.map_or(0, |latency| latency.slow)
}

#[test]
fn who_holds_a_shard_is_seen_and_told() {
    log_capture::start();
    let mut config = config(1);
    config.handlers.slow_ms = 1;
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let server = builder_with(config)
        .handler(HOLD, move |(), context, _| {
            released.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            context.reply(b"at last")
        })
        .start()
        .unwrap();
    let handle = server.handle();
    let mut client = connect(address_of(&server));
    client.echo(b"before");
    client.send(HOLD, b"").unwrap();
    let suspect = until("the handler is seen at work", || {
        handle.look_at(0).filter(|suspect| suspect.code == HOLD)
    });
    // Longer than slow_ms, and still the same turn.
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(handle.look_at(0), Some(suspect));
    release.send(()).unwrap();
    client.expect(HOLD, b"at last");

    // Other tests' turns may be slow as well, where the host is busy.
    let code = format!("\"code\":{HOLD}");
    let told = until("the shard names it", || {
        let log = log_capture::text();
        let is_told = |line: &&str| {
            line.contains("a turn was slow; this request was at work") && line.contains(&code)
        };
        log.lines().find(is_told).map(str::to_owned)
    });
    for words in [
        format!("\"connection\":\"{}\"", suspect.connection),
        format!("\"peer\":\"{}\"", client.local_address().unwrap()),
    ] {
        assert!(told.contains(&words), "{told}");
    }
    let snapshot = snapshot(&handle, 0);
    assert_eq!(slow_of(&handle, &snapshot, HOLD), 1);
    assert_eq!(slow_of(&handle, &snapshot, codes::ECHO), 0);
    // Another one may have been the scheduler's doing.
    assert!(snapshot.counters.slow_turns >= 1);
}

#[test]
fn an_asynchronous_handler_that_lingers_is_told() {
    log_capture::start();
    let mut config = config(1);
    config.handlers.slow_ms = 1;
    let server = builder_with(config)
        .async_handler(LINGER, |_, request| async move {
            timer::sleep(Duration::from_millis(5)).await;
            Reply::new(request.into_body())
        })
        .start()
        .unwrap();
    let handle = server.handle();
    let mut client = connect(address_of(&server));
    assert_eq!(client.ask(LINGER, b"by and by"), b"by and by");
    // As above.
    let code = format!("\"code\":{LINGER}");
    until("it is told", || {
        let log = log_capture::text();
        let is_told = |line: &str| line.contains("a handler was slow") && line.contains(&code);
        log.lines().any(is_told).then_some(())
    });

    // Its reply's sending is seen in a turn of its own.
    let latency = until("its latencies are recorded", || {
        let snapshot = snapshot(&handle, 0);
        snapshot
            .latencies
            .get(handle.codes().series_of(LINGER))
            .cloned()
    });
    assert_eq!(latency.slow, 1);
    assert!(latency.queued.min() >= 5_000, "{}", latency.queued.min());
}

#[test]
fn a_snapshot_shows_the_connections_that_were_asked_for() {
    let server = builder_with(config(1)).start().unwrap();
    let handle = server.handle();
    let mut clients: Vec<_> = (0..5).map(|_| connect(address_of(&server))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        for _ in 0..=number {
            client.echo(&[7; 100]);
        }
    }
    // That a reply was taken is seen a moment after its peer has it. Latencies are given out once.
    let mut latencies = Latencies::default();
    let snapshot = until("all replies are seen to be sent", || {
        let snapshot = snapshot(&handle, 2);
        latencies.add(&snapshot.latencies);
        (snapshot.counters.sent_bytes == 15 * 108).then_some(snapshot)
    });
    assert_eq!(snapshot.gauges.connections, 5);
    // Two of each order, and all of them may be the same.
    assert!((2..=6).contains(&snapshot.connections.len()));
    let busiest = snapshot
        .connections
        .iter()
        .max_by_key(|view| view.frames_received)
        .unwrap();
    assert_eq!(Some(busiest.peer), clients[4].local_address());
    assert_eq!((busiest.frames_received, busiest.frames_sent), (5, 5));
    assert_eq!(
        (busiest.received_bytes, busiest.sent_bytes),
        (5 * 108, 5 * 108)
    );
    assert_eq!((busiest.queued_bytes, busiest.ending), (0, None));
    let echo = latencies
        .get(handle.codes().series_of(codes::ECHO))
        .unwrap();
    assert_eq!((echo.queued.len(), echo.sent.len()), (15, 15));
}

/// What a client thinks between two requests was once taken for waiting in the server.
#[test]
fn the_time_between_two_requests_is_no_latency() {
    const ECHO_LATER: u16 = codes::APPLICATION + 79;
    let server = builder_with(config(1))
        .async_handler(ECHO_LATER, |_, request| async move {
            Reply::new(request.into_body())
        })
        .start()
        .unwrap();
    let handle = server.handle();
    let mut client = connect(address_of(&server));
    for pause_ms in [0, 300] {
        std::thread::sleep(Duration::from_millis(pause_ms));
        assert_eq!(client.ask(ECHO_LATER, b"1"), b"1");
    }
    let mut latencies = Latencies::default();
    let series = handle.codes().series_of(ECHO_LATER);
    let latency = until("both are recorded", || {
        latencies.add(&snapshot(&handle, 0).latencies);
        let latency = latencies.get(series)?;
        (latency.sent.len() == 2).then(|| latency.clone())
    });
    assert!(latency.queued.max() < 200_000, "{}", latency.queued.max());
    assert!(latency.sent.max() < 200_000, "{}", latency.sent.max());
}

/// Handlers of this kind run outside of the shard's turns.
#[test]
fn an_asynchronous_handler_that_blocks_is_seen() {
    const BLOCK: u16 = codes::APPLICATION + 80;
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Arc::new(Mutex::new(released));
    let server = builder_with(config(1))
        .async_handler(BLOCK, move |_, request| {
            let released = std::sync::Arc::clone(&released);
            async move {
                released.lock().unwrap().recv_timeout(DEADLINE).unwrap();
                Reply::new(request.into_body())
            }
        })
        .start()
        .unwrap();
    let handle = server.handle();
    let mut client = connect(address_of(&server));
    client.send(BLOCK, b"2").unwrap();
    until("the handler is seen at work", || {
        handle.look_at(0).filter(|suspect| suspect.code == BLOCK)
    });
    release.send(()).unwrap();
    client.expect(BLOCK, b"2");
    until("it is seen no more", || {
        handle.look_at(0).is_none().then_some(())
    });
}
