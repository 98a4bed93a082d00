//! Where the handlers of one shard leave their errands, and the shard takes them.
//!
//! Invariant: what waits here is bounded in number and in bytes, and leaves in the order in which it
//! came. What would be more is refused, and counted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::call::Calls;
use super::charge::Charge;
use super::context::ConnectionId;
use super::errand::{Errand, PushError};

/// Errands that wait at once: more than `limits.connections` is by default, so that each of them can
/// be pushed to.
pub(crate) const ERRANDS_MAX: usize = 128 * 1024;

/// Bytes of frames that wait in errands, in bytes; a frame that is shared counts once for those in
/// a row that push it.
pub(crate) const ERRAND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Messages to other shards among what waits: some times what a queue between two shards holds, since
/// what a turn's handlers ask for is passed on when all of them have been called.
pub(crate) const ERRAND_MESSAGES_MAX: usize = 16 * 1024;

/// What the handlers of one shard share with the shard itself.
pub(crate) struct Desk {
    pub(super) number: u16,
    pub(super) shards: u16,
    /// `limits.max_frame_bytes`, as the shard goes by it.
    frame_bytes_max: Cell<usize>,
    queue: RefCell<VecDeque<Errand>>,
    /// As many as are in `queue`.
    len: Cell<usize>,
    bytes: Cell<usize>,
    messages: Cell<usize>,
    /// Messages to other shards wait for room.
    congested: Cell<bool>,
    /// By shard: known to have ended.
    gone: RefCell<Vec<bool>>,
    /// Errands that were refused, since it was asked for last.
    refused: Cell<u64>,
    pub(crate) calls: Calls,
    /// Wakes the shard.
    alarm: RefCell<Option<Rc<dyn Fn()>>>,
    /// The shard sleeps, and the next errand is to wake it.
    armed: Cell<bool>,
    /// Bytes of the frames that are shared among connections, and of what handlers keep.
    shared_bytes: Rc<Cell<usize>>,
    /// Bytes that the shard may be charged for beside what it is.
    room_bytes: Cell<usize>,
}

impl Desk {
    /// That of the shard with this number, of so many.
    pub(crate) fn new(number: u16, shards: u16, frame_bytes_max: usize) -> Rc<Desk> {
        Rc::new(Desk {
            number,
            shards,
            frame_bytes_max: Cell::new(frame_bytes_max),
            queue: RefCell::default(),
            len: Cell::new(0),
            bytes: Cell::new(0),
            messages: Cell::new(0),
            congested: Cell::new(false),
            gone: RefCell::new(vec![false; usize::from(shards)]),
            refused: Cell::new(0),
            calls: Calls::default(),
            alarm: RefCell::default(),
            armed: Cell::new(false),
            shared_bytes: Rc::default(),
            room_bytes: Cell::new(usize::MAX),
        })
    }

    pub(super) fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max.get()
    }

    pub(crate) fn set_frame_bytes_max(&self, bytes: usize) {
        self.frame_bytes_max.set(bytes);
    }

    /// Bytes of the frames that are shared among connections of this shard, and of what handlers keep.
    pub(crate) fn shared_bytes(&self) -> &Rc<Cell<usize>> {
        &self.shared_bytes
    }

    /// So many bytes may be charged beside those that are.
    #[inline]
    pub(crate) fn set_room_bytes(&self, bytes: usize) {
        self.room_bytes.set(bytes);
    }

    /// Charges the shard for so much, if there is room for it.
    pub(super) fn charge(&self, bytes: usize) -> Option<Charge> {
        // What is given back meanwhile is room from the end of the turn on.
        let left_bytes = self.room_bytes.get().checked_sub(bytes)?;
        self.room_bytes.set(left_bytes);
        Some(Charge::new(bytes, &self.shared_bytes))
    }

    /// Whether errands wait.
    #[inline]
    pub(crate) fn has_errands(&self) -> bool {
        self.len.get() > 0
    }

    /// Errands that wait.
    pub(crate) fn errands(&self) -> usize {
        self.len.get()
    }

    /// Leaves an errand, if there is room for it.
    pub(super) fn leave(&self, errand: Errand) -> Result<(), PushError> {
        let mut queue = self.queue.borrow_mut();
        let bytes = self.bytes.get() + bytes_behind(queue.back(), &errand);
        let new_messages = errand.messages(self.number, self.shards);
        let messages = self.messages.get() + new_messages;
        let is_refused = queue.len() >= ERRANDS_MAX
            || bytes > ERRAND_BYTES_MAX
            || new_messages > 0 && (self.congested.get() || messages > self.messages_max());
        if is_refused {
            self.refused.set(self.refused.get() + 1);
            drop(queue);
            // A function may do anything as it is dropped.
            drop(errand);
            return Err(PushError::Overloaded);
        }
        queue.push_back(errand);
        self.len.set(queue.len());
        self.bytes.set(bytes);
        self.messages.set(messages);
        drop(queue);
        if self.armed.take()
            && let Some(alarm) = self.alarm.borrow().clone()
        {
            alarm();
        }
        Ok(())
    }

    /// Room for one broadcast, however many shards there are.
    fn messages_max(&self) -> usize {
        ERRAND_MESSAGES_MAX.max(usize::from(self.shards))
    }

    /// Takes the errand that was left first.
    pub(crate) fn take(&self) -> Option<Errand> {
        let mut queue = self.queue.borrow_mut();
        let errand = queue.pop_front()?;
        self.len.set(queue.len());
        let bytes = bytes_before(&errand, queue.front());
        self.bytes.set(self.bytes.get() - bytes);
        let messages = errand.messages(self.number, self.shards);
        self.messages.set(self.messages.get() - messages);
        Some(errand)
    }

    /// What does not add up here, if anything.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let queue = self.queue.borrow();
        let mut bytes = 0;
        let mut last = None;
        for errand in queue.iter() {
            bytes += bytes_behind(last, errand);
            last = Some(errand);
        }
        let messages = queue.iter().map(|e| e.messages(self.number, self.shards));
        let counted = (self.len.get(), self.bytes.get(), self.messages.get());
        let found = (queue.len(), bytes, messages.sum());
        if counted != found || bytes > ERRAND_BYTES_MAX || queue.len() > ERRANDS_MAX {
            return Err(format!(
                "{found:?} errands, bytes and messages wait, {counted:?} are counted"
            ));
        }
        Ok(())
    }

    /// Whether messages to other shards wait for room; then no more of them are taken on.
    #[inline]
    pub(crate) fn set_congested(&self, congested: bool) {
        self.congested.set(congested);
    }

    /// Errands that were refused since it was asked for last.
    #[inline]
    pub(crate) fn take_refused(&self) -> u64 {
        self.refused.take()
    }

    pub(super) fn count_refused(&self) {
        self.refused.set(self.refused.get() + 1);
    }

    /// A shard is known to have ended.
    pub(crate) fn note_gone(&self, shard: u16) {
        if let Some(gone) = self.gone.borrow_mut().get_mut(usize::from(shard)) {
            *gone = true;
        }
    }

    /// Whether there is no such shard, or it has ended.
    pub(super) fn is_gone(&self, shard: u16) -> bool {
        let gone = self.gone.borrow();
        gone.get(usize::from(shard)).copied().unwrap_or(true)
    }

    pub(super) fn check(&self, to: ConnectionId) -> Result<(), PushError> {
        if self.is_gone(to.shard) {
            return Err(PushError::Gone);
        }
        Ok(())
    }

    /// Has `alarm` called by the first errand after [`Desk::arm`], up to [`Desk::disarm`].
    pub(crate) fn set_alarm(&self, alarm: impl Fn() + 'static) {
        self.alarm.replace(Some(Rc::new(alarm)));
    }

    /// The shard is about to sleep. Gives back whether it may: no errands wait.
    pub(crate) fn arm(&self) -> bool {
        let may_sleep = !self.has_errands();
        self.armed.set(may_sleep);
        may_sleep
    }

    /// The shard is awake, whatever has woken it: errands need not wake it any more.
    pub(crate) fn disarm(&self) {
        self.armed.set(false);
    }
}

/// Bytes that an errand adds behind the one before it.
fn bytes_behind(before: Option<&Errand>, errand: &Errand) -> usize {
    match errand.shared() {
        Some(frame) => match before.and_then(Errand::shared) {
            Some(other) if other.is_same(frame) => 0,
            _ => frame.bytes().len(),
        },
        None => errand.own_bytes(),
    }
}

/// Bytes that go with an errand when the next one comes first.
fn bytes_before(errand: &Errand, next: Option<&Errand>) -> usize {
    match errand.shared() {
        Some(frame) => match next.and_then(Errand::shared) {
            Some(other) if other.is_same(frame) => 0,
            _ => frame.bytes().len(),
        },
        None => errand.own_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Poll;

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
            let waker = std::task::Waker::noop();
            let polled = Pin::new(&mut call).poll(&mut std::task::Context::from_waker(waker));
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
}
