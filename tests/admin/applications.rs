//! A server with the applications that ship, and those who ask it for their figures.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use corelane::apps::accounts::Accounts;
use corelane::apps::topics::Topics;
use corelane::client::{Client, ClientError};
use corelane::config::AccountStore;
use corelane::protocol::{Reason, codes};
use corelane::{Config, Context, Local, Server, ServerBuilder, apps};

use crate::http::metrics;
use crate::plane::Admin;
use crate::support::waiting::{DEADLINE, until, until_fits};

/// Answers the shard's number, one byte.
pub(crate) const WHERE: u16 = 1000;

pub(crate) struct State {
    local: Local<State>,
    topics: Topics<State>,
}

impl AsRef<Topics<State>> for State {
    fn as_ref(&self) -> &Topics<State> {
        &self.topics
    }
}

/// A server with topics and with these accounts.
pub(crate) fn builder(config: Config, accounts: &Accounts) -> ServerBuilder<State> {
    let limits = config.topics.clone();
    Server::builder_with_state(config, move |local: Local<State>| State {
        topics: Topics::new(local.clone(), limits.clone()),
        local,
    })
    .handler(codes::PING, apps::ping)
    .handler(codes::ECHO, apps::echo)
    .topics()
    .accounts(accounts)
    .handler(WHERE, |state: &State, context: Context<'_>, _body| {
        context.reply(&[u8::try_from(state.local.shard()).unwrap()])
    })
}

/// Accounts in memory.
pub(crate) fn accounts(config: &mut Config) -> Accounts {
    config.accounts.store = AccountStore::Memory;
    Accounts::start(&config.accounts, &[]).unwrap().unwrap()
}

pub(crate) fn client(address: SocketAddr) -> Client {
    Client::connect(address, DEADLINE).unwrap()
}

/// A client on this shard; others come, and go when there is one.
pub(crate) fn client_on(shard: u8, address: SocketAddr) -> Client {
    until_fits(
        "somebody is on that shard",
        || client(address),
        |client| client.request(WHERE, b"").unwrap().body[0] == shard,
    )
}

/// Waits until all of these samples have these values.
pub(crate) fn until_samples(admin: &Admin, wanted: &[(&str, u32)]) {
    let mut seen = String::new();
    until("the figures are right", || {
        let now = metrics(admin.address);
        let is_wrong = |&(sample, value): &(&str, u32)| now.get(sample) != Some(&value.into());
        let wrong = wanted.iter().copied().filter(is_wrong);
        let wrong: Vec<_> = wrong.map(|(sample, _)| (sample, now.get(sample))).collect();
        let told = format!("{wrong:?}");
        if told != seen {
            println!("wrong so far: {told}");
            seen = told;
        }
        wrong.is_empty().then_some(())
    });
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> Reason {
    match outcome {
        Err(ClientError::Refused(refusal)) => refusal.reason().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_sample(samples: &BTreeMap<String, f64>, sample: &str, value: u32) {
    assert_eq!(samples.get(sample), Some(&value.into()), "{sample}");
}
