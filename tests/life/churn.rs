//! A hundred thousand connections leave nothing behind.

use std::net::SocketAddr;
use std::thread;

use crate::clients::{connect_from, loopback};
use crate::support::program::serve;
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

const THREADS: u8 = 4;

/// Opens and closes so many connections, from one address. No clients: they would close in good order,
/// and run out of ports.
fn churn(source: u8, address: SocketAddr, connections: usize) {
    for number in 0..connections {
        let mut peer = connect_from(loopback(source), address);
        match number % 20 {
            // Without a word.
            0 => {}
            // In the middle of a request.
            1 => peer.send_bytes(&[0x10, 0, 0]),
            // In good order. The client's port is then taken for a minute.
            2 => {
                peer.ping();
                peer.shut();
                peer.expect_end();
                continue;
            }
            _ => peer.ping(),
        }
        peer.reset();
    }
}

#[test]
fn a_hundred_thousand_connections_leave_nothing_behind() {
    const WARM_UP: usize = 10_000;
    const CONNECTIONS: usize = 100_000;
    // Histograms are summed up for the line of figures, which takes its memory when it first comes.
    let server = serve(&["log.stats_seconds=0"]);
    let files = server.open_files();
    let settled_bytes = |connections: usize| {
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let address = server.address();
                let share = connections / usize::from(THREADS);
                scope.spawn(move || churn(2 + thread, address, share));
            }
        });
        until("the server has closed what its peers have closed", || {
            (server.open_files() == files).then_some(())
        });
        server.resident_bytes()
    };
    // Fills the server's spare buffers and tables.
    let before_bytes = settled_bytes(WARM_UP);
    let after_bytes = settled_bytes(CONNECTIONS);
    let grown_bytes = after_bytes.saturating_sub(before_bytes);
    assert!(
        grown_bytes <= 2 << 20,
        "{grown_bytes} bytes more than before, which was {before_bytes}"
    );
    connect(server.address()).ping();
}
