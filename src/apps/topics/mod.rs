//! Topics: SUBSCRIBE, UNSUBSCRIBE, PUBLISH and EVENT, over all shards.
//!
//! Each shard's state holds a [`Topics`]:
//!
//! ```
//! use corelane::apps::topics::Topics;
//! use corelane::client::Client;
//! use corelane::protocol::messages::{Event, Publish, Subscribe};
//! use corelane::{Config, Server};
//!
//! struct State {
//!     topics: Topics<State>,
//! }
//!
//! impl AsRef<Topics<State>> for State {
//!     fn as_ref(&self) -> &Topics<State> {
//!         &self.topics
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::default();
//! config.server.listen = vec!["127.0.0.1:0".parse()?];
//! # config.shards.pin = false;
//! let limits = config.topics.clone();
//! let server = Server::builder_with_state(config, move |local| State {
//!     topics: Topics::new(local, limits.clone()),
//! })
//! .topics()
//! .start()?;
//!
//! let mut client = Client::connect(server.addresses()[0], std::time::Duration::from_secs(10))?;
//! client.call(&Subscribe { topic: "news" })?;
//! let published = client.call(&Publish { topic: "news", payload: b"hello" })?;
//! // So many connections the event was queued for; it comes to this one, too.
//! assert_eq!(published.message().receivers, 1);
//! assert_eq!(client.push()?.message::<Event>()?.payload, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - Whoever has the reply to SUBSCRIBE gets the EVENT of each PUBLISH that is sent from then on, by
//!   anybody, until it unsubscribes or its connection ends. EVENTs may come before that reply, and
//!   those on their way come after the reply to UNSUBSCRIBE: between replies and pushes there is no
//!   order.
//! - What one connection publishes arrives everywhere in the order in which it was published, each
//!   once: its next frame is not handled until all shards have queued the event.
//! - A PUBLISH is carried out on all shards or on none. Where it can't be, the answer is ERROR
//!   OVERLOADED, and nobody gets anything. After that decision, shards that have no room wait until
//!   they do, and so does the publisher.
//! - A subscriber that does not take its events is closed by the limits of
//!   [`Outbound`](crate::config::Outbound), and holds up nobody.
//! - A connection that is over leaves nothing behind, also if it ends in the middle of a SUBSCRIBE.
//!
//! # What shards tell one another
//!
//! Subscriptions belong to the shard of their connection. A shard with subscribers to a topic has
//! told all the others so, and a PUBLISH goes to those shards only, once to each. For each other
//! shard there is a link, with one batch under way at a time:
//!
//! 1. A topic that gets its first subscriber on a shard, or loses its last, is noted as changed on
//!    all links of that shard. The SUBSCRIBE waits.
//! 2. Where no batch is under way, one leaves. It says of each changed topic whether it has
//!    subscribers *now*, and brings events that wait for that shard.
//! 3. The other shard notes what it is told, queues each event for its own subscribers, and answers
//!    with their numbers. Once it has answered on all links, the SUBSCRIBE is answered: from then on
//!    every shard knows.
//!
//! That comes out right however subscribing, unsubscribing and closing meet: each batch says how
//! things stand as it leaves, what changes behind it is noted for the next one, and there is no
//! second batch that could overtake. A SUBSCRIBE waits for a batch that left after it subscribed. One
//! that finds the topic being announced waits for the same answers. So when nothing is under way,
//! each shard knows exactly which others have subscribers.
//!
//! A batch that finds no room in the mesh is sent again a little later, and so are the events of
//! which the other shard says that it has no room for them: it answers with how far it has come. Where
//! a batch fails, which takes a fault of the program, who waits for it gets ERROR INTERNAL; its events
//! are lost there, and its topics are announced anew.

mod directory;
mod figures;
mod link;
mod refusal;
mod shard_set;
mod tally;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use self::figures::Figures;

use self::directory::Directory;
use self::figures::Counts;
use self::link::Batch;
use self::refusal::Refused;
use self::tally::Tally;
use crate::config;
use crate::handler::{
    Call, ConnectionId, Context, Local, PushError, Reply, Request, Router, RunError, Shared,
};
use crate::protocol::messages::{Publish, Published, Subscribe, Unsubscribe};
use crate::protocol::{BodyError, Message as _, Reason, codes};

/// How long what found no room on another shard waits until it is tried again. A shard gets through
/// some thousand pushes meanwhile.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// How long a batch waits that failed over there: that takes a fault of the program, which may come
/// again, and is logged each time.
const RETRY_AFTER_FAULT: Duration = Duration::from_secs(1);

/// The topics of one shard, for its state. A clone is the same.
pub struct Topics<S>(Rc<Inner<S>>);

struct Inner<S> {
    local: Local<S>,
    directory: RefCell<Directory>,
    /// An event for which not all receivers' pushes found room. Nothing else is queued before it.
    unfinished: RefCell<Option<Unfinished>>,
    /// A task sees to what is unfinished, now and whatever takes its place meanwhile.
    is_finishing: Cell<bool>,
    counts: Counts,
}

struct Unfinished {
    frame: Shared,
    /// Last first.
    receivers: Vec<ConnectionId>,
}

impl<S> Clone for Topics<S> {
    fn clone(&self) -> Self {
        Topics(Rc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Topics<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topics").field(&self.figures()).finish()
    }
}

/// Has a router's server answer SUBSCRIBE, UNSUBSCRIBE and PUBLISH, and forget the connections that
/// are over. Gives back a code of theirs that had a handler, which is replaced.
pub fn serve<S>(router: &mut Router<S>) -> Option<u16>
where
    S: AsRef<Topics<S>> + 'static,
{
    router.on_close(|state, id, _cause| state.as_ref().leave(id));
    figures::show(router);
    // They wait for other shards and, where many are told, for the sends: a slow turn is told anyway.
    router.patient(codes::SUBSCRIBE);
    router.patient(codes::PUBLISH);
    let were_free = [
        (
            codes::SUBSCRIBE,
            router.async_handler(codes::SUBSCRIBE, |state, request| {
                subscribe(S::as_ref(&state), request)
            }),
        ),
        (
            codes::UNSUBSCRIBE,
            router.handler(codes::UNSUBSCRIBE, unsubscribe),
        ),
        (
            codes::PUBLISH,
            router.async_handler(codes::PUBLISH, |state, request| {
                publish(S::as_ref(&state).clone(), request)
            }),
        ),
    ];
    let taken = were_free.into_iter().find(|(_, was_free)| !was_free);
    taken.map(|(code, _)| code)
}

// What is done before there is a future is done while the connection is open for sure: `leave` comes
// after it.
fn subscribe<S>(topics: &Topics<S>, request: Request) -> impl Future<Output = Reply> + use<S>
where
    S: AsRef<Topics<S>> + 'static,
{
    let subscribed = Subscribe::decode(request.body())
        .map_err(|error| bad_body(&error))
        .and_then(|subscribe| {
            topics
                .subscribe(request.connection(), subscribe.topic)
                .map_err(refusal)
        });
    async move {
        let announcing = match subscribed {
            Ok(announcing) => announcing,
            Err(refusal) => return refusal,
        };
        if let Some(announcing) = announcing
            && let Err(error) = announcing.wait().await
        {
            return error.into();
        }
        Reply::new(request.into_body())
    }
}

fn unsubscribe<S>(state: &S, context: Context<'_>, body: &[u8]) -> Reply
where
    S: AsRef<Topics<S>> + 'static,
{
    match Unsubscribe::decode(body) {
        Ok(unsubscribe) => {
            let topics = state.as_ref();
            topics.unsubscribe(context.connection(), unsubscribe.topic);
            context.reply(body)
        }
        Err(error) => bad_body(&error),
    }
}

fn publish<S>(topics: Topics<S>, request: Request) -> impl Future<Output = Reply> + use<S>
where
    S: AsRef<Topics<S>> + 'static,
{
    let begun = match Publish::decode(request.body()) {
        Ok(publish) => topics.begin_publish(publish.topic, request.body()),
        Err(error) => Err(bad_body(&error)),
    };
    async move {
        let (queued_here, elsewhere) = match begun {
            Ok(begun) => begun,
            Err(refusal) => return refusal,
        };
        let here = match queued_here {
            Some(receivers) => receivers,
            None => topics.queue_when_there_is_room(request.body()).await,
        };
        let there = match elsewhere {
            Some(elsewhere) => match elsewhere.wait().await {
                Ok(receivers) => receivers,
                Err(error) => return error.into(),
            },
            None => 0,
        };
        Reply::message(&Published {
            receivers: here.saturating_add(there),
        })
    }
}

fn bad_body(error: &BodyError) -> Reply {
    Reply::error(Reason::BadBody, error.to_string())
}

fn refusal(refused: Refused) -> Reply {
    let reason = match refused {
        Refused::Overloaded => Reason::Overloaded,
        Refused::Connection(_) | Refused::Shard(_) | Refused::Distinct(_) => Reason::Rejected,
    };
    Reply::error(reason, refused.to_string())
}

impl<S> Topics<S> {
    /// How much there is on this shard.
    pub fn figures(&self) -> Figures {
        let directory = self.0.directory.borrow();
        let (waiting_events, waiting_bytes) = directory.waiting();
        Figures {
            subscriptions: directory.subscriptions(),
            subscribers: directory.subscribers(),
            topics: directory.topics(),
            subscribed: directory.subscribed(),
            unsettled: directory.unsettled(),
            waiting_events,
            waiting_bytes,
            published: self.0.counts.published.get(),
            delivered: self.0.counts.delivered.get(),
        }
    }
}

impl<S: AsRef<Topics<S>> + 'static> Topics<S> {
    /// Those of a shard that has none yet, by `[topics]` of the configuration.
    pub fn new(local: Local<S>, limits: config::Topics) -> Topics<S> {
        let directory = Directory::new(local.shard(), local.shards(), limits);
        Topics(Rc::new(Inner {
            local,
            directory: RefCell::new(directory),
            unfinished: RefCell::default(),
            is_finishing: Cell::new(false),
            counts: Counts::default(),
        }))
    }

    /// A connection is over, and its subscriptions with it.
    fn leave(&self, id: ConnectionId) {
        self.0.directory.borrow_mut().leave(id);
        self.see_to_links();
    }

    fn subscribe(&self, id: ConnectionId, topic: &str) -> Result<Option<Rc<Tally>>, Refused> {
        let subscribed = self.0.directory.borrow_mut().subscribe(id, topic);
        match subscribed {
            Ok(_) => self.see_to_links(),
            Err(refused) => self.0.counts.count_unsubscribed(refused),
        }
        subscribed
    }

    fn unsubscribe(&self, id: ConnectionId, topic: &str) {
        self.0.directory.borrow_mut().unsubscribe(id, topic);
        self.see_to_links();
    }

    /// Takes an event on for all shards or for none. Gives back for how many connections it was
    /// queued here, if there was room, and what sums up those of other shards.
    fn begin_publish(
        &self,
        topic: &str,
        body: &[u8],
    ) -> Result<(Option<u32>, Option<Rc<Tally>>), Reply> {
        let elsewhere = self
            .0
            .directory
            .borrow_mut()
            .post(topic, body, |bytes| self.0.local.charge(bytes))
            .map_err(|full| {
                self.0.counts.count_unpublished(full);
                Reply::error(Reason::Overloaded, full.to_string())
            })?;
        self.0.counts.published.add(1);
        self.see_to_links();
        Ok((self.queue(topic, body), elsewhere))
    }

    /// Queues an event for this shard's subscribers. Gives back how many they are, or nothing if
    /// there was no room; then it is queued for none of them.
    fn queue(&self, topic: &str, body: &[u8]) -> Option<u32> {
        if !self.finish() {
            return None;
        }
        let directory = self.0.directory.borrow();
        let receivers = directory.receivers(topic);
        if receivers.is_empty() {
            return Some(0);
        }
        let frame = match self.0.local.share(codes::EVENT, body) {
            Ok(frame) => frame,
            Err(error) => {
                // It came in a frame of a shard that had not yet taken over a lower limit.
                tracing::warn!(%error, "an event is dropped: limits.max_frame_bytes was lowered");
                return Some(0);
            }
        };
        let queued = self.push_to_all(receivers, &frame);
        if queued == 0 {
            return None;
        }
        if let Some(left) = receivers.get(queued..).filter(|left| !left.is_empty()) {
            let receivers = left.iter().rev().copied().collect();
            self.finish_later(Unfinished { frame, receivers });
        }
        self.0.counts.delivered.add(receivers.len() as u64);
        Some(u32::try_from(receivers.len()).unwrap_or(u32::MAX))
    }

    /// Gives back how many of them it was queued for.
    fn push_to_all(&self, receivers: &[ConnectionId], frame: &Shared) -> usize {
        let is_refused =
            |&to: &ConnectionId| self.0.local.push_shared(to, frame) == Err(PushError::Overloaded);
        let first_refused = receivers.iter().position(is_refused);
        first_refused.unwrap_or(receivers.len())
    }

    /// Goes on with the event that is queued for a part of its receivers. Gives back whether there
    /// is none any more.
    fn finish(&self) -> bool {
        let mut unfinished = self.0.unfinished.borrow_mut();
        if let Some(Unfinished { frame, receivers }) = &mut *unfinished {
            while let Some(&to) = receivers.last() {
                if self.0.local.push_shared(to, frame) == Err(PushError::Overloaded) {
                    return false;
                }
                receivers.pop();
            }
        }
        *unfinished = None;
        true
    }

    /// Has an event queued for the rest of its receivers as soon as there is room.
    fn finish_later(&self, unfinished: Unfinished) {
        self.0.unfinished.replace(Some(unfinished));
        if self.0.is_finishing.replace(true) {
            return;
        }
        let topics = self.clone();
        let finish = async move {
            while !topics.finish() {
                topics.0.local.room().await;
            }
            topics.0.is_finishing.set(false);
        };
        glommio::spawn_local(finish).detach();
    }

    async fn queue_when_there_is_room(&self, body: &[u8]) -> u32 {
        loop {
            self.0.local.room().await;
            match Publish::decode(body).map(|publish| self.queue(publish.topic, body)) {
                Ok(Some(receivers)) => return receivers,
                Ok(None) => {}
                // It was decoded before.
                Err(_) => return 0,
            }
        }
    }

    /// Has somebody see to all links that have something to tell.
    fn see_to_links(&self) {
        while let Some(shard) = self.next_stirred() {
            // At once, so that it leaves behind the frames that are being handled.
            if let Some(call) = self.send(shard) {
                glommio::spawn_local(self.clone().see_to_link(shard, call)).detach();
            }
        }
    }

    fn next_stirred(&self) -> Option<usize> {
        self.0.directory.borrow_mut().take_stirred()
    }

    async fn see_to_link(self, shard: usize, mut call: Call<Vec<u32>>) {
        loop {
            if let Some(pause) = self.settle(shard, call.await) {
                glommio::timer::sleep(pause).await;
            }
            call = match self.send(shard) {
                Some(call) => call,
                None => return,
            };
        }
    }

    /// A batch came back from that shard. Gives back how long to wait before the next, if at all.
    fn settle(&self, shard: usize, answer: Result<Vec<u32>, RunError>) -> Option<Duration> {
        match answer {
            Ok(receivers) => {
                let is_left = self.0.directory.borrow_mut().answered(shard, &receivers);
                is_left.then_some(RETRY_AFTER)
            }
            Err(RunError::Overloaded) => Some(RETRY_AFTER),
            Err(error) => {
                self.0.directory.borrow_mut().failed(shard, error);
                // What it would have told is announced anew, on all links.
                self.see_to_links();
                (error != RunError::Gone).then_some(RETRY_AFTER_FAULT)
            }
        }
    }

    /// Sends another shard what is to be sent there, if anything.
    fn send(&self, shard: usize) -> Option<Call<Vec<u32>>> {
        let (batch, first) = self.0.directory.borrow_mut().next_batch(shard)?;
        let from = self.0.local.shard();
        let receive = move |state: &S| state.as_ref().receive(from, &batch, first);
        Some(self.0.local.run_on(shard, receive))
    }

    /// Another shard has sent a batch, of which the events before this one were answered. Gives back
    /// the receivers of each event that there is room for now.
    fn receive(&self, from: usize, batch: &Arc<Batch>, first: usize) -> Vec<u32> {
        self.0
            .directory
            .borrow_mut()
            .note_wanted(from, &batch.wanted);
        let events = batch.events.iter().skip(first);
        events
            .map_while(|event| self.queue(&event.topic, &event.body))
            .collect()
    }
}
