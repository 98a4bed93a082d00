//! What the simulation's model does not single out, step by step.

use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use super::ending::CLOSE_US;
use super::mailbox::{DELIVERIES_MAX, Refused, Rooms};
use super::*;
use crate::config::Config;
use crate::handler::{Answer, Asker, PushError, Reply, Run, RunError};
use crate::protocol::{codes, encode};

mod draining;
mod flooding;
mod receiving;
mod reloading;
mod sending;
mod streaks;

/// Does nothing by itself; keeps what it was asked for.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an answer of its own"
)]
struct Still {
    completions: Vec<Completion<(), Vec<u8>>>,
    reaped: VecDeque<Completion<(), Vec<u8>>>,
    asked: Vec<String>,
    wiped: Vec<Vec<u8>>,
    sends: Vec<SendBuffer>,
    /// So many bytes of a send at once are taken; and how many were, of each.
    at_once_max: usize,
    at_once: Vec<usize>,
    /// What the clock says in the middle of a turn.
    now_us: Option<u64>,
    /// What other shards are told, and which.
    told: Vec<(u16, Message<()>)>,
    somebody_waits: bool,
    /// Messages of other shards are not to be given out.
    holds_messages: bool,
    /// The other shards have ended.
    others_are_gone: bool,
    /// What they told before was not given out yet.
    more_is_on_its_way: bool,
}

impl Io for Still {
    type Socket = ();
    type Received = Vec<u8>;

    fn is_congested(&self) -> bool {
        false
    }

    fn is_gone(&self, _shard: u16) -> bool {
        self.others_are_gone
    }

    fn is_silent(&self, _shard: u16) -> bool {
        !self.more_is_on_its_way
    }

    fn somebody_waits(&self, _listener: usize) -> bool {
        self.somebody_waits
    }

    fn submit(&mut self, operation: Operation<'_, ()>) {
        self.asked.push(format!("{operation:?}"));
        match operation {
            Operation::Send { buffer, .. } => self.sends.push(buffer),
            Operation::Tell { shard, message } => self.told.push((shard, message)),
            _ => {}
        }
    }

    fn send_at_once(&mut self, bytes: &[u8], (): &()) -> usize {
        let taken_bytes = bytes.len().min(self.at_once_max);
        self.at_once.push(taken_bytes);
        taken_bytes
    }

    fn now_us(&self) -> Option<u64> {
        self.now_us
    }

    fn wipe(&mut self, received: Vec<u8>) {
        self.wiped.push(received);
    }

    fn hold_messages(&mut self, hold: bool) {
        self.holds_messages = hold;
    }

    fn reap(&mut self, _max: usize) {
        self.reaped.extend(self.completions.drain(..));
    }

    fn completion(&mut self) -> Option<Completion<(), Vec<u8>>> {
        self.reaped.pop_front()
    }
}

fn asked(shard: &Shard<Still, ()>, operation: &str) -> usize {
    let is_it = |asked: &&String| asked.starts_with(operation);
    shard.io.asked.iter().filter(is_it).count()
}

/// A deadline that is for connections which end by themselves once cut a stop short: who took
/// longer than that to read lost the rest, however long `timeouts.stop_ms` was.
#[test]
fn a_slow_reader_has_all_of_a_stop() {
    const STOP_US: u64 = 60_000_000;
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), context, body| context.reply(body));
    let settings = Settings {
        stop_us: STOP_US,
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings, router);
    let id = shard.connections.ids().next().unwrap();
    let mut request = Vec::new();
    encode(&mut request, codes::ECHO, b"slow").unwrap();
    shard.io.completions.push(Completion::Received {
        id,
        result: Ok(request),
        more: true,
    });
    shard.turn(2);
    assert_eq!(asked(&shard, "Send"), 1);

    let stop_us = 1_000_000;
    shard.stop(stop_us);
    for waited_us in [0, CLOSE_US, 2 * CLOSE_US, STOP_US - 1] {
        shard.turn(stop_us + waited_us);
        assert_eq!(asked(&shard, "CancelSend"), 0, "after {waited_us} us");
    }
    shard.turn(stop_us + STOP_US);
    assert_eq!(asked(&shard, "CancelSend"), 1);
}

fn with_one_connection(settings: Settings, router: Router<()>) -> Shard<Still, ()> {
    let loads = Arc::new(Loads::new(1));
    let mut shard = Shard::new(Still::default(), (0, loads), 1, settings, router, |_| {
        Rc::new(())
    });
    shard.turn(0);
    shard.io.completions.push(Completion::Accepted {
        listener: 0,
        result: Ok(Arrival::new((), "127.0.0.1:9".parse().unwrap())),
        more: true,
    });
    shard.turn(1);
    shard
}

/// GOAWAY once counted as any reply, so that a peer for whom as much was queued as may be was
/// closed for it, and lost that.
#[test]
fn goaway_closes_nobody() {
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), context, body| context.reply(body));
    let mut request = Vec::new();
    encode(&mut request, codes::ECHO, b"all that may be queued").unwrap();
    let settings = Settings {
        outbound_bytes_max: request.len(),
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings, router);
    shard.io.completions.push(Completion::Received {
        id: shard.connections.ids().next().unwrap(),
        result: Ok(request),
        more: true,
    });
    shard.turn(2);
    assert_eq!(asked(&shard, "Send"), 1);
    shard.drain(3);
    shard.turn(3);
    assert_eq!(asked(&shard, "CancelSend"), 0);
}

/// A stop that came when a drain's time was over, and the last words were on their way, once
/// changed nothing: it took as long as those may, however short `timeouts.stop_ms` was.
#[test]
fn a_stop_cuts_the_last_words_of_a_drain_short() {
    const DRAIN_US: u64 = 1_000;
    const STOP_US: u64 = 10;
    let settings = Settings {
        drain_us: DRAIN_US,
        stop_us: STOP_US,
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings, Router::new());
    shard.drain(2);
    shard.turn(2 + DRAIN_US);
    assert_eq!(asked(&shard, "CancelSend"), 0);

    shard.stop(2 + DRAIN_US);
    shard.turn(2 + DRAIN_US + STOP_US);
    assert_eq!(asked(&shard, "CancelSend"), 1);
}

/// Accepts one more connection, in a turn of its own.
fn accept(shard: &mut Shard<Still, ()>, peer: &str, now_us: u64) {
    shard.io.completions.push(Completion::Accepted {
        listener: 0,
        result: Ok(Arrival::new((), peer.parse().unwrap())),
        more: true,
    });
    shard.turn(now_us);
}

fn accepts(shard: &mut Shard<Still, ()>, result: Result<(), Failure>, more: bool) {
    shard.io.completions.push(Completion::Accepted {
        listener: 0,
        result: result.map(|()| Arrival::new((), "127.0.0.1:9".parse().unwrap())),
        more,
    });
}

/// The kernel wakes one of those who accept at a listener. A worker that was told to drain before it
/// had looked once took that to the grave: its successor, at the same listener, was not woken, and
/// who had connected waited until somebody else did.
#[test]
fn a_drain_takes_in_who_waits_before_it_closes_a_listener() {
    let settings = Settings::from(&Config::default());
    let mut shard = with_one_connection(settings, Router::new());
    shard.drain(2);
    shard.turn(2);
    assert_eq!(asked(&shard, "CancelAccept"), 1);
    accepts(&mut shard, Err(Failure::Cancelled), false);
    shard.io.somebody_waits = true;
    shard.turn(3);
    assert_eq!(asked(&shard, "StopListening"), 0);
    assert_eq!(asked(&shard, "Accept"), 2);
    assert_eq!(asked(&shard, "CancelAccept"), 2);

    accepts(&mut shard, Ok(()), true);
    accepts(&mut shard, Err(Failure::Cancelled), false);
    shard.io.somebody_waits = false;
    shard.turn(4);
    assert_eq!(asked(&shard, "StopListening"), 1);
    assert_eq!(shard.connections(), 2);
}

#[test]
fn a_drain_does_not_look_for_ever_who_waits() {
    let settings = Settings::from(&Config::default());
    let mut shard = with_one_connection(settings, Router::new());
    shard.io.somebody_waits = true;
    shard.drain(2);
    for turn in 3..100 {
        if asked(&shard, "StopListening") == 0 {
            accepts(&mut shard, Err(Failure::Cancelled), false);
        }
        shard.turn(turn);
    }
    assert_eq!(asked(&shard, "StopListening"), 1);
}

fn echo(body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    encode(&mut request, codes::ECHO, body).unwrap();
    request
}

fn receive(shard: &mut Shard<Still, ()>, bytes: Vec<u8>, now_us: u64) {
    shard.io.completions.push(Completion::Received {
        id: shard.connections.ids().next().unwrap(),
        result: Ok(bytes),
        more: true,
    });
    shard.turn(now_us);
}

/// Which of these slices were wiped, of one connection after the other, with a secret code 7 (an
/// asynchronous handler), 8 (a synchronous one) and 9 (none), and at most three frames a turn.
fn wiped(slices: &[&[u8]]) -> Vec<bool> {
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), context, body| context.reply(body));
    router.async_handler(7, |_, _| async { Reply::none() });
    router.handler(8, |(), context, _| context.reply(b""));
    for code in [7, 8, 9] {
        router.secret(code);
    }
    let settings = Settings {
        turn_frames_max: 3,
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings, router);
    let id = shard.connections.ids().next().unwrap();
    let were_wiped = slices.iter().map(|slice| {
        shard.io.completions.push(Completion::Received {
            id,
            result: Ok(slice.to_vec()),
            more: true,
        });
        shard.turn(2);
        let wiped = std::mem::take(&mut shard.io.wiped);
        assert!(wiped.iter().all(|wiped| wiped == slice));
        !wiped.is_empty()
    });
    were_wiped.collect()
}

fn frame(code: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, code, body).unwrap();
    bytes
}

#[test]
fn what_is_no_secret_is_not_wiped() {
    let echo = frame(codes::ECHO, b"in the clear");
    let two = echo.repeat(2);
    let unknown = frame(1000, b"");
    assert_eq!(wiped(&[&echo, &two, &unknown]), [false; 3]);
    // From its fourth byte on, a frame says that it is none.
    assert_eq!(wiped(&[&echo[..4], &echo[4..9], &echo[9..]]), [false; 3]);
}

#[test]
fn a_slice_with_a_secret_in_it_is_wiped_however_it_ends() {
    let echo = frame(codes::ECHO, b"in the clear");
    for code in [7, 8, 9] {
        let secret = frame(code, b"secret");
        assert_eq!(wiped(&[&secret]), [true], "code {code}");
        assert_eq!(wiped(&[&[&echo[..], &secret].concat()]), [true]);
        assert_eq!(wiped(&[&[&echo[..], &secret[..9]].concat()]), [true]);
        for cut in 1..secret.len() {
            let (head, tail) = secret.split_at(cut);
            assert_eq!(wiped(&[head, tail]), [true; 2], "code {code} cut at {cut}");
        }
        let mut broken = secret.clone();
        broken[4] ^= 1;
        assert_eq!(wiped(&[&broken]), [true]);
        // More than a turn takes; what ends the connection, and what comes after.
        assert_eq!(wiped(&[&[echo.repeat(3), secret.clone()].concat()]), [true]);
        let ended = [&[0, 7, 0, 1][..], &secret].concat();
        assert_eq!(wiped(&[&ended, &secret]), [true; 2]);
    }
    // Behind a handler at work.
    let secret = frame(7, b"secret");
    assert_eq!(wiped(&[&secret, &echo]), [true, false]);
    assert_eq!(wiped(&[&secret, &echo, &secret]), [true, false, true]);
    assert_eq!(wiped(&[&secret, &echo[..3]]), [true; 2]);
}

/// Who waits for an answer of a shard that has ended, or ends meanwhile, is told.
#[test]
fn calls_of_a_shard_that_ends_are_answered() {
    let (mut shard, local) = one_of_two();
    let mut context = Context::from_waker(Waker::noop());
    let mut before = local.run_on(1, |()| 1);
    shard.turn(0);
    assert_eq!((asked(&shard, "Tell"), shard.calls()), (1, 1));
    assert!(Pin::new(&mut before).poll(&mut context).is_pending());
    let mut meanwhile = local.run_on(1, |()| 2);
    shard.io.others_are_gone = true;
    assert!(shard.turn(1).worked);
    for call in [&mut before, &mut meanwhile] {
        let answer = Pin::new(call).poll(&mut context);
        assert_eq!(answer, Poll::Ready(Err(RunError::Gone)));
    }
    assert_eq!((asked(&shard, "Tell"), shard.calls()), (1, 0));
    let to = ConnectionId {
        shard: 1,
        slot: 0,
        generation: 0,
    };
    assert_eq!(local.push(to, 1, b"known by now"), Err(PushError::Gone));
    assert_eq!(local.tell(1, |()| {}), Err(RunError::Gone));
    let own = local.run_on(0, |()| 3);
    shard.turn(2);
    assert_eq!(pin!(own).poll(&mut context), Poll::Ready(Ok(3)));
    shard.audit().unwrap();
}

/// Whoever is pushed to and sends nothing is idle by its own last word, and a reply that it takes
/// counts all the same.
#[test]
fn pushes_do_not_put_off_the_idle_time_out() {
    const IDLE_US: u64 = 1_000_000;
    let settings = Settings {
        idle_us: Some(IDLE_US),
        first_frame_us: None,
        ..Settings::from(&Config::default())
    };
    let mut local = None;
    let mut shard = Shard::new(
        Still::default(),
        (0, Arc::new(Loads::new(1))),
        1,
        settings,
        Router::<()>::new(),
        |its| {
            local = Some(its);
            Rc::new(())
        },
    );
    let local = local.unwrap();
    shard.turn(0);
    accept(&mut shard, "10.0.0.1:1", 0);
    let id = shard.connections.ids().next().unwrap();
    for now_us in (100_000..IDLE_US).step_by(100_000) {
        local.push(id, 1000, b"news").unwrap();
        shard.turn(now_us);
        let buffer = shard.io.sends.pop().unwrap();
        let result = Ok(buffer.remaining().len());
        let sent = Completion::Sent { id, buffer, result };
        shard.io.completions.push(sent);
        shard.turn(now_us);
        assert_eq!(asked(&shard, "ShutdownSend"), 0);
    }
    shard.turn(IDLE_US + 2 * timer::TICK_US);
    assert_eq!(asked(&shard, "Send"), 10, "nine pushes, and the last word");
}

/// A broadcast to go over slowly: one slot a turn, of three that there are.
fn with_three_connections_swept_one_a_turn() -> Shard<Still, ()> {
    let settings = Settings {
        turn_slots_max: 1,
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings, Router::new());
    accept(&mut shard, "127.0.0.1:10", 2);
    accept(&mut shard, "127.0.0.1:11", 3);
    shard
}

fn broadcast<Socket>() -> Message<Socket> {
    Message::Broadcast {
        frame: frame(1000, b"news"),
    }
}

/// Room in the mailbox was once given back as soon as the shard had taken a delivery, so that it
/// piled up there whatever was put in while a broadcast was on its way.
#[test]
fn deliveries_from_outside_have_their_room_until_they_are_carried_out() {
    let mut shard = with_three_connections_swept_one_a_turn();
    let rooms = Arc::new(Rooms::default());
    for _ in 0..DELIVERIES_MAX {
        let room = rooms.take(8).unwrap();
        shard.take_in_from_outside(broadcast(), room);
    }
    assert_eq!(rooms.take(8).unwrap_err(), Refused::Full);
    shard.turn(4);
    assert!(!shard.io.holds_messages, "those of other shards are apart");
    let room = rooms.take(8).unwrap();
    assert_eq!(rooms.take(8).unwrap_err(), Refused::Full, "one was begun");
    shard.take_in_from_outside(broadcast(), room);
    shard.audit().unwrap();
}

/// From so many messages on, one turn once carried out all broadcasts that waited, however many.
#[test]
fn more_messages_than_may_wait_are_held_back_and_not_hurried() {
    let mut shard = with_three_connections_swept_one_a_turn();
    for _ in 0..5000 {
        let message = broadcast();
        shard.io.completions.push(Completion::Told { message });
    }
    let before = shard.counters.pushes;
    shard.turn(4);
    shard.turn(5);
    assert!(shard.counters.pushes - before <= 2, "one slot a turn");
    assert!(shard.io.holds_messages);
    let mut now_us = 5;
    while shard.io.holds_messages {
        now_us += 1;
        assert!(shard.turn(now_us).worked);
    }
    assert_eq!(shard.lanes.arrived(), 4096);
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

/// What a function held that could not be run any more, or answered to nobody, once ended the shard
/// where it panicked as it was dropped.
#[test]
fn what_panics_as_it_is_dropped_ends_no_shard() {
    crate::handler::panic::keep_reports();
    let (mut shard, local) = one_of_two();
    let held = PanicsOnDrop;
    local.tell(1, move |()| drop(held)).unwrap();
    drop(local.run_on(0, |()| PanicsOnDrop));
    let answered = local.run_on(0, |()| PanicsOnDrop);
    let run = Run::new(|(): &()| PanicsOnDrop, Asker::Outside(Box::new(drop)));
    let message = Message::Run(run);
    shard.io.completions.push(Completion::Told { message });
    shard.io.others_are_gone = true;
    shard.turn(0);
    drop(answered);
    shard.turn(1);
    assert_eq!(shard.counters.run_panics, 4);
    assert_eq!(shard.counters.runs, 3);
    shard.audit().unwrap();
}

/// The first of two shards, and what its handlers get.
fn one_of_two() -> (Shard<Still, ()>, Local<()>) {
    with_local(0, &Arc::new(Loads::new(2)))
}

/// A shard of this number, and what its handlers get.
fn with_local(number: u16, loads: &Arc<Loads>) -> (Shard<Still, ()>, Local<()>) {
    let mut local = None;
    let shard = Shard::new(
        Still::default(),
        (number, Arc::clone(loads)),
        1,
        Settings::from(&Config::default()),
        Router::new(),
        |its| {
            local = Some(its);
            Rc::new(())
        },
    );
    (shard, local.unwrap())
}

/// A peer that had ended its side once stayed as long as it was pushed to.
#[test]
fn a_peer_that_has_ended_its_side_is_pushed_nothing_more() {
    let (mut shard, local) = one_of_two();
    shard.turn(0);
    accept(&mut shard, "10.0.0.1:1", 1);
    let id = shard.connections.ids().next().unwrap();
    local.push(id, 1000, b"news").unwrap();
    shard.turn(2);
    shard.io.completions.push(Completion::Received {
        id,
        result: Ok(Vec::new()),
        more: false,
    });
    shard.turn(3);
    local.push(id, 1000, b"more news").unwrap();
    shard.turn(4);
    assert_eq!((shard.counters.pushes, shard.counters.stale_pushes), (1, 1));
    let buffer = shard.io.sends.pop().unwrap();
    let result = Ok(buffer.remaining().len());
    let sent = Completion::Sent { id, buffer, result };
    shard.io.completions.push(sent);
    shard.turn(5);
    assert_eq!(shard.counters.closed(CloseCause::PeerClosed), 1);
}

/// A timer that lapses before the soonest deadline of a peer that has just said something was once
/// left as it was, though a peer that only takes what it is pushed may be over its deadline.
#[test]
fn who_takes_a_push_late_is_idle_at_once() {
    let settings = Settings {
        idle_us: Some(1_000_000),
        write_us: Some(1_200_000),
        ..Settings::from(&Config::default())
    };
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), _, _| Reply::none());
    let mut shard = with_one_connection(settings, router);
    let id = shard.connections.ids().next().unwrap();
    receive(&mut shard, echo(b""), 2);
    let message = Message::Push {
        to: id,
        frame: frame(1000, b"news"),
    };
    shard.io.completions.push(Completion::Told { message });
    shard.turn(900_000);
    shard.turn(1_000_000 + 2 * timer::TICK_US);
    let buffer = shard.io.sends.pop().unwrap();
    let result = Ok(buffer.remaining().len());
    let sent = Completion::Sent { id, buffer, result };
    shard.io.completions.push(sent);
    shard.turn(1_500_000);
    shard.turn(1_500_000 + 2 * timer::TICK_US);
    assert_eq!(asked(&shard, "Send"), 2, "the push, and the last word");
}

/// An answer that was there when its shard had ended was once thrown away, and its caller told that
/// the function had not run.
#[test]
fn what_a_shard_answered_before_it_ended_arrives() {
    let (mut shard, local) = one_of_two();
    let mut context = Context::from_waker(Waker::noop());
    let mut calls = [1, 2, 3].map(|number| local.run_on(1, move |()| number));
    shard.turn(0);
    let told = |call| Completion::Told {
        message: Message::Answer(Answer::new(call, Ok(Box::new(7)))),
    };
    shard.io.others_are_gone = true;
    shard.io.more_is_on_its_way = true;
    shard.io.completions.push(told(0));
    shard.turn(1);
    let [first, second, third] = &mut calls;
    assert_eq!(Pin::new(first).poll(&mut context), Poll::Ready(Ok(7)));
    assert!(Pin::new(&mut *second).poll(&mut context).is_pending());
    shard.io.more_is_on_its_way = false;
    shard.io.completions.push(told(1));
    shard.turn(2);
    assert_eq!(Pin::new(second).poll(&mut context), Poll::Ready(Ok(7)));
    let lost = Pin::new(third).poll(&mut context);
    assert_eq!(lost, Poll::Ready(Err(RunError::Gone)));
}

/// What was accepted, and waited when the last connection was gone, was once dropped without a word.
#[test]
fn a_shard_that_goes_down_does_what_it_was_asked_for_while_there_is_time() {
    for (at_once, runs) in [(false, 5), (true, 1)] {
        let (mut shard, local) = one_of_two();
        shard.settings.turn_errands_max = 1;
        shard.turn(0);
        if at_once {
            shard.stop_at_once(1);
        } else {
            shard.stop(1);
        }
        for _ in 0..5 {
            local.tell(0, |()| {}).unwrap();
        }
        accepts(&mut shard, Err(Failure::Cancelled), false);
        let turns = (1..10).take_while(|_| !shard.turn(1).stopped).count();
        assert_eq!((turns, shard.counters.runs), (runs - 1, runs as u64));
    }
}
