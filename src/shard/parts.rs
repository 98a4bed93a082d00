//! What waits to be sent on one connection where some of it is shared with others: a list of parts,
//! in order, each the connection's own bytes or a frame that many have.
//!
//! A shared frame is never copied while it waits. Small parts are put together when they are sent,
//! since a send costs more than copying some kilobytes; a large frame is sent from where it is.

use std::collections::VecDeque;

use super::io::Outgoing;
use super::outbound::SpareBuffers;
use crate::handler::Shared;

/// Shared frames of so many bytes are not copied into a send with others.
const COPIED_BYTES_MAX: usize = 4096;

/// What is put together for one send has no more bytes, unless it is one part.
const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// Lists with room for no more parts than this are kept for the next connection.
const SPARE_PARTS_MAX: usize = 64;

/// The parts.
#[derive(Debug, Default)]
pub(super) struct Parts {
    list: VecDeque<Part>,
    /// Those that are the connection's own.
    own: usize,
    /// Memory of those, in bytes.
    own_memory_bytes: usize,
}

#[derive(Debug)]
enum Part {
    Own(Vec<u8>),
    Shared(Shared),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Own(bytes) => bytes,
            Part::Shared(frame) => frame.bytes(),
        }
    }
}

impl Parts {
    /// Appends bytes of the connection's own.
    pub(super) fn push_own(&mut self, bytes: Vec<u8>) {
        self.own += 1;
        self.own_memory_bytes += bytes.capacity();
        self.list.push_back(Part::Own(bytes));
    }

    /// Appends a frame that others have, too.
    pub(super) fn push_shared(&mut self, frame: Shared) {
        self.list.push_back(Part::Shared(frame));
    }

    /// The memory of the list and of what is the connection's own, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Parts>() + self.list.capacity() * size_of::<Part>() + self.own_memory_bytes
    }

    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.list.iter().map(|part| part.bytes().len()).sum()
    }

    /// Whether some of it is the connection's own.
    pub(super) fn has_own(&self) -> bool {
        self.own > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the list is worth keeping.
    pub(super) fn is_small(&self) -> bool {
        self.list.capacity() <= SPARE_PARTS_MAX
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        (self.own, self.own_memory_bytes) = (0, 0);
    }

    fn pop(&mut self) -> Option<Part> {
        let part = self.list.pop_front()?;
        if let Part::Own(bytes) = &part {
            self.own -= 1;
            self.own_memory_bytes -= bytes.capacity();
        }
        Some(part)
    }

    /// Takes what goes into the next send; nothing if nothing waits.
    pub(super) fn take_send(&mut self, spare: &mut SpareBuffers) -> Option<Outgoing> {
        let mut gathered = match self.pop()? {
            Part::Shared(frame) if self.is_empty() || frame.bytes().len() > COPIED_BYTES_MAX => {
                return Some(Outgoing::Shared(frame.into_bytes()));
            }
            Part::Own(bytes) => bytes,
            Part::Shared(frame) => {
                let mut bytes = spare.take();
                bytes.extend_from_slice(frame.bytes());
                bytes
            }
        };
        while let Some(next) = self.list.front()
            && may_join(gathered.len(), next)
        {
            gathered.extend_from_slice(next.bytes());
            if let Some(Part::Own(bytes)) = self.pop() {
                spare.give(bytes);
            }
        }
        Some(Outgoing::Own(gathered))
    }
}

/// Whether a part may be copied behind so many bytes of others.
fn may_join(gathered_bytes: usize, next: &Part) -> bool {
    let next_bytes = next.bytes().len();
    let is_kept = matches!(next, Part::Shared(_)) && next_bytes > COPIED_BYTES_MAX;
    !is_kept && gathered_bytes + next_bytes <= GATHERED_BYTES_MAX
}
