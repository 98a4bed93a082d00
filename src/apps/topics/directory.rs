//! Who has subscribed to what on one shard, and which other shards have subscribers: see the
//! [module's own page](super) for what the shards tell one another.
//!
//! Pure: connections and events go in, lists of receivers and batches for other shards come out.
//!
//! Invariants:
//! - A connection is among the subscribers of a topic exactly if the topic is among its own.
//! - A topic is here as long as it has subscribers here or on another shard, and no longer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::sync::Arc;

use super::link::{Batch, Event, Link};
use super::refusal::{Full, Refused};
use super::shard_set::ShardSet;
use super::tally::Tally;
use crate::config;
use crate::handler::{Charge, ConnectionId, RunError};

/// The topics of one shard.
#[derive(Debug)]
pub(super) struct Directory {
    limits: config::Topics,
    topics: HashMap<Rc<str>, Topic>,
    /// The topics of each connection that has any, and where in their lists it stands.
    connections: HashMap<ConnectionId, HashMap<Rc<str>, usize>>,
    subscriptions: usize,
    /// Topics with subscribers here.
    subscribed: usize,
    /// By shard; nobody uses that to this shard itself.
    links: Vec<Link>,
    own: usize,
    /// By shard: somebody sees to its link, or is about to.
    attended: Vec<bool>,
    /// Those whose links are to be seen to from now on.
    stirred: Vec<usize>,
}

#[derive(Debug, Default)]
struct Topic {
    /// In no order.
    subscribers: Vec<ConnectionId>,
    /// Not all other shards know yet that it is wanted here.
    announcing: Option<Rc<Tally>>,
    /// Other shards that have subscribers.
    elsewhere: ShardSet,
}

impl Directory {
    /// An empty one, of this shard among so many.
    pub(super) fn new(own: usize, shards: usize, limits: config::Topics) -> Directory {
        Directory {
            limits,
            topics: HashMap::new(),
            connections: HashMap::new(),
            subscriptions: 0,
            subscribed: 0,
            links: (0..shards).map(|_| Link::default()).collect(),
            own,
            attended: vec![false; shards],
            stirred: Vec::new(),
        }
    }

    /// A connection wants a topic's events, from when this tally is done; at once without one.
    pub(super) fn subscribe(
        &mut self,
        id: ConnectionId,
        name: &str,
    ) -> Result<Option<Rc<Tally>>, Refused> {
        let own = self.connections.get(&id);
        if !own.is_some_and(|own| own.contains_key(name)) {
            self.check_limits(own.map_or(0, HashMap::len), name)?;
            self.insert(id, name);
        }
        let announcing = self
            .topics
            .get(name)
            .and_then(|topic| topic.announcing.clone());
        Ok(announcing)
    }

    fn check_limits(&self, of_connection: usize, name: &str) -> Result<(), Refused> {
        let config::Topics {
            per_connection,
            per_shard,
            distinct_per_shard,
        } = self.limits;
        let is_full = |count: usize, max: u32| count as u64 >= u64::from(max);
        if is_full(of_connection, per_connection) {
            return Err(Refused::Connection(per_connection));
        }
        if is_full(self.subscriptions, per_shard) {
            return Err(Refused::Shard(per_shard));
        }
        if self.is_wanted(name) {
            return Ok(());
        }
        if is_full(self.subscribed, distinct_per_shard) {
            return Err(Refused::Distinct(distinct_per_shard));
        }
        if !self.links.iter().all(Link::has_room_for_change) {
            return Err(Refused::Overloaded);
        }
        Ok(())
    }

    fn insert(&mut self, id: ConnectionId, name: &str) {
        let name = match self.topics.get_key_value(name) {
            Some((name, _)) => Rc::clone(name),
            None => Rc::from(name),
        };
        let topic = self.topics.entry(Rc::clone(&name)).or_default();
        let place = topic.subscribers.len();
        topic.subscribers.push(id);
        let own = self.connections.entry(id).or_default();
        own.insert(Rc::clone(&name), place);
        self.subscriptions += 1;
        if place == 0 {
            self.subscribed += 1;
            self.announce(&name);
        }
    }

    /// Has all other shards told that a topic has subscribers here.
    fn announce(&mut self, name: &Rc<str>) {
        let announced = Rc::new(Tally::default());
        self.note_change(name, Some(&announced));
        if let Some(topic) = self.topics.get_mut(name) {
            topic.announcing = Some(announced).filter(|announced| !announced.is_done());
        }
    }

    /// A connection wants a topic's events no more, if it did.
    pub(super) fn unsubscribe(&mut self, id: ConnectionId, name: &str) {
        let Entry::Occupied(mut own) = self.connections.entry(id) else {
            return;
        };
        let Some((name, place)) = own.get_mut().remove_entry(name) else {
            return;
        };
        if own.get().is_empty() {
            own.remove();
        }
        self.remove(&name, place);
    }

    /// A connection is over.
    pub(super) fn leave(&mut self, id: ConnectionId) {
        for (name, place) in self.connections.remove(&id).unwrap_or_default() {
            self.remove(&name, place);
        }
    }

    /// Takes who stands there out of a topic's list.
    fn remove(&mut self, name: &Rc<str>, place: usize) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        topic.subscribers.swap_remove(place);
        self.subscriptions -= 1;
        if let Some(moved) = topic.subscribers.get(place)
            && let Some(own) = self.connections.get_mut(moved)
            && let Some(its_place) = own.get_mut(name)
        {
            *its_place = place;
        }
        if topic.subscribers.is_empty() {
            topic.announcing = None;
            // Many may have wanted it.
            topic.subscribers = Vec::new();
            if topic.elsewhere.is_empty() {
                self.topics.remove(name);
            }
            self.subscribed -= 1;
            self.note_change(name, None);
        }
    }

    /// Whether a topic has subscribers here.
    fn is_wanted(&self, name: &str) -> bool {
        !self.receivers(name).is_empty()
    }

    /// The subscribers to a topic on this shard.
    pub(super) fn receivers(&self, name: &str) -> &[ConnectionId] {
        self.topics
            .get(name)
            .map_or(&[], |topic| &topic.subscribers)
    }

    /// Takes on an event for all other shards that have subscribers, or for none. Gives back what
    /// sums up their receivers, if there are such shards. `charge` is asked for the memory that it
    /// takes until the last of them has answered.
    pub(super) fn post(
        &mut self,
        name: &str,
        body: &[u8],
        charge: impl FnOnce(usize) -> Option<Charge>,
    ) -> Result<Option<Rc<Tally>>, Full> {
        let Some(topic) = self.topics.get(name) else {
            return Ok(None);
        };
        let links = &self.links;
        let is_there = |&shard: &usize| !links[shard].is_gone();
        let to: Vec<usize> = topic.elsewhere.iter().filter(is_there).collect();
        if to.is_empty() {
            return Ok(None);
        }
        let has_room = |shard: &usize| links[*shard].has_room_for_event(body.len());
        if !to.iter().all(has_room) {
            return Err(Full::Link);
        }
        let charge = charge(Event::memory_bytes(name, body, to.len())).ok_or(Full::Memory)?;
        let charge = Rc::new(charge);
        let published = Rc::new(Tally::default());
        let event = Event {
            topic: Arc::from(name),
            body: Arc::from(body),
        };
        for shard in to {
            self.links[shard].post(event.clone(), &published, &charge);
            self.stir(shard);
        }
        Ok(Some(published))
    }

    fn note_change(&mut self, name: &Rc<str>, announced: Option<&Rc<Tally>>) {
        let own = self.own;
        for (shard, link) in self.links.iter_mut().enumerate() {
            if shard != own && !link.is_gone() {
                link.note_change(name, announced);
                stir(&mut self.attended, &mut self.stirred, shard);
            }
        }
    }

    fn stir(&mut self, shard: usize) {
        stir(&mut self.attended, &mut self.stirred, shard);
    }

    /// Another shard whose link has something to tell, and that nobody sees to: whoever asks does,
    /// until [`Directory::next_batch`] gives nothing more.
    pub(super) fn take_stirred(&mut self) -> Option<usize> {
        self.stirred.pop()
    }

    /// What that shard is to be sent now, and from which of the batch's events on. Without anything,
    /// nobody sees to its link any more.
    pub(super) fn next_batch(&mut self, shard: usize) -> Option<(Arc<Batch>, usize)> {
        let topics = &self.topics;
        let is_wanted = |name: &str| {
            let topic = topics.get(name);
            topic.is_some_and(|topic| !topic.subscribers.is_empty())
        };
        let batch = self.links[shard].next_batch(is_wanted);
        self.attended[shard] = batch.is_some();
        batch
    }

    /// Another shard says which topics it wants.
    pub(super) fn note_wanted(&mut self, from: usize, wanted: &[(Box<str>, bool)]) {
        for (name, is_wanted) in wanted {
            if *is_wanted {
                let topic = match self.topics.get_mut(&**name) {
                    Some(topic) => topic,
                    None => self.topics.entry(Rc::from(&**name)).or_default(),
                };
                topic.elsewhere.insert(from);
            } else if let Some(topic) = self.topics.get_mut(&**name) {
                topic.elsewhere.remove(from);
                if topic.elsewhere.is_empty() && topic.subscribers.is_empty() {
                    self.topics.remove(&**name);
                }
            }
        }
    }

    /// That shard has answered its batch, with the receivers of some more of the batch's events.
    /// Gives back whether events are left that it could not take yet.
    pub(super) fn answered(&mut self, shard: usize, receivers: &[u32]) -> bool {
        let link = &mut self.links[shard];
        let known = link.answered(receivers);
        let is_left = link.is_under_way();
        self.forget_announced(&known);
        is_left
    }

    /// That shard has not carried out its batch, and will not. What the batch would have told of
    /// topics is noted as changed again, if there is somebody to tell.
    pub(super) fn failed(&mut self, shard: usize, error: RunError) {
        let link = &mut self.links[shard];
        if error == RunError::Gone {
            let known = link.end();
            self.forget_announced(&known);
            return;
        }
        for name in link.failed(error) {
            if !self.is_wanted(&name) {
                self.links[shard].note_change(&name, None);
                self.stir(shard);
            } else if !self.is_announcing(&name) {
                // From now on a SUBSCRIBE waits for answers of all shards, not for what has failed.
                self.announce(&name);
            }
        }
    }

    fn is_announcing(&self, name: &str) -> bool {
        let announcing = self.topics.get(name).and_then(|t| t.announcing.as_ref());
        announcing.is_some_and(|announcing| !announcing.is_done())
    }

    fn forget_announced(&mut self, names: &[Rc<str>]) {
        for name in names {
            if let Some(topic) = self.topics.get_mut(name) {
                topic.announcing.take_if(|announcing| announcing.is_done());
            }
        }
    }

    /// Subscriptions of connections of this shard.
    pub(super) fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Connections of this shard that have subscriptions.
    pub(super) fn subscribers(&self) -> usize {
        self.connections.len()
    }

    /// Topics that have subscribers here or elsewhere.
    pub(super) fn topics(&self) -> usize {
        self.topics.len()
    }

    /// Topics that have subscribers here.
    pub(super) fn subscribed(&self) -> usize {
        self.subscribed
    }

    /// Events that wait for other shards or are under way, and their bytes; each for each shard.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let of_links = self.links.iter().map(Link::waiting);
        of_links.fold((0, 0), |sum, of_one| (sum.0 + of_one.0, sum.1 + of_one.1))
    }

    /// Other shards that were not told, or have not answered, all there is to tell.
    pub(super) fn unsettled(&self) -> usize {
        self.links.iter().filter(|link| !link.is_idle()).count()
    }
}

#[cfg(test)]
impl Directory {
    /// The topics, each with the other shards that have subscribers.
    pub(super) fn known(&self) -> String {
        let mut topics: Vec<_> = self.topics.iter().collect();
        topics.sort_by_key(|(name, _)| Rc::clone(name));
        let known = topics.into_iter().map(|(name, topic)| {
            let elsewhere: Vec<usize> = topic.elsewhere.iter().collect();
            format!("{name} {elsewhere:?} ")
        });
        known.collect()
    }

    /// Asserts what the top of this file says.
    pub(super) fn audit(&self) {
        for (id, own) in &self.connections {
            assert!(!own.is_empty(), "{id} has no topics");
            for (name, place) in own {
                assert_eq!(self.topics[name].subscribers[*place], *id);
            }
        }
        let own = self.connections.values().map(HashMap::len);
        assert_eq!(own.sum::<usize>(), self.subscriptions);
        let listed = self.topics.values().map(|topic| topic.subscribers.len());
        assert_eq!(listed.sum::<usize>(), self.subscriptions);
        let is_wanted = |topic: &&Topic| !topic.subscribers.is_empty();
        assert_eq!(
            self.topics.values().filter(is_wanted).count(),
            self.subscribed
        );
        let is_of_use = |topic: &Topic| is_wanted(&topic) || !topic.elsewhere.is_empty();
        assert!(self.topics.values().all(is_of_use));
    }
}

fn stir(attended: &mut [bool], stirred: &mut Vec<usize>, shard: usize) {
    if let Some(attended) = attended.get_mut(shard)
        && !*attended
    {
        *attended = true;
        stirred.push(shard);
    }
}
