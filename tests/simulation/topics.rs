//! What topics promise, once more, from what can be seen outside the shards alone: who may get which
//! EVENT, who must, and what the replies say.
//!
//! Everything is known by turns. A request is handled in the turn in which its last byte is received,
//! or later, and before the turn in which its reply is on its way to the peer. So whoever had the reply
//! to SUBSCRIBE when a PUBLISH was received was subscribed for sure, unless it had sent UNSUBSCRIBE or
//! had ended when that was answered; and whoever had not sent SUBSCRIBE when it was answered, or had
//! the reply to UNSUBSCRIBE or was gone when it was received, was not. The rest may have been either.

use std::collections::{BTreeMap, BTreeSet};

use corelane::apps::topics::Figures;

use crate::handlers::code;
use crate::network::{Link, Network};
use crate::peer::Peer;
use crate::wire::{HEADER_BYTES, u16_at, u32_at};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Subscribe,
    Unsubscribe,
    Publish,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// With this number of receivers, where one was asked for.
    Done(usize),
    Refused,
}

/// One request of a peer that is about topics.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    request: usize,
    /// Where the peer's stream goes on behind it.
    ends_at: usize,
    kind: Kind,
    topic: Vec<u8>,
    /// What the events of a PUBLISH carry.
    body: Vec<u8>,
    /// The turn in which a shard had got all of it.
    received: Option<u64>,
    /// The turn in which its reply was on its way, and the time.
    answered: Option<(u64, u64, Answer)>,
    /// The peers that got the event.
    arrived: BTreeSet<usize>,
}

impl Act {
    /// The act that this frame is, if it is one.
    pub(crate) fn of((request, ends_at): (usize, usize), code: u16, body: &[u8]) -> Option<Act> {
        let (kind, topic) = match code {
            code::SUBSCRIBE => (Kind::Subscribe, body),
            code::UNSUBSCRIBE => (Kind::Unsubscribe, body),
            code::PUBLISH => (Kind::Publish, topic_of(body)?),
            _ => return None,
        };
        Some(Act {
            request,
            ends_at,
            kind,
            topic: topic.to_vec(),
            body: body.to_vec(),
            received: None,
            answered: None,
            arrived: BTreeSet::new(),
        })
    }

    fn answered_turn(&self) -> Option<u64> {
        self.answered.map(|(turn, ..)| turn)
    }

    fn answer(&self) -> Option<Answer> {
        self.answered.map(|(.., answer)| answer)
    }
}

/// Where a PUBLISH or an EVENT goes.
fn topic_of(body: &[u8]) -> Option<&[u8]> {
    body.get(1..1 + usize::from(*body.first()?))
}

/// One peer's part.
#[derive(Debug)]
struct Part {
    acts: Vec<Act>,
    /// Those before this one were received.
    next: usize,
    /// The turn from which on it may get nothing more.
    ended: Option<u64>,
    /// The turn in which its connection was closed.
    gone: Option<u64>,
    /// By publisher and topic: the request of the last event.
    latest: BTreeMap<(usize, Vec<u8>), usize>,
}

impl Part {
    /// The SUBSCRIBEs to a topic, each with the UNSUBSCRIBE that ends it.
    fn subscriptions(&self, topic: &[u8]) -> impl Iterator<Item = (&Act, Option<&Act>)> {
        let of_topic = self.acts.iter().enumerate();
        let of_topic = of_topic.filter(move |(_, act)| act.topic == topic);
        let begun = of_topic.filter(|(_, act)| act.kind == Kind::Subscribe);
        begun.map(move |(at, act)| {
            let mut later = self.acts[at..].iter();
            let end = later.find(|l| l.kind == Kind::Unsubscribe && l.topic == act.topic);
            (act, end)
        })
    }

    /// Whether it was subscribed for sure when what was published in these turns was queued.
    fn was_surely_subscribed(&self, topic: &[u8], (from, to): (u64, u64)) -> bool {
        let is_done = |act: &Act| {
            let answered = act.answered.filter(|answered| answered.0 <= from);
            answered.is_some_and(|(.., answer)| answer != Answer::Refused)
        };
        let goes_on = |end: Option<&Act>| {
            let received = end.and_then(|end| end.received);
            received.is_none_or(|at| at >= to)
        };
        let mut subscriptions = self.subscriptions(topic);
        self.ended.is_none_or(|at| at >= to)
            && subscriptions.any(|(act, end)| is_done(act) && goes_on(end))
    }

    /// Whether it may have been.
    fn may_have_been_subscribed(&self, topic: &[u8], (from, to): (u64, u64)) -> bool {
        let is_begun = |act: &Act| {
            let is_refused = act.answer() == Some(Answer::Refused);
            !is_refused && act.received.is_some_and(|at| at <= to)
        };
        let goes_on = |end: Option<&Act>| {
            let answered = end.and_then(Act::answered_turn);
            answered.is_none_or(|at| at >= from)
        };
        let mut subscriptions = self.subscriptions(topic);
        self.gone.is_none_or(|at| at >= from)
            && subscriptions.any(|(act, end)| is_begun(act) && goes_on(end))
    }

    fn act_of(&self, request: usize) -> Option<usize> {
        self.acts
            .binary_search_by_key(&request, |act| act.request)
            .ok()
    }
}

/// What all peers ask of topics, and what came of it.
#[derive(Debug)]
pub(crate) struct Oracle {
    /// By peer.
    parts: Vec<Part>,
    turn: u64,
    now_us: u64,
}

impl Oracle {
    pub(crate) fn new(peers: &[Peer]) -> Oracle {
        let part = |peer: &Peer| Part {
            acts: peer.expected.acts.clone(),
            next: 0,
            ended: None,
            gone: None,
            latest: BTreeMap::new(),
        };
        Oracle {
            parts: peers.iter().map(part).collect(),
            turn: 0,
            now_us: 0,
        }
    }

    fn publishes(&self) -> impl Iterator<Item = (usize, &Act)> {
        let acts = self.parts.iter().enumerate();
        let acts = acts.flat_map(|(peer, part)| part.acts.iter().map(move |act| (peer, act)));
        acts.filter(|(_, act)| act.kind == Kind::Publish)
    }

    /// Bytes of all events that one peer may get.
    pub(crate) fn event_bytes(&self) -> usize {
        let bytes = self
            .publishes()
            .map(|(_, act)| HEADER_BYTES + act.body.len());
        bytes.sum()
    }

    /// After a turn, before what it has sent is judged.
    pub(crate) fn note_turn(&mut self, network: &Network, peers: &[Peer]) {
        (self.turn, self.now_us) = (network.turn, network.now_us);
        for ((part, link), peer) in self.parts.iter_mut().zip(&network.links).zip(peers) {
            while let Some(act) = part.acts.get_mut(part.next)
                && act.ends_at <= link.received_bytes
            {
                act.received = Some(self.turn);
                part.next += 1;
            }
            if peer.is_at_its_end(link) || has_ended(link) {
                part.ended.get_or_insert(self.turn);
            }
            if link.closed.is_some() {
                part.gone.get_or_insert(self.turn);
            }
        }
    }

    /// A request was answered, if it is about topics.
    pub(crate) fn answered(
        &mut self,
        (peer, request): (usize, usize),
        (code, body): (u16, &[u8]),
    ) -> Result<(), String> {
        let Some(at) = self.parts[peer].act_of(request) else {
            return Ok(());
        };
        let answer = match code {
            code::ERROR => Answer::Refused,
            code::PUBLISH => Answer::Done(u32_at(body, 0) as usize),
            _ => Answer::Done(0),
        };
        let act = &mut self.parts[peer].acts[at];
        act.answered = Some((self.turn, self.now_us, answer));
        if act.kind == Kind::Publish {
            self.judge_receivers(peer, &self.parts[peer].acts[at])?;
        }
        Ok(())
    }

    /// Whether those who got an event, and those who must or may get it, fit its answer.
    fn judge_receivers(&self, peer: usize, act: &Act) -> Result<(), String> {
        let (Some(from), Some((to, _, answer))) = (act.received, act.answered) else {
            return Ok(());
        };
        let arrived = act.arrived.len();
        let name = format!("request {} of peer {peer}", act.request);
        let Answer::Done(receivers) = answer else {
            return match arrived {
                0 => Ok(()),
                _ => Err(format!("{name} was refused, and its event came")),
            };
        };
        if arrived > receivers {
            return Err(format!("{name} came to {arrived} peers of {receivers}"));
        }
        let span = (from, to);
        let count = |is_counted: fn(&Part, &[u8], (u64, u64)) -> bool| {
            let parts = self.parts.iter();
            parts
                .filter(|part| is_counted(part, &act.topic, span))
                .count()
        };
        let least = count(Part::was_surely_subscribed);
        let most = count(Part::may_have_been_subscribed);
        if !(least..=most).contains(&receivers) {
            return Err(format!(
                "{name} was queued for {receivers} peers, not {least} to {most}"
            ));
        }
        Ok(())
    }

    /// An event came to a peer.
    pub(crate) fn arrived(&mut self, peer: usize, body: &[u8]) -> Result<(), String> {
        let topic = topic_of(body).ok_or("an event without a topic")?.to_vec();
        let payload = &body[1 + topic.len()..];
        if payload.len() < 4 {
            return Err(format!("nobody published {body:?}"));
        }
        let from = (usize::from(u16_at(payload, 0)), u16_at(payload, 2).into());
        let (turn, publisher) = (self.turn, self.parts.get_mut(from.0));
        let act = publisher.and_then(|part| part.act_of(from.1).map(|at| &mut part.acts[at]));
        let Some(act) = act.filter(|act| act.kind == Kind::Publish && act.body == body) else {
            return Err(format!("nobody published {body:?}"));
        };
        let Some(received) = act.received else {
            return Err(format!("{from:?} came before it was published"));
        };
        if !act.arrived.insert(peer) {
            return Err(format!("{from:?} came twice"));
        }
        let span = (received, act.answered_turn().unwrap_or(turn));
        let act = act.clone();
        self.judge_receivers(from.0, &act)?;
        let part = &mut self.parts[peer];
        if !part.may_have_been_subscribed(&topic, span) {
            return Err(format!("{from:?} came to who was not subscribed"));
        }
        match part.latest.insert((from.0, topic), from.1) {
            Some(latest) if latest > from.1 => Err(format!("{from:?} came after {latest}")),
            _ => Ok(()),
        }
    }

    /// When it is all over: who was subscribed got everything, up to the last that it got, or to the
    /// end where it stayed until then.
    pub(crate) fn judge_end(&self, stays: &[usize], stop_us: u64) {
        for (publisher, act) in self.publishes() {
            let (Some(received), Some((turn, at_us, Answer::Done(_)))) =
                (act.received, act.answered)
            else {
                continue;
            };
            for (peer, part) in self.parts.iter().enumerate() {
                let latest = part.latest.get(&(publisher, act.topic.clone()));
                let is_passed = latest.is_some_and(|latest| *latest > act.request);
                let is_due = stays.contains(&peer) && at_us < stop_us;
                let is_missing = (is_passed || is_due)
                    && part.was_surely_subscribed(&act.topic, (received, turn))
                    && !act.arrived.contains(&peer);
                let request = act.request;
                assert!(
                    !is_missing,
                    "peer {peer} misses the event of request {request} of peer {publisher}"
                );
            }
        }
    }

    /// The same, of each shard's own figures.
    pub(crate) fn judge_figures(&self, shards: &[Figures]) {
        for (number, figures) in shards.iter().enumerate() {
            let left = [
                figures.subscriptions,
                figures.subscribers,
                figures.topics,
                figures.subscribed,
                figures.unsettled,
                figures.waiting_events,
                figures.waiting_bytes,
            ];
            assert_eq!(left, [0; 7], "shard {number} has kept some of {figures:?}");
        }
        let published: u64 = shards.iter().map(|figures| figures.published).sum();
        let delivered: u64 = shards.iter().map(|figures| figures.delivered).sum();
        let is_done = |act: &&Act| matches!(act.answer(), Some(Answer::Done(_)));
        let done = self.publishes().filter(|(_, act)| is_done(act)).count() as u64;
        let begun = self
            .publishes()
            .filter(|(_, act)| act.received.is_some() && act.answer() != Some(Answer::Refused));
        let begun = begun.count() as u64;
        assert!((done..=begun).contains(&published), "{published} published");
        let arrived: usize = self.publishes().map(|(_, act)| act.arrived.len()).sum();
        assert!(
            arrived as u64 <= delivered,
            "{arrived} events came, {delivered} were queued"
        );
    }
}

/// Whether pushes may not reach a peer any more.
fn has_ended(link: &Link) -> bool {
    link.shutdown_us.is_some()
        || link.closed.is_some()
        || link.life.cancelled
        || link.life.ended.is_some()
}
