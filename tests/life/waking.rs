//! Shards without work sleep, and are woken by whoever wants something of them: each time.
//!
//! In these servers nothing else wakes a shard within the tests' patience: there is no line of
//! figures and no busy polling, and no timer is due.

use std::thread::sleep;
use std::time::Duration;

use corelane::protocol::codes;
use rustix::process::Signal;

use crate::drain::until_refused;
use crate::support::backlogged::Backlogged;
use crate::support::library::{address_of, builder_with, config};
use crate::support::program::serve;
use crate::support::user::{User as _, connect};

/// Longer than a shard without work sleeps in its ring before it parks: nothing tells when it does.
const UNTIL_IT_PARKS: Duration = Duration::from_millis(5);

#[test]
fn a_shard_that_sleeps_takes_each_connection_that_it_is_handed() {
    const WHERE: u16 = codes::APPLICATION;
    const CLIENTS: usize = 100;
    let server = builder_with(config(2))
        .handler(WHERE, |(), context, _body| {
            let shard = context.connection().shard();
            context.reply(&[u8::try_from(shard).unwrap()])
        })
        .start()
        .unwrap();
    // Those on shard 0 stay and those on shard 1 go: soon whoever arrives at 0 is handed to 1.
    let mut stay = Vec::new();
    for _ in 0..CLIENTS {
        sleep(UNTIL_IT_PARKS);
        let mut client = connect(address_of(&server));
        if client.ask(WHERE, b"") == [0] {
            stay.push(client);
        }
    }
    drop(stay);
    server.handle().stop();
    let taken_over = server.wait().unwrap()[1].taken_over;
    assert!(
        taken_over >= 10,
        "{taken_over} of {CLIENTS} were handed over"
    );
}

#[test]
fn a_shard_that_sleeps_hears_each_signal() {
    let server = serve(&[
        "log.stats_seconds=0",
        "timeouts.write_ms=0",
        "timeouts.drain_ms=3600000",
        "timeouts.stop_ms=3600000",
    ]);
    let address = server.address();
    // The shard waits for this one as long as it is let.
    let backlogged = Backlogged::connect(address);
    server.signal(Signal::QUIT);
    until_refused(address);
    for signal in [Signal::QUIT, Signal::TERM] {
        sleep(UNTIL_IT_PARKS);
        server.signal(signal);
    }
    assert_eq!(server.ended().status, Some(0));
    backlogged.leave();
}
