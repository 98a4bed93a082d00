//! A worker takes another's place: both are at the file for a while.

use corelane::protocol::codes;
use rustix::process::Signal;

use crate::peer::Peer;
use crate::supervised::{Running, Site, children, kill};
use crate::support::{Came, try_login, try_register};
use crate::waiting::until;

const LINES: [&str; 1] = ["accounts.path = 'accounts.redb'"];

#[test]
fn an_old_worker_and_a_new_one_share_the_accounts() {
    let running = Site::supervised(&LINES).start();
    let old = running.worker();
    let mut of_old = Peer::connect(running.address);
    assert_eq!(
        try_register(&mut of_old, "alice", "correct horse"),
        Came::Done
    );
    let lines = [
        "process.mode = 'supervised'",
        "accounts.hash_threads = 2",
        LINES[0],
    ];
    running.site.configure(&lines);
    running.site.succeed(&["reload", "-c", "corelane.toml"]);
    let goaway = of_old.next().unwrap();
    assert_eq!(goaway.code, codes::GOAWAY);
    let mut of_new = of_another_worker(&running, old);
    for round in 0..3 {
        let (here, there) = (format!("old {round}"), format!("new {round}"));
        assert_eq!(try_register(&mut of_old, &here, "x"), Came::Done);
        assert_eq!(try_register(&mut of_new, &there, "x"), Came::Done);
        assert_eq!(try_login(&mut of_new, &here, "x"), Came::Done);
        assert_eq!(try_login(&mut of_old, &there, "x"), Came::Done);
        assert_eq!(try_register(&mut of_old, &there, "x"), Came::Rejected);
    }
    assert_eq!(try_login(&mut of_new, "alice", "correct horse"), Came::Done);
    assert!(running.workers().contains(&old), "the old one was at it");
}

/// A connection to the worker that has come.
fn of_another_worker(running: &Running, old: u32) -> Peer {
    until("there is another worker", || {
        running
            .workers()
            .iter()
            .any(|&worker| worker != old)
            .then_some(())
    });
    until("a connection that stays", || {
        let mut peer = Peer::connect(running.address);
        peer.send(codes::PING, b"");
        (peer.next().unwrap().code == codes::PING).then_some(peer)
    })
}

#[test]
fn a_worker_that_was_killed_leaves_its_accounts_to_the_next() {
    let running = Site::supervised(&LINES).start();
    let mut peer = Peer::connect(running.address);
    assert_eq!(
        try_register(&mut peer, "alice", "correct horse"),
        Came::Done
    );
    let old = running.worker();
    kill(old, Signal::KILL);
    until("there is another worker", || {
        children(running.pid())
            .iter()
            .any(|&worker| worker != old)
            .then_some(())
    });
    let mut peer = Peer::connect(running.address);
    assert_eq!(try_login(&mut peer, "alice", "correct horse"), Came::Done);
}
