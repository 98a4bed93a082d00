//! The memory that the connections of a shard may hold.

use std::thread::sleep;
use std::time::{Duration, Instant};

use corelane::protocol::codes;

use crate::clients::has_news;
use crate::support::peer::{Peer, frame};
use crate::support::program::serve;
use crate::support::user::{User as _, connect};

#[test]
fn newcomers_wait_while_connections_hold_all_the_memory_that_they_may() {
    const MEMORY_BYTES: usize = 1 << 20;
    let server = serve(&["limits.memory_bytes=1048576"]);
    let address = server.address();
    let mut guest = connect(address);
    guest.ping();

    let body = vec![7; 28_000];
    let request = frame(codes::ECHO, &body);
    // The server has to keep it until the last byte comes, which no client leaves out.
    let (held, last) = request.split_at(request.len() - 1);
    let mut holders = Vec::new();
    let within = loop {
        let mut peer = Peer::connect(address);
        // In one segment, so that the reply says that the server has the rest, too.
        peer.send_bytes(&[&frame(codes::PING, b""), held].concat());
        let served = answers_soon(&peer);
        holders.push(peer);
        if !served {
            break holders.len() - 1;
        }
        // The last one that there is room for may take more than that.
        let before_bytes = (holders.len() - 1) * held.len();
        assert!(before_bytes < MEMORY_BYTES, "all are let in");
    };
    // A buffer may be twice as long as what it holds.
    assert!(
        (within + 1) * held.len() * 2 >= MEMORY_BYTES,
        "only {within} were let in"
    );
    holders.extend((0..20).map(|_| {
        let mut peer = Peer::connect(address);
        peer.send_bytes(&[&frame(codes::PING, b""), held].concat());
        peer
    }));
    for _ in 0..100 {
        guest.ping();
    }

    // Who is answered holds nothing any more, and makes room.
    for peer in &mut holders {
        peer.send_bytes(last);
        peer.expect(codes::PING, b"");
        peer.expect(codes::ECHO, &body);
    }
    holders.iter_mut().for_each(Peer::ping);
    connect(address).ping();
}

/// Whether the server says something within a while that is long for it. That it will not can't be
/// seen; should a slow host stall for so long by itself, the test asks for less.
fn answers_soon(peer: &Peer) -> bool {
    let stream = peer.sender();
    let began = Instant::now();
    while !has_news(&stream) {
        if began.elapsed() > Duration::from_secs(2) {
            return false;
        }
        sleep(Duration::from_millis(1));
    }
    true
}
