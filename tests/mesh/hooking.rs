//! Hooks: each connection that is opened has its beginning and its end told once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use corelane::metrics::CloseCause;
use corelane::{ConnectionId, Local, Server};

use crate::club::{stopped, sum};
use crate::support::library::{address_of, config};
use crate::support::peer::Peer;
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

/// What was told of each connection.
type Told = Arc<Mutex<BTreeMap<ConnectionId, Vec<Option<CloseCause>>>>>;

struct State {
    local: Local<State>,
    told: Told,
}

fn server(told: &Told) -> Server {
    let told = Arc::clone(told);
    Server::builder_with_state(config(2), move |local| State {
        local,
        told: Arc::clone(&told),
    })
    .handler(1, corelane::apps::echo)
    .on_open(|state, id| {
        assert_eq!(id.shard(), state.local.shard());
        state.told.lock().unwrap().entry(id).or_default().push(None);
        state.local.push(id, 1000, b"welcome").unwrap();
    })
    .on_close(|state, id, cause| {
        assert_eq!(id.shard(), state.local.shard());
        let mut told = state.told.lock().unwrap();
        told.entry(id).or_default().push(Some(cause));
        state.local.push(id, 1000, b"too late").unwrap();
    })
    .start()
    .unwrap()
}

#[test]
fn each_connection_opens_and_closes_once() {
    let told = Told::default();
    let server = server(&told);
    let mut stays = Vec::new();
    for number in 0..40 {
        // No client: some reset their connection, and what is pushed too late is to be missed.
        let mut peer = Peer::connect(address_of(&server));
        peer.expect(1000, b"welcome");
        peer.echo(b"hello");
        match number % 3 {
            0 => {
                peer.shut();
                peer.expect_end();
            }
            1 => peer.reset(),
            _ => stays.push(peer),
        }
    }
    let is_closed = |told: &Vec<Option<CloseCause>>| told.len() > 1;
    until("those that left are told", || {
        let told = told.lock().unwrap();
        (told.values().filter(|told| is_closed(told)).count() == 27).then_some(())
    });
    let counters = stopped(server);
    let mut causes = BTreeMap::new();
    for told in told.lock().unwrap().values() {
        assert!(matches!(told[..], [None, Some(_)]), "{told:?}");
        *causes.entry(told[1].unwrap().name()).or_insert(0) += 1;
    }
    assert_eq!(
        causes,
        BTreeMap::from([("peer_closed", 14), ("reset", 13), ("stop", 13)])
    );
    assert_eq!(sum(&counters, |c| c.pushes), 40);
    assert_eq!(sum(&counters, |c| c.hook_panics), 0);
    // Those of the very end need not be carried out any more.
    assert!(sum(&counters, |c| c.stale_pushes) >= 27);
}

#[test]
fn a_panic_in_a_hook_is_counted_and_the_connection_lives() {
    let server = Server::builder(config(1))
        .handler(1, corelane::apps::echo)
        .on_open(|(), _id| panic!("in the first"))
        .on_open(|(), _id| panic!("in the second"))
        .on_close(|(), _id, _cause| panic!("at the end"))
        .start()
        .unwrap();
    connect(address_of(&server)).echo(b"I live");
    let counters = stopped(server);
    assert_eq!(counters[0].hook_panics, 3);
    assert_eq!(counters[0].handler_panics, 0);
}
