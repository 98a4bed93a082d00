//! How much of its time a shard has work for.

/// What is judged at a time, in microseconds: long against a wait of some microseconds, and short
/// against what people notice.
const SPAN_US: u64 = 1000;

/// Whether a shard has so much to do that its core is scarce.
///
/// A shard that looks for work has it sooner than one that sleeps until it comes, and as long as the
/// core would be idle, looking costs nothing. But a shard that is busy most of the time has messages
/// wait for what it spends on looking; and what comes while it sleeps is done in one turn, for less.
/// benches/README.md has how much less.
#[derive(Debug, Default)]
pub(super) struct Workload {
    is_high: bool,
    judged_at_us: u64,
    /// How long the shard had been idle by then.
    idle_us: u64,
}

impl Workload {
    /// Whether the shard had work for at least two thirds of the latest span.
    ///
    /// `now_us` and `idle_us`, how long it has been idle until then, are since it started; neither
    /// goes back.
    #[inline]
    pub(super) fn is_high(&mut self, now_us: u64, idle_us: u64) -> bool {
        let span_us = now_us - self.judged_at_us;
        if span_us >= SPAN_US {
            self.is_high = (idle_us - self.idle_us) * 3 <= span_us;
            self.judged_at_us = now_us;
            self.idle_us = idle_us;
        }
        self.is_high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans one after the other, each with so much idle time, and what is said at the end of each.
    fn judged(idle_us_of_spans: &[u64]) -> Vec<bool> {
        let mut workload = Workload::default();
        let mut idle_us = 0;
        let spans = (1..).zip(idle_us_of_spans);
        let judge = |(number, idle_of_span_us)| {
            idle_us += idle_of_span_us;
            workload.is_high(number * SPAN_US, idle_us)
        };
        spans.map(judge).collect()
    }

    #[test]
    fn from_two_thirds_of_the_time_on_it_is_high() {
        assert_eq!(
            judged(&[0, 333, 334, 1000, 333]),
            [true, true, false, false, true]
        );
    }

    #[test]
    fn it_is_low_before_there_is_a_whole_span() {
        assert!(!Workload::default().is_high(SPAN_US - 1, 0));
    }

    #[test]
    fn within_a_span_it_stays_what_it_was() {
        let mut workload = Workload::default();
        assert!(workload.is_high(SPAN_US, 0));
        assert!(workload.is_high(2 * SPAN_US - 1, SPAN_US - 1));
        assert!(!workload.is_high(2 * SPAN_US, SPAN_US));
    }

    /// A shard that slept for long has had nothing to do, however busy it was before.
    #[test]
    fn a_long_sleep_is_one_span() {
        let mut workload = Workload::default();
        assert!(workload.is_high(SPAN_US, 0));
        assert!(!workload.is_high(1000 * SPAN_US, 990 * SPAN_US));
    }
}
