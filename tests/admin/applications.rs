//! What the applications that ship show of themselves: their figures are those of what clients did,
//! to the last one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};

use corelane::apps::accounts::{Account, Accounts, Store, StoreError};
use corelane::apps::topics::Topics;
use corelane::client::{Client, ClientError};
use corelane::config::AccountStore;
use corelane::protocol::messages::{Login, Publish, Register, Subscribe};
use corelane::protocol::{ErrorBody, Reason, Secret, codes, encode_message};
use corelane::{Config, Context, Local, Reply, Server, ServerBuilder, apps};

use crate::http::metrics;
use crate::plane::Admin;
use crate::support::library::{address_of, config};
use crate::support::peer::Peer;
use crate::support::waiting::{DEADLINE, until};

/// Answers the shard's number, one byte.
const WHERE: u16 = 1000;

/// Holds up its shard until it is let go.
const STALL: u16 = 1001;

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

fn client(address: SocketAddr) -> Client {
    Client::connect(address, DEADLINE).unwrap()
}

/// A client on this shard; others come and go until there is one.
fn client_on(shard: u8, address: SocketAddr) -> Client {
    until("somebody is on that shard", || {
        let mut client = client(address);
        let at = client.request(WHERE, b"").unwrap().body[0];
        (at == shard).then_some(client)
    })
}

/// Waits until all of these samples have these values.
fn until_samples(admin: &Admin, wanted: &[(&str, u32)]) {
    let mut seen = BTreeMap::new();
    until("the figures are right", || {
        let now = metrics(admin.address);
        let is_right = |&(sample, value): &(&str, u32)| now.get(sample) == Some(&value.into());
        let wrong = wanted.iter().filter(|wanted| !is_right(wanted));
        let wrong: BTreeMap<_, _> = wrong
            .map(|(sample, _)| (*sample, now.get(*sample)))
            .collect();
        if wrong.is_empty() {
            return Some(());
        }
        let wrong: BTreeMap<String, Option<f64>> = wrong
            .into_iter()
            .map(|(sample, value)| (sample.to_owned(), value.copied()))
            .collect();
        if wrong != seen {
            println!("wrong so far: {wrong:?}");
            seen = wrong;
        }
        None
    });
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> Reason {
    match outcome {
        Err(ClientError::Refused(refusal)) => refusal.reason().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn topics_are_counted_as_clients_see_them() {
    let mut config = config(2);
    config.topics.per_connection = 2;
    config.topics.distinct_per_shard = 2;
    let accounts = accounts(&mut config);
    let server = builder(config, &accounts).start().unwrap();
    let admin = Admin::of(&server);
    let address = address_of(&server);
    let [mut one, mut third] = [0, 0].map(|shard| client_on(shard, address));
    let mut other = client_on(1, address);
    let publish = Publish {
        topic: "news",
        payload: b"hello",
    };
    // Nobody is there.
    assert_eq!(one.call(&publish).unwrap().message().receivers, 0);
    one.call(&Subscribe { topic: "news" }).unwrap();
    one.call(&Subscribe { topic: "weather" }).unwrap();
    other.call(&Subscribe { topic: "news" }).unwrap();
    for _ in 0..5 {
        assert_eq!(one.call(&publish).unwrap().message().receivers, 2);
    }
    for _ in 0..3 {
        assert_eq!(other.call(&publish).unwrap().message().receivers, 2);
    }
    let sport = Subscribe { topic: "sport" };
    assert_eq!(refused(one.call(&sport)), Reason::Rejected);
    for _ in 0..2 {
        assert_eq!(refused(third.call(&sport)), Reason::Rejected);
    }
    until_samples(
        &admin,
        &[
            ("corelane_topics_known{shard=\"0\"}", 2),
            ("corelane_topics_known{shard=\"1\"}", 2),
            ("corelane_topics_subscribed{shard=\"0\"}", 2),
            ("corelane_topics_subscribed{shard=\"1\"}", 1),
            ("corelane_topics_subscriptions{shard=\"0\"}", 2),
            ("corelane_topics_subscriptions{shard=\"1\"}", 1),
            ("corelane_topics_subscribers{shard=\"0\"}", 1),
            ("corelane_topics_publishes_total{shard=\"0\"}", 6),
            ("corelane_topics_publishes_total{shard=\"1\"}", 3),
            ("corelane_topics_events_queued_total{shard=\"0\"}", 8),
            ("corelane_topics_events_queued_total{shard=\"1\"}", 8),
            ("corelane_topics_links_unsettled{shard=\"0\"}", 0),
            ("corelane_topics_link_events{shard=\"0\"}", 0),
            ("corelane_topics_link_bytes{shard=\"0\"}", 0),
            (
                "corelane_topics_publishes_refused_total{shard=\"0\",reason=\"link\"}",
                0,
            ),
            (
                "corelane_topics_subscribes_refused_total{shard=\"0\",reason=\"per_connection\"}",
                1,
            ),
            (
                "corelane_topics_subscribes_refused_total{shard=\"0\",reason=\"per_shard\"}",
                0,
            ),
            (
                "corelane_topics_subscribes_refused_total{shard=\"0\",reason=\"distinct_per_shard\"}",
                2,
            ),
            (
                "corelane_topics_subscribes_refused_total{shard=\"1\",reason=\"per_connection\"}",
                0,
            ),
        ],
    );
    // What is over leaves its counts behind, and nothing else.
    drop((one, other, third));
    until_samples(
        &admin,
        &[
            ("corelane_topics_known{shard=\"0\"}", 0),
            ("corelane_topics_known{shard=\"1\"}", 0),
            ("corelane_topics_subscriptions{shard=\"0\"}", 0),
            ("corelane_topics_events_queued_total{shard=\"0\"}", 8),
        ],
    );
}

/// A shard that stands still, and many who publish to a topic that somebody has subscribed to there.
/// Gives back how many PUBLISHes were carried out and how many refused, as their publishers heard, and
/// what the metrics of shard 0 had been while it stood still.
fn publish_to_a_shard_that_stands_still(
    memory_bytes: u64,
    payload_bytes: usize,
) -> (u32, u32, BTreeMap<String, f64>) {
    let mut config = config(2);
    config.limits.memory_bytes = memory_bytes;
    config.outbound.max_bytes = 64 << 20;
    let (key, gate) = mpsc::channel::<()>();
    let (stalls, stalled) = mpsc::channel();
    let gate = Mutex::new(gate);
    let accounts = accounts(&mut config);
    let server = builder(config, &accounts)
        .handler(STALL, move |_state, context, body| {
            stalls.send(()).unwrap();
            if gate.lock().unwrap().recv().is_err() {
                return Reply::error(Reason::Internal, "nobody lets go any more");
            }
            context.reply(body)
        })
        .start()
        .unwrap();
    // Dropped before the server is, which waits for its shards.
    let let_go = key;
    let admin = Admin::of(&server);
    let address = address_of(&server);
    let mut stalling = client_on(1, address);
    stalling.call(&Subscribe { topic: "news" }).unwrap();
    let mut publishers: Vec<Peer> = (0..400).map(|_| Peer::connect(address)).collect();
    publishers.retain_mut(|peer| {
        peer.send(WHERE, b"");
        peer.next().unwrap().body == [0]
    });
    stalling.send(STALL, b"").unwrap();
    stalled.recv().unwrap();
    let mut frame = Vec::new();
    let payload = &vec![7; payload_bytes];
    encode_message(
        &mut frame,
        &Publish {
            topic: "news",
            payload,
        },
    )
    .unwrap();
    for publisher in &mut publishers {
        publisher.send_bytes(&frame);
    }
    let meanwhile = until("each PUBLISH was seen to", || {
        let samples = metrics(admin.address);
        let refused =
            |reason| format!("publishes_refused_total{{shard=\"0\",reason=\"{reason}\"}}");
        let counts = [
            "publishes_total{shard=\"0\"}".to_owned(),
            refused("link"),
            refused("memory"),
        ];
        let seen: f64 = counts
            .map(|count| samples[&format!("corelane_topics_{count}")])
            .iter()
            .sum();
        let all = f64::from(u32::try_from(publishers.len()).unwrap());
        (seen >= all).then_some(samples)
    });
    let_go.send(()).unwrap();
    let (mut carried_out, mut refused) = (0, 0);
    for mut publisher in publishers {
        let reply = publisher.next().unwrap();
        if reply.code == codes::PUBLISH {
            carried_out += 1;
        } else {
            let error = ErrorBody::parse(&reply.body).unwrap();
            assert_eq!(error.reason, Reason::Overloaded.number());
            refused += 1;
        }
    }
    until_samples(
        &admin,
        &[
            ("corelane_topics_link_events{shard=\"0\"}", 0),
            ("corelane_topics_link_bytes{shard=\"0\"}", 0),
            (
                "corelane_topics_events_queued_total{shard=\"1\"}",
                carried_out,
            ),
        ],
    );
    (carried_out, refused, meanwhile)
}

#[track_caller]
fn assert_sample(samples: &BTreeMap<String, f64>, sample: &str, value: u32) {
    assert_eq!(samples.get(sample), Some(&value.into()), "{sample}");
}

const LINK: &str = "corelane_topics_publishes_refused_total{shard=\"0\",reason=\"link\"}";
const MEMORY: &str = "corelane_topics_publishes_refused_total{shard=\"0\",reason=\"memory\"}";

#[test]
fn what_finds_no_room_on_the_way_to_a_shard_is_counted_as_refused() {
    let (carried_out, refused, meanwhile) = publish_to_a_shard_that_stands_still(1 << 30, 28_000);
    // 4 MiB of them.
    assert_eq!(carried_out, (4 << 20) / (28_000 + 5));
    assert_sample(
        &meanwhile,
        "corelane_topics_publishes_total{shard=\"0\"}",
        carried_out,
    );
    assert_sample(&meanwhile, LINK, refused);
    assert_sample(&meanwhile, MEMORY, 0);
    assert_sample(
        &meanwhile,
        "corelane_topics_link_events{shard=\"0\"}",
        carried_out,
    );
    assert_sample(
        &meanwhile,
        "corelane_topics_link_bytes{shard=\"0\"}",
        carried_out * 28_005,
    );
    assert!(
        meanwhile["corelane_memory_charged_bytes{shard=\"0\"}"] > f64::from(carried_out * 28_005)
    );
}

/// Events that waited for other shards were in no account of memory, and what they took came on top of
/// the limit.
#[test]
fn what_waits_for_other_shards_is_a_part_of_the_memory_that_a_shard_may_hold() {
    const MEMORY_MAX: u32 = 2 << 20;
    let (carried_out, refused, meanwhile) =
        publish_to_a_shard_that_stands_still(MEMORY_MAX.into(), 28_000);
    assert!(carried_out > 20 && refused > 0, "{carried_out} {refused}");
    assert_sample(&meanwhile, LINK, 0);
    assert_sample(&meanwhile, MEMORY, refused);
    let waiting = carried_out * 28_005;
    assert_sample(
        &meanwhile,
        "corelane_topics_link_bytes{shard=\"0\"}",
        waiting,
    );
    assert!(waiting < MEMORY_MAX);
    let charged = meanwhile["corelane_memory_charged_bytes{shard=\"0\"}"];
    assert!(charged > waiting.into(), "{charged}");
}

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
