//! Limits of a desk, and whom it wakes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use super::*;
use crate::handler::call::CALLS_MAX;
use crate::handler::{Local, RunError};

fn id(shard: u16) -> ConnectionId {
    ConnectionId {
        shard,
        slot: 0,
        generation: 0,
    }
}

fn desk() -> (Rc<Desk>, Local<()>) {
    let desk = Desk::new(0, 3, 29_000);
    (Rc::clone(&desk), Local::new(desk))
}

/// How often somebody was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Does it until it is refused; gives back how often that was not.
fn until_refused(mut ask: impl FnMut() -> Result<(), PushError>) -> usize {
    let mut asked = 0;
    loop {
        match ask() {
            Ok(()) => asked += 1,
            Err(error) => {
                assert_eq!(error, PushError::Overloaded);
                return asked;
            }
        }
    }
}

#[test]
fn errands_are_bounded_in_number_in_bytes_and_in_messages() {
    let (desk, local) = desk();
    assert_eq!(until_refused(|| local.push(id(0), 1, b"")), ERRANDS_MAX);
    desk.audit().unwrap();
    while desk.take().is_some() {}
    let body = [0; 992];
    let most = ERRAND_BYTES_MAX / 1000;
    assert_eq!(until_refused(|| local.push(id(0), 1, &body)), most);
    desk.audit().unwrap();
    while desk.take().is_some() {}
    let pushed = until_refused(|| local.push(id(2), 1, b""));
    assert_eq!(pushed, ERRAND_MESSAGES_MAX);
    assert!(local.push(id(0), 1, b"").is_ok(), "for its own shard");
    assert_eq!(local.broadcast(1, b""), Err(PushError::Overloaded));
    desk.audit().unwrap();
    while desk.take().is_some() {}
    assert_eq!(desk.take_refused(), 4);
    desk.set_congested(true);
    assert_eq!(local.tell(1, |()| {}), Err(RunError::Overloaded));
    assert!(local.tell(0, |()| {}).is_ok());
}

/// Calls that nobody awaited were once forgotten at once, and their answers, which were still to
/// come, were bounded by nothing.
#[test]
fn calls_that_nobody_awaits_are_bounded_until_they_are_answered() {
    let (desk, local) = desk();
    let call = |shard| {
        let mut call = local.run_on(shard, |()| {});
        let waker = Waker::noop();
        let polled = Pin::new(&mut call).poll(&mut Context::from_waker(waker));
        desk.take();
        match polled {
            Poll::Pending => Ok(()),
            Poll::Ready(_) => Err(PushError::Overloaded),
        }
    };
    assert_eq!(until_refused(|| call(1)), CALLS_MAX);
    desk.calls.end(7, Ok(Box::new(())));
    assert_eq!(until_refused(|| call(2)), 1);
    desk.calls.end_of(1);
    assert_eq!(desk.calls.unanswered(), 1);
    assert_eq!(until_refused(|| call(1)), CALLS_MAX - 1);
    desk.calls.end_of(1);
    desk.calls.end_of(2);
    desk.set_congested(true);
    assert_eq!(call(1), Err(PushError::Overloaded));
    assert_eq!(desk.calls.unanswered(), 0, "it was not under way");
}

#[test]
fn a_shared_frame_counts_once_for_those_in_a_row() {
    let (desk, local) = desk();
    let frames = [0, 1].map(|code| local.share(code, &[0; 92]).unwrap());
    for _ in 0..10 {
        local.push_shared(id(0), &frames[0]).unwrap();
    }
    assert_eq!(desk.bytes.get(), 100);
    for frame in [&frames[1], &frames[0], &frames[0]] {
        local.push_shared(id(0), frame).unwrap();
    }
    assert_eq!(desk.bytes.get(), 300);
    while desk.take().is_some() {
        desk.audit().unwrap();
    }
    assert_eq!((desk.bytes.get(), desk.shared_bytes.get()), (0, 200));
    drop(frames);
    assert_eq!(desk.shared_bytes.get(), 0);
}

#[test]
fn what_handlers_keep_has_room_until_the_shard_has_none() {
    let (desk, local) = desk();
    desk.set_room_bytes(100);
    let charges = [60, 40].map(|bytes| local.charge(bytes).unwrap());
    assert_eq!(charges.each_ref().map(Charge::bytes), [60, 40]);
    assert!(local.charge(1).is_none());
    assert_eq!(desk.shared_bytes.get(), 100);
    drop(charges);
    assert_eq!(desk.shared_bytes.get(), 0);
    assert!(local.charge(1).is_none(), "before the turn has ended");
    desk.set_room_bytes(100);
    assert!(local.charge(100).is_some());
}

#[test]
fn the_first_errand_of_a_sleeping_shard_wakes_it() {
    let (desk, local) = desk();
    let rung = Rc::new(Cell::new(0));
    let bell = Rc::clone(&rung);
    desk.set_alarm(move || bell.set(bell.get() + 1));
    local.push(id(0), 1, b"while it is awake").unwrap();
    assert!(!desk.arm(), "there is something to do");
    desk.take();
    assert!(desk.arm());
    for _ in 0..3 {
        local.push(id(0), 1, b"while it sleeps").unwrap();
    }
    assert_eq!(rung.get(), 1);
}

#[test]
fn who_waits_for_room_is_woken_when_half_is_taken() {
    let (desk, local) = desk();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let body = [0; 10_000];
    for (body, low) in [(&[][..], ERRANDS_LOW), (&body, ERRAND_BYTES_LOW / 10_008)] {
        let mut rooms = [0, 1].map(|_| Box::pin(desk.room()));
        assert!(rooms[0].as_mut().poll(&mut context).is_ready());
        until_refused(|| local.push(id(0), 1, body));
        rooms[0] = Box::pin(desk.room());
        for room in &mut rooms {
            assert!(room.as_mut().poll(&mut context).is_pending());
        }
        let before = woken.0.load(Ordering::Relaxed);
        while desk.errands() > low {
            assert_eq!(woken.0.load(Ordering::Relaxed), before);
            desk.take();
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), before + 2);
        for room in &mut rooms {
            assert!(room.as_mut().poll(&mut context).is_ready());
        }
        while desk.take().is_some() {}
        assert_eq!(woken.0.load(Ordering::Relaxed), before + 2, "once each");
    }
}

/// A desk once stayed armed when something else had woken its shard: the first errand of the turn
/// cost a system call, and then a turn that had nothing to do.
#[test]
fn an_errand_of_a_shard_that_something_else_has_woken_wakes_nobody() {
    let (desk, local) = desk();
    let rung = Rc::new(Cell::new(0));
    let bell = Rc::clone(&rung);
    desk.set_alarm(move || bell.set(bell.get() + 1));
    assert!(desk.arm());
    desk.disarm();
    local.push(id(0), 1, b"while it is awake").unwrap();
    assert_eq!(rung.get(), 0);
    desk.take();
    assert!(desk.arm());
    local.push(id(0), 1, b"while it sleeps").unwrap();
    assert_eq!(rung.get(), 1);
}
