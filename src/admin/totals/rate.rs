//! Two looks at something that only grows, far enough apart for a rate.

/// Looks closer to one another than this say nothing for sure: a shard counts by turns.
const APART_US_MIN: u64 = 500_000;

/// From one look to another. Before the first there was nothing, at time 0.
#[derive(Debug, Default)]
pub(super) struct Stretch<T> {
    earlier: (u64, T),
    later: (u64, T),
}

impl<T: Default> Stretch<T> {
    /// Another look, at this time. It counts if it is far enough from the last one that did.
    pub(super) fn push(&mut self, at_us: u64, look: T) {
        if at_us.saturating_sub(self.later.0) >= APART_US_MIN {
            self.earlier = std::mem::replace(&mut self.later, (at_us, look));
        }
    }

    /// Both, and the microseconds between them; `None` until there is a look that counts.
    pub(super) fn get(&self) -> Option<(&T, &T, u64)> {
        let us = self.later.0 - self.earlier.0;
        (us > 0).then_some((&self.earlier.1, &self.later.1, us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_are_too_close_change_nothing() {
        let mut stretch = Stretch::default();
        assert_eq!(stretch.get(), None);
        stretch.push(499_999, 1);
        assert_eq!(stretch.get(), None);
        stretch.push(600_000, 2);
        assert_eq!(stretch.get(), Some((&0, &2, 600_000)));
        stretch.push(1_000_000, 3);
        assert_eq!(stretch.get(), Some((&0, &2, 600_000)));
        stretch.push(1_600_000, 9);
        assert_eq!(stretch.get(), Some((&2, &9, 1_000_000)));
    }
}
