//! The mesh between shards: how one hands messages to another without a lock.
//!
//! Between every ordered pair of shards is a bounded queue with one writer and one reader. What
//! finds no room there waits at the sender, in order; a shard whose messages wait is congested, and
//! takes on nothing that makes more of them, which is what bounds them.
//!
//! Promises:
//! - From one shard to another, messages arrive in the order in which they were sent, each once.
//! - Nobody waits for another shard, and a shard that fell asleep is woken by each message and each
//!   room that it waits for, once the shard that causes it has flushed. `flags` says why.
//! - What is sent to a shard whose end is gone is dropped.

mod flags;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use self::flags::Shared;
use super::snapshot::MeshCounts;
use crate::config::bounds;
use crate::sys::Doorbell;

/// Messages that one queue holds.
const QUEUE_MAX: usize = 1024;

/// Messages that all queues to one shard hold together. From 18 shards on, each queue is the
/// shorter for it: there are as many to each shard as there are others.
const QUEUES_MAX: usize = 16 * 1024;

/// Messages that a queue has room for, however many shards there are.
const QUEUE_MIN: usize = 16;

const _: () = assert!(*bounds::SHARDS.end() <= (QUEUES_MAX / QUEUE_MIN) as u64);
const _: () = assert!(*bounds::SHARDS.end() <= u16::MAX as u64);

/// Makes the ends of a mesh, one for each shard, in their order; `doorbells` wake the parked ones.
///
/// The queues to one shard take the memory of at most 16,384 messages, and half a kibibyte each.
pub(crate) fn mesh<M: Send>(doorbells: &[Doorbell]) -> Vec<Mesh<M>> {
    with_capacity(doorbells, queue_capacity(doorbells.len()))
}

fn queue_capacity(shards: usize) -> usize {
    let senders = shards.saturating_sub(1).max(1);
    (QUEUES_MAX / senders).clamp(QUEUE_MIN, QUEUE_MAX)
}

fn with_capacity<M: Send>(doorbells: &[Doorbell], capacity: usize) -> Vec<Mesh<M>> {
    let shards = doorbells
        .iter()
        .map(|wakeup| Shared::new(wakeup, doorbells));
    let shards: Arc<[Shared]> = shards.collect();
    let numbers = (0..=u16::MAX).take(doorbells.len());
    let mut ends: Vec<Mesh<M>> = numbers
        .map(|number| Mesh::new(number, Arc::clone(&shards)))
        .collect();
    for from in 0..ends.len() {
        for to in 0..ends.len() {
            let (writer, reader) = (from != to).then(|| RingBuffer::new(capacity)).unzip();
            ends[from].outboxes.push(Outbox::new(writer));
            ends[to].inboxes.push(Inbox {
                queue: reader,
                drained: false,
            });
        }
    }
    ends
}

/// The way to one other shard.
struct Outbox<M> {
    /// `None` to the shard itself, and where the other end is gone.
    queue: Option<Producer<M>>,
    /// What found no room in the queue, in order.
    overflow: VecDeque<M>,
    /// Whether something went into the queue since the last flush.
    posted: bool,
}

impl<M> Outbox<M> {
    fn new(queue: Option<Producer<M>>) -> Outbox<M> {
        Outbox {
            queue,
            overflow: VecDeque::new(),
            posted: false,
        }
    }

    /// The queue, unless the other end is gone: then it goes with all that is left in it.
    fn queue(&mut self) -> Option<&mut Producer<M>> {
        if self.queue.as_ref().is_some_and(Producer::is_abandoned) {
            self.queue = None;
        }
        self.queue.as_mut()
    }

    /// Moves overflow into the queue. Gives back whether there was room for any of it.
    fn move_overflow(&mut self) -> bool {
        let mut overflow = mem::take(&mut self.overflow);
        let Some(queue) = self.queue() else {
            return false;
        };
        let mut moved = false;
        while let Some(message) = overflow.pop_front() {
            if let Err(PushError::Full(message)) = queue.push(message) {
                overflow.push_front(message);
                self.overflow = overflow;
                break;
            }
            moved = true;
        }
        moved
    }
}

/// The way from one other shard.
struct Inbox<M> {
    /// `None` from the shard itself, and once this end is being dropped.
    queue: Option<Consumer<M>>,
    /// Whether something was taken out of the queue since the last flush.
    drained: bool,
}

/// One shard's end of the mesh. Whoever has it calls [`Mesh::flush`] in each turn, and does not
/// park unless [`Mesh::fall_asleep`] said so.
pub(crate) struct Mesh<M> {
    number: u16,
    shards: Arc<[Shared]>,
    /// By receiver.
    outboxes: Vec<Outbox<M>>,
    /// By sender.
    inboxes: Vec<Inbox<M>>,
    /// Whose messages come first in the next call.
    next_sender: u16,
    /// To whom messages wait for room.
    waiting: Vec<u16>,
    /// Into whose queue something went since the last flush.
    posted: Vec<u16>,
    /// Out of whose queue something was taken since the last flush.
    drained: Vec<u16>,
    counts: MeshCounts,
}

impl<M> Mesh<M> {
    fn new(number: u16, shards: Arc<[Shared]>) -> Mesh<M> {
        Mesh {
            number,
            outboxes: Vec::with_capacity(shards.len()),
            inboxes: Vec::with_capacity(shards.len()),
            shards,
            next_sender: 0,
            waiting: Vec::new(),
            posted: Vec::new(),
            drained: Vec::new(),
            counts: MeshCounts::default(),
        }
    }

    /// What has been counted so far.
    pub(crate) fn counts(&self) -> MeshCounts {
        self.counts
    }

    fn shared(&self, shard: u16) -> &Shared {
        &self.shards[usize::from(shard)]
    }

    /// Sends a message to another shard, which hears of it by the next flush at the latest. If its
    /// end is gone, the message is dropped.
    ///
    /// # Panics
    ///
    /// If `to` is no other shard of this mesh: a mistake in this program.
    #[inline]
    pub(crate) fn send(&mut self, to: u16, message: M) {
        assert!(to != self.number, "a shard sends to others");
        let outbox = &mut self.outboxes[usize::from(to)];
        self.counts.sent += 1;
        if !outbox.overflow.is_empty() {
            self.counts.overflowed += 1;
            outbox.overflow.push_back(message);
            return;
        }
        let Some(queue) = outbox.queue() else {
            return;
        };
        if let Err(PushError::Full(message)) = queue.push(message) {
            self.counts.overflowed += 1;
            outbox.overflow.push_back(message);
            self.waiting.push(to);
        } else if !outbox.posted {
            outbox.posted = true;
            self.posted.push(to);
        }
    }

    /// Whether a shard's end is gone: nothing that is sent to it arrives any more.
    pub(crate) fn is_gone(&self, to: u16) -> bool {
        let outbox = self.outboxes.get(usize::from(to));
        let queue = outbox.and_then(|outbox| outbox.queue.as_ref());
        queue.is_none_or(Producer::is_abandoned)
    }

    /// Whether a shard's end is gone, and all that it sent was received.
    pub(crate) fn is_silent(&self, from: u16) -> bool {
        let inbox = self.inboxes.get(usize::from(from));
        let queue = inbox.and_then(|inbox| inbox.queue.as_ref());
        // In this order: as long as it is not gone, it may send more.
        queue.is_none_or(|queue| queue.is_abandoned() && queue.is_empty())
    }

    /// Whether messages wait for room: then take on nothing that makes more of them.
    #[inline]
    pub(crate) fn is_congested(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Moves on what waits, as far as there is room, and lets the other shards know what was sent
    /// to them and taken from them.
    #[inline]
    pub(crate) fn flush(&mut self) {
        if self.is_congested() {
            self.move_overflow();
        }
        if !self.posted.is_empty() || !self.drained.is_empty() {
            self.announce();
        }
    }

    #[inline(never)]
    fn move_overflow(&mut self) {
        let mut waiting = mem::take(&mut self.waiting);
        for &to in &waiting {
            let wants_room = self.shared(self.number).wants_room(to);
            wants_room.store(true, Ordering::Relaxed);
        }
        // Then look for room (and for whether the other end is gone). Without any, the receiver has
        // yet to pass its fence of `announce` behind making some, and sees the flag there.
        fence(Ordering::SeqCst);
        waiting.retain(|&to| {
            let outbox = &mut self.outboxes[usize::from(to)];
            if outbox.move_overflow() && !outbox.posted {
                outbox.posted = true;
                self.posted.push(to);
            }
            let waits = !outbox.overflow.is_empty();
            if !waits {
                // The receiver may have lowered it, or be about to: that makes one wake-up too many.
                let wants_room = self.shards[usize::from(self.number)].wants_room(to);
                wants_room.store(false, Ordering::Relaxed);
            }
            waits
        });
        self.waiting = waiting;
    }

    #[inline(never)]
    fn announce(&mut self) {
        // Behind what was sent and what room was made; in front of looking at who knows of it.
        fence(Ordering::SeqCst);
        let mut news = mem::take(&mut self.posted);
        for &to in &news {
            self.outboxes[usize::from(to)].posted = false;
        }
        let mut drained = mem::take(&mut self.drained);
        for &from in &drained {
            self.inboxes[usize::from(from)].drained = false;
        }
        drained.retain(|&from| self.grant_room(from));
        if !drained.is_empty() {
            // Taking back a wish may undo a later one, too. Its sender makes it anew when it has
            // read the mail, behind a fence, so it must not be before this one that the mail is up.
            fence(Ordering::SeqCst);
            news.append(&mut drained);
        }
        self.tell(&mut news);
        // Empty lists, kept for their memory.
        (self.posted, self.drained) = (news, drained);
    }

    /// Takes back a sender's wish for room in its queue to this shard. Gives back whether it had
    /// one.
    fn grant_room(&self, from: u16) -> bool {
        let wants_room = self.shared(from).wants_room(self.number);
        let wanted = wants_room.load(Ordering::Relaxed);
        if wanted {
            wants_room.store(false, Ordering::Relaxed);
        }
        wanted
    }

    /// Lets shards know that there is something for them, behind a fence that is behind it.
    fn tell(&self, news: &mut Vec<u16>) {
        news.retain(|&shard| self.shared(shard).raise_mail());
        if !news.is_empty() {
            // Behind raising `mail`, in front of looking who is asleep; `fall_asleep` does it the
            // other way round.
            fence(Ordering::SeqCst);
            for shard in news.drain(..) {
                self.shared(shard).wake_if_asleep();
            }
        }
    }

    /// Whether there may be messages to receive, or room for what waits: one atomic load.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        self.shared(self.number).mail.load(Ordering::Relaxed)
    }

    /// Takes up to `max` messages and gives each to `each` with the shard that sent it. Gives back
    /// how many. The rest waits for the next call, which begins with the senders whose turn did not
    /// come.
    ///
    /// If `each` panics, the rest may have to wait until there is other mail.
    #[inline]
    pub(crate) fn receive(&mut self, max: usize, each: impl FnMut(u16, M)) -> usize {
        if self.has_mail() {
            self.take_mail(max, each)
        } else {
            0
        }
    }

    fn take_mail(&mut self, max: usize, mut each: impl FnMut(u16, M)) -> usize {
        let mail = &self.shards[usize::from(self.number)].mail;
        mail.store(false, Ordering::Relaxed);
        // In front of looking into the queues. What is not seen there comes from a sender that has
        // yet to pass its fence of `announce`, finds `mail` down and raises it.
        fence(Ordering::SeqCst);
        let mut left = max;
        for _ in 0..self.inboxes.len() {
            if left == 0 {
                break;
            }
            let from = self.next_sender;
            let inbox = &mut self.inboxes[usize::from(from)];
            self.next_sender = if usize::from(from) + 1 < self.shards.len() {
                from + 1
            } else {
                0
            };
            let Some(queue) = &mut inbox.queue else {
                continue;
            };
            // No more than is there now: a sender that keeps up with this is not all there is.
            let count = queue.slots().min(left);
            if count > 0 && !inbox.drained {
                inbox.drained = true;
                self.drained.push(from);
            }
            for message in (0..count).map_while(|_| queue.pop().ok()) {
                each(from, message);
            }
            left -= count;
        }
        if left == 0 {
            // There may be more. Nobody else lowers it.
            mail.store(true, Ordering::Relaxed);
        }
        self.counts.received += (max - left) as u64;
        max - left
    }

    /// Announces that this shard is about to park. Gives back whether it may: if not, there is mail,
    /// or it is congested no longer and can take on more.
    ///
    /// If it may, its [`Doorbell`] wakes it; [`Mesh::wake_up`] follows, whatever it was that did.
    pub(crate) fn fall_asleep(&mut self) -> bool {
        // Others may wait for what was not announced yet, and this shard for room.
        let was_congested = self.is_congested();
        self.flush();
        if was_congested && !self.is_congested() {
            return false;
        }
        let shared = self.shared(self.number);
        shared.asleep.store(true, Ordering::Relaxed);
        // In front of looking for mail: a sender that raises it without being seen here has yet to
        // pass its second fence of `announce`, and finds this shard asleep.
        fence(Ordering::SeqCst);
        let may_sleep = !self.has_mail();
        if !may_sleep {
            self.wake_up();
        }
        may_sleep
    }

    /// After parking: nobody need wake this shard any more.
    pub(crate) fn wake_up(&mut self) {
        let shared = self.shared(self.number);
        shared.asleep.store(false, Ordering::Relaxed);
    }
}

impl<M> Drop for Mesh<M> {
    /// What was sent still arrives, as far as there is room. Senders that wait for room here learn
    /// that there is nobody left to send to.
    fn drop(&mut self) {
        for (from, inbox) in (0..=u16::MAX).zip(&mut self.inboxes) {
            let Some(mut queue) = inbox.queue.take() else {
                continue;
            };
            // The sender frees what is in the queue, but not before it looks at it again.
            for _ in 0..queue.slots() {
                drop(queue.pop());
            }
            if !inbox.drained {
                inbox.drained = true;
                self.drained.push(from);
            }
        }
        self.flush();
    }
}

#[cfg(test)]
mod tests;
