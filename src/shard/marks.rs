//! Whose replies are in what one connection has to send, so that it is known how long each took.
//!
//! A run of requests with one code that came at one time makes one mark. Marks go with the bytes:
//! those of what is queued become those of the send in flight.

/// Requests of one code that came at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) since_us: u64,
    pub(super) count: u32,
    pub(super) series: u16,
}

/// Marks on what is queued at once. Replies beyond them are not followed to their sending: peers
/// that change the code with every request, and pipeline many, are known well enough by the first.
const MARKS_MAX: usize = 64;

/// The marks of one connection.
#[derive(Debug, Default)]
pub(super) struct Marks {
    queued: Vec<Mark>,
    in_flight: Vec<Mark>,
}

impl Marks {
    /// Marks what was queued last.
    #[inline]
    pub(super) fn push(&mut self, mark: Mark) {
        if let Some(last) = self.queued.last_mut()
            && last.series == mark.series
            && last.since_us == mark.since_us
        {
            last.count = last.count.saturating_add(mark.count);
        } else if self.queued.len() < MARKS_MAX {
            self.queued.push(mark);
        }
    }

    /// What is queued is in flight from now on; nothing was.
    #[inline]
    pub(super) fn start_send(&mut self) {
        std::mem::swap(&mut self.queued, &mut self.in_flight);
    }

    /// What was in flight was taken, or thrown away.
    #[inline]
    pub(super) fn end_send(&mut self) -> impl Iterator<Item = Mark> {
        self.in_flight.drain(..)
    }

    /// What is queued was thrown away.
    pub(super) fn discard(&mut self) {
        self.queued.clear();
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.in_flight.is_empty()
    }

    /// Memory that it holds, in bytes.
    #[inline]
    pub(super) fn memory_bytes(&self) -> usize {
        let marks = self.queued.capacity() + self.in_flight.capacity();
        size_of::<Marks>() + marks * size_of::<Mark>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(series: u16, since_us: u64) -> Mark {
        Mark {
            since_us,
            count: 1,
            series,
        }
    }

    #[test]
    fn marks_of_one_kind_are_one_and_go_with_their_bytes() {
        let mut marks = Marks::default();
        for (series, since_us) in [(1, 5), (1, 5), (2, 5), (2, 6)] {
            marks.push(mark(series, since_us));
        }
        marks.start_send();
        marks.push(mark(3, 7));
        let sent: Vec<_> = marks
            .end_send()
            .map(|mark| (mark.series, mark.count))
            .collect();
        assert_eq!(sent, [(1, 2), (2, 1), (2, 1)]);
        assert!(!marks.is_empty());
        marks.start_send();
        assert_eq!(marks.end_send().next(), Some(mark(3, 7)));
        assert!(marks.is_empty());
    }

    #[test]
    fn their_number_is_bounded() {
        let mut marks = Marks::default();
        for since_us in 0..1000 {
            marks.push(mark(0, since_us));
        }
        assert_eq!(marks.queued.len(), MARKS_MAX);
        marks.discard();
        assert!(marks.is_empty());
    }
}
