//! Frames that many connections get: encoded once, and counted among what the shard holds for as
//! long as anybody has yet to take them.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// One frame for many receivers, encoded once: see [`Local::share`](super::Local::share). A clone is
/// the same frame.
#[derive(Clone)]
pub struct Shared(Rc<Encoded>);

struct Encoded {
    frame: Vec<u8>,
    /// Bytes of all frames that the shard shares.
    held_bytes: Rc<Cell<usize>>,
}

impl Shared {
    /// An encoded frame, which counts among `held_bytes` from now on.
    pub(crate) fn new(frame: Vec<u8>, held_bytes: &Rc<Cell<usize>>) -> Shared {
        held_bytes.set(held_bytes.get() + frame.capacity());
        Shared(Rc::new(Encoded {
            frame,
            held_bytes: Rc::clone(held_bytes),
        }))
    }

    /// The whole frame, header included.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0.frame
    }

    /// The frame for whoever sends it. It counts among what is held until that drops it.
    pub(crate) fn into_bytes(self) -> Rc<dyn AsRef<[u8]>> {
        self.0
    }

    pub(crate) fn is_same(&self, other: &Shared) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        let held_bytes = self.held_bytes.get();
        self.held_bytes.set(held_bytes - self.frame.capacity());
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({} bytes)", self.bytes().len())
    }
}
