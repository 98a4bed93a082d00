//! The server under test, and those who are connected to it.

use std::net::SocketAddr;

use corelane::apps::topics::Topics;
use corelane::client::{Client, Push};
use corelane::protocol::messages::{Event, Publish, Subscribe, Unsubscribe};
use corelane::protocol::{HEADER_BYTES, codes, encode_message};
use corelane::{Config, Context, Local, Server, ServerBuilder, apps};

use crate::support::library::config;
use crate::support::peer::Peer;
use crate::support::user::{User as _, connect};
use crate::support::waiting::{until, until_fits};

/// Answers the shard's number, one byte.
const WHERE: u16 = 1000;

pub(crate) struct State {
    local: Local<State>,
    topics: Topics<State>,
}

impl AsRef<Topics<State>> for State {
    fn as_ref(&self) -> &Topics<State> {
        &self.topics
    }
}

/// A server that is to get more handlers.
pub(crate) fn builder(config: Config) -> ServerBuilder<State> {
    let limits = config.topics.clone();
    Server::builder_with_state(config, move |local: Local<State>| State {
        topics: Topics::new(local.clone(), limits.clone()),
        local,
    })
    .handler(codes::PING, apps::ping)
    .handler(codes::ECHO, apps::echo)
    .topics()
    .handler(WHERE, |state: &State, context: Context<'_>, _body| {
        context.reply(&[u8::try_from(state.local.shard()).unwrap()])
    })
}

/// Subscriptions, subscribers, topics and unsettled links of one shard.
pub(crate) type Counts = [usize; 4];

/// Those of each shard.
pub(crate) fn counts(server: &Server) -> Vec<Counts> {
    let of_shard = |shard| {
        let figures = |state: &State| state.topics.figures();
        let figures = server.handle().run_on(shard, figures).wait().unwrap();
        [
            figures.subscriptions,
            figures.subscribers,
            figures.topics,
            figures.unsettled,
        ]
    };
    (0..server.shards()).map(of_shard).collect()
}

/// Waits until these are the counts of all shards.
pub(crate) fn until_counts(server: &Server, wanted: &[Counts]) {
    let mut seen = Vec::new();
    until("the counts are right", || {
        let now = counts(server);
        if now != seen {
            println!("counts: {now:?}, wanted: {wanted:?}");
            seen.clone_from(&now);
        }
        (now == wanted).then_some(())
    });
}

/// A running server of two shards.
pub(crate) fn start() -> Server {
    builder(config(2)).start().unwrap()
}

/// An event: the topic and the payload.
pub(crate) type News = (String, Vec<u8>);

/// Somebody who is connected.
pub(crate) struct Member {
    pub(crate) client: Client,
    pub(crate) shard: usize,
}

impl Member {
    pub(crate) fn join(address: SocketAddr) -> Member {
        let mut client = connect(address);
        let shard = usize::from(client.ask(WHERE, b"")[0]);
        Member { client, shard }
    }

    /// One that is on this shard; others come, and go when there is one.
    pub(crate) fn on(shard: usize, address: SocketAddr) -> Member {
        until_fits(
            "somebody is on that shard",
            || Member::join(address),
            |member| member.shard == shard,
        )
    }

    #[track_caller]
    pub(crate) fn subscribe(&mut self, topic: &str) {
        let reply = self.client.call(&Subscribe { topic }).unwrap();
        assert_eq!(reply.message().topic, topic);
    }

    #[track_caller]
    pub(crate) fn unsubscribe(&mut self, topic: &str) {
        let reply = self.client.call(&Unsubscribe { topic }).unwrap();
        assert_eq!(reply.message().topic, topic);
    }

    /// Gives back for how many connections it was queued.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8]) -> u32 {
        let reply = self.client.call(&Publish { topic, payload }).unwrap();
        reply.message().receivers
    }

    #[track_caller]
    pub(crate) fn event(&mut self) -> News {
        news(&self.client.push().unwrap())
    }

    #[track_caller]
    pub(crate) fn expect_event(&mut self, topic: &str, payload: &[u8]) {
        assert_eq!(self.event(), (topic.to_owned(), payload.to_vec()));
    }

    /// All events that were queued by now and not taken.
    #[track_caller]
    pub(crate) fn events(&mut self) -> Vec<News> {
        self.client.ping();
        let pushes = std::iter::from_fn(|| self.client.try_push());
        pushes.map(|push| news(&push)).collect()
    }
}

/// One on this shard that is no client; others come, and go when there is one.
pub(crate) fn peer_on(shard: usize, connect: impl Fn() -> Peer) -> Peer {
    until_fits("a peer is on that shard", connect, |peer| {
        peer.send(WHERE, b"");
        let of_peer = usize::from(peer.next().unwrap().body[0]);
        of_peer == shard
    })
}

/// The body of a PUBLISH.
pub(crate) fn publish_body(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_message(&mut frame, &Publish { topic, payload }).unwrap();
    frame.split_off(HEADER_BYTES)
}

#[track_caller]
fn news(push: &Push) -> News {
    assert_eq!(push.lost_before, 0, "more came than a client keeps");
    let event = push.message::<Event>().unwrap();
    (event.topic.to_owned(), event.payload.to_vec())
}
