//! What the connections of a shard, and its handlers, hold in memory, to the byte.
//!
//! Every connection is charged for its own state and for the memory of its partial frame and its
//! queued replies, including those in the kernel's hands. Charges are brought up to date when an
//! event on a connection has been dealt with, not at every frame. What connections share, and what
//! handlers say that they keep, is charged once for all of them, and brought up to date by turns.

/// The sum of what is charged, and how much it may be.
#[derive(Debug)]
pub(super) struct Ledger {
    held_bytes: usize,
    /// Of them, those that connections share or handlers keep.
    shared_bytes: usize,
    bytes_max: usize,
}

/// What one connection is charged for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) bytes: usize,
}

impl Ledger {
    pub(super) fn new(bytes_max: usize) -> Ledger {
        Ledger {
            held_bytes: 0,
            shared_bytes: 0,
            bytes_max,
        }
    }

    /// From now on, so much may be charged. What is charged stays, be it more.
    pub(super) fn set_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Charges a connection for this much, in place of what it was charged for before.
    #[inline]
    pub(super) fn charge(&mut self, charge: &mut Charge, bytes: usize) {
        if charge.bytes != bytes {
            self.held_bytes = self.held_bytes - charge.bytes + bytes;
            charge.bytes = bytes;
        }
    }

    /// What connections share and handlers keep is so much now.
    #[inline]
    pub(super) fn charge_shared(&mut self, bytes: usize) {
        self.held_bytes = self.held_bytes - self.shared_bytes + bytes;
        self.shared_bytes = bytes;
    }

    /// All that is charged.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// How much more may be charged.
    #[inline]
    pub(super) fn room_bytes(&self) -> usize {
        self.bytes_max.saturating_sub(self.held_bytes)
    }

    /// Whether so much more may be charged.
    #[inline]
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.held_bytes.saturating_add(bytes) <= self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_charge_takes_the_place_of_the_old() {
        let mut ledger = Ledger::new(100);
        let (mut one, mut other) = (Charge::default(), Charge::default());
        ledger.charge(&mut one, 60);
        ledger.charge(&mut other, 30);
        assert_eq!(ledger.held_bytes(), 90);
        assert!(ledger.has_room(10) && !ledger.has_room(11));
        assert_eq!(ledger.room_bytes(), 10);
        ledger.charge(&mut one, 5);
        ledger.charge(&mut other, 0);
        assert_eq!(ledger.held_bytes(), 5);
        ledger.charge(&mut one, 200);
        assert!(
            !ledger.has_room(0),
            "a charge may go beyond; nothing more has room then"
        );
        assert_eq!(ledger.room_bytes(), 0);
    }
}
