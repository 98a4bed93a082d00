//! Where the handlers of one shard leave their errands, and the shard takes them.
//!
//! Invariant: what waits here is bounded in number and in bytes, and leaves in the order in which it
//! came. What would be more is refused, and counted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

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

/// Whoever waits for room goes on when at most this waits of errands and of their bytes: well before
/// nothing is left to do, and not for each errand anew.
const ERRANDS_LOW: usize = ERRANDS_MAX / 2;
const ERRAND_BYTES_LOW: usize = ERRAND_BYTES_MAX / 2;

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
    /// Those who wait for room, in the order in which they came.
    waiting: RefCell<Vec<Waker>>,
    /// Whether there are any.
    has_waiting: Cell<bool>,
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
            waiting: RefCell::default(),
            has_waiting: Cell::new(false),
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
        drop(queue);
        if self.has_waiting.get() && self.is_roomy() {
            self.has_waiting.set(false);
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
        Some(errand)
    }

    /// The shard ends: nobody who waits for room gets any. They are tasks that have this desk, which
    /// has their wakers, so they would never go.
    pub(crate) fn forget_waiting(&self) {
        drop(self.waiting.take());
    }

    fn is_roomy(&self) -> bool {
        self.len.get() <= ERRANDS_LOW && self.bytes.get() <= ERRAND_BYTES_LOW
    }

    /// Waits until there is room for errands of this shard's own: after one was refused, until some
    /// have been taken. Others who waited may have used it up by then.
    pub(super) async fn room(&self) {
        poll_fn(|cx| {
            if self.is_roomy() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            self.has_waiting.set(true);
            Poll::Pending
        })
        .await;
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
mod tests;
