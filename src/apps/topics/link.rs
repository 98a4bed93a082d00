//! The way to one other shard: what it is to be told, and what it was told and has not answered.
//!
//! One batch is under way at a time. It carries which topics are wanted here by now, and events for
//! that shard's subscribers; what comes up meanwhile waits for the next one. So a link takes one
//! message of the mesh at most, however much is to be told, and what is wanted is told as it is when
//! the batch leaves, not as it was in between.
//!
//! Invariants:
//! - A topic whose subscribers here came or went since a batch said how it is, is in `changed`.
//! - Events leave in the order in which they came, and each is answered once: with its receivers.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use super::tally::Tally;
use crate::handler::{Charge, RunError};

/// Events that wait for one shard at most.
const EVENTS_MAX: usize = 1024;

/// The same in bytes, with those under way. They are charged to `limits.memory_bytes` as well.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Changes that wait for one shard, from which on no topic is announced. Topics that are wanted no
/// more are still told: there are no more of them than were announced.
const CHANGES_MAX: usize = 64 * 1024;

/// Events in one batch: a part of what waits, so that the shard that gets it does not stand still.
const EVENTS_PER_BATCH: usize = 64;

/// Changes in one batch, for the same reason.
const CHANGES_PER_BATCH: usize = 1024;

/// What one shard tells another at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Topics, and whether the sender has subscribers to each.
    pub(super) wanted: Vec<(Box<str>, bool)>,
    pub(super) events: Vec<Event>,
}

/// What was published to a topic. A clone is the same: it waits on several links at once.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) topic: Arc<str>,
    /// As PUBLISH brought it, which is what EVENT carries.
    pub(super) body: Arc<[u8]>,
}

impl Event {
    /// The memory that an event takes which waits on so many links.
    pub(super) fn memory_bytes(topic: &str, body: &[u8], links: usize) -> usize {
        // Each of the two has its two counts in front.
        let shared_bytes = topic.len() + body.len() + 4 * size_of::<usize>();
        shared_bytes + links * size_of::<Posted>()
    }
}

/// An event that waits, and what goes with it.
#[derive(Debug)]
struct Posted {
    event: Event,
    published: Rc<Tally>,
    charge: Rc<Charge>,
}

/// The way to one other shard.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Topics to say anew whether they are wanted, with those who wait until that is known there.
    changed: HashMap<Rc<str>, Vec<Rc<Tally>>>,
    /// The same topics, in the order of their first change.
    order: VecDeque<Rc<str>>,
    events: VecDeque<Posted>,
    /// Of events that wait or are under way.
    event_bytes: usize,
    under_way: Option<UnderWay>,
    /// The shard has ended.
    gone: bool,
}

/// A batch that was not answered in full.
#[derive(Debug)]
struct UnderWay {
    batch: Arc<Batch>,
    /// Its topics, until the first answer, with those who wait.
    told: Vec<(Rc<str>, Vec<Rc<Tally>>)>,
    /// Who waits for the events that were not answered, in their order.
    publishers: VecDeque<Rc<Tally>>,
    /// For all its events, as long as it is here.
    _charges: Vec<Rc<Charge>>,
}

impl Link {
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether there is room for one more event of so many bytes.
    pub(super) fn has_room_for_event(&self, body_bytes: usize) -> bool {
        self.events.len() < EVENTS_MAX && self.event_bytes + body_bytes <= EVENT_BYTES_MAX
    }

    /// Whether there is room to announce one more topic.
    pub(super) fn has_room_for_change(&self) -> bool {
        self.changed.len() < CHANGES_MAX
    }

    /// Whether there is nothing to tell, and nothing that was not answered.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.has_nothing_new()
    }

    /// Whether a batch was not answered in full.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Events that were not answered, and the bytes of those that are kept.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let under_way = self.under_way.as_ref();
        let unanswered = under_way.map_or(0, |under_way| under_way.publishers.len());
        (self.events.len() + unanswered, self.event_bytes)
    }

    fn has_nothing_new(&self) -> bool {
        self.changed.is_empty() && self.events.is_empty()
    }

    /// A topic has subscribers here since just now, or none any more; `announced` waits until that
    /// is known there.
    pub(super) fn note_change(&mut self, topic: &Rc<str>, announced: Option<&Rc<Tally>>) {
        if self.gone {
            return;
        }
        let waiting = self.changed.entry(Rc::clone(topic)).or_insert_with(|| {
            self.order.push_back(Rc::clone(topic));
            Vec::new()
        });
        if let Some(announced) = announced {
            announced.expect();
            waiting.push(Rc::clone(announced));
        }
    }

    /// Takes on an event, whose receivers there are added to `published`.
    pub(super) fn post(&mut self, event: Event, published: &Rc<Tally>, charge: &Rc<Charge>) {
        published.expect();
        self.event_bytes += event.body.len();
        self.events.push_back(Posted {
            event,
            published: Rc::clone(published),
            charge: Rc::clone(charge),
        });
    }

    /// What is to be sent now, and from which of its events on: what was not answered in full, or
    /// else what is new. `wanted` says whether a topic has subscribers here.
    pub(super) fn next_batch(
        &mut self,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<(Arc<Batch>, usize)> {
        if self.under_way.is_none() && !self.has_nothing_new() {
            self.under_way = Some(self.new_batch(wanted));
        }
        let under_way = self.under_way.as_ref()?;
        let first = under_way.batch.events.len() - under_way.publishers.len();
        Some((Arc::clone(&under_way.batch), first))
    }

    fn new_batch(&mut self, wanted: impl Fn(&str) -> bool) -> UnderWay {
        let mut batch = Batch::default();
        let mut told = Vec::new();
        let changes = self.order.len().min(CHANGES_PER_BATCH);
        for topic in self.order.drain(..changes) {
            batch.wanted.push((Box::from(&*topic), wanted(&topic)));
            let waiting = self.changed.remove(&topic).unwrap_or_default();
            told.push((topic, waiting));
        }
        let events = self.events.len().min(EVENTS_PER_BATCH);
        let mut publishers = VecDeque::with_capacity(events);
        let mut charges = Vec::with_capacity(events);
        for posted in self.events.drain(..events) {
            batch.events.push(posted.event);
            publishers.push_back(posted.published);
            charges.push(posted.charge);
        }
        UnderWay {
            batch: Arc::new(batch),
            told,
            publishers,
            _charges: charges,
        }
    }

    /// The batch was answered, with the receivers of some more of its events. Gives back the topics
    /// that are known there now as the batch has it.
    pub(super) fn answered(&mut self, receivers: &[u32]) -> Vec<Rc<str>> {
        let Some(under_way) = &mut self.under_way else {
            return Vec::new();
        };
        for &receivers in receivers {
            if let Some(publisher) = under_way.publishers.pop_front() {
                publisher.add(receivers);
            }
        }
        let told = mem::take(&mut under_way.told);
        if under_way.publishers.is_empty() {
            let bytes = bytes_of(&under_way.batch);
            self.event_bytes -= bytes;
            self.under_way = None;
        }
        settle(told)
    }

    /// The batch has failed there, which takes a fault of this program. Gives back the topics of
    /// which it is not known there how the batch has them.
    pub(super) fn failed(&mut self, error: RunError) -> Vec<Rc<str>> {
        let Some(under_way) = self.under_way.take() else {
            return Vec::new();
        };
        self.event_bytes -= bytes_of(&under_way.batch);
        for tally in under_way.publishers {
            tally.fail(error);
        }
        let told = under_way.told.into_iter().map(|(topic, waiting)| {
            for announced in waiting {
                announced.fail(error);
            }
            topic
        });
        told.collect()
    }

    /// The shard has ended, and its connections with it: nobody there is waited for. Gives back the
    /// topics that somebody was to be told of.
    pub(super) fn end(&mut self) -> Vec<Rc<str>> {
        let ended = mem::take(self);
        self.gone = true;
        let under_way = ended.under_way;
        let (told, publishers) = under_way.map_or_else(Default::default, |under_way| {
            (under_way.told, under_way.publishers)
        });
        let published = ended.events.into_iter().map(|posted| posted.published);
        for tally in publishers.into_iter().chain(published) {
            tally.add(0);
        }
        settle(told.into_iter().chain(ended.changed))
    }
}

fn bytes_of(batch: &Batch) -> usize {
    batch.events.iter().map(|event| event.body.len()).sum()
}

/// Nobody need wait for these topics to be told any more.
fn settle(told: impl IntoIterator<Item = (Rc<str>, Vec<Rc<Tally>>)>) -> Vec<Rc<str>> {
    let told = told.into_iter().map(|(topic, waiting)| {
        for announced in waiting {
            announced.add(0);
        }
        topic
    });
    told.collect()
}
