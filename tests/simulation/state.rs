//! The state of all shards under test, and what their handlers notice: whether they are called in
//! order, one at a time, for one peer a connection, within a turn's share and a bucket's rate.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::task::Waker;

use corelane::handler::ConnectionId;
use corelane::shard::Settings;

use crate::forum::Forum;
use crate::handlers::code;
use crate::mesh::Mesh;
use crate::model;
use crate::random::Random;
use crate::rate::{Bucket, PatientBucket, Rate};
use crate::wire::u16_at;

/// What went wrong where no assertion helps, because the shard would catch its panic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Violations(Rc<RefCell<Vec<String>>>);

impl Violations {
    pub(crate) fn add(&self, violation: fmt::Arguments<'_>) {
        self.0.borrow_mut().push(violation.to_string());
    }

    pub(crate) fn assert_none(&self) {
        let violations = self.0.borrow();
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }
}

/// How the shard stands with one peer.
#[derive(Debug)]
pub(crate) struct Flow {
    requests: Vec<model::Request>,
    /// Bytes that the shard knows to have been sent to it.
    pub(crate) sent_bytes: usize,
    /// The latest turn in which it was told of some, and how many they were before.
    sent_before: (u64, usize),
    /// The last request that a handler got.
    handled: Option<usize>,
    /// An asynchronous handler got it.
    handled_async: bool,
    at_work: bool,
    /// When a handler got a request last.
    pub(crate) frame_us: u64,
    /// The turn of that, and what handlers got in it.
    pub(crate) turn: u64,
    turn_frames: u32,
    turn_bytes: usize,
    /// Its shard's, when that was asked last.
    rate: Option<Rate>,
    /// As if no frame had ever had to wait.
    bucket: Bucket,
    /// As if each frame had waited since the one before.
    patient: PatientBucket,
    /// A frame was one too many by the rate before, if one came.
    was_flood: bool,
    /// From so many bytes on, at most, it is paused since a handler got a request last.
    pub(crate) high_bytes: usize,
}

impl Flow {
    pub(crate) fn new(requests: Vec<model::Request>) -> Flow {
        Flow {
            requests,
            sent_bytes: 0,
            sent_before: (0, 0),
            handled: None,
            handled_async: false,
            at_work: false,
            frame_us: 0,
            turn: 0,
            turn_frames: 0,
            turn_bytes: 0,
            rate: None,
            bucket: Bucket::default(),
            patient: PatientBucket::default(),
            was_flood: false,
            high_bytes: 0,
        }
    }

    /// Bytes that at least wait for this peer, if the shard has answered all that it handled.
    pub(crate) fn queued_bytes_min(&self) -> Option<usize> {
        let handled = self.handled.filter(|_| !self.handled_async)?;
        let answered_bytes = self.requests[handled].after_bytes;
        Some(answered_bytes.saturating_sub(self.sent_bytes))
    }

    /// The shard is told that so many more bytes were sent.
    pub(crate) fn sent(&mut self, turn: u64, bytes: usize) {
        if self.sent_before.0 != turn {
            self.sent_before = (turn, self.sent_bytes);
        }
        self.sent_bytes += bytes;
    }

    /// Bytes that were sent as far as the shard knew when this turn began.
    pub(crate) fn sent_bytes_before(&self, turn: u64) -> usize {
        match self.sent_before {
            (latest, bytes) if latest == turn => bytes,
            _ => self.sent_bytes,
        }
    }

    /// Bytes that the replies to everything that the peer sends have at most: no text of the shard's
    /// own or of its topics has two hundred.
    pub(crate) fn all_bytes_max(&self) -> usize {
        let bytes_min = self.requests.last().map_or(0, |last| last.after_bytes);
        bytes_min + 200 * self.requests.len()
    }

    /// Bytes that the replies to what synchronous handlers got have at least.
    pub(crate) fn answered_bytes_min(&self) -> usize {
        self.handled.map_or(0, |handled| {
            let request = &self.requests[handled];
            if self.handled_async {
                request.before_bytes
            } else {
                request.after_bytes
            }
        })
    }

    /// Whether there may be something to send for the last request that a handler got.
    pub(crate) fn may_have_reply(&self) -> bool {
        self.handled.is_some_and(|handled| {
            let request = &self.requests[handled];
            request.after_bytes > request.before_bytes || request.may_overload
        })
    }

    /// Where the stream goes on behind the request that an asynchronous handler works on.
    pub(crate) fn at_work_ends_at(&self) -> Option<usize> {
        let handled = self.handled.filter(|_| self.at_work)?;
        Some(self.requests[handled].ends_at)
    }

    /// How many of so many bytes are whole frames.
    pub(crate) fn whole_bytes(&self, received_bytes: usize) -> usize {
        let whole = self
            .requests
            .partition_point(|request| request.ends_at <= received_bytes);
        whole
            .checked_sub(1)
            .map_or(0, |last| self.requests[last].ends_at)
    }

    /// The whole frames in so many bytes that no handler has got.
    fn unhandled(&self, received_bytes: usize) -> impl Iterator<Item = &model::Request> {
        let first = self.handled.map_or(0, |handled| handled + 1);
        self.requests[first..]
            .iter()
            .take_while(move |request| request.ends_at <= received_bytes)
    }

    /// Whether a handler is yet to get one of the whole frames in so many bytes.
    pub(crate) fn has_unhandled(&self, received_bytes: usize) -> bool {
        self.unhandled(received_bytes)
            .any(|request| request.is_seen && !request.may_overload)
    }

    /// The same of the very next frame: those that no handler gets take their turns unseen.
    pub(crate) fn has_next(&self, received_bytes: usize) -> bool {
        self.unhandled(received_bytes)
            .next()
            .is_some_and(|request| request.is_seen && !request.may_overload)
    }

    /// Whether one of the whole frames in so many bytes may have been refused since the latest that a
    /// handler got, as too many were at work.
    pub(crate) fn may_be_refused(&self, received_bytes: usize) -> bool {
        self.unhandled(received_bytes)
            .any(|request| request.may_overload)
    }

    /// Whether another frame at this time is more than may come.
    pub(crate) fn is_flood(&self, at_us: u64) -> bool {
        let has_token = |rate| self.bucket.has_token(rate, at_us);
        self.was_flood || self.rate.is_some_and(|rate| !has_token(rate))
    }

    /// A PING has no number: it is the next one that there is.
    fn next_ping(&self) -> Option<usize> {
        let first = self.handled.map_or(0, |handled| handled + 1);
        let is_ping = |request: &model::Request| request.is_seen && request.code == code::PING;
        let next = self.requests[first..].iter().position(is_ping);
        next.map(|next| first + next)
    }

    /// The next request that comes to a handler, unless it is turned away.
    fn next_seen(&self) -> Option<usize> {
        let first = self.handled.map_or(0, |handled| handled + 1);
        let next = self.requests[first..]
            .iter()
            .position(|request| request.is_seen);
        next.map(|next| first + next)
    }
}

/// The state of the shards under test.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) violations: Violations,
    pub(crate) now_us: Cell<u64>,
    /// The number of the turn, of whichever shard.
    pub(crate) turn: Cell<u64>,
    /// One a peer.
    pub(crate) flows: RefCell<Vec<Flow>>,
    connections: RefCell<BTreeMap<ConnectionId, Seen>>,
    sleepers: RefCell<Vec<(u64, Waker)>>,
    random: RefCell<Random>,
    pub(crate) frame_bytes_max: usize,
    /// By shard.
    rules: RefCell<Vec<(Rc<Settings>, Option<Rate>)>>,
    /// Out of a hundred handlers.
    long_naps_percent: u64,
    pub(crate) mesh: Mesh,
    pub(crate) forum: Forum,
}

#[derive(Debug)]
struct Seen {
    peer: usize,
    counted: u32,
    at_work: bool,
}

impl State {
    pub(crate) fn new(
        mut random: Random,
        flows: Vec<Flow>,
        (settings, rate): (&Rc<Settings>, Option<Rate>),
        shards: usize,
        long_naps_percent: u64,
    ) -> State {
        let violations = Violations::default();
        State {
            mesh: Mesh::new(violations.clone(), random.fork()),
            forum: Forum::default(),
            violations,
            now_us: Cell::new(0),
            turn: Cell::new(0),
            flows: RefCell::new(flows),
            connections: RefCell::default(),
            sleepers: RefCell::default(),
            random: RefCell::new(random),
            frame_bytes_max: settings.frame_bytes_max,
            rules: RefCell::new(vec![(Rc::clone(settings), rate); shards]),
            long_naps_percent,
        }
    }

    /// Wakes the handlers whose nap is over.
    pub(crate) fn wake_sleepers(&self) {
        let now_us = self.now_us.get();
        self.sleepers.borrow_mut().retain(|(until_us, waker)| {
            if *until_us <= now_us {
                waker.wake_by_ref();
            }
            *until_us > now_us
        });
    }

    pub(crate) fn next_wake_us(&self) -> Option<u64> {
        self.sleepers.borrow().iter().map(|(at_us, _)| *at_us).min()
    }

    pub(crate) fn sleep(&self, until_us: u64, waker: Waker) {
        self.sleepers.borrow_mut().push((until_us, waker));
    }

    /// How often a handler naps, and how long at most.
    pub(crate) fn draw_naps(&self) -> (usize, u64) {
        let mut random = self.random.borrow_mut();
        let times = random.between(0, 3);
        let is_long = random.percent(self.long_naps_percent);
        (times, if is_long { 100_000 } else { 400 })
    }

    pub(crate) fn draw_us(&self, longest_us: u64) -> u64 {
        self.random.borrow_mut().between_us(0, longest_us)
    }

    /// A peer's connection has this id now.
    pub(crate) fn admit(&self, id: ConnectionId, peer: usize) {
        let seen = Seen {
            peer,
            counted: 0,
            at_work: false,
        };
        self.connections.borrow_mut().insert(id, seen);
        self.flows.borrow_mut()[peer].rate = self.rules.borrow()[id.shard()].1;
    }

    /// A shard goes by other settings from now on. With another rate, everybody there has a full
    /// bucket.
    pub(crate) fn reload(&self, shard: usize, settings: &Rc<Settings>, rate: Option<Rate>) {
        let former = std::mem::replace(
            &mut self.rules.borrow_mut()[shard],
            (Rc::clone(settings), rate),
        );
        let connections = self.connections.borrow();
        for (_, seen) in connections.iter().filter(|(id, _)| id.shard() == shard) {
            let flow = &mut self.flows.borrow_mut()[seen.peer];
            flow.high_bytes = flow.high_bytes.max(settings.outbound_high_bytes);
            if former.0.flood != settings.flood {
                flow.was_flood = flow.is_flood(flow.frame_us);
                flow.rate = rate;
                (flow.bucket, flow.patient) = Default::default();
            }
        }
    }

    /// A PING came.
    pub(crate) fn enter_ping(&self, id: ConnectionId) {
        self.enter_next(id, None, false);
    }

    /// A request came.
    pub(crate) fn enter(&self, id: ConnectionId, body: &[u8], is_async: bool) {
        if body.len() < 4 {
            self.violations
                .add(format_args!("{id}: nobody sent the body {body:?}"));
            return;
        }
        let from = (usize::from(u16_at(body, 0)), usize::from(u16_at(body, 2)));
        self.enter_next(id, Some(from), is_async);
    }

    /// A request came, which is from this peer and has this number if it says so.
    fn enter_next(&self, id: ConnectionId, from: Option<(usize, usize)>, is_async: bool) {
        let violations = &self.violations;
        let mut connections = self.connections.borrow_mut();
        let Some(seen) = connections.get_mut(&id) else {
            violations.add(format_args!("nobody is {id}"));
            return;
        };
        let mut flows = self.flows.borrow_mut();
        let flow = &mut flows[seen.peer];
        let next = flow.next_seen();
        let number = match from {
            Some((peer, _)) if peer != seen.peer => {
                violations.add(format_args!("{id} is peer {}, not {peer}", seen.peer));
                return;
            }
            Some((_, number)) => Some(number),
            None => flow.next_ping(),
        };
        let Some((number, request)) = number.and_then(|n| Some((n, *flow.requests.get(n)?))) else {
            violations.add(format_args!("{id}: {from:?} is handled after the end"));
            return;
        };
        if seen.at_work {
            violations.add(format_args!(
                "{id}: request {number} is handled while a handler is at work"
            ));
        }
        let was_turned_away = |next: usize| {
            next < number
                && flow.requests[next..number]
                    .iter()
                    .all(|r| !r.is_seen || r.may_overload)
        };
        if !next.is_some_and(|next| next == number || was_turned_away(next)) {
            violations.add(format_args!("{id}: request {number} came, not {next:?}"));
        }
        let queued_bytes = request.before_bytes.saturating_sub(flow.sent_bytes);
        let settings = Rc::clone(&self.rules.borrow()[id.shard()].0);
        if queued_bytes >= settings.outbound_high_bytes {
            violations.add(format_args!(
                "{id}: request {number} is handled although {queued_bytes} bytes are queued"
            ));
        }
        self.take_share(id, flow, request.bytes, &settings);
        flow.high_bytes = settings.outbound_high_bytes;
        flow.handled = Some(number);
        flow.handled_async = is_async;
        flow.at_work = is_async;
        flow.frame_us = self.now_us.get();
        seen.at_work = is_async;
    }

    /// A frame takes its part of its connection's turn and bucket, which must be there.
    fn take_share(
        &self,
        id: ConnectionId,
        flow: &mut Flow,
        frame_bytes: usize,
        settings: &Settings,
    ) {
        let now_us = self.now_us.get();
        if flow.turn != self.turn.get() {
            flow.turn = self.turn.get();
            (flow.turn_frames, flow.turn_bytes) = (0, 0);
        }
        let (frames, bytes) = (flow.turn_frames, flow.turn_bytes);
        if frames >= settings.turn_frames_max || bytes >= settings.turn_bytes_max {
            self.violations.add(format_args!(
                "{id}: another frame in a turn that had {frames} with {bytes} bytes"
            ));
        }
        flow.turn_frames += 1;
        flow.turn_bytes += frame_bytes;
        flow.was_flood = false;
        if let Some(rate) = flow.rate {
            if !flow.patient.take(rate, now_us) {
                self.violations
                    .add(format_args!("{id}: a frame too many is handled"));
            }
            flow.bucket.take(rate, now_us);
        }
    }

    /// The asynchronous handler at work for this connection is not any more.
    pub(crate) fn leave(&self, id: ConnectionId) {
        if let Some(seen) = self.connections.borrow_mut().get_mut(&id) {
            seen.at_work = false;
            self.flows.borrow_mut()[seen.peer].at_work = false;
        }
    }

    pub(crate) fn count(&self, id: ConnectionId) -> u32 {
        self.connections
            .borrow_mut()
            .get_mut(&id)
            .map_or(0, |seen| {
                seen.counted += 1;
                seen.counted
            })
    }
}
