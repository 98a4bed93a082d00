//! The server under test, and those who are connected to it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use corelane::apps::topics::Topics;
use corelane::protocol::messages::{Event, Publish, Published};
use corelane::protocol::{Message, Reason, codes, encode_message};
use corelane::{Config, Context, Local, Server, ServerBuilder, apps};

use crate::support::library::config;
use crate::support::peer::{Frame, Peer};
use crate::support::waiting::until;

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
    pub(crate) peer: Peer,
    pub(crate) shard: usize,
    /// Events that came before something else that was awaited.
    events: VecDeque<News>,
}

impl Member {
    pub(crate) fn join(address: SocketAddr) -> Member {
        Member::over(Peer::connect(address))
    }

    pub(crate) fn over(mut peer: Peer) -> Member {
        peer.send(WHERE, b"");
        let shard = usize::from(peer.next().unwrap().body[0]);
        Member {
            peer,
            shard,
            events: VecDeque::new(),
        }
    }

    /// One that is on this shard; others come and go until there is one.
    pub(crate) fn on(shard: usize, address: SocketAddr) -> Member {
        until("somebody is on that shard", || {
            let member = Member::join(address);
            (member.shard == shard).then_some(member)
        })
    }

    /// The next frame that is no EVENT.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> Frame {
        loop {
            let frame = self.peer.next().expect("a reply, not the end");
            if frame.code != codes::EVENT {
                return frame;
            }
            self.events.push_back(news(&frame));
        }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, code: u16, body: &[u8]) -> Vec<u8> {
        self.peer.send(code, body);
        let reply = self.reply();
        assert_eq!(reply.code, code, "{reply:?}");
        reply.body
    }

    /// Asserts that this is answered by an ERROR for this reason; gives back its text.
    #[track_caller]
    pub(crate) fn ask_in_vain(&mut self, code: u16, body: &[u8], reason: Reason) -> String {
        self.peer.send(code, body);
        let reply = self.reply();
        let error = error_in(&reply);
        assert_eq!((error.0, error.1), (code, reason.number()), "{error:?}");
        error.2
    }

    #[track_caller]
    pub(crate) fn subscribe(&mut self, topic: &str) {
        let reply = self.ask(codes::SUBSCRIBE, topic.as_bytes());
        assert_eq!(reply, topic.as_bytes());
    }

    #[track_caller]
    pub(crate) fn unsubscribe(&mut self, topic: &str) {
        let reply = self.ask(codes::UNSUBSCRIBE, topic.as_bytes());
        assert_eq!(reply, topic.as_bytes());
    }

    /// Gives back for how many connections it was queued.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8]) -> u32 {
        let reply = self.ask(codes::PUBLISH, &publish_body(topic, payload));
        Published::decode(&reply).unwrap().receivers
    }

    #[track_caller]
    pub(crate) fn event(&mut self) -> News {
        self.events.pop_front().unwrap_or_else(|| {
            let frame = self.peer.next().expect("an EVENT, not the end");
            news(&frame)
        })
    }

    #[track_caller]
    pub(crate) fn expect_event(&mut self, topic: &str, payload: &[u8]) {
        assert_eq!(self.event(), (topic.to_owned(), payload.to_vec()));
    }

    /// All events that were queued by now and not taken.
    #[track_caller]
    pub(crate) fn events(&mut self) -> Vec<News> {
        self.ask(codes::PING, b"");
        self.events.drain(..).collect()
    }
}

/// The body of a PUBLISH.
pub(crate) fn publish_body(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_message(&mut frame, &Publish { topic, payload }).unwrap();
    frame.split_off(8)
}

#[track_caller]
fn news(frame: &Frame) -> News {
    assert_eq!(frame.code, codes::EVENT, "{frame:?}");
    let event = Event::decode(&frame.body).unwrap();
    (event.topic.to_owned(), event.payload.to_vec())
}

/// The code that an ERROR answers, its reason and its text.
#[track_caller]
pub(crate) fn error_in(frame: &Frame) -> (u16, u16, String) {
    assert_eq!(frame.code, codes::ERROR, "{frame:?}");
    let error = corelane::protocol::ErrorBody::parse(&frame.body).unwrap();
    (error.answered, error.reason, error.text.to_owned())
}
