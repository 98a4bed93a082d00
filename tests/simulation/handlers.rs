//! The handlers under test, and what they notice themselves: whether they are called in order,
//! one at a time, for one peer a connection.
//!
//! Panics are caught by the shard, so nothing here asserts: see [`Violations`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};

use corelane::handler::{ConnectionId, Reply, Request, Router};
use corelane::protocol::Reason;

use crate::model;
use crate::random::Random;
use crate::wire::u16_at;

/// Message codes, and what their handlers do. Every body begins with the peer's number and the
/// request's, 16 bits each; PING has none.
pub(crate) mod code {
    pub(crate) const PING: u16 = 0;
    pub(crate) const ECHO: u16 = 1;
    pub(crate) const ERROR: u16 = 2;
    /// Answers how often the connection has asked.
    pub(crate) const COUNT: u16 = 1000;
    pub(crate) const ASYNC_ECHO: u16 = 1001;
    pub(crate) const NONE: u16 = 1002;
    pub(crate) const ASYNC_NONE: u16 = 1003;
    /// Answers ERROR with the reason that the body names.
    pub(crate) const ERROR_REPLY: u16 = 1004;
    pub(crate) const ASYNC_ERROR_REPLY: u16 = 1005;
    /// Answers under the code that the body names.
    pub(crate) const WITH_CODE: u16 = 1006;
    pub(crate) const ASYNC_WITH_CODE: u16 = 1007;
    /// Writes the body backwards, in place.
    pub(crate) const REVERSED: u16 = 1008;
    /// Answers with as many bytes as the body names.
    pub(crate) const AMPLIFY: u16 = 1009;
    pub(crate) const OVERSIZED: u16 = 1010;
    pub(crate) const OVERSIZED_IN_PLACE: u16 = 1011;
    pub(crate) const ASYNC_OVERSIZED: u16 = 1012;
    pub(crate) const PANIC: u16 = 1013;
    /// Panics in the middle of its reply.
    pub(crate) const PANIC_HALFWAY: u16 = 1014;
    pub(crate) const ASYNC_PANIC: u16 = 1015;
    /// An asynchronous one that panics before there is a future.
    pub(crate) const PANIC_AT_START: u16 = 1016;
    pub(crate) const UNKNOWN: u16 = 1017;
}

/// What [`code::AMPLIFY`] fills its reply with.
pub(crate) const FILLER: u8 = 0x5a;

/// What panics on purpose say, so that the test's panic hook knows them.
pub(crate) const ON_PURPOSE: &str = "on purpose";

/// The text of [`code::ERROR_REPLY`]: whom it is for, as often as the body says.
pub(crate) fn error_text(body: &[u8]) -> String {
    let times = usize::from(body.get(6).copied().unwrap_or(1));
    format!("{}/{} ", u16_at(body, 0), u16_at(body, 2)).repeat(times)
}

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
    /// The last request that a handler got.
    handled: Option<u16>,
    /// An asynchronous handler got it.
    handled_async: bool,
    at_work: bool,
}

impl Flow {
    pub(crate) fn new(requests: Vec<model::Request>) -> Flow {
        Flow {
            requests,
            sent_bytes: 0,
            handled: None,
            handled_async: false,
            at_work: false,
        }
    }

    /// Bytes that at least wait for this peer, if the shard has answered all that it handled.
    pub(crate) fn queued_bytes_min(&self) -> Option<usize> {
        let handled = self.handled.filter(|_| !self.handled_async)?;
        let answered_bytes = self.requests[usize::from(handled)].after_bytes;
        Some(answered_bytes.saturating_sub(self.sent_bytes))
    }

    /// Bytes that the replies to what synchronous handlers got have at least.
    pub(crate) fn answered_bytes_min(&self) -> usize {
        self.handled.map_or(0, |handled| {
            let request = &self.requests[usize::from(handled)];
            if self.handled_async {
                request.before_bytes
            } else {
                request.after_bytes
            }
        })
    }

    /// Where the stream goes on behind the request that an asynchronous handler works on.
    pub(crate) fn at_work_ends_at(&self) -> Option<usize> {
        let handled = self.handled.filter(|_| self.at_work)?;
        Some(self.requests[usize::from(handled)].ends_at)
    }
}

/// The state of the shard under test.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) violations: Violations,
    pub(crate) now_us: Cell<u64>,
    /// One a peer.
    pub(crate) flows: RefCell<Vec<Flow>>,
    connections: RefCell<BTreeMap<ConnectionId, Seen>>,
    sleepers: RefCell<Vec<(u64, Waker)>>,
    random: RefCell<Random>,
    frame_bytes_max: usize,
    outbound_high_bytes: usize,
    /// Out of a hundred handlers.
    long_naps_percent: u64,
}

#[derive(Debug)]
struct Seen {
    peer: u16,
    counted: u32,
    at_work: bool,
}

impl State {
    pub(crate) fn new(
        random: Random,
        flows: Vec<Flow>,
        settings: &corelane::shard::Settings,
        long_naps_percent: u64,
    ) -> State {
        State {
            violations: Violations::default(),
            now_us: Cell::new(0),
            flows: RefCell::new(flows),
            connections: RefCell::default(),
            sleepers: RefCell::default(),
            random: RefCell::new(random),
            frame_bytes_max: settings.frame_bytes_max,
            outbound_high_bytes: settings.outbound_high_bytes,
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

    /// A PING came.
    fn enter_ping(&self, id: ConnectionId) {
        if self
            .connections
            .borrow()
            .get(&id)
            .is_some_and(|s| s.at_work)
        {
            self.violations.add(format_args!(
                "{id}: handled a PING while a handler is at work"
            ));
        }
    }

    /// A request came.
    fn enter(&self, id: ConnectionId, body: &[u8], is_async: bool) {
        if body.len() < 4 {
            self.violations
                .add(format_args!("{id}: nobody sent the body {body:?}"));
            return;
        }
        let (peer, number) = (u16_at(body, 0), u16_at(body, 2));
        let mut connections = self.connections.borrow_mut();
        let seen = connections.entry(id).or_insert(Seen {
            peer,
            counted: 0,
            at_work: false,
        });
        let mut flows = self.flows.borrow_mut();
        let flow = &mut flows[usize::from(peer)];
        let violations = &self.violations;
        if seen.peer != peer {
            violations.add(format_args!("{id} is peer {}, not {peer}", seen.peer));
        }
        if seen.at_work {
            violations.add(format_args!(
                "{id}: request {number} is handled while a handler is at work"
            ));
        }
        if flow.handled.is_some_and(|handled| handled >= number) {
            violations.add(format_args!("{id}: request {number} came out of order"));
        }
        let Some(request) = flow.requests.get(usize::from(number)) else {
            violations.add(format_args!(
                "{id}: request {number} is handled after the end"
            ));
            return;
        };
        let queued_bytes = request.before_bytes.saturating_sub(flow.sent_bytes);
        if queued_bytes >= self.outbound_high_bytes {
            violations.add(format_args!(
                "{id}: request {number} is handled although {queued_bytes} bytes are queued"
            ));
        }
        flow.handled = Some(number);
        flow.handled_async = is_async;
        flow.at_work = is_async;
        seen.at_work = is_async;
    }

    fn count(&self, id: ConnectionId) -> u32 {
        self.connections
            .borrow_mut()
            .get_mut(&id)
            .map_or(0, |seen| {
                seen.counted += 1;
                seen.counted
            })
    }
}

/// An asynchronous handler is at work for as long as this lives.
struct AtWork {
    state: Rc<State>,
    id: ConnectionId,
}

impl AtWork {
    fn enter(state: &Rc<State>, request: &Request) -> AtWork {
        state.enter(request.connection(), request.body(), true);
        AtWork {
            state: Rc::clone(state),
            id: request.connection(),
        }
    }

    /// Waits for some random while.
    fn nap(&self) -> Nap {
        let mut random = self.state.random.borrow_mut();
        Nap {
            state: Rc::clone(&self.state),
            times: random.between(0, 3),
            longest_us: if random.percent(self.state.long_naps_percent) {
                100_000
            } else {
                400
            },
            until_us: 0,
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if let Some(seen) = self.state.connections.borrow_mut().get_mut(&self.id) {
            seen.at_work = false;
            self.state.flows.borrow_mut()[usize::from(seen.peer)].at_work = false;
        }
    }
}

struct Nap {
    state: Rc<State>,
    times: usize,
    longest_us: u64,
    until_us: u64,
}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<()> {
        let now_us = self.state.now_us.get();
        if now_us >= self.until_us {
            if self.times == 0 {
                return Poll::Ready(());
            }
            self.times -= 1;
            let longest_us = self.longest_us;
            let nap_us = self.state.random.borrow_mut().between_us(0, longest_us);
            self.until_us = now_us + nap_us;
        }
        let waker = context.waker().clone();
        self.state
            .sleepers
            .borrow_mut()
            .push((self.until_us, waker));
        Poll::Pending
    }
}

fn reason_in(body: &[u8]) -> Reason {
    Reason::from_number(u16_at(body, 4)).unwrap_or(Reason::Rejected)
}

/// The table under test.
pub(crate) fn router() -> Router<State> {
    let mut router = Router::new();
    sync_handlers(&mut router);
    failing_handlers(&mut router);
    async_handlers(&mut router);
    router
}

fn sync_handlers(router: &mut Router<State>) {
    router.handler(code::PING, |state: &State, context, _| {
        state.enter_ping(context.connection());
        context.reply(&[])
    });
    router.handler(code::ECHO, |state: &State, context, body| {
        state.enter(context.connection(), body, false);
        context.reply(body)
    });
    router.handler(code::COUNT, |state: &State, context, body| {
        state.enter(context.connection(), body, false);
        let mut reply = body[..4].to_vec();
        reply.extend_from_slice(&state.count(context.connection()).to_be_bytes());
        Reply::new(reply)
    });
    router.handler(code::NONE, |state: &State, context, body| {
        state.enter(context.connection(), body, false);
        Reply::none()
    });
    router.handler(code::ERROR_REPLY, |state: &State, context, body| {
        state.enter(context.connection(), body, false);
        Reply::error(reason_in(body), error_text(body))
    });
    router.handler(code::WITH_CODE, |state: &State, context, body| {
        state.enter(context.connection(), body, false);
        Reply::with_code(u16_at(body, 4), body.to_vec())
    });
    router.handler(code::REVERSED, |state: &State, context, body| {
        state.enter(context.connection(), body, false);
        context.reply_with(code::REVERSED, |reply| {
            for byte in body.iter().rev() {
                reply.put(&[*byte]);
            }
        })
    });
    router.handler(code::AMPLIFY, |state: &State, context, body| {
        state.enter(context.connection(), body, false);
        let mut reply = body[..4].to_vec();
        reply.resize(4 + usize::from(u16_at(body, 4)), FILLER);
        context.reply_as(code::AMPLIFY, &reply)
    });
}

fn failing_handlers(router: &mut Router<State>) {
    router.handler(code::OVERSIZED, |state: &State, context, body| {
        state.enter(context.connection(), body, false);
        context.reply(&vec![1; state.frame_bytes_max - 7])
    });
    router.handler(code::OVERSIZED_IN_PLACE, |state: &State, context, body| {
        state.enter(context.connection(), body, false);
        context.reply_with(code::REVERSED, |reply| {
            for _ in 0..=state.frame_bytes_max / body.len() {
                reply.put(body);
            }
        })
    });
    router.handler(code::PANIC, |state: &State, context, body| {
        state.enter(context.connection(), body, false);
        panic!("{ON_PURPOSE}");
    });
    router.handler(code::PANIC_HALFWAY, |state: &State, context, body| {
        state.enter(context.connection(), body, false);
        context.reply_with(code::REVERSED, |reply| {
            reply.put(body);
            panic!("{ON_PURPOSE}, halfway");
        })
    });
    router.async_handler(code::PANIC_AT_START, |state: Rc<State>, request| {
        let _at_work = AtWork::enter(&state, &request);
        assert!(request.body().is_empty(), "{ON_PURPOSE}, at the start");
        async { Reply::none() }
    });
    router.async_handler(code::ASYNC_PANIC, |state: Rc<State>, request| {
        let at_work = AtWork::enter(&state, &request);
        async move {
            at_work.nap().await;
            panic!("{ON_PURPOSE}, asynchronously");
        }
    });
    router.async_handler(code::ASYNC_OVERSIZED, |state: Rc<State>, request| {
        let at_work = AtWork::enter(&state, &request);
        async move {
            at_work.nap().await;
            Reply::new(vec![1; state.frame_bytes_max - 7])
        }
    });
}

fn async_handlers(router: &mut Router<State>) {
    router.async_handler(code::ASYNC_ECHO, |state: Rc<State>, request| {
        let at_work = AtWork::enter(&state, &request);
        async move {
            at_work.nap().await;
            Reply::new(request.into_body())
        }
    });
    router.async_handler(code::ASYNC_NONE, |state: Rc<State>, request| {
        let at_work = AtWork::enter(&state, &request);
        async move {
            at_work.nap().await;
            Reply::none()
        }
    });
    router.async_handler(code::ASYNC_ERROR_REPLY, |state: Rc<State>, request| {
        let at_work = AtWork::enter(&state, &request);
        async move {
            at_work.nap().await;
            Reply::error(reason_in(request.body()), error_text(request.body()))
        }
    });
    router.async_handler(code::ASYNC_WITH_CODE, |state: Rc<State>, request| {
        let at_work = AtWork::enter(&state, &request);
        async move {
            at_work.nap().await;
            Reply::with_code(u16_at(request.body(), 4), request.into_body())
        }
    });
}
