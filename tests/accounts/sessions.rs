//! Who is logged in, as handlers of a program see it.

use std::sync::mpsc;

use corelane::apps::accounts::{Accounts, Sessions};
use corelane::config::AccountStore;
use corelane::protocol::{Reason, codes};
use corelane::{Server, apps};

use crate::peer::Peer;
use crate::support::{Came, body_of, login, modest, try_login, try_register};
use crate::user::{User as _, connect, refused};
use crate::waiting::{DEADLINE, until};

const WHO: u16 = 1000;
const HOW_MANY: u16 = 1001;

#[derive(Default)]
struct State {
    sessions: Sessions,
}

fn serve() -> Server {
    let mut config = modest();
    config.accounts.store = AccountStore::Memory;
    let accounts = Accounts::start(&config.accounts, &[]).unwrap().unwrap();
    Server::builder_with_state(config, |_shard| State::default())
        .handler(codes::PING, apps::ping)
        .handler(WHO, |state, context, _| {
            match state.sessions.require(context.connection()) {
                Ok(name) => context.reply(name.as_bytes()),
                Err(reply) => reply,
            }
        })
        .handler(HOW_MANY, |state, context, _| {
            context.reply(state.sessions.len().to_string().as_bytes())
        })
        .accounts_with_sessions(&accounts, |state| &state.sessions)
        .start()
        .unwrap()
}

#[test]
fn a_connection_is_who_it_has_logged_in_as_until_it_ends() {
    let server = serve();
    let address = server.addresses()[0];
    let mut client = connect(address);
    assert_eq!(try_register(&mut client, "alice", "hers"), Came::Done);
    assert_eq!(try_register(&mut client, "bob", "his"), Came::Done);
    client.ask_in_vain(WHO, b"", Reason::NotAuthenticated);
    assert_eq!(try_login(&mut client, "alice", "his"), Came::Rejected);
    client.ask_in_vain(WHO, b"", Reason::NotAuthenticated);
    for (name, password) in [("alice", "hers"), ("bob", "his")] {
        assert_eq!(try_login(&mut client, name, password), Came::Done);
        assert_eq!(client.ask(WHO, b""), name.as_bytes());
    }
    let mut other = connect(address);
    other.ask_in_vain(WHO, b"", Reason::NotAuthenticated);
    assert_eq!(other.ask(HOW_MANY, b""), b"1");
    drop(client);
    until("nobody is logged in", || {
        (other.ask(HOW_MANY, b"") == b"0").then_some(())
    });
}

#[test]
fn a_login_that_is_answered_after_its_connection_leaves_nothing() {
    let (entered, enters) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let config = modest();
    let store = crate::queueing::Held::new(entered, goes_on);
    let accounts = Accounts::with_store(store, &config.accounts, &[]).unwrap();
    let server = Server::builder_with_state(config, |_shard| State::default())
        .handler(HOW_MANY, |state, context, _| {
            context.reply(state.sessions.len().to_string().as_bytes())
        })
        .accounts_with_sessions(&accounts, |state| &state.sessions)
        .start()
        .unwrap();
    let address = server.addresses()[0];
    // No client: none resets its connection.
    let mut peer = Peer::connect(address);
    peer.send(codes::LOGIN, &body_of(&login("alice", "hers")));
    enters.recv_timeout(DEADLINE).unwrap();
    let mut other = connect(address);
    assert_eq!(other.ask(HOW_MANY, b""), b"1");
    peer.reset();
    until("the connection is gone", || {
        (other.ask(HOW_MANY, b"") == b"0").then_some(())
    });
    go_on.send(()).unwrap();
    let late = || {
        server.handle().stop();
        server.wait().unwrap()[0].late_replies
    };
    // Behind the late one, and through the same thread.
    other.send_message(&login("alice", "hers")).unwrap();
    go_on.send(()).unwrap();
    refused(other.reply(), Reason::Rejected);
    assert_eq!(other.ask(HOW_MANY, b""), b"0");
    assert_eq!(late(), 1);
}
