//! Whose replies are in what one connection has to send, so that it is known how long each took.
//!
//! A run of requests with one code that came at one time makes one mark. Marks go with the bytes:
//! those of what is queued become those of the send in flight. There is hardly ever more than one at
//! a time, so a connection has room for one; more of them are in a list that its shard lends to it.

use crate::metrics::MEASURES;

/// Requests of one kind, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) kind: Kind,
    pub(super) count: u32,
}

/// What requests have in common that are recorded as one: since when they have been here, and their
/// series of latencies. One word, since it is compared for each connection of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(u64);

impl Kind {
    /// That of no request.
    pub(super) const NONE: Kind = Kind(u64::MAX);

    #[inline]
    pub(super) fn new(since_us: u64, series: u16) -> Kind {
        Kind(since_us << u16::BITS | u64::from(series))
    }

    #[inline]
    pub(super) fn series(self) -> u16 {
        let [.., high, low] = self.0.to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// How long they have been here by this time. The time of a kind goes round, but in 2^48
    /// microseconds, which are nearly nine years: so long, nothing takes.
    #[inline]
    pub(super) fn took_us(self, now_us: u64) -> u64 {
        let since = self.0 >> u16::BITS << u16::BITS;
        (now_us << u16::BITS).wrapping_sub(since) >> u16::BITS
    }
}

/// Marks in a list, on what is queued at once. Replies beyond them are not followed to their sending:
/// peers that change the code with every request, and pipeline many, are known well enough by the
/// first.
const LISTED_MAX: usize = 64;

/// The marks of one connection.
#[derive(Debug)]
pub(super) struct Marks {
    /// Of one of them, as two fields, so that the third takes no room; the count is 0 when it is free.
    kind: Kind,
    count: u32,
    /// That one is on the send in flight, not on what is queued.
    is_in_flight: bool,
    /// The others; `None` when there are none.
    others: Option<Box<List>>,
}

/// Marks beyond the first.
#[derive(Debug, Default)]
pub(super) struct List {
    queued: Vec<Mark>,
    in_flight: Vec<Mark>,
}

/// Lists of a shard that no connection needs now.
#[derive(Debug, Default)]
pub(super) struct SpareLists(
    #[expect(
        clippy::vec_box,
        reason = "a connection has room for a pointer, not for a list"
    )]
    Vec<Box<List>>,
);

/// At most so many are kept: as many as a turn can need.
const SPARE_LISTS_MAX: usize = super::COMPLETIONS_PER_TURN;

impl Default for Marks {
    fn default() -> Self {
        Marks {
            kind: Kind::NONE,
            count: 0,
            is_in_flight: false,
            others: None,
        }
    }
}

impl Marks {
    /// Marks what was queued last.
    #[inline]
    pub(super) fn push(&mut self, mark: Mark, spare: &mut SpareLists) {
        if self.count == 0 {
            self.kind = mark.kind;
            self.count = mark.count;
            self.is_in_flight = false;
        } else if self.kind == mark.kind && !self.is_in_flight {
            self.count += mark.count;
        } else {
            self.push_beside(mark, spare);
        }
    }

    #[inline(never)]
    fn push_beside(&mut self, mark: Mark, spare: &mut SpareLists) {
        let others = self
            .others
            .get_or_insert_with(|| spare.0.pop().unwrap_or_default());
        if let Some(last) = others.queued.last_mut()
            && last.kind == mark.kind
        {
            last.count += mark.count;
        } else if others.queued.len() < LISTED_MAX {
            others.queued.push(mark);
        }
    }

    /// What is queued is in flight from now on; nothing was.
    #[inline]
    pub(super) fn start_send(&mut self) {
        if !MEASURES {
            return;
        }
        self.is_in_flight = true;
        if let Some(others) = &mut self.others {
            std::mem::swap(&mut others.queued, &mut others.in_flight);
        }
    }

    /// What was in flight was taken, or thrown away.
    #[inline]
    pub(super) fn end_send(&mut self, spare: &mut SpareLists, mut each: impl FnMut(Mark)) {
        if !MEASURES {
            return;
        }
        if self.is_in_flight && self.count > 0 {
            let (kind, count) = (self.kind, self.count);
            each(Mark { kind, count });
            self.count = 0;
        }
        if let Some(others) = &mut self.others {
            others.in_flight.drain(..).for_each(each);
            self.give_back(spare);
        }
    }

    /// What is queued was thrown away.
    pub(super) fn discard(&mut self, spare: &mut SpareLists) {
        if !self.is_in_flight {
            self.count = 0;
        }
        if let Some(others) = &mut self.others {
            others.queued.clear();
            self.give_back(spare);
        }
    }

    /// Gives the list back if it is empty.
    #[inline(never)]
    fn give_back(&mut self, spare: &mut SpareLists) {
        let is_empty = |list: &mut Box<List>| list.queued.is_empty() && list.in_flight.is_empty();
        if let Some(list) = self.others.take_if(is_empty)
            && spare.0.len() < SPARE_LISTS_MAX
        {
            spare.0.push(list);
        }
    }

    /// Memory that it holds beside the connection's own, in bytes.
    #[inline]
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.others {
            Some(others) if MEASURES => {
                let marks = others.queued.capacity() + others.in_flight.capacity();
                size_of::<List>() + marks * size_of::<Mark>()
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(series: u16, since_us: u64) -> Mark {
        Mark {
            kind: Kind::new(since_us, series),
            count: 1,
        }
    }

    /// Ends the send in flight; gives series and count of each mark that was on it.
    fn ended(marks: &mut Marks, spare: &mut SpareLists) -> Vec<(u16, u32)> {
        let mut ended = Vec::new();
        marks.end_send(spare, |mark| ended.push((mark.kind.series(), mark.count)));
        ended
    }

    fn is_empty(marks: &Marks) -> bool {
        marks.count == 0 && marks.others.is_none()
    }

    #[test]
    fn a_kind_knows_its_series_and_its_time() {
        for series in [0, 1, u16::MAX] {
            for since_us in [0, 7, 1 << 40] {
                let kind = Kind::new(since_us, series);
                assert_eq!(kind.series(), series);
                assert_eq!(kind.took_us(since_us), 0);
                assert_eq!(kind.took_us(since_us + 5_000_000_000), 5_000_000_000);
            }
        }
        let late_us = (1 << 48) - 2;
        assert_eq!(Kind::new(late_us, 9).took_us(late_us + 5), 5);
    }

    #[test]
    fn marks_of_one_kind_are_one_and_go_with_their_bytes() {
        let mut spare = SpareLists::default();
        let mut marks = Marks::default();
        for (series, since_us) in [(1, 5), (1, 5), (2, 5), (2, 6), (2, 6)] {
            marks.push(mark(series, since_us), &mut spare);
        }
        marks.start_send();
        marks.push(mark(2, 6), &mut spare);
        marks.push(mark(3, 7), &mut spare);
        assert_eq!(ended(&mut marks, &mut spare), [(1, 2), (2, 1), (2, 2)]);
        assert!(!is_empty(&marks));
        marks.start_send();
        assert_eq!(ended(&mut marks, &mut spare), [(2, 1), (3, 1)]);
        assert!(is_empty(&marks));
        assert_eq!(spare.0.len(), 1, "the list is there for another connection");
    }

    #[test]
    fn what_is_queued_behind_a_send_waits_for_its_own() {
        let mut spare = SpareLists::default();
        let mut marks = Marks::default();
        marks.push(mark(1, 5), &mut spare);
        for _ in 0..3 {
            marks.start_send();
            marks.push(mark(1, 5), &mut spare);
            assert_eq!(ended(&mut marks, &mut spare), [(1, 1)]);
        }
        marks.start_send();
        marks.push(mark(1, 5), &mut spare);
        marks.discard(&mut spare);
        assert_eq!(ended(&mut marks, &mut spare), [(1, 1)]);
        assert!(is_empty(&marks));
        marks.push(mark(1, 5), &mut spare);
        marks.discard(&mut spare);
        assert!(is_empty(&marks));
    }

    #[test]
    fn one_mark_takes_no_memory_beside_the_connection() {
        let mut spare = SpareLists::default();
        let mut marks = Marks::default();
        marks.push(mark(1, 5), &mut spare);
        assert_eq!(marks.memory_bytes(), 0);
        assert_eq!(size_of::<Marks>(), 16 + size_of::<usize>());
    }

    #[test]
    fn their_number_is_bounded() {
        let mut spare = SpareLists::default();
        let mut marks = Marks::default();
        for since_us in 0..1000 {
            marks.push(mark(0, since_us), &mut spare);
        }
        let bytes_max = size_of::<List>() + LISTED_MAX * size_of::<Mark>();
        assert_eq!(marks.memory_bytes(), bytes_max);
        marks.start_send();
        assert_eq!(ended(&mut marks, &mut spare).len(), 1 + LISTED_MAX);
        assert!(is_empty(&marks));
    }
}
