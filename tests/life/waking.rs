//! Shards without work sleep, and are woken by whoever wants something of them: each time.
//!
//! In these servers nothing else wakes a shard within the tests' patience: there is no line of
//! figures and no busy polling, and no timer is due.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::{self, sleep};
use std::time::Duration;

use corelane::Reply;
use corelane::protocol::codes;
use rustix::process::Signal;

use crate::drain::until_refused;
use crate::support::backlogged::Backlogged;
use crate::support::library::{address_of, builder_with, config, stopped};
use crate::support::program::serve;
use crate::support::user::{User as _, connect};

/// Longer than a shard without work sleeps in its ring before it parks: nothing tells when it does.
const UNTIL_IT_PARKS: Duration = Duration::from_millis(5);

#[test]
fn a_shard_that_sleeps_takes_each_connection_that_it_is_handed() {
    const WHERE: u16 = codes::APPLICATION;
    const CLIENTS: usize = 100;
    let server = builder_with(config(2))
        .handler(WHERE, |(), context, _body| {
            let shard = context.connection().shard();
            context.reply(&[u8::try_from(shard).unwrap()])
        })
        .start()
        .unwrap();
    // Those on shard 0 stay and those on shard 1 go: soon whoever arrives at 0 is handed to 1.
    let mut stay = Vec::new();
    for _ in 0..CLIENTS {
        sleep(UNTIL_IT_PARKS);
        let mut client = connect(address_of(&server));
        if client.ask(WHERE, b"") == [0] {
            stay.push(client);
        }
    }
    drop(stay);
    server.handle().stop();
    let taken_over = server.wait().unwrap()[1].taken_over;
    assert!(
        taken_over >= 10,
        "{taken_over} of {CLIENTS} were handed over"
    );
}

#[test]
fn a_shard_that_sleeps_hears_each_signal() {
    let server = serve(&[
        "log.stats_seconds=0",
        "timeouts.write_ms=0",
        "timeouts.drain_ms=3600000",
        "timeouts.stop_ms=3600000",
    ]);
    let address = server.address();
    // The shard waits for this one as long as it is let.
    let backlogged = Backlogged::connect(address);
    server.signal(Signal::QUIT);
    until_refused(address);
    for signal in [Signal::QUIT, Signal::TERM] {
        sleep(UNTIL_IT_PARKS);
        server.signal(signal);
    }
    assert_eq!(server.ended().status, Some(0));
    backlogged.leave();
}

/// What a handler waits for that another thread gives.
#[derive(Default)]
struct Answer(Mutex<(bool, Option<Waker>)>);

impl Answer {
    /// Wakes who waits, and lets go of its waker some time later: by then it may be through.
    fn give(&self, spins: u32) {
        let waker = {
            let mut state = self.0.lock().unwrap();
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake_by_ref();
            for _ in 0..spins {
                std::hint::spin_loop();
            }
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// glommio (0.12) does not see to it that a waker may be dropped elsewhere just when its task ends:
/// handlers that had its own were used after they were freed.
#[test]
fn wakers_of_handlers_may_be_dropped_on_other_threads_whenever_they_like() {
    const ASK: u16 = codes::APPLICATION;
    const CLIENTS: u8 = 4;
    const ROUNDS: u32 = 3000;
    const AT_ONCE: u32 = 8;
    const SPINS_MAX: u32 = 2000;
    let (ask, asked) = mpsc::channel::<Arc<Answer>>();
    let server = builder_with(config(1))
        .async_handler(ASK, move |_state, request| {
            let answer = Arc::new(Answer::default());
            let is_asked = ask.send(Arc::clone(&answer));
            async move {
                is_asked.unwrap();
                poll_fn(|cx| answer.poll(cx)).await;
                Reply::new(request.into_body())
            }
        })
        .start()
        .unwrap();
    let address = address_of(&server);
    thread::scope(|scope| {
        scope.spawn(move || {
            for (number, answer) in (0..).zip(asked) {
                answer.give(number % SPINS_MAX);
            }
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn(move || {
                    let mut client = connect(address);
                    for _ in 0..ROUNDS {
                        for _ in 0..AT_ONCE {
                            client.send(ASK, &[number; 32]).unwrap();
                        }
                        for _ in 0..AT_ONCE {
                            assert_eq!(client.receive().unwrap().body, [number; 32]);
                        }
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        let counters = stopped(server);
        assert_eq!((counters.handler_panics, counters.late_replies), (0, 0));
    });
}
