//! Whatever clients do to the admin server, it is bounded, and told in one sentence.

use std::time::{Duration, Instant};

use corelane::Server;

use crate::http::{Connection, get};
use crate::plane::Admin;
use crate::support::library::builder;
use crate::support::waiting::until;

fn admin() -> (Server, Admin) {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    (server, admin)
}

#[test]
fn too_many_requests_are_told_when_to_come_again() {
    let (_server, admin) = admin();
    let mut connection = Connection::to(admin.address);
    let begun = Instant::now();
    let (mut answered, refused) = (
        0_u32,
        loop {
            let answer = connection.ask("GET", "/latency");
            if answer.status != 200 {
                break answer;
            }
        },
    );
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.body, "too many requests: ask again in a second\n");
    // Health checks are not refused.
    while begun.elapsed() < Duration::from_secs(2) {
        answered += u32::from(connection.ask("GET", "/latency").status == 200);
        assert_eq!(connection.ask("GET", "/healthz").status, 200);
        assert_eq!(connection.ask("GET", "/readyz").status, 200);
    }
    // What is refused takes a tenth of a second, so this one connection comes to few.
    let per_second = f64::from(answered) / begun.elapsed().as_secs_f64();
    assert!(per_second <= 55.0, "{per_second}");
    until("somebody is answered again", || {
        (connection.ask("GET", "/latency").status == 200).then_some(())
    });
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    let (_server, admin) = admin();
    let mut connections: Vec<_> = (0..64).map(|_| Connection::to(admin.address)).collect();
    for connection in &mut connections {
        connection.send(b"GET /healthz HT");
    }
    let mut waits = Connection::to(admin.address);
    waits.send(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n");
    waits.expect_silence();
    let first = connections.first_mut().unwrap();
    first.send(b"TP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    assert_eq!(first.answer_to("GET").status, 200);
    // A place is free.
    assert_eq!(waits.answer_to("GET").status, 200);
}

#[test]
fn the_connection_that_has_been_quiet_longest_makes_room_for_who_waits() {
    let (_server, admin) = admin();
    let mut asks = Connection::to(admin.address);
    asks.send(b"GET /healthz HT");
    let mut quiet: Vec<_> = (1..64).map(|_| Connection::to(admin.address)).collect();
    let mut waits = Connection::to(admin.address);
    assert_eq!(waits.ask("GET", "/healthz").status, 200);
    quiet.remove(0).expect_end();
    assert_eq!(get(admin.address, "/readyz").status, 200);
    quiet.remove(0).expect_end();
    // Not for its silence has anybody's time run out.
    quiet.first_mut().unwrap().expect_silence();
    // Whoever was answered is quiet for less long, and a request that is under way goes on.
    assert_eq!(waits.ask("GET", "/healthz").status, 200);
    asks.send(b"TP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(asks.answer_to("GET").status, 200);
}

#[test]
fn a_request_that_never_ends_is_ended() {
    let (_server, admin) = admin();
    let mut slow = Connection::to(admin.address);
    let mut silent = Connection::to(admin.address);
    let mut idle = Connection::to(admin.address);
    assert_eq!(idle.ask("GET", "/healthz").status, 200);
    let begun = Instant::now();
    slow.send(b"GET /metrics HTTP/1.1\r\nHost: he");
    slow.expect_end();
    silent.expect_end();
    idle.expect_end();
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(4), "{took:?}");
    assert_eq!(get(admin.address, "/healthz").status, 200);
}

#[test]
fn a_head_beyond_all_measure_is_refused() {
    let (_server, admin) = admin();
    let mut connection = Connection::to(admin.address);
    let head = format!("GET / HTTP/1.1\r\nHost: here\r\nX: {}", "x".repeat(20_000));
    connection.send(head.as_bytes());
    assert_eq!(connection.answer_to("GET").status, 431);
    connection.expect_end();

    let mut connection = Connection::to(admin.address);
    let lines = "X: x\r\n".repeat(100);
    connection.send(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes());
    assert_eq!(connection.answer_to("GET").status, 431);
}

#[test]
fn a_body_is_refused() {
    let (_server, admin) = admin();
    for head in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
        let mut connection = Connection::to(admin.address);
        connection
            .send(format!("GET /metrics HTTP/1.1\r\nHost: here\r\n{head}\r\n\r\n").as_bytes());
        let answer = connection.answer_to("GET");
        assert_eq!(answer.status, 413, "{head}");
        assert_eq!(answer.body, "requests have no body here: send none\n");
    }
}

#[test]
fn rubbish_is_refused() {
    let (_server, admin) = admin();
    let mut connection = Connection::to(admin.address);
    connection.send(b"\x00\x08\x00\x00\x00\x00\x00\x00\r\n\r\n");
    assert_eq!(connection.answer_to("GET").status, 400);
    connection.expect_end();
}
