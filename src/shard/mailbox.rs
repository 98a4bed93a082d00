//! How much may wait in a shard's mailbox of what others outside the shards want done.
//!
//! Invariant: what was put in and not carried out has its room taken, and nothing else has. So who
//! puts in faster than the shard carries out is refused, and the shard has that much on its hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Pushes, broadcasts and functions that wait for one shard at once.
pub(crate) const DELIVERIES_MAX: usize = 4096;

/// Bytes of their frames.
pub(crate) const DELIVERY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What waits in one mailbox.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    deliveries: AtomicUsize,
    bytes: AtomicUsize,
    /// Those that found no room.
    refused: AtomicU64,
}

/// Room that one delivery has, until it is dropped: when the delivery is carried out.
#[derive(Debug)]
pub(crate) struct Room {
    of: Arc<Rooms>,
    bytes: usize,
}

/// Why something is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no room.
    Full,
    /// The shard has ended.
    Gone,
}

impl Rooms {
    /// Takes room for something of so many bytes, if there is any.
    pub(super) fn take(self: &Arc<Rooms>, bytes: usize) -> Result<Room, Refused> {
        // Its drop gives back what is too much.
        let room = Room {
            of: Arc::clone(self),
            bytes,
        };
        let deliveries = self.deliveries.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if deliveries > DELIVERIES_MAX || bytes > DELIVERY_BYTES_MAX {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Full);
        }
        Ok(room)
    }

    /// How many found no room since it was asked for last.
    pub(super) fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of.deliveries.fetch_sub(1, Ordering::Relaxed);
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_in_number_and_bytes_and_comes_back() {
        let rooms = Arc::new(Rooms::default());
        for bytes in [1, DELIVERY_BYTES_MAX / 100] {
            let mut taken = Vec::new();
            while let Ok(room) = rooms.take(bytes) {
                taken.push(room);
            }
            assert_eq!(
                taken.len(),
                DELIVERIES_MAX.min(DELIVERY_BYTES_MAX / bytes),
                "of {bytes} bytes"
            );
            taken.pop();
            taken.push(rooms.take(bytes).unwrap());
            assert_eq!(rooms.take(bytes).unwrap_err(), Refused::Full);
        }
        assert_eq!(rooms.take_refused(), 4);
        assert_eq!(rooms.bytes.load(Ordering::Relaxed), 0);
        assert_eq!(rooms.deliveries.load(Ordering::Relaxed), 0);
    }
}
