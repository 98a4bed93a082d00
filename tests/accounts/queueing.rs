//! A full queue in front of the hash threads, and a store that others are at: OVERLOADED, counted.

use std::sync::{Mutex, mpsc};

use corelane::apps::accounts::{Account, Accounts, Store, StoreError};
use corelane::client::Client;
use corelane::protocol::codes;
use corelane::{Server, apps};

use crate::support::{Came, login, meaning, modest, try_register};
use crate::user::{User as _, connect};
use crate::waiting::DEADLINE;

/// Tells when it is looked into, and waits to be let go on.
pub(crate) struct Held {
    entered: mpsc::Sender<()>,
    goes_on: Mutex<mpsc::Receiver<()>>,
}

impl Held {
    pub(crate) fn new(entered: mpsc::Sender<()>, goes_on: mpsc::Receiver<()>) -> Held {
        Held {
            entered,
            goes_on: Mutex::new(goes_on),
        }
    }
}

impl Store for Held {
    fn find(&self, _name: &str) -> Result<Option<Account>, StoreError> {
        self.entered.send(()).unwrap();
        self.goes_on.lock().unwrap().recv().unwrap();
        Ok(None)
    }

    fn insert(&self, _name: &str, _account: &Account) -> Result<bool, StoreError> {
        Err(StoreError::Busy)
    }
}

fn serve(store: impl Store) -> Server {
    let mut config = modest();
    config.accounts.hash_queue = 2;
    let accounts = Accounts::with_store(store, &config.accounts, &[]).unwrap();
    let server = Server::builder(config).handler(codes::PING, apps::ping);
    server.accounts(&accounts).start().unwrap()
}

#[track_caller]
fn came(client: &mut Client) -> Came {
    meaning(client.reply(), "alice")
}

#[test]
fn beyond_the_queue_the_answer_is_overloaded_at_once() {
    let (entered, enters) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let server = serve(Held::new(entered, goes_on));
    let address = server.addresses()[0];
    let mut clients: Vec<_> = (0..6).map(|_| connect(address)).collect();
    let login = login("alice", "correct horse");
    let (working, others) = clients.split_first_mut().unwrap();
    working.send_message(&login).unwrap();
    enters.recv_timeout(DEADLINE).unwrap();
    // Two wait. That they do is known when the next is turned away.
    let (waiting, beyond) = others.split_at_mut(2);
    for client in waiting.iter_mut() {
        client.send_message(&login).unwrap();
        // Behind this, on the same shard.
        connect(address).ping();
    }
    for client in beyond {
        client.send_message(&login).unwrap();
        assert_eq!(came(client), Came::Overloaded);
        client.ping();
    }
    for _ in 0..3 {
        go_on.send(()).unwrap();
    }
    assert_eq!(came(working), Came::Rejected);
    for client in waiting {
        assert_eq!(came(client), Came::Rejected);
    }
    server.handle().stop();
    assert_eq!(server.wait().unwrap()[0].overloaded_by_handlers, 3);
}

#[test]
fn a_store_that_others_are_at_is_overloaded() {
    let (entered, _enters) = mpsc::channel();
    let (_go_on, goes_on) = mpsc::channel();
    let server = serve(Held::new(entered, goes_on));
    let mut client = connect(server.addresses()[0]);
    assert_eq!(
        try_register(&mut client, "alice", "correct horse"),
        Came::Overloaded
    );
    server.handle().stop();
    assert_eq!(server.wait().unwrap()[0].overloaded_by_handlers, 1);
}
