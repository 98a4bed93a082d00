//! A worker takes another's place: both are at the file for a while.

use std::sync::mpsc;

use corelane::client::Client;
use rustix::process::Signal;

use crate::supervised::{Running, Site, children, kill};
use crate::support::{Came, try_login, try_register};
use crate::user::connect;
use crate::waiting::{DEADLINE, until};

const PATH: &str = "accounts.path = 'accounts.redb'";
/// As long as it takes on a busy host.
const DRAIN: &str = "timeouts.drain_ms = 600000";

#[test]
fn an_old_worker_and_a_new_one_share_the_accounts() {
    let running = Site::supervised(&[PATH, DRAIN]).start();
    let old = running.worker();
    let of_old = connect(running.address);
    let (registered, news) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || register_on(of_old, &registered));
        let before = news.recv_timeout(DEADLINE).unwrap();
        assert!(!before.drains);
        let mode = "process.mode = 'supervised'";
        let lines = [mode, PATH, DRAIN, "accounts.hash_threads = 2"];
        running.site.configure(&lines);
        running.site.succeed(&["reload", "-c", "corelane.toml"]);
        // From then on, the old one takes nobody.
        let late = news.iter().find(|registered| registered.drains).unwrap();
        let mut of_new = of_another_worker(&running, old);
        assert_eq!(try_login(&mut of_new, &before.name, "x"), Came::Done);
        assert_eq!(try_register(&mut of_new, "new", "x"), Came::Done);
        assert_eq!(try_register(&mut of_new, &late.name, "y"), Came::Rejected);
        assert_eq!(try_login(&mut of_new, &late.name, "x"), Came::Done);
        assert!(running.workers().contains(&old), "the old one is at it");
        // The old one goes on until nobody listens.
        drop(news);
    });
}

/// A name that was registered, and whether its worker had said before that it drains.
struct Registered {
    name: String,
    drains: bool,
}

/// Registers one after the other, so that the connection is never quiet and its worker keeps it.
fn register_on(mut client: Client, registered: &mpsc::Sender<Registered>) {
    for number in 0.. {
        let name = format!("old {number}");
        let drains = client.is_going_away();
        assert_eq!(try_register(&mut client, &name, "x"), Came::Done);
        if registered.send(Registered { name, drains }).is_err() {
            return;
        }
    }
}

/// A connection to the worker that has come.
fn of_another_worker(running: &Running, old: u32) -> Client {
    until("there is another worker", || {
        running
            .workers()
            .iter()
            .any(|&worker| worker != old)
            .then_some(())
    });
    running.connect()
}

#[test]
fn a_worker_that_was_killed_leaves_its_accounts_to_the_next() {
    let running = Site::supervised(&[PATH]).start();
    let mut client = connect(running.address);
    assert_eq!(
        try_register(&mut client, "alice", "correct horse"),
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
    let mut client = connect(running.address);
    assert_eq!(try_login(&mut client, "alice", "correct horse"), Came::Done);
}
