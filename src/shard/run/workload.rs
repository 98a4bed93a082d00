//! How much of its time a shard has work for.

/// What is judged at a time, in microseconds: long against a wait of some microseconds, and short
/// against what people notice.
const SPAN_US: u64 = 1000;

/// Whether a shard has so much to do that it is better off asleep while it waits.
///
/// A shard that looks for work has it sooner than one that sleeps until it comes, and as long as the
/// core would be idle, looking costs nothing. But a shard that is busy most of the time has messages
/// wait for what it spends on looking; and where more come while it sleeps, they are done together,
/// for less. Where they come one or two at a time, as of one or two connections, sleeping and waking
/// costs more than looking: measured with two, 10% of the CPU and of the messages a second.
#[derive(Debug, Default)]
pub(super) struct Workload {
    is_high: bool,
    judged_at_us: u64,
    /// How long the shard had been idle by then, and how many messages there had been.
    idle_us: u64,
    messages: u64,
    /// Times that it has waited since.
    waits: u64,
}

impl Workload {
    /// The shard is about to wait. Gives back whether it had work for at least two thirds of the
    /// latest span, and for more than two messages between two waits.
    ///
    /// `now_us`, `idle_us`, how long it has been idle until then, and `messages`, how many it has
    /// received, are since it started; none goes back.
    #[inline]
    pub(super) fn is_high(&mut self, now_us: u64, idle_us: u64, messages: u64) -> bool {
        self.waits += 1;
        let span_us = now_us - self.judged_at_us;
        if span_us >= SPAN_US {
            self.is_high = (idle_us - self.idle_us) * 3 <= span_us
                && messages - self.messages > 2 * self.waits;
            self.judged_at_us = now_us;
            self.idle_us = idle_us;
            self.messages = messages;
            self.waits = 0;
        }
        self.is_high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans one after the other, each with so much idle time, and what is said at the end of each,
    /// when it waits for the only time.
    fn judged(idle_us_of_spans: &[u64], messages_of_each: u64) -> Vec<bool> {
        let mut workload = Workload::default();
        let mut idle_us = 0;
        let spans = (1..).zip(idle_us_of_spans);
        let judge = |(number, idle_of_span_us)| {
            idle_us += idle_of_span_us;
            workload.is_high(number * SPAN_US, idle_us, number * messages_of_each)
        };
        spans.map(judge).collect()
    }

    #[test]
    fn from_two_thirds_of_the_time_on_it_is_high() {
        assert_eq!(
            judged(&[0, 333, 334, 1000, 333], 3),
            [true, true, false, false, true]
        );
    }

    #[test]
    fn it_is_low_where_messages_come_one_or_two_at_a_time() {
        assert_eq!(judged(&[0, 0], 2), [false, false]);
        let mut workload = Workload::default();
        for wait in 1..10 {
            assert!(!workload.is_high(SPAN_US / 10 * wait, 0, 2 * wait));
        }
        // Ten waits, and twenty messages.
        assert!(!workload.is_high(SPAN_US, 0, 20));
        assert!(workload.is_high(2 * SPAN_US, 0, 23));
    }

    #[test]
    fn it_is_low_before_there_is_a_whole_span() {
        assert!(!Workload::default().is_high(SPAN_US - 1, 0, 1000));
    }

    #[test]
    fn within_a_span_it_stays_what_it_was() {
        let mut workload = Workload::default();
        assert!(workload.is_high(SPAN_US, 0, 1000));
        assert!(workload.is_high(2 * SPAN_US - 1, SPAN_US - 1, 2000));
        assert!(!workload.is_high(2 * SPAN_US, SPAN_US, 2000));
    }

    /// A shard that slept for long has had nothing to do, however busy it was before.
    #[test]
    fn a_long_sleep_is_one_span() {
        let mut workload = Workload::default();
        assert!(workload.is_high(SPAN_US, 0, 1000));
        assert!(!workload.is_high(1000 * SPAN_US, 990 * SPAN_US, 9000));
    }
}
