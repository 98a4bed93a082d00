//! Slots and descriptors that are used again and again, while replies for those who had them before
//! are still to come. Whoever leaves is no client where it resets its connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use corelane::client::Client;
use corelane::protocol::codes;
use corelane::{Reply, Server, glommio};

use crate::support::gate::{self, Passing};
use crate::support::library::{address_of, builder_with, config, stopped};
use crate::support::peer::Peer;
use crate::support::seed;
use crate::support::user::{User as _, connect};

/// Answers later.
const LATER: u16 = codes::APPLICATION;

/// Connections, and so slots, at once.
const SLOTS: u32 = 4;

#[test]
fn a_reply_for_one_who_is_gone_reaches_nobody_and_is_counted() {
    const GONE: u32 = 200;
    let (gate, passings) = gate::closed();
    let handler = gate.clone();
    let mut config = config(1);
    config.limits.connections = SLOTS;
    let server = builder_with(config)
        .async_handler(LATER, move |_state, request| {
            handler.clone().handle(request)
        })
        .start()
        .unwrap();
    let ask = |number: u32| {
        let mut peer = Peer::connect(address_of(&server));
        peer.send(LATER, &number.to_be_bytes());
        passings.expect(Passing::Arrived);
        peer
    };
    for number in 0..GONE {
        ask(number).reset();
    }
    // All have had the slots that those who stay have now.
    let mut staying: Vec<(u32, Peer)> = (GONE..GONE + SLOTS)
        .map(|number| (number, ask(number)))
        .collect();
    gate.open();
    for _ in 0..GONE + SLOTS {
        passings.expect(Passing::Passed);
    }
    for (number, peer) in &mut staying {
        peer.expect(LATER, &number.to_be_bytes());
        peer.ping();
    }
    drop(staying);
    assert_eq!(stopped(server).late_replies, u64::from(GONE));
}

/// A server whose handler answers after a moment that the request names, in microseconds.
fn serve(answered: &Arc<AtomicU64>) -> Server {
    let answered = Arc::clone(answered);
    let mut config = config(1);
    config.limits.connections = SLOTS;
    builder_with(config)
        .async_handler(LATER, move |_state, request| {
            let answered = Arc::clone(&answered);
            async move {
                let body = request.into_body();
                let pause_us = u16::from_be_bytes([body[0], body[1]]);
                glommio::timer::sleep(Duration::from_micros(pause_us.into())).await;
                answered.fetch_add(1, Ordering::Relaxed);
                Reply::new(body)
            }
        })
        .start()
        .unwrap()
}

#[test]
fn who_comes_and_goes_at_once_gets_no_reply_but_its_own() {
    const THREADS: usize = 8;
    const CONNECTIONS: u32 = 300;
    let answered = Arc::new(AtomicU64::new(0));
    let server = serve(&answered);
    let address = address_of(&server);
    let mut rng = seed::rng();
    let replies = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let mut rng = rng.fork();
            let replies = &replies;
            scope.spawn(move || {
                for number in 0..CONNECTIONS {
                    let mut peer = Peer::connect(address);
                    let tag = format!("{thread} {number}");
                    let pause_us = rng.u16(..3000);
                    let request = [&pause_us.to_be_bytes(), tag.as_bytes()].concat();
                    peer.echo(tag.as_bytes());
                    peer.send(LATER, &request);
                    match rng.u8(..3) {
                        0 => {
                            peer.expect(LATER, &request);
                            replies.fetch_add(1, Ordering::Relaxed);
                        }
                        1 => peer.reset(),
                        _ => drop(peer),
                    }
                }
            });
        }
    });
    // Each of these gets a PING and a reply.
    let last = occupy_all_slots(address);
    let counters = stopped(server);
    let echoes = THREADS as u64 * u64::from(CONNECTIONS);
    assert_eq!(counters.accepted, echoes + last);
    assert_eq!(counters.closed_total(), counters.accepted);
    let replies = replies.into_inner() + last;
    let answered = answered.load(Ordering::Relaxed);
    assert!(counters.late_replies > 0, "nobody was late");
    assert!(replies + counters.late_replies <= answered);
    // A handler's reply is sent or late; the others are sent.
    assert_eq!(
        counters.frames_sent + counters.late_replies,
        echoes + last + answered
    );
}

/// Has a connection in every slot, so that all who were there before are gone, and then has each
/// wait for a reply that takes longer than all of theirs. Gives back how many slots there are.
fn occupy_all_slots(address: SocketAddr) -> u64 {
    let mut clients: Vec<Client> = (0..SLOTS).map(|_| connect(address)).collect();
    clients.iter_mut().for_each(Client::ping);
    let request = 60_000u16.to_be_bytes();
    for client in &mut clients {
        client.send(LATER, &request).unwrap();
    }
    for client in &mut clients {
        client.expect(LATER, &request);
    }
    SLOTS.into()
}
