//! Pushes that wait for whoever reads them: so many at most, and what finds no room is counted.

use std::collections::VecDeque;

use super::received::Push;

/// Pushes in the order of their arrival. A full queue keeps what it has; the next push that finds
/// room says how many did not.
#[derive(Debug)]
pub(super) struct Pushes {
    waiting: VecDeque<(u64, Push)>,
    waiting_max: usize,
    /// How many wait further on, and count as waiting here.
    elsewhere: usize,
    lost: u64,
    /// Whether those that find no room are dropped, until one is taken.
    drops: bool,
    /// Whether more may have come, which were not decoded since they find no room.
    pub(super) has_held_back: bool,
}

impl Pushes {
    pub(super) fn new(waiting_max: usize) -> Pushes {
        Pushes {
            waiting: VecDeque::new(),
            waiting_max,
            elsewhere: 0,
            lost: 0,
            drops: false,
            has_held_back: false,
        }
    }

    /// Takes in a push, the `arrival`th frame of all.
    pub(super) fn add(&mut self, arrival: u64, mut push: Push) {
        // What another queue has lost before this one counts, too.
        self.lost += push.lost_before;
        if self.is_full() {
            self.lost += 1;
            return;
        }
        push.lost_before = std::mem::take(&mut self.lost);
        self.waiting.push_back((arrival, push));
    }

    /// The oldest one.
    pub(super) fn take(&mut self) -> Option<Push> {
        let (_, push) = self.waiting.pop_front()?;
        self.drops = false;
        Some(push)
    }

    /// Whether those that come are to be held back until there is room for them.
    pub(super) fn are_held_back(&self) -> bool {
        // Where none may wait at all, there will never be.
        self.is_full() && self.waiting_max > 0 && !self.drops
    }

    /// Whether those that find no room are dropped, until one is taken.
    pub(super) fn set_drops(&mut self, drops: bool) {
        self.drops = drops;
    }

    fn is_full(&self) -> bool {
        self.waiting.len() + self.elsewhere >= self.waiting_max
    }

    /// So many wait further on, for as long as nothing else is said.
    #[cfg(feature = "tokio-client")]
    pub(super) fn count_elsewhere(&mut self, pushes: usize) {
        self.elsewhere = pushes;
    }

    /// How many wait.
    #[cfg(feature = "tokio-client")]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the oldest one arrived, counted in frames.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.waiting.front().map(|(arrival, _)| *arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(code: u16) -> Push {
        Push {
            code,
            body: Vec::new(),
            lost_before: 0,
        }
    }

    #[test]
    fn a_full_queue_counts_what_it_loses_and_tells_it_once() {
        let mut pushes = Pushes::new(2);
        for code in 0..5 {
            pushes.add(u64::from(code), push(code));
        }
        assert_eq!(pushes.oldest(), Some(0));
        assert_eq!(pushes.take(), Some(push(0)));
        pushes.add(5, push(5));
        pushes.add(6, push(6));
        assert_eq!(pushes.take(), Some(push(1)));
        pushes.add(7, push(7));
        let after = |code, lost_before| Push {
            lost_before,
            ..push(code)
        };
        assert_eq!(pushes.take(), Some(after(5, 3)));
        assert_eq!(pushes.take(), Some(after(7, 1)));
        assert_eq!((pushes.take(), pushes.oldest()), (None, None));
    }

    #[test]
    fn what_the_queue_before_has_lost_is_not_forgotten() {
        let mut pushes = Pushes::new(1);
        pushes.add(0, push(0));
        let mut late = push(1);
        late.lost_before = 7;
        pushes.add(1, late);
        pushes.take();
        pushes.add(2, push(2));
        assert_eq!(pushes.take().map(|push| push.lost_before), Some(8));
    }
}
