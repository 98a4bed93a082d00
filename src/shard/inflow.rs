//! How a peer sends: a little at a time, much, or more than a receive buffer holds.

use super::io::Reception;

/// Slices in a row that show how a peer sends: to receive from it in another way costs about as much
/// as to receive a few times in the wrong way.
const RUN: u8 = 4;

/// What the latest slices from a peer say about those to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inflow {
    /// How many of the latest were large, less those that were small: at most [`RUN`].
    run: u8,
    is_large: bool,
    /// The latest filled a buffer, or there was none left, or nothing has come yet: there may be much.
    is_bulk: bool,
}

impl Default for Inflow {
    fn default() -> Inflow {
        Inflow {
            run: 0,
            is_large: false,
            is_bulk: true,
        }
    }
}

impl Inflow {
    /// So many bytes came at once. From `large_bytes` on, they are much, and `bulk_bytes` is what a
    /// buffer holds.
    #[inline]
    pub(super) fn note(&mut self, bytes: usize, large_bytes: usize, bulk_bytes: usize) {
        if bytes >= large_bytes || self.run > 0 {
            self.note_large(bytes >= large_bytes);
        }
        self.is_bulk = bytes >= bulk_bytes;
    }

    #[inline(never)]
    fn note_large(&mut self, is_large: bool) {
        if is_large {
            self.run = (self.run + 1).min(RUN);
            self.is_large |= self.run == RUN;
        } else {
            self.run -= 1;
            self.is_large &= self.run > 0;
        }
    }

    /// There was no buffer left.
    pub(super) fn note_exhausted(&mut self) {
        self.is_bulk = true;
    }

    /// Whether it is neither large nor in bulk, as of most peers.
    #[inline]
    pub(super) fn is_small(self) -> bool {
        !(self.is_large | self.is_bulk)
    }

    /// How to receive from such a peer.
    #[inline]
    pub(super) fn reception(self) -> Reception {
        if self.is_large {
            Reception::Large
        } else if self.is_bulk {
            Reception::Once
        } else {
            Reception::Again
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receptions(sizes: &[usize]) -> Vec<Reception> {
        let mut inflow = Inflow::default();
        let note = |&bytes| {
            inflow.note(bytes, 100, 400);
            assert_eq!(inflow.is_small(), inflow.reception() == Reception::Again);
            inflow.reception()
        };
        sizes.iter().map(note).collect()
    }

    #[test]
    fn at_first_there_may_be_much() {
        assert_eq!(Inflow::default().reception(), Reception::Once);
        assert_eq!(receptions(&[1]), [Reception::Again]);
    }

    #[test]
    fn a_full_buffer_is_followed_by_one_at_a_time() {
        use Reception::{Again, Once};
        assert_eq!(receptions(&[400, 399, 400]), [Once, Again, Once]);
        let mut inflow = Inflow::default();
        inflow.note(1, 100, 400);
        inflow.note_exhausted();
        assert_eq!(inflow.reception(), Once);
    }

    #[test]
    fn several_large_ones_in_a_row_change_the_way_and_so_do_several_small_ones() {
        use Reception::{Again, Large, Once};
        assert_eq!(
            receptions(&[100, 400, 100, 100, 99, 1, 100, 1, 1, 1]),
            [
                Again, Once, Again, Large, Large, Large, Large, Large, Large, Again
            ]
        );
        // One now and then does not.
        assert_eq!(receptions(&[100, 100, 1, 100, 1, 100, 1]), [Again; 7]);
    }
}
