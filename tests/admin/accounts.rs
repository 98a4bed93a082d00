//! What is shown of accounts is what clients did, to the last LOGIN; also while they wait.

use std::sync::{Mutex, mpsc};

use corelane::apps::accounts::{Account, Accounts, Store, StoreError};
use corelane::client::Client;
use corelane::protocol::messages::{Login, Register};
use corelane::protocol::{Reason, Secret, codes, encode_message};

use crate::applications::{accounts, assert_sample, builder, client, refused, until_samples};
use crate::http::metrics;
use crate::plane::Admin;
use crate::support::library::{address_of, config};
use crate::support::waiting::DEADLINE;

fn register(name: &str) -> Register<'_> {
    Register {
        kind: 1,
        username: name,
        password: Secret::new("correct horse").unwrap(),
    }
}

fn login<'a>(name: &'a str, password: &'a str) -> Login<'a> {
    Login {
        username: name,
        password: Secret::new(password).unwrap(),
    }
}

#[test]
fn accounts_are_counted_by_how_requests_came_out() {
    let mut config = config(2);
    let accounts = accounts(&mut config);
    let server = builder(config, &accounts).start().unwrap();
    let admin = Admin::of(&server);
    let mut client = client(address_of(&server));
    client.call(&register("alice")).unwrap();
    client.call(&register("bob")).unwrap();
    assert_eq!(refused(client.call(&register("alice"))), Reason::Rejected);
    client.call(&login("alice", "correct horse")).unwrap();
    for (name, password) in [("alice", "wrong"), ("nobody", "correct horse")] {
        assert_eq!(
            refused(client.call(&login(name, password))),
            Reason::Rejected
        );
    }
    let samples = metrics(admin.address);
    for (sample, value) in [
        ("corelane_accounts_registrations_total{outcome=\"done\"}", 2),
        (
            "corelane_accounts_registrations_total{outcome=\"rejected\"}",
            1,
        ),
        (
            "corelane_accounts_registrations_total{outcome=\"overloaded\"}",
            0,
        ),
        ("corelane_accounts_logins_total{outcome=\"done\"}", 1),
        ("corelane_accounts_logins_total{outcome=\"rejected\"}", 2),
        ("corelane_accounts_logins_total{outcome=\"failed\"}", 0),
        ("corelane_accounts_hash_queue_length", 0),
        ("corelane_accounts_hash_queue_limit", 64),
        ("corelane_accounts_hash_duration_seconds_count", 6),
        (
            "corelane_accounts_hash_duration_seconds_bucket{le=\"0.0001\"}",
            0,
        ),
        (
            "corelane_accounts_hash_duration_seconds_bucket{le=\"+Inf\"}",
            6,
        ),
    ] {
        assert_sample(&samples, sample, value);
    }
    assert!(samples["corelane_accounts_hash_duration_seconds_sum"] > 0.0006);
}

/// Tells when it is looked into, and waits to be let go on.
struct Held {
    entered: mpsc::Sender<()>,
    goes_on: Mutex<mpsc::Receiver<()>>,
}

impl Store for Held {
    fn find(&self, _name: &str) -> Result<Option<Account>, StoreError> {
        self.entered.send(()).unwrap();
        self.goes_on.lock().unwrap().recv().unwrap();
        Err(StoreError::Busy)
    }

    fn insert(&self, _name: &str, _account: &Account) -> Result<bool, StoreError> {
        Err(StoreError::Failed("no room".to_owned()))
    }
}

#[test]
fn the_queue_in_front_of_the_hash_threads_is_seen() {
    let mut config = config(1);
    config.accounts.hash_queue = 2;
    let (entered, enters) = mpsc::channel();
    let (key, goes_on) = mpsc::channel();
    let store = Held {
        entered,
        goes_on: Mutex::new(goes_on),
    };
    let accounts = Accounts::with_store(store, &config.accounts, &[]).unwrap();
    let server = builder(config, &accounts).start().unwrap();
    drop(accounts);
    // Dropped before the server is, which waits for its hash threads.
    let go_on = key;
    let admin = Admin::of(&server);
    let mut clients: Vec<Client> = (0..6).map(|_| client(address_of(&server))).collect();
    let mut login_frame = Vec::new();
    encode_message(&mut login_frame, &login("alice", "x")).unwrap();
    let body = &login_frame[8..];
    let (working, others) = clients.split_first_mut().unwrap();
    working.send(codes::LOGIN, body).unwrap();
    enters.recv_timeout(DEADLINE).unwrap();
    let (waiting, beyond) = others.split_at_mut(2);
    for client in waiting {
        client.send(codes::LOGIN, body).unwrap();
    }
    until_samples(&admin, &[("corelane_accounts_hash_queue_length", 2)]);
    for client in beyond {
        assert_eq!(
            refused(client.call(&login("alice", "x"))),
            Reason::Overloaded
        );
    }
    until_samples(
        &admin,
        &[
            ("corelane_accounts_hash_queue_length", 2),
            ("corelane_accounts_hash_queue_limit", 2),
            ("corelane_accounts_logins_total{outcome=\"overloaded\"}", 3),
        ],
    );
    for _ in 0..3 {
        go_on.send(()).unwrap();
    }
    until_samples(
        &admin,
        &[
            ("corelane_accounts_hash_queue_length", 0),
            ("corelane_accounts_logins_total{outcome=\"overloaded\"}", 6),
        ],
    );
    assert_eq!(
        refused(clients[5].call(&register("alice"))),
        Reason::Internal
    );
    until_samples(
        &admin,
        &[(
            "corelane_accounts_registrations_total{outcome=\"failed\"}",
            1,
        )],
    );
}
