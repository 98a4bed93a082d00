//! A server that goes down says so, and goes on showing itself.

use std::net::TcpStream;

use crate::http::{Connection, get, json, metrics};
use crate::plane::Admin;
use crate::support::library::{address_of, builder};
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

#[test]
fn a_server_that_drains_is_not_ready_from_that_moment_on() {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    let mut client = connect(address_of(&server));
    client.ping();
    assert_eq!(get(admin.address, "/readyz").status, 200);

    server.handle().drain();
    let answer = get(admin.address, "/readyz");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, "draining: no new connections are accepted\n");
    assert_eq!(get(admin.address, "/healthz").status, 200);
    assert_eq!(json(admin.address, "/status")["state"], "draining");
    let samples = metrics(admin.address);
    assert_eq!(samples["corelane_ready"].to_bits(), 0);

    drop(client);
    server.wait().unwrap();
    // The shards have ended; what they had counted is still known, and nobody is stuck.
    let shard = json(admin.address, "/status")["shards"][0].clone();
    assert!(shard["stuck"].is_null(), "{shard}");
    let accepted = "corelane_connections_accepted_total{shard=\"0\"}";
    assert!((metrics(admin.address)[accepted] - 1.0).abs() < 0.5);
}

#[test]
fn a_drain_can_be_announced_before_it_begins() {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    admin.handle.set_draining();
    assert_eq!(get(admin.address, "/readyz").status, 503);
    connect(address_of(&server)).ping();
}

#[test]
fn who_has_connected_when_another_process_takes_over_is_answered_that_it_is_ready() {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    let mut early = Connection::to(admin.address);
    // Accepted after the early one.
    assert_eq!(get(admin.address, "/readyz").status, 200);
    server.handle().drain();
    assert_eq!(get(admin.address, "/readyz").status, 503);
    server.handle().set_replaced();
    admin.handle.retire();
    let answer = early.ask("GET", "/readyz");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["connection"], "close");
    early.expect_end();
    admin.join();
}

#[test]
fn one_that_retires_accepts_nobody_and_ends() {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    let address = admin.address;
    let mut asked = Connection::to(address);
    assert_eq!(asked.ask("GET", "/healthz").status, 200);
    admin.handle.retire();
    // It was idle.
    asked.expect_end();
    until("nobody is accepted", || {
        TcpStream::connect(address).is_err().then_some(())
    });
    admin.join();
    connect(address_of(&server)).ping();
}
