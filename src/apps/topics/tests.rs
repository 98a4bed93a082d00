//! Directories of several shards in one thread, against a model: everything that they tell one
//! another arrives in any interleaving, is refused for want of room, or is answered in part.

mod charging;
mod crowding;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use super::directory::Directory;
use super::link::Batch;
use super::refusal::{Full, Refused};
use super::tally::Tally;
use crate::config;
use crate::handler::{Charge, ConnectionId, RunError};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

const LIMITS: config::Topics = config::Topics {
    per_connection: 3,
    per_shard: 12,
    distinct_per_shard: 3,
};

fn id(shard: usize, slot: u32) -> ConnectionId {
    ConnectionId {
        shard: u16::try_from(shard).unwrap(),
        slot,
        generation: 0,
    }
}

/// Memory of which there is any amount.
#[expect(clippy::unnecessary_wraps, reason = "it is asked, and might say no")]
fn free(bytes: usize) -> Option<Charge> {
    Some(Charge::new(bytes, &Rc::default()))
}

/// What one shard has sent to another.
enum Travelling {
    Batch(Arc<Batch>, usize),
    Answer(Vec<u32>),
}

/// What a connection waits for; it says nothing more before that.
enum Waits {
    Subscribe(&'static str, Rc<Tally>),
    Publish {
        event: u32,
        here: u32,
        elsewhere: Rc<Tally>,
    },
}

#[derive(Default)]
struct Client {
    waits: Option<Waits>,
    /// Subscribed to, and whether the reply has come.
    topics: BTreeMap<&'static str, bool>,
    /// The latest event that came from each publisher.
    latest: HashMap<ConnectionId, u32>,
}

struct Published {
    publisher: ConnectionId,
    topic: &'static str,
    /// Who must get it, since they had subscribed and known it as it was published.
    due: BTreeSet<ConnectionId>,
    delivered: u32,
}

struct World {
    random: fastrand::Rng,
    shards: Vec<Directory>,
    travelling: BTreeMap<(usize, usize), Travelling>,
    clients: BTreeMap<ConnectionId, Client>,
    published: Vec<Published>,
    next_slot: u32,
    refused: usize,
    /// What events are charged for.
    held_bytes: Rc<Cell<usize>>,
}

impl World {
    fn new(seed: u64, limits: &config::Topics) -> World {
        let mut random = fastrand::Rng::with_seed(seed);
        let shards = random.usize(1..=4);
        World {
            random,
            shards: (0..shards)
                .map(|own| Directory::new(own, shards, limits.clone()))
                .collect(),
            travelling: BTreeMap::new(),
            clients: BTreeMap::new(),
            published: Vec::new(),
            next_slot: 0,
            refused: 0,
            held_bytes: Rc::default(),
        }
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..8 => self.connect(),
            8..14 => self.close_any(),
            14..60 => self.ask(),
            _ => self.travel(),
        }
        self.let_answer();
    }

    fn connect(&mut self) {
        if self.clients.len() < 12 {
            let shard = self.random.usize(0..self.shards.len());
            self.clients
                .insert(id(shard, self.next_slot), Client::default());
            self.next_slot += 1;
        }
    }

    fn close_any(&mut self) {
        let ids: Vec<_> = self.clients.keys().copied().collect();
        if let Some(id) = self.random.choice(ids) {
            self.close(id);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.shards[id.shard()].leave(id);
        self.clients.remove(&id);
        for event in &mut self.published {
            event.due.remove(&id);
        }
        self.send_stirred(id.shard());
    }

    fn ask(&mut self) {
        let idle = self.clients.iter().filter(|(_, c)| c.waits.is_none());
        let idle: Vec<_> = idle.map(|(id, _)| *id).collect();
        let (Some(id), Some(name)) = (self.random.choice(idle), self.random.choice(NAMES)) else {
            return;
        };
        match self.random.u32(0..4) {
            0 => self.unsubscribe(id, name),
            1 | 2 => self.subscribe(id, name),
            _ => self.publish(id, name),
        }
        self.send_stirred(id.shard());
    }

    fn subscribe(&mut self, id: ConnectionId, name: &'static str) {
        let client = self.clients.get_mut(&id).unwrap();
        match self.shards[id.shard()].subscribe(id, name) {
            Ok(None) => drop(client.topics.insert(name, true)),
            Ok(Some(announcing)) => {
                client.topics.entry(name).or_insert(false);
                client.waits = Some(Waits::Subscribe(name, announcing));
            }
            Err(refused) => {
                assert!(!client.topics.contains_key(name), "{refused}");
                self.refused += 1;
            }
        }
    }

    fn unsubscribe(&mut self, id: ConnectionId, name: &'static str) {
        self.shards[id.shard()].unsubscribe(id, name);
        self.clients.get_mut(&id).unwrap().topics.remove(name);
        for event in self.published.iter_mut().filter(|e| e.topic == name) {
            event.due.remove(&id);
        }
    }

    fn publish(&mut self, id: ConnectionId, name: &'static str) {
        let event = u32::try_from(self.published.len()).unwrap();
        let due = self.clients.iter();
        let due = due.filter(|(_, client)| client.topics.get(name) == Some(&true));
        self.published.push(Published {
            publisher: id,
            topic: name,
            due: due.map(|(id, _)| *id).collect(),
            delivered: 0,
        });
        let elsewhere = self.shards[id.shard()]
            .post(name, &event.to_be_bytes(), |bytes| {
                Some(Charge::new(bytes, &self.held_bytes))
            })
            .unwrap();
        let here = self.queue(id.shard(), event);
        self.clients.get_mut(&id).unwrap().waits = Some(Waits::Publish {
            event,
            here,
            elsewhere: elsewhere.unwrap_or_default(),
        });
    }

    /// An event reaches a shard's subscribers.
    fn queue(&mut self, shard: usize, event: u32) -> u32 {
        let published = &mut self.published[event as usize];
        let receivers = self.shards[shard].receivers(published.topic);
        for receiver in receivers {
            let client = self.clients.get_mut(receiver).expect("it is connected");
            assert!(client.topics.contains_key(published.topic));
            let latest = client.latest.insert(published.publisher, event);
            assert!(latest.is_none_or(|latest| latest < event), "out of order");
            published.due.remove(receiver);
        }
        let receivers = u32::try_from(receivers.len()).unwrap();
        published.delivered += receivers;
        receivers
    }

    /// Those whose answers are there go on.
    fn let_answer(&mut self) {
        for client in self.clients.values_mut() {
            match &client.waits {
                Some(Waits::Subscribe(name, announcing)) if announcing.is_done() => {
                    client.topics.insert(name, true);
                    client.waits = None;
                }
                Some(Waits::Publish {
                    event,
                    here,
                    elsewhere,
                }) if elsewhere.is_done() => {
                    let event = &self.published[*event as usize];
                    assert_eq!(here + elsewhere.sum(), event.delivered);
                    assert!(event.due.is_empty(), "{:?} did not get it", event.due);
                    client.waits = None;
                }
                _ => {}
            }
        }
    }

    fn send_stirred(&mut self, from: usize) {
        while let Some(to) = self.shards[from].take_stirred() {
            assert!(!self.travelling.contains_key(&(from, to)), "two at once");
            self.send(from, to);
        }
    }

    fn send(&mut self, from: usize, to: usize) {
        assert_ne!(from, to);
        if let Some((batch, first)) = self.shards[from].next_batch(to) {
            let batch = Travelling::Batch(batch, first);
            self.travelling.insert((from, to), batch);
        }
    }

    /// Something that was sent arrives, or is refused.
    fn travel(&mut self) {
        let ways: Vec<_> = self.travelling.keys().copied().collect();
        let Some((from, to)) = self.random.choice(ways) else {
            return;
        };
        match self.travelling.remove(&(from, to)).unwrap() {
            Travelling::Batch(..) if self.random.u32(0..5) == 0 => self.send(from, to),
            Travelling::Batch(batch, first) => {
                let answer = self.arrive(from, to, &batch, first);
                self.travelling
                    .insert((from, to), Travelling::Answer(answer));
            }
            Travelling::Answer(receivers) => {
                self.shards[from].answered(to, &receivers);
                self.send(from, to);
            }
        }
    }

    fn arrive(&mut self, from: usize, to: usize, batch: &Batch, first: usize) -> Vec<u32> {
        self.shards[to].note_wanted(from, &batch.wanted);
        let room = self.random.usize(0..=batch.events.len() - first);
        let events = batch.events.iter().skip(first).take(room);
        events
            .map(|event| {
                let number = u32::from_be_bytes(event.body[..].try_into().unwrap());
                assert_eq!(*event.topic, *self.published[number as usize].topic);
                self.queue(to, number)
            })
            .collect()
    }

    fn settle(&mut self) {
        while !self.travelling.is_empty() {
            self.travel();
            self.let_answer();
        }
        assert!(self.clients.values().all(|client| client.waits.is_none()));
        assert!(self.shards.iter().all(|shard| shard.unsettled() == 0));
        assert_eq!(self.held_bytes.get(), 0);
    }

    /// Everything is as the clients have it.
    fn check(&self, is_settled: bool) {
        for (number, shard) in self.shards.iter().enumerate() {
            shard.audit();
            let mut expected = String::new();
            for name in NAMES {
                let wanted = |on: &dyn Fn(usize) -> bool| {
                    let mut clients = self.clients.iter();
                    clients.any(|(id, c)| on(id.shard()) && c.topics.contains_key(name))
                };
                let elsewhere: Vec<usize> = (0..self.shards.len())
                    .filter(|&other| other != number && wanted(&|shard| shard == other))
                    .collect();
                if wanted(&|shard| shard == number) || !elsewhere.is_empty() {
                    write!(expected, "{name} {elsewhere:?} ").unwrap();
                }
            }
            if is_settled {
                assert_eq!(shard.known(), expected);
            }
            let own = self.clients.iter().filter(|(id, _)| id.shard() == number);
            let own = own.map(|(_, client)| client.topics.len());
            assert_eq!(shard.subscriptions(), own.sum::<usize>());
        }
    }
}

#[test]
fn shards_agree_whatever_meets_what() {
    let mut refused = 0;
    let mut delivered = 0;
    for seed in 0..100 {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, &LIMITS);
            for step in 0..600 {
                world.step();
                world.check(false);
                if step % 150 == 149 {
                    world.settle();
                    world.check(true);
                }
            }
            for id in world.clients.keys().copied().collect::<Vec<_>>() {
                world.close(id);
            }
            world.settle();
            world.check(true);
            assert!(world.shards.iter().all(|shard| shard.topics() == 0));
            assert!(world.shards.iter().all(|shard| shard.subscribers() == 0));
            let delivered = world.published.iter().map(|event| event.delivered);
            (world.refused, delivered.sum::<u32>())
        });
        let (more_refused, more_delivered) = run.unwrap_or_else(|_| panic!("with seed {seed}"));
        refused += more_refused;
        delivered += more_delivered;
    }
    assert!(refused > 300 && delivered > 3000, "{refused} {delivered}");
}

fn at_once(subscribed: &Result<Option<Rc<Tally>>, Refused>) -> bool {
    matches!(subscribed, Ok(None))
}

#[test]
fn the_limits_are_told_apart() {
    let mut shard = Directory::new(0, 1, LIMITS);
    for name in ["a", "b", "c"] {
        assert!(at_once(&shard.subscribe(id(0, 1), name)));
    }
    assert!(at_once(&shard.subscribe(id(0, 1), "a")));
    assert_eq!(
        shard.subscribe(id(0, 1), "d").unwrap_err(),
        Refused::Connection(3)
    );
    assert_eq!(
        shard.subscribe(id(0, 2), "d").unwrap_err(),
        Refused::Distinct(3)
    );
    for slot in 2..11 {
        assert!(at_once(&shard.subscribe(id(0, slot), "b")));
    }
    assert_eq!(
        shard.subscribe(id(0, 11), "b").unwrap_err(),
        Refused::Shard(12)
    );
    shard.unsubscribe(id(0, 5), "b");
    shard.unsubscribe(id(0, 5), "b");
    assert!(at_once(&shard.subscribe(id(0, 11), "b")));
    shard.audit();
}

/// Carries over what `from` has to tell, as far as there is anything.
fn tell(shards: &mut [Directory; 3], from: usize, to: usize) {
    while let Some((batch, first)) = shards[from].next_batch(to) {
        shards[to].note_wanted(from, &batch.wanted);
        let answers = vec![1; batch.events.len() - first];
        shards[from].answered(to, &answers);
    }
}

#[test]
fn an_event_is_taken_on_for_all_shards_or_for_none() {
    let mut shards = [0, 1, 2].map(|own| Directory::new(own, 3, LIMITS));
    for other in [1, 2] {
        assert!(matches!(
            shards[other].subscribe(id(other, 0), "a"),
            Ok(Some(_))
        ));
        tell(&mut shards, other, 0);
    }
    let mut posted = 0;
    while let Ok(published) = shards[0].post("a", b"news", free) {
        assert!(published.is_some_and(|published| !published.is_done()));
        posted += 1;
    }
    assert_eq!(posted, 1024);
    // One has room again, the other has not.
    tell(&mut shards, 0, 1);
    assert_eq!(shards[0].post("a", b"news", free).unwrap_err(), Full::Link);
    assert!(shards[0].next_batch(1).is_none(), "nothing for either");
    tell(&mut shards, 0, 2);
    let published = shards[0].post("a", b"news", free).unwrap().unwrap();
    tell(&mut shards, 0, 1);
    assert!(!published.is_done());
    tell(&mut shards, 0, 2);
    assert_eq!((published.is_done(), published.sum()), (true, 2));
    let large = vec![0; 1 << 20];
    for _ in 0..4 {
        assert!(shards[0].post("a", &large, free).is_ok());
    }
    assert_eq!(shards[0].post("a", b"x", free).unwrap_err(), Full::Link);
}

#[test]
fn nobody_waits_for_a_shard_that_has_ended() {
    let mut shards = [0, 1, 2].map(|own| Directory::new(own, 3, LIMITS));
    for other in [1, 2] {
        drop(shards[other].subscribe(id(other, 0), "a"));
        tell(&mut shards, other, 0);
    }
    let announcing = shards[0].subscribe(id(0, 0), "b").unwrap().unwrap();
    let published = shards[0].post("a", b"news", free).unwrap().unwrap();
    assert!(shards[0].next_batch(1).is_some());
    shards[0].failed(1, RunError::Gone);
    tell(&mut shards, 0, 2);
    assert!(announcing.is_done());
    assert_eq!((published.is_done(), published.sum()), (true, 1));
    assert!(at_once(&shards[0].subscribe(id(0, 1), "b")));
    let published = shards[0].post("a", b"news", free).unwrap().unwrap();
    tell(&mut shards, 0, 2);
    assert!(published.is_done());
    shards[0].failed(2, RunError::Gone);
    assert!(shards[0].post("a", b"news", free).unwrap().is_none());
    assert_eq!(shards[0].unsettled(), 0);
}

#[test]
fn a_fault_over_there_is_an_answer() {
    let mut shards = [0, 1, 2].map(|own| Directory::new(own, 3, LIMITS));
    let announcing = shards[0].subscribe(id(0, 0), "a").unwrap().unwrap();
    assert!(shards[0].next_batch(1).is_some());
    shards[0].failed(1, RunError::Panicked);
    assert!(announcing.is_done());
    tell(&mut shards, 0, 2);
    shards[0].leave(id(0, 0));
    tell(&mut shards, 0, 1);
    tell(&mut shards, 0, 2);
    assert_eq!((shards[0].topics(), shards[0].unsettled()), (0, 0));
}

/// What the batch would have told was lost: every later SUBSCRIBE to the topic got the old failure.
#[test]
fn a_topic_whose_batch_failed_is_announced_anew() {
    let mut shards = [0, 1, 2].map(|own| Directory::new(own, 3, LIMITS));
    assert!(!at_once(&shards[0].subscribe(id(0, 0), "a")));
    // The other shard's answer to the first announcement is still to come.
    assert!(shards[0].next_batch(2).is_some());
    assert!(shards[0].next_batch(1).is_some());
    shards[0].failed(1, RunError::Panicked);
    let again = shards[0].subscribe(id(0, 1), "a").unwrap().unwrap();
    assert!(!again.is_done());
    tell(&mut shards, 0, 1);
    assert_eq!(shards[1].known(), "a [0] ");
    assert!(!again.is_done(), "shard 2 does not know");
    tell(&mut shards, 0, 2);
    assert_eq!(shards[2].known(), "a [0] ");
    assert!(again.is_done());
    assert!(at_once(&shards[0].subscribe(id(0, 2), "a")));
    assert_eq!(shards[0].unsettled(), 0);
    shards[0].audit();
}

/// That shard would have been sent the topic's events for ever.
#[test]
fn a_withdrawal_whose_batch_failed_is_told_again() {
    let mut shards = [0, 1, 2].map(|own| Directory::new(own, 3, LIMITS));
    drop(shards[0].subscribe(id(0, 0), "a"));
    tell(&mut shards, 0, 1);
    tell(&mut shards, 0, 2);
    while shards[0].take_stirred().is_some() {}
    shards[0].leave(id(0, 0));
    assert!(shards[0].next_batch(1).is_some());
    shards[0].failed(1, RunError::Panicked);
    assert_eq!(shards[1].known(), "a [0] ");
    assert_eq!(shards[0].unsettled(), 2);
    tell(&mut shards, 0, 1);
    tell(&mut shards, 0, 2);
    assert_eq!(shards[1].known(), "");
    assert_eq!(shards[0].unsettled(), 0);
}
