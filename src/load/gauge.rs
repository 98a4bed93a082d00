//! What one thread measures: the latencies of its messages and the errors.

use super::tally::{ErrorKind, Tally};
use super::timeline::Part;

/// The time that counts, in nanoseconds of the run's clock.
#[expect(clippy::struct_field_names, reason = "the unit belongs into each name")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) from_ns: u64,
    /// May be moved to an earlier time while the run goes on.
    pub(super) until_ns: u64,
    pub(super) part_ns: u64,
}

impl Window {
    pub(super) fn holds(&self, at_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&at_ns)
    }
}

/// The measurements of one thread.
#[derive(Debug)]
pub(super) struct Gauge {
    pub(super) window: Window,
    pub(super) tally: Tally,
    part: Part,
    /// The parts that are over and were not taken yet.
    over: Vec<Part>,
    /// Bytes of the messages' replies, headers too.
    reply_bytes: u64,
}

impl Gauge {
    pub(super) fn new(window: Window) -> Gauge {
        Gauge {
            window,
            tally: Tally::default(),
            part: Part::new(0),
            over: Vec::new(),
            reply_bytes: 0,
        }
    }

    /// A right reply of so many bytes came now to a request that began then. It is a message if it
    /// came in the measured time, and its latency counts if the request began in it.
    #[inline]
    pub(super) fn right(&mut self, began_ns: u64, now_ns: u64, reply_bytes: usize) {
        if self.window.holds(began_ns) {
            self.part.latencies.record(now_ns.saturating_sub(began_ns));
        }
        if self.window.holds(now_ns) {
            self.part.messages += 1;
            self.reply_bytes += reply_bytes as u64;
        }
    }

    pub(super) fn error(
        &mut self,
        kind: ErrorKind,
        count: u64,
        now_ns: u64,
        sentence: impl FnOnce() -> String,
    ) {
        self.tally.add(kind, count, now_ns, sentence);
    }

    /// It is now this late: whoever calls this before each turn has every reply in its part.
    #[inline]
    pub(super) fn advance(&mut self, now_ns: u64) {
        let Window {
            from_ns,
            until_ns,
            part_ns,
        } = self.window;
        // Replies after the end belong to the last part.
        let within_ns = now_ns.min(until_ns.saturating_sub(1));
        let index = within_ns.saturating_sub(from_ns) / part_ns;
        if index > self.part.index {
            let over = std::mem::replace(&mut self.part, Part::new(index));
            self.over.push(over);
        }
    }

    /// The parts that are over, in order.
    pub(super) fn take_over(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.over)
    }

    /// The parts that were not taken yet, the errors, and the bytes of the messages' replies.
    pub(super) fn finish(self) -> (Vec<Part>, Tally, u64) {
        let mut parts = self.over;
        parts.push(self.part);
        (parts, self.tally, self.reply_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_count_by_beginnings_and_messages_by_replies() {
        let mut gauge = Gauge::new(Window {
            from_ns: 100,
            until_ns: 400,
            part_ns: 100,
        });
        for (began_ns, now_ns) in [
            (50, 120),
            (100, 150),
            (150, 250),
            (300, 399),
            (399, 450),
            (400, 460),
        ] {
            gauge.advance(now_ns);
            gauge.right(began_ns, now_ns, 40);
        }
        let (parts, _, reply_bytes) = gauge.finish();
        assert_eq!(reply_bytes, 4 * 40);
        let seen: Vec<(u64, u64, u64)> = parts
            .iter()
            .map(|part| (part.index, part.latencies.count(), part.messages))
            .collect();
        assert_eq!(seen, [(0, 1, 2), (1, 1, 1), (2, 2, 1)]);
    }
}
