//! The measured time in equal parts: what a thread has seen in each, and all threads together.

use std::collections::VecDeque;

use super::latency::Latencies;
use super::record::Interval;

/// Parts that the measured time has, at most.
const PARTS_MAX: u64 = 200;

/// Lengths of a part, in nanoseconds: 10 ms to an hour, in steps that people count in.
const LENGTHS_NS: [u64; 18] = [
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    30_000_000_000,
    60_000_000_000,
    120_000_000_000,
    300_000_000_000,
    600_000_000_000,
    1_800_000_000_000,
    3_600_000_000_000,
];

/// How long a part is, for so long a measured time.
pub(super) fn part_ns(duration_ns: u64) -> u64 {
    let least_ns = duration_ns.div_ceil(PARTS_MAX);
    LENGTHS_NS
        .into_iter()
        .find(|&length_ns| length_ns >= least_ns)
        .unwrap_or(least_ns)
}

/// What was seen in one part of the time.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Its number, from 0.
    pub(super) index: u64,
    /// Right replies that came in it.
    pub(super) messages: u64,
    /// Their latencies, as far as their requests began in the measured time. The last part has
    /// those of the replies that came after it, too.
    pub(super) latencies: Latencies,
}

impl Part {
    pub(super) fn new(index: u64) -> Part {
        Part {
            index,
            messages: 0,
            latencies: Latencies::new(),
        }
    }
}

/// Puts the parts of several threads together, in order.
#[derive(Debug)]
pub(super) struct Timeline {
    part_ns: u64,
    all: Latencies,
    intervals: Vec<Interval>,
    /// The parts that not all threads are past, from that of number `intervals.len()` on.
    open: VecDeque<Part>,
    /// The part that each thread is in, at least; `None` once it is through.
    threads: Vec<Option<u64>>,
}

impl Timeline {
    pub(super) fn new(part_ns: u64, threads: usize) -> Timeline {
        Timeline {
            part_ns,
            all: Latencies::new(),
            intervals: Vec::new(),
            open: VecDeque::new(),
            threads: vec![Some(0); threads],
        }
    }

    /// A thread is through with a part. Its parts come in order; those in which it saw nothing may
    /// be left out.
    pub(super) fn add(&mut self, thread: usize, part: &Part) {
        let closed = self.intervals.len() as u64;
        while self.open.len() as u64 <= part.index.saturating_sub(closed) {
            self.open
                .push_back(Part::new(closed + self.open.len() as u64));
        }
        let place = usize::try_from(part.index.saturating_sub(closed)).unwrap_or(usize::MAX);
        if let Some(open) = self.open.get_mut(place) {
            open.latencies.add(&part.latencies);
            open.messages += part.messages;
        }
        self.threads[thread] = Some(part.index + 1);
        self.close();
    }

    /// A thread is through with all of them.
    pub(super) fn finish(&mut self, thread: usize) {
        self.threads[thread] = None;
        self.close();
    }

    /// The latest part that all threads are through with.
    pub(super) fn latest(&self) -> Option<&Interval> {
        self.intervals.last()
    }

    /// All latencies, and the parts of a measured time of this length.
    pub(super) fn into_intervals(mut self, measured_ns: u64) -> (Latencies, Vec<Interval>) {
        self.threads.clear();
        self.close();
        let wanted = usize::try_from(measured_ns.div_ceil(self.part_ns)).unwrap_or(usize::MAX);
        while self.intervals.len() < wanted {
            let part = Part::new(self.intervals.len() as u64);
            self.push(&part);
        }
        // Replies may have come after the end of a run that was ended early.
        self.intervals.truncate(wanted);
        if let Some(last) = self.intervals.last_mut() {
            last.seconds = seconds(measured_ns) - last.start_seconds;
        }
        (self.all, self.intervals)
    }

    /// Closes the parts that all threads are past.
    fn close(&mut self) {
        let least = self.threads.iter().flatten().min().copied();
        while let Some(part) = self
            .open
            .pop_front_if(|part| least.is_none_or(|least| part.index < least))
        {
            self.push(&part);
        }
    }

    fn push(&mut self, part: &Part) {
        let latencies = &part.latencies;
        self.all.add(latencies);
        let some = |us: f64| (latencies.count() > 0).then_some(us);
        self.intervals.push(Interval {
            start_seconds: seconds(part.index * self.part_ns),
            seconds: seconds(self.part_ns),
            messages: part.messages,
            p50_us: some(latencies.quantile_us(0.5)),
            p99_us: some(latencies.quantile_us(0.99)),
            max_us: some(latencies.max_us()),
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53 ns, 104 days")]
pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(index: u64, latencies_us: &[u64]) -> Part {
        let mut part = Part::new(index);
        for us in latencies_us {
            part.latencies.record(us * 1000);
            part.messages += 1;
        }
        part
    }

    #[test]
    fn parts_are_of_a_length_that_people_count_in() {
        let second = 1_000_000_000;
        assert_eq!(part_ns(0), 10_000_000);
        assert_eq!(part_ns(second), 10_000_000);
        assert_eq!(part_ns(10 * second), 50_000_000);
        assert_eq!(part_ns(60 * second), 500_000_000);
        assert_eq!(part_ns(3600 * second), 20 * second);
        assert!(LENGTHS_NS.is_sorted());
    }

    #[test]
    fn threads_are_put_together_part_by_part() {
        let mut timeline = Timeline::new(10_000_000, 2);
        timeline.add(0, &part(0, &[10]));
        assert!(timeline.latest().is_none(), "the other may have more of it");
        timeline.add(1, &part(0, &[30, 30]));
        assert_eq!(timeline.latest().unwrap().messages, 3);
        timeline.add(1, &part(2, &[50]));
        timeline.finish(1);
        timeline.add(0, &part(1, &[]));
        timeline.finish(0);
        let (all, intervals) = timeline.into_intervals(45_000_000);
        let messages: Vec<u64> = intervals.iter().map(|interval| interval.messages).collect();
        assert_eq!(messages, [3, 0, 1, 0, 0]);
        assert_eq!(all.count(), 4);
        assert_eq!(intervals[1].p50_us, None);
        assert!((intervals[0].max_us.unwrap() - 30.0).abs() < 0.1);
        assert!((intervals[4].seconds - 0.005).abs() < 1e-9);
    }

    #[test]
    fn replies_after_the_end_are_latencies_but_no_throughput() {
        let mut timeline = Timeline::new(10_000_000, 1);
        let mut last = part(0, &[10, 7_000]);
        last.messages = 1;
        timeline.add(0, &last);
        let (all, intervals) = timeline.into_intervals(10_000_000);
        assert_eq!((all.count(), intervals[0].messages), (2, 1));
        assert!(intervals[0].max_us.unwrap() > 6_900.0);
    }
}
