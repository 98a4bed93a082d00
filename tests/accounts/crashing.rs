//! Killed while it registers: whoever got a reply has an account after the next start. Those whose
//! request was on the way have one with their own password, or their name is free; nobody else has.

use std::sync::Mutex;
use std::sync::mpsc;

use corelane::client::Client;
use rustix::process::Signal;

use crate::program::Program;
use crate::support::{Came, Site, register, try_login, try_register};
use crate::user::{User as _, connect};

const CONNECTIONS: usize = 8;
const NAMES_OF_EACH: usize = 25;
/// Replies after which it is killed.
const KILLED_AFTER: usize = 100;

const TWO_SHARDS: [&str; 2] = ["shards.count=2", "accounts.hash_threads=2"];

fn password_of(name: &str) -> String {
    format!("the password of {name}")
}

#[test]
fn an_account_that_was_replied_to_survives_a_kill() {
    let site = Site::new();
    let server = site.serve(&TWO_SHARDS);
    let (replied, replies) = mpsc::channel();
    let asked = Mutex::new(Vec::new());
    let names: Vec<String> = std::thread::scope(|scope| {
        for (number, mut client) in clients(&server).into_iter().enumerate() {
            let (replied, asked) = (replied.clone(), &asked);
            scope.spawn(move || {
                for count in 0..NAMES_OF_EACH {
                    let name = format!("name {number} {count}");
                    asked.lock().unwrap().push(name.clone());
                    if !registers(&mut client, &name) {
                        return;
                    }
                    // Nobody counts any more once it is killed.
                    let _ = replied.send(name);
                }
            });
        }
        drop(replied);
        let mut names: Vec<String> = replies.iter().take(KILLED_AFTER).collect();
        server.signal(Signal::KILL);
        names.extend(replies.iter());
        names
    });
    assert!(names.len() >= KILLED_AFTER, "{}", names.len());
    let asked = asked.into_inner().unwrap();
    assert!(asked.len() > names.len() && asked.len() < CONNECTIONS * NAMES_OF_EACH);
    assert_eq!(server.ended().status, None);

    let server = site.serve(&TWO_SHARDS);
    let mut client = connect(server.address());
    for name in &asked {
        let came = try_login(&mut client, name, &password_of(name));
        if names.contains(name) {
            assert_eq!(came, Came::Done, "{name} had got its reply");
        } else if came == Came::Rejected {
            // Not there with another password either.
            let came = try_register(&mut client, name, &password_of(name));
            assert_eq!(came, Came::Done, "{name}");
        }
    }
    for count in 0..3 {
        let name = format!("name {CONNECTIONS} {count}");
        let came = try_login(&mut client, &name, &password_of(&name));
        assert_eq!(came, Came::Rejected, "{name} was never sent");
    }
}

/// Whether the reply came; not where the connection broke.
fn registers(client: &mut Client, name: &str) -> bool {
    let outcome = client.call(&register(name, &password_of(name)));
    if let Err(error) = &outcome {
        assert_eq!(error.reason(), None, "{error}");
    }
    outcome.is_ok()
}

/// Connections that both shards have some of.
fn clients(server: &Program) -> Vec<Client> {
    let address = server.address();
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| connect(address)).collect();
    clients.iter_mut().for_each(Client::ping);
    clients
}
