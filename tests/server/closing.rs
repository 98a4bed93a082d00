//! Connections that end: in good order, abruptly, by the thousand. Where an end itself is what is
//! tested, half of a connection, a reset or a wrong frame, it is not a client's.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use corelane::client::Client;
use corelane::protocol::{Reason, codes};

use crate::support::peer::{Peer, frame, header};
use crate::support::program::serve;
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

#[test]
fn a_half_closed_client_gets_every_reply_and_then_the_end() {
    let server = serve(&[]);
    let partial = frame(codes::ECHO, &[1; 100]);
    for cut in [0, 1, 2, 8, 107] {
        let mut peer = Peer::connect(server.address());
        let mut sender = peer.sender();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = Vec::new();
                for number in 0..3000u32 {
                    stream.extend(frame(codes::ECHO, &number.to_be_bytes().repeat(40)));
                }
                stream.extend(&partial[..cut]);
                sender.write_all(&stream).unwrap();
                sender.shutdown(std::net::Shutdown::Write).unwrap();
            });
            for number in 0..3000u32 {
                peer.expect(codes::ECHO, &number.to_be_bytes().repeat(40));
            }
            peer.expect_end();
        });
    }
}

#[test]
fn a_client_that_says_nothing_and_shuts_gets_the_end() {
    let server = serve(&[]);
    let mut peer = Peer::connect(server.address());
    peer.shut();
    peer.expect_end();
}

#[test]
fn resets_of_others_disturb_nobody() {
    let server = serve(&[]);
    let address = server.address();
    let mut steady = connect(address);
    steady.ping();
    let files = server.open_files();

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut echoes = 0u64;
            while !done.load(Ordering::Acquire) {
                steady.echo(&echoes.to_be_bytes().repeat(20));
                echoes += 1;
            }
            echoes
        });
        // `traffic` must end also where this thread fails.
        let ends_traffic = SetOnDrop(&done);
        let burst = frame(codes::ECHO, &[7; 2000]).repeat(50);
        for round in 0..10 {
            let mut peers: Vec<Peer> = (0..20).map(|_| Peer::connect(address)).collect();
            for (index, peer) in peers.iter_mut().enumerate() {
                peer.send_bytes(&burst[..burst.len() - round * index]);
                if index % 2 == 0 {
                    peer.expect(codes::ECHO, &[7; 2000]);
                }
            }
            peers.into_iter().for_each(Peer::reset);
        }
        until("the server has let go of the reset connections", || {
            (server.open_files() == files).then_some(())
        });
        drop(ends_traffic);
        assert!(traffic.join().unwrap() > 0);
    });
    steady.ping();
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn thousands_of_connections_leave_nothing_behind() {
    const WAVES: usize = 20;
    const CLIENTS_PER_WAVE: usize = 250;

    let server = serve(&[]);
    let wave = || {
        let mut clients: Vec<Client> = (0..CLIENTS_PER_WAVE)
            .map(|_| connect(server.address()))
            .collect();
        for client in &mut clients {
            client.send(codes::PING, b"").unwrap();
        }
        for client in &mut clients {
            client.expect(codes::PING, b"");
        }
    };
    let files = server.open_files();
    let until_closed = || {
        until("the server has closed what its clients have closed", || {
            (server.open_files() == files).then_some(())
        });
    };
    // The first wave fills the server's spare buffers and tables.
    wave();
    until_closed();
    let resident_bytes = server.resident_bytes();
    for _ in 1..WAVES {
        wave();
    }
    until_closed();
    let grown_bytes = server.resident_bytes().saturating_sub(resident_bytes);
    assert!(
        grown_bytes < 8 << 20,
        "{grown_bytes} bytes more than after the first wave"
    );
}

#[test]
fn every_shard_serves() {
    let server = serve(&["shards.count=2", "log.level=debug"]);
    let (address, remark) = server.announcement(0);
    assert_eq!(remark, "(2 shards)");
    // The kernel spreads connections by a hash of their addresses.
    let mut clients = Vec::new();
    let mut shards = BTreeSet::new();
    until("both shards have served", || {
        let mut client = connect(address);
        client.ping();
        clients.push(client);
        for shard in [0, 1] {
            if server.has_logged(&format!("accepted connection={shard}-")) {
                shards.insert(shard);
            }
        }
        (shards.len() == 2).then_some(())
    });
    clients.iter_mut().for_each(Client::ping);
}

/// The kernel looked the descriptor of a shutdown up late, on a thread of its own. If the peer had
/// closed by then and another connection had got the descriptor, that one's sending side was shut.
#[test]
fn the_end_of_a_connection_does_not_reach_the_next_one() {
    let server = serve(&[]);
    let address = server.address();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    // The server ends the first; it closes while the server does.
                    let mut ended = Peer::connect(address);
                    ended.send_bytes(&header(7, codes::ECHO, 0));
                    ended.expect_error(codes::ECHO, Reason::BadLength);
                    drop(ended);
                    connect(address).ping();
                }
            });
        }
    });
}
