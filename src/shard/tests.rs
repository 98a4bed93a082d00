//! What the simulation's model does not single out, step by step.

use super::ending::CLOSE_US;
use super::*;
use crate::config::Config;
use crate::protocol::{codes, encode};

/// Does nothing by itself; keeps what it was asked for.
#[derive(Default)]
struct Still {
    completions: Vec<Completion<(), Vec<u8>>>,
    asked: Vec<String>,
}

impl Io for Still {
    type Socket = ();
    type Received = Vec<u8>;

    fn is_congested(&self) -> bool {
        false
    }

    fn submit(&mut self, operation: Operation<'_, ()>) {
        self.asked.push(format!("{operation:?}"));
    }

    fn reap(&mut self, completions: &mut Vec<Completion<(), Vec<u8>>>, _max: usize) {
        completions.append(&mut self.completions);
    }
}

fn asked(shard: &Shard<Still, ()>, operation: &str) -> usize {
    let is_it = |asked: &&String| asked.starts_with(operation);
    shard.io.asked.iter().filter(is_it).count()
}

/// A deadline that is for connections which end by themselves once cut a stop short: who took
/// longer than that to read lost the rest, however long `timeouts.stop_ms` was.
#[test]
fn a_slow_reader_has_all_of_a_stop() {
    const STOP_US: u64 = 60_000_000;
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), context, body| context.reply(body));
    let settings = Settings {
        stop_us: STOP_US,
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings, router);
    let id = shard.connections.ids().next().unwrap();
    let mut request = Vec::new();
    encode(&mut request, codes::ECHO, b"slow").unwrap();
    shard.io.completions.push(Completion::Received {
        id,
        result: Ok(request),
        more: true,
    });
    shard.turn(2);
    assert_eq!(asked(&shard, "Send"), 1);

    let stop_us = 1_000_000;
    shard.stop(stop_us);
    for waited_us in [0, CLOSE_US, 2 * CLOSE_US, STOP_US - 1] {
        shard.turn(stop_us + waited_us);
        assert_eq!(asked(&shard, "CancelSend"), 0, "after {waited_us} us");
    }
    shard.turn(stop_us + STOP_US);
    assert_eq!(asked(&shard, "CancelSend"), 1);
}

fn with_one_connection(settings: Settings, router: Router<()>) -> Shard<Still, ()> {
    let loads = Arc::new(Loads::new(1));
    let mut shard = Shard::new(
        Still::default(),
        (0, loads),
        1,
        settings,
        router,
        Rc::new(()),
    );
    shard.turn(0);
    shard.io.completions.push(Completion::Accepted {
        listener: 0,
        result: Ok(Arrival {
            socket: (),
            peer: "127.0.0.1:9".parse().unwrap(),
        }),
        more: true,
    });
    shard.turn(1);
    shard
}

/// GOAWAY once counted as any reply, so that a peer for whom as much was queued as may be was
/// closed for it, and lost that.
#[test]
fn goaway_closes_nobody() {
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), context, body| context.reply(body));
    let mut request = Vec::new();
    encode(&mut request, codes::ECHO, b"all that may be queued").unwrap();
    let settings = Settings {
        outbound_bytes_max: request.len(),
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings, router);
    shard.io.completions.push(Completion::Received {
        id: shard.connections.ids().next().unwrap(),
        result: Ok(request),
        more: true,
    });
    shard.turn(2);
    assert_eq!(asked(&shard, "Send"), 1);
    shard.drain(3);
    shard.turn(3);
    assert_eq!(asked(&shard, "CancelSend"), 0);
}

/// A stop that came when a drain's time was over, and the last words were on their way, once
/// changed nothing: it took as long as those may, however short `timeouts.stop_ms` was.
#[test]
fn a_stop_cuts_the_last_words_of_a_drain_short() {
    const DRAIN_US: u64 = 1_000;
    const STOP_US: u64 = 10;
    let settings = Settings {
        drain_us: DRAIN_US,
        stop_us: STOP_US,
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings, Router::new());
    shard.drain(2);
    shard.turn(2 + DRAIN_US);
    assert_eq!(asked(&shard, "CancelSend"), 0);

    shard.stop(2 + DRAIN_US);
    shard.turn(2 + DRAIN_US + STOP_US);
    assert_eq!(asked(&shard, "CancelSend"), 1);
}
