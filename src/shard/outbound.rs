//! What waits to be sent on one connection.
//!
//! Invariant: at most one send is in flight; what is queued meanwhile goes out in the next one, in
//! the order in which it was queued. A connection with nothing to send holds no buffer.
//!
//! What is a connection's own is queued in one piece. Where frames that it shares with others are
//! among that, it is queued as a list of parts, with one piece of its own behind them.

use super::io::{Outgoing, SendBuffer};
use super::marks::{Mark, Marks, SpareLists};
use super::parts::Parts;
use crate::handler::Shared;

/// The send queue of one connection.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    queued: Vec<u8>,
    /// What goes before `queued`; `None` where nothing does.
    parts: Option<Box<Parts>>,
    /// Bytes before `queued`: of the send in flight and of the parts.
    ahead_bytes: usize,
    /// Memory of those, but for what is shared, in bytes.
    ahead_memory_bytes: usize,
    /// A send is in flight.
    is_sending: bool,
    /// Whose replies they are.
    marks: Marks,
}

impl Outbound {
    /// The queue, for frames to be appended. It must come back with [`Outbound::put_queue`].
    #[inline]
    pub(super) fn take_queue(&mut self, spare: &mut SpareBuffers) -> Vec<u8> {
        if self.queued.capacity() == 0 {
            return spare.take();
        }
        std::mem::take(&mut self.queued)
    }

    /// Takes the queue back, longer or not.
    #[inline]
    pub(super) fn put_queue(&mut self, queue: Vec<u8>, spare: &mut SpareBuffers) {
        if queue.is_empty() {
            spare.give(queue);
        } else {
            self.queued = queue;
        }
    }

    /// Queues a frame that others get as well. A short one is copied: that is less work than to keep
    /// a list.
    pub(super) fn push_shared(&mut self, frame: &Shared, spare: &mut SpareBuffers) {
        if self.parts.is_none() && frame.bytes().len() <= SHORT_BYTES_MAX {
            let mut queue = self.take_queue(spare);
            queue.extend_from_slice(frame.bytes());
            return self.put_queue(queue, spare);
        }
        if self.parts.is_none() {
            let parts = spare.parts.pop().unwrap_or_default();
            self.ahead_memory_bytes += parts.memory_bytes();
            self.parts = Some(parts);
        }
        self.list_queued(spare);
        if let Some(parts) = &mut self.parts {
            self.ahead_memory_bytes -= parts.memory_bytes();
            parts.push_shared(frame.clone());
            self.ahead_memory_bytes += parts.memory_bytes();
            self.ahead_bytes += frame.bytes().len();
        }
    }

    /// Makes what is queued the last part.
    fn list_queued(&mut self, spare: &mut SpareBuffers) {
        let Some(parts) = &mut self.parts else {
            return;
        };
        if self.queued.is_empty() {
            return;
        }
        let mut queued = std::mem::take(&mut self.queued);
        if queued.capacity() > 2 * queued.len() {
            // It may wait for long, and hardly fills its memory.
            let exact = queued.as_slice().to_vec();
            spare.give(std::mem::replace(&mut queued, exact));
        }
        self.ahead_bytes += queued.len();
        self.ahead_memory_bytes -= parts.memory_bytes();
        parts.push_own(queued);
        self.ahead_memory_bytes += parts.memory_bytes();
    }

    /// Marks what was queued last, which must be something.
    #[inline]
    pub(super) fn mark(&mut self, mark: Mark, spare: &mut SpareBuffers) {
        debug_assert!(!self.queued.is_empty());
        self.marks.push(mark, &mut spare.lists);
    }

    /// The marks of a send that has come back, all of it taken or thrown away.
    #[inline]
    pub(super) fn end_marks(&mut self, spare: &mut SpareBuffers, each: impl FnMut(Mark)) {
        self.marks.end_send(&mut spare.lists, each);
    }

    /// Gives back memory that the queue, which may stay as it is for long, does not fill.
    pub(super) fn trim(&mut self) {
        if self.queued.capacity() > self.queued.len() + self.queued.len() / 4 {
            // A new block: allocators keep one of which half is still used.
            self.queued = self.queued.as_slice().to_vec();
        }
    }

    /// Bytes that the kernel has not taken yet.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.queued.len() + self.ahead_bytes
    }

    /// Those of them before what would be queued now.
    #[inline]
    pub(super) fn ahead_bytes(&self) -> usize {
        self.ahead_bytes
    }

    /// Whether a send is in flight.
    #[inline]
    pub(super) fn is_sending(&self) -> bool {
        self.is_sending
    }

    /// Memory that is held for what has not been taken yet, but for what is shared, in bytes.
    #[inline]
    pub(super) fn memory_bytes(&self) -> usize {
        self.queued.capacity() + self.ahead_memory_bytes + self.marks.memory_bytes()
    }

    /// Whether there is something to send and no send in flight.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        !self.is_sending && self.bytes() > 0
    }

    /// Whether there are shared frames among what is queued.
    #[inline]
    pub(super) fn has_parts(&self) -> bool {
        self.parts.is_some()
    }

    /// Everything that is queued, to be taken out of there and sent now; call it where
    /// [`Outbound::is_ready`] and there are no parts.
    #[inline]
    pub(super) fn start_send(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.is_ready() && !self.has_parts());
        self.is_sending = true;
        self.ahead_bytes = self.queued.len();
        self.ahead_memory_bytes = self.queued.capacity();
        self.marks.start_send();
        &mut self.queued
    }

    /// The first parts of what is queued, to be sent now; call it where [`Outbound::is_ready`] and
    /// there are parts. It changes what is held in memory.
    #[cold]
    pub(super) fn start_send_of_parts(&mut self, spare: &mut SpareBuffers) -> SendBuffer {
        debug_assert!(self.is_ready() && self.has_parts());
        match self.take_parts(spare) {
            Some(bytes) => {
                self.is_sending = true;
                SendBuffer { bytes, sent: 0 }
            }
            None => SendBuffer::of(self.start_send()),
        }
    }

    fn take_parts(&mut self, spare: &mut SpareBuffers) -> Option<Outgoing> {
        self.list_queued(spare);
        let mut parts = self.parts.take()?;
        self.ahead_memory_bytes -= parts.memory_bytes();
        let bytes = parts.take_send(spare);
        self.ahead_memory_bytes += bytes.as_ref().map_or(0, Outgoing::memory_bytes);
        // Marks are of what is the connection's own: they go with the last of that.
        if !parts.has_own() {
            self.marks.start_send();
        }
        if parts.is_empty() {
            spare.give_parts(parts);
        } else {
            self.ahead_memory_bytes += parts.memory_bytes();
            self.parts = Some(parts);
        }
        bytes
    }

    /// The send in flight has come back and `taken_bytes` of it have gone. Gives back what has to
    /// be sent again, if the send was short.
    #[inline]
    pub(super) fn sent(
        &mut self,
        mut buffer: SendBuffer,
        taken_bytes: usize,
        spare: &mut SpareBuffers,
    ) -> Option<SendBuffer> {
        buffer.sent += taken_bytes;
        self.ahead_bytes -= taken_bytes;
        let sent = buffer.sent;
        match buffer.bytes {
            Outgoing::Own(bytes) if sent >= bytes.len() => {
                self.is_sending = false;
                self.ahead_memory_bytes -= bytes.capacity();
                spare.give(bytes);
                None
            }
            Outgoing::Shared(frame) if sent >= (*frame).as_ref().len() => {
                self.is_sending = false;
                None
            }
            bytes => Some(SendBuffer { bytes, sent }),
        }
    }

    /// The send in flight has come back and there will be no other.
    pub(super) fn end_send(&mut self, buffer: SendBuffer, spare: &mut SpareBuffers) {
        self.is_sending = false;
        self.ahead_bytes -= buffer.remaining().len();
        self.end_marks(spare, drop);
        self.let_go(buffer, spare);
    }

    fn let_go(&mut self, buffer: SendBuffer, spare: &mut SpareBuffers) {
        match buffer.bytes {
            Outgoing::Own(bytes) => {
                self.ahead_memory_bytes -= bytes.capacity();
                spare.give(bytes);
            }
            Outgoing::Shared(frame) => drop(frame),
        }
    }

    /// Forgets what is queued; a send in flight stays in flight.
    pub(super) fn discard(&mut self, spare: &mut SpareBuffers) {
        spare.give(std::mem::take(&mut self.queued));
        if let Some(parts) = self.parts.take() {
            self.ahead_bytes -= parts.bytes();
            self.ahead_memory_bytes -= parts.memory_bytes();
            spare.give_parts(parts);
        }
        self.marks.discard(&mut spare.lists);
    }
}

/// Shared frames of no more bytes are copied where nothing else is listed.
const SHORT_BYTES_MAX: usize = 256;

/// Buffers at most so large are kept for the next connection, in bytes: enough for the replies to what
/// one receive brings, where those are as long as the requests. One that grows anew for each send is
/// copied as often as it is doubled: 7% of the CPU with eight frames of 16 KiB at a time.
const SPARE_BUFFER_BYTES_MAX: usize = 128 * 1024;
/// At most so many are kept: as many as a turn can need, so that replies allocate nothing.
const SPARE_BUFFERS_MAX: usize = 512;
const _: () = assert!(SPARE_BUFFERS_MAX >= super::COMPLETIONS_PER_TURN);
/// And at most so much memory in them, in bytes.
const SPARE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The buffers and lists of marks of a shard that no connection uses now; the one used last is taken
/// first, since it is the likeliest to be in the core's cache.
#[derive(Debug, Default)]
pub(super) struct SpareBuffers {
    buffers: Vec<Vec<u8>>,
    /// The memory of those, in bytes.
    bytes: usize,
    #[expect(
        clippy::vec_box,
        reason = "a connection has room for a pointer, not for the parts"
    )]
    parts: Vec<Box<Parts>>,
    lists: SpareLists,
}

impl SpareBuffers {
    #[inline]
    pub(super) fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    fn give_parts(&mut self, mut parts: Box<Parts>) {
        if parts.is_small() && self.parts.len() < SPARE_BUFFERS_MAX {
            parts.clear();
            self.parts.push(parts);
        }
    }

    #[inline]
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        let fits = (1..=SPARE_BUFFER_BYTES_MAX).contains(&bytes);
        if fits && self.buffers.len() < SPARE_BUFFERS_MAX && self.bytes + bytes <= SPARE_BYTES_MAX {
            buffer.clear();
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::super::marks::Kind;
    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Queue(Vec<u8>),
        /// Of so many bytes.
        Share(usize),
        Send,
        Complete(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            prop::collection::vec(any::<u8>(), 1..40).prop_map(Step::Queue),
            prop::sample::select(&[10, 300, 2_000, 5_000, 20_000][..]).prop_map(Step::Share),
            Just(Step::Send),
            any::<prop::sample::Index>().prop_map(Step::Complete),
        ];
        prop::collection::vec(step, 0..200)
    }

    fn start_send(outbound: &mut Outbound, spare: &mut SpareBuffers) -> SendBuffer {
        if outbound.has_parts() {
            outbound.start_send_of_parts(spare)
        } else {
            SendBuffer::of(outbound.start_send())
        }
    }

    proptest! {
        /// Against one long queue of bytes.
        #[test]
        fn bytes_leave_in_the_order_in_which_they_were_queued(steps in steps()) {
            let shared_bytes = Rc::default();
            let mut spare = SpareBuffers::default();
            let mut outbound = Outbound::default();
            let mut in_flight: Option<SendBuffer> = None;
            let mut model: VecDeque<u8> = VecDeque::new();
            for step in steps {
                match step {
                    Step::Queue(bytes) => {
                        let mut queue = outbound.take_queue(&mut spare);
                        queue.extend_from_slice(&bytes);
                        outbound.put_queue(queue, &mut spare);
                        model.extend(bytes);
                    }
                    Step::Share(len) => {
                        let frame: Vec<u8> = (0..=250).cycle().take(len).collect();
                        model.extend(&frame);
                        let frame = Shared::new(frame, &shared_bytes);
                        outbound.push_shared(&frame, &mut spare);
                    }
                    Step::Send => {
                        if outbound.is_ready() {
                            prop_assert!(in_flight.is_none(), "a second send in flight");
                            in_flight = Some(start_send(&mut outbound, &mut spare));
                        }
                    }
                    Step::Complete(index) => {
                        if let Some(buffer) = in_flight.take() {
                            let taken = 1 + index.index(buffer.remaining().len());
                            for byte in &buffer.remaining()[..taken] {
                                prop_assert_eq!(Some(*byte), model.pop_front());
                            }
                            in_flight = outbound.sent(buffer, taken, &mut spare);
                        }
                    }
                }
                prop_assert_eq!(outbound.bytes(), model.len());
                let sending_bytes = in_flight.as_ref().map_or(0, |send| send.bytes.memory_bytes());
                let parts_bytes = outbound.parts.as_ref().map_or(0, |parts| parts.memory_bytes());
                let own_bytes = outbound.queued.capacity() + parts_bytes + sending_bytes;
                prop_assert_eq!(outbound.memory_bytes(), own_bytes);
                prop_assert_eq!(outbound.is_ready(), in_flight.is_none() && !model.is_empty());
                if model.is_empty() {
                    prop_assert_eq!(outbound.memory_bytes(), 0, "memory held for nothing");
                    prop_assert_eq!(shared_bytes.get(), 0, "a frame is kept for nobody");
                }
            }
            outbound.discard(&mut spare);
            if let Some(buffer) = in_flight {
                outbound.end_send(buffer, &mut spare);
            }
            prop_assert_eq!((outbound.bytes(), outbound.memory_bytes()), (0, 0));
            prop_assert_eq!(shared_bytes.get(), 0);
        }
    }

    /// A reply is not sent later, nor earlier, for what is pushed around it.
    #[test]
    fn marks_go_with_the_send_that_has_their_replies() {
        const LARGE: usize = 20_000;
        let shared_bytes = Rc::default();
        let frame = Shared::new(vec![1; LARGE], &shared_bytes);
        let mut spare = SpareBuffers::default();
        let mut outbound = Outbound::default();
        let reply = |outbound: &mut Outbound, spare: &mut SpareBuffers| {
            let mut queue = outbound.take_queue(spare);
            queue.push(7);
            outbound.put_queue(queue, spare);
            let mark = Mark {
                kind: Kind::new(5, 1),
                count: 1,
            };
            outbound.mark(mark, spare);
        };
        outbound.push_shared(&frame, &mut spare);
        reply(&mut outbound, &mut spare);
        outbound.push_shared(&frame, &mut spare);
        let mut sends = Vec::new();
        while outbound.is_ready() {
            let buffer = start_send(&mut outbound, &mut spare);
            let bytes = buffer.remaining().len();
            assert!(outbound.sent(buffer, bytes, &mut spare).is_none());
            let mut marks = 0;
            outbound.end_marks(&mut spare, |mark| marks += mark.count);
            sends.push((bytes, marks));
        }
        assert_eq!(sends, [(LARGE, 0), (1, 1), (LARGE, 0)]);
        assert_eq!(outbound.memory_bytes(), 0);
    }

    #[test]
    fn small_parts_are_sent_together() {
        let shared_bytes = Rc::default();
        let frame = Shared::new(vec![1; 1_000], &shared_bytes);
        let mut spare = SpareBuffers::default();
        let mut outbound = Outbound::default();
        for _ in 0..40 {
            outbound.push_shared(&frame, &mut spare);
        }
        assert_eq!(
            shared_bytes.get(),
            1_000,
            "nothing is copied while it waits"
        );
        let mut sends = Vec::new();
        while outbound.is_ready() {
            let buffer = start_send(&mut outbound, &mut spare);
            sends.push(buffer.remaining().len());
            let bytes = buffer.remaining().len();
            assert!(outbound.sent(buffer, bytes, &mut spare).is_none());
        }
        assert_eq!(sends, [16_000, 16_000, 8_000]);
    }

    #[test]
    fn an_unused_buffer_goes_back() {
        let mut spare = SpareBuffers::default();
        spare.give(Vec::with_capacity(100));
        let mut outbound = Outbound::default();
        let queue = outbound.take_queue(&mut spare);
        assert_eq!(spare.buffers.len(), 0);
        outbound.put_queue(queue, &mut spare);
        assert_eq!(spare.buffers.len(), 1);
        assert_eq!(outbound.queued.capacity(), 0);
    }

    #[test]
    fn large_or_too_many_buffers_are_not_kept() {
        let mut spare = SpareBuffers::default();
        spare.give(Vec::with_capacity(SPARE_BUFFER_BYTES_MAX + 1));
        spare.give(Vec::new());
        assert!(spare.buffers.is_empty());
        for _ in 0..=SPARE_BUFFERS_MAX {
            spare.give(Vec::with_capacity(10));
        }
        assert_eq!(spare.buffers.len(), SPARE_BUFFERS_MAX);
    }

    #[test]
    fn spare_buffers_hold_so_much_memory_and_no_more() {
        let mut spare = SpareBuffers::default();
        let most = SPARE_BYTES_MAX / SPARE_BUFFER_BYTES_MAX;
        for _ in 0..=most {
            spare.give(Vec::with_capacity(SPARE_BUFFER_BYTES_MAX));
        }
        assert_eq!(spare.buffers.len(), most);
        // What is taken makes room.
        let buffer = spare.take();
        spare.give(Vec::with_capacity(10));
        spare.give(buffer);
        assert_eq!(spare.buffers.len(), most);
        while spare.take().capacity() > 0 {}
        assert_eq!(spare.bytes, 0);
    }
}
