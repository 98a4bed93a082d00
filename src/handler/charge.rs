//! Memory that handlers keep, counted among what their shard holds for as long as they do.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// So many bytes of `limits.memory_bytes` that somebody's state takes up until this is dropped: see
/// [`Local::charge`](super::Local::charge).
#[must_use = "what is charged is given back when this is dropped"]
pub struct Charge {
    bytes: usize,
    /// Bytes of all that the shard holds beside what each connection does.
    held_bytes: Rc<Cell<usize>>,
}

impl Charge {
    /// Counts among `held_bytes` from now on.
    pub(crate) fn new(bytes: usize, held_bytes: &Rc<Cell<usize>>) -> Charge {
        held_bytes.set(held_bytes.get() + bytes);
        Charge {
            bytes,
            held_bytes: Rc::clone(held_bytes),
        }
    }

    /// How many they are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held_bytes.set(self.held_bytes.get() - self.bytes);
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Charge({} bytes)", self.bytes)
    }
}
