//! Random subscribing, unsubscribing, publishing, connecting and closing, against a model.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use corelane::protocol::codes;
use corelane::protocol::messages;
use fastrand::Rng;

use crate::forum::{Counts, Member, publish_body, start, until_counts};
use crate::support::library::address_of;
use crate::support::peer::Peer;
use crate::support::seed;

const TOPICS: [&str; 5] = ["a", "b", "c", "d", "e"];
const ROUNDS: u32 = 150;
const MEMBERS: usize = 24;

/// A member, and what the model has of it.
struct Known {
    member: Member,
    topics: BTreeSet<&'static str>,
    /// The topics before this round.
    before: BTreeSet<&'static str>,
    /// What it has asked for in this round.
    asked: (u16, &'static str),
    /// The numbers of all events that came.
    came: BTreeSet<u32>,
}

struct Published {
    number: u32,
    topic: &'static str,
    /// What the reply says.
    receivers: usize,
}

impl Known {
    fn join(address: SocketAddr) -> Known {
        Known {
            member: Member::join(address),
            topics: BTreeSet::new(),
            before: BTreeSet::new(),
            asked: (codes::PING, ""),
            came: BTreeSet::new(),
        }
    }

    fn ask(&mut self, random: &mut Rng, number: u32) {
        let (code, topic, body) = request(random, number);
        self.member.client.send(code, &body).unwrap();
        self.before.clone_from(&self.topics);
        self.asked = (code, topic);
    }

    /// Takes the answer into the model. Gives back what was published.
    fn take_answer(&mut self, number: u32) -> Option<Published> {
        let (code, topic) = self.asked;
        let reply = self.member.client.reply().unwrap();
        assert_eq!(reply.code, code, "{reply:?}");
        match code {
            codes::SUBSCRIBE => drop(self.topics.insert(topic)),
            codes::UNSUBSCRIBE => drop(self.topics.remove(topic)),
            _ => {
                let receivers = reply.message::<messages::Published>().unwrap().receivers;
                return Some(Published {
                    number,
                    topic,
                    receivers: receivers as usize,
                });
            }
        }
        None
    }

    /// Whether it was subscribed all the time, and whether at any time of this round.
    fn was_subscribed(&self, topic: &str) -> (bool, bool) {
        let (before, after) = (self.before.contains(topic), self.topics.contains(topic));
        (before && after, before || after)
    }

    /// Judges what came, among it what those have published who have left.
    fn check_events(&mut self, published: &[Published]) {
        let mut now = BTreeSet::new();
        for (topic, payload) in self.member.events() {
            let number = u32::from_be_bytes(payload.try_into().unwrap());
            assert!(self.came.insert(number), "{number} came twice");
            now.insert(number);
            if let Some(published) = published.iter().find(|p| p.number == number) {
                assert_eq!(published.topic, topic);
                assert!(self.was_subscribed(&topic).1, "{number} was not wanted");
            }
        }
        for published in published {
            if self.was_subscribed(published.topic).0 {
                assert!(now.contains(&published.number), "one did not come");
            }
        }
    }
}

/// The code, the topic and the body of a request.
fn request(random: &mut Rng, number: u32) -> (u16, &'static str, Vec<u8>) {
    let code = [codes::SUBSCRIBE, codes::UNSUBSCRIBE, codes::PUBLISH][random.usize(..3)];
    let topic = TOPICS[random.usize(..TOPICS.len())];
    let body = match code {
        codes::PUBLISH => publish_body(topic, &number.to_be_bytes()),
        _ => topic.as_bytes().to_vec(),
    };
    (code, topic, body)
}

/// Comes, subscribes, and breaks off with a request on its way. No client: none resets its
/// connection.
fn break_off(address: SocketAddr, random: &mut Rng, number: u32) {
    let mut peer = Peer::connect(address);
    for topic in &TOPICS[..random.usize(1..=TOPICS.len())] {
        peer.send(codes::SUBSCRIBE, topic.as_bytes());
        let mut frames = std::iter::from_fn(|| peer.next());
        let reply = frames.find(|frame| frame.code != codes::EVENT).unwrap();
        assert_eq!(reply.code, codes::SUBSCRIBE, "{reply:?}");
    }
    let (code, _topic, body) = request(random, number);
    peer.send(code, &body);
    peer.reset();
}

#[test]
fn after_each_round_everything_is_as_the_clients_have_it() {
    let mut random = seed::rng();
    let server = start();
    let address = address_of(&server);
    let mut all: Vec<Known> = Vec::new();
    let mut number = 0;
    // Since the counts were right.
    let mut left = 0;
    for round in 1..=ROUNDS {
        all.resize_with(MEMBERS, || Known::join(address));
        let first = number;
        for known in &mut all {
            known.ask(&mut random, number);
            number += 1;
        }
        if random.bool() {
            break_off(address, &mut random, number);
            number += 1;
            left += 1;
        }
        let mut answered = first..;
        let mut published = Vec::new();
        for mut known in std::mem::take(&mut all) {
            let number = answered.next().unwrap();
            // Some leave before their answers are there.
            if random.u32(0..12) > 0 {
                published.extend(known.take_answer(number));
                all.push(known);
            } else {
                left += 1;
            }
        }
        for known in &mut all {
            known.check_events(&published);
        }
        for published in &published {
            let count = |is_counted: fn((bool, bool)) -> bool| {
                let subscribed = all
                    .iter()
                    .map(|known| known.was_subscribed(published.topic));
                subscribed.filter(|&was| is_counted(was)).count()
            };
            let right = count(|(always, _)| always)..=count(|(_, ever)| ever) + left;
            assert!(right.contains(&published.receivers), "{right:?}");
        }
        if round % 10 == 0 {
            until_counts(&server, &counts_of(&all));
            left = 0;
        }
    }
    drop(all);
    until_counts(&server, &[[0; 4]; 2]);
}

/// What the shards must say when nothing is under way.
fn counts_of(all: &[Known]) -> [Counts; 2] {
    let topics: BTreeSet<_> = all.iter().flat_map(|known| &known.topics).collect();
    [0, 1].map(|shard| {
        let here = all.iter().filter(|known| known.member.shard == shard);
        let subscriptions: Vec<usize> = here.map(|known| known.topics.len()).collect();
        let subscribers = subscriptions.iter().filter(|&&topics| topics > 0).count();
        [subscriptions.iter().sum(), subscribers, topics.len(), 0]
    })
}
