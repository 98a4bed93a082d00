//! The handlers under test. Panics are caught by the shard, so nothing here asserts: what is wrong
//! is told to the [`State`].

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use corelane::apps::topics;
use corelane::handler::{ConnectionId, Reply, Request, Router};
use corelane::protocol::Reason;

use crate::mesh;
use crate::scenario::Class;
use crate::state::State;
use crate::wire::u16_at;

/// Message codes, and what their handlers do. Every body begins with the peer's number and the
/// request's, 16 bits each; PING has none.
pub(crate) mod code {
    pub(crate) const PING: u16 = 0;
    pub(crate) const ECHO: u16 = 1;
    pub(crate) const ERROR: u16 = 2;
    pub(crate) const GOAWAY: u16 = 3;
    pub(crate) const SUBSCRIBE: u16 = 7;
    pub(crate) const UNSUBSCRIBE: u16 = 8;
    pub(crate) const PUBLISH: u16 = 9;
    pub(crate) const EVENT: u16 = 10;
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
    /// Does things that other connections and shards notice, and echoes.
    pub(crate) const MESH: u16 = 1018;
    pub(crate) const ASYNC_MESH: u16 = 1019;
    /// What is pushed comes under this code.
    pub(crate) const PUSHED: u16 = 1020;

    /// Those that have a handler of the test's own.
    pub(crate) const ALL: [u16; 21] = [
        PING,
        ECHO,
        COUNT,
        ASYNC_ECHO,
        NONE,
        ASYNC_NONE,
        ERROR_REPLY,
        ASYNC_ERROR_REPLY,
        WITH_CODE,
        ASYNC_WITH_CODE,
        REVERSED,
        AMPLIFY,
        OVERSIZED,
        OVERSIZED_IN_PLACE,
        ASYNC_OVERSIZED,
        PANIC,
        PANIC_HALFWAY,
        ASYNC_PANIC,
        PANIC_AT_START,
        MESH,
        ASYNC_MESH,
    ];
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

/// An asynchronous handler is at work for as long as this lives.
pub(crate) struct AtWork {
    state: Rc<State>,
    id: ConnectionId,
}

impl AtWork {
    pub(crate) fn enter(state: &Rc<State>, request: &Request) -> AtWork {
        state.enter(request.connection(), request.body(), true);
        AtWork {
            state: Rc::clone(state),
            id: request.connection(),
        }
    }

    /// Waits for some random while.
    pub(crate) fn nap(&self) -> Nap {
        let (times, longest_us) = self.state.draw_naps();
        Nap {
            state: Rc::clone(&self.state),
            times,
            longest_us,
            until_us: 0,
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.state.leave(self.id);
    }
}

pub(crate) struct Nap {
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
            self.until_us = now_us + self.state.draw_us(self.longest_us);
        }
        self.state.sleep(self.until_us, context.waker().clone());
        Poll::Pending
    }
}

fn reason_in(body: &[u8]) -> Reason {
    Reason::from_number(u16_at(body, 4)).unwrap_or(Reason::Rejected)
}

/// The table under test.
pub(crate) fn router(class: Class) -> Router<State> {
    let mut router = Router::new();
    sync_handlers(&mut router);
    failing_handlers(&mut router);
    async_handlers(&mut router);
    mesh::add_to(&mut router);
    if class == Class::Topics {
        topics::serve(&mut router);
    }
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
