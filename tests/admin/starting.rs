//! A server that starts says so: alive, not ready, and nobody stuck.

use std::sync::{Mutex, mpsc};

use corelane::Server;
use corelane::protocol::codes;

use crate::http::{Connection, get, json, metrics};
use crate::plane::Admin;
use crate::support::library::{address_of, config};
use crate::support::user::{User as _, connect};
use crate::support::waiting::DEADLINE;

#[test]
fn a_server_that_starts_is_alive_and_not_ready_until_all_shards_are_up() {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let builder = Server::builder_with_state(config(2), move |local: corelane::Local<()>| {
        if local.shard() == 1 {
            gate.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        }
    });
    let builder = builder.handler(codes::PING, |(), context, _| context.reply(b""));
    let (begun, has_begun) = mpsc::channel();
    let starter = std::thread::spawn(move || {
        let begin = |handle| begun.send(Admin::of_handle(handle)).unwrap();
        builder.start_with(begin).map(|(server, ())| server)
    });
    let admin = has_begun.recv_timeout(DEADLINE).unwrap();

    let answer = get(admin.address, "/readyz");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, "starting: no connections are accepted yet\n");
    assert_eq!(get(admin.address, "/healthz").status, 200);
    let status = json(admin.address, "/status");
    assert_eq!(status["state"], "starting");
    for shard in 0..2 {
        assert!(status["shards"][shard]["stuck"].is_null(), "{status}");
    }
    assert_eq!(metrics(admin.address)["corelane_ready"].to_bits(), 0);
    let mut early = Connection::to(admin.address);
    assert_eq!(early.ask("GET", "/readyz").status, 503);

    open.send(()).unwrap();
    let server = starter.join().unwrap().unwrap();
    // The same admin server goes on, and so does a connection to it.
    assert_eq!(early.ask("GET", "/readyz").status, 200);
    assert_eq!(json(admin.address, "/status")["state"], "serving");
    connect(address_of(&server)).ping();
}

#[test]
fn a_server_that_does_not_come_up_is_not_ready() {
    let builder = Server::builder_with_state(config(1), |_shard| panic!("no state today"));
    let mut admin = None;
    builder
        .start_with(|handle| admin = Some(Admin::of_handle(handle)))
        .unwrap_err();
    let admin = admin.unwrap();
    assert_eq!(get(admin.address, "/readyz").status, 503);
    assert_eq!(get(admin.address, "/healthz").status, 200);
}
