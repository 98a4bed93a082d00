//! What waits to be sent on one connection.
//!
//! Invariant: at most one send is in flight; what is queued meanwhile goes out in the next one, in
//! the order in which it was queued. A connection with nothing to send holds no buffer.

use super::io::SendBuffer;
use super::marks::{Mark, Marks, SpareLists};

/// The send queue of one connection.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    queued: Vec<u8>,
    /// Bytes of the send in flight; 0 when there is none.
    in_flight_bytes: usize,
    /// Memory of the send in flight, in bytes.
    in_flight_memory_bytes: usize,
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
        self.queued.len() + self.in_flight_bytes
    }

    /// Bytes that are in the send in flight.
    #[inline]
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Memory that is held for what has not been taken yet, in bytes.
    #[inline]
    pub(super) fn memory_bytes(&self) -> usize {
        self.queued.capacity() + self.in_flight_memory_bytes + self.marks.memory_bytes()
    }

    /// Whether there is something to send and no send in flight.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        self.in_flight_bytes == 0 && !self.queued.is_empty()
    }

    /// Everything that is queued, to be sent now; call it where [`Outbound::is_ready`].
    #[inline]
    pub(super) fn start_send(&mut self) -> SendBuffer {
        debug_assert!(self.is_ready());
        let bytes = std::mem::take(&mut self.queued);
        self.in_flight_bytes = bytes.len();
        self.in_flight_memory_bytes = bytes.capacity();
        self.marks.start_send();
        SendBuffer { bytes, sent: 0 }
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
        self.in_flight_bytes = buffer.remaining().len();
        if self.in_flight_bytes == 0 {
            self.in_flight_memory_bytes = 0;
            spare.give(buffer.bytes);
            return None;
        }
        Some(buffer)
    }

    /// The send in flight has come back and there will be no other.
    pub(super) fn end_send(&mut self, buffer: SendBuffer, spare: &mut SpareBuffers) {
        self.in_flight_bytes = 0;
        self.in_flight_memory_bytes = 0;
        self.end_marks(spare, drop);
        spare.give(buffer.bytes);
    }

    /// Forgets what is queued; a send in flight stays in flight.
    pub(super) fn discard(&mut self, spare: &mut SpareBuffers) {
        spare.give(std::mem::take(&mut self.queued));
        self.marks.discard(&mut spare.lists);
    }
}

/// Buffers at most so large are kept for the next connection, in bytes.
const SPARE_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// At most so many are kept: 32 MiB a shard, all in all. As many as a turn can need, so that
/// replies allocate nothing.
const SPARE_BUFFERS_MAX: usize = 512;
const _: () = assert!(SPARE_BUFFERS_MAX >= super::COMPLETIONS_PER_TURN);

/// The buffers and lists of marks of a shard that no connection uses now; the one used last is taken
/// first, since it is the likeliest to be in the core's cache.
#[derive(Debug, Default)]
pub(super) struct SpareBuffers {
    buffers: Vec<Vec<u8>>,
    lists: SpareLists,
}

impl SpareBuffers {
    #[inline]
    fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    #[inline]
    fn give(&mut self, mut buffer: Vec<u8>) {
        let fits = (1..=SPARE_BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if fits && self.buffers.len() < SPARE_BUFFERS_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Queue(Vec<u8>),
        Send,
        Complete(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            prop::collection::vec(any::<u8>(), 1..40).prop_map(Step::Queue),
            Just(Step::Send),
            any::<prop::sample::Index>().prop_map(Step::Complete),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against one long queue of bytes.
        #[test]
        fn bytes_leave_in_the_order_in_which_they_were_queued(steps in steps()) {
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
                    Step::Send => {
                        if outbound.is_ready() {
                            prop_assert!(in_flight.is_none(), "a second send in flight");
                            in_flight = Some(outbound.start_send());
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
                let sending_bytes = in_flight.as_ref().map_or(0, |send| send.bytes.capacity());
                prop_assert_eq!(outbound.memory_bytes(), outbound.queued.capacity() + sending_bytes);
                prop_assert_eq!(outbound.is_ready(), in_flight.is_none() && !model.is_empty());
                if model.is_empty() {
                    prop_assert_eq!(outbound.queued.capacity(), 0, "memory held for nothing");
                }
            }
        }
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
}
