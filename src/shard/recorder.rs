//! How a shard records latencies: by turns, not by messages.
//!
//! Requests that came in a turn and had their replies queued in it took as long as the turn, so they
//! are counted by code and recorded together when it has ended. Those that had to wait, and replies
//! that were sent, are recorded by runs of one code and one time.

use super::marks::Mark;
use crate::metrics::MEASURES;
use crate::metrics::latency::{Codes, Latencies};

/// Requests of one code, one after the other.
#[derive(Clone, Copy, Debug)]
struct Run {
    code: u16,
    count: u32,
}

/// What a shard records.
#[derive(Debug)]
pub(super) struct Recorder {
    codes: Codes,
    latencies: Latencies,
    /// When the turn began.
    turn_us: u64,
    /// Of the connection that is being served.
    runs: Vec<Run>,
    /// Requests of this turn by series, and the series that have some.
    fresh: Vec<u32>,
    touched: Vec<u16>,
    /// Requests from before this turn that had their replies queued in it.
    waited: Vec<Mark>,
    /// Replies that were sent, as seen in this turn: the latest of one kind, not recorded yet.
    sent: Option<Mark>,
}

impl Recorder {
    pub(super) fn new(codes: Codes) -> Recorder {
        Recorder {
            latencies: Latencies::new(codes.len()),
            turn_us: 0,
            runs: Vec::new(),
            fresh: vec![0; codes.len()],
            touched: Vec::new(),
            waited: Vec::new(),
            sent: None,
            codes,
        }
    }

    /// The recorded so far, in exchange for an empty set.
    pub(super) fn exchange(&mut self, empty: Latencies) -> Latencies {
        // One that was made for fewer series would lose some.
        let empty = if empty.len() == self.codes.len() {
            empty
        } else {
            Latencies::new(self.codes.len())
        };
        std::mem::replace(&mut self.latencies, empty)
    }

    /// A turn begins.
    #[inline]
    pub(super) fn begin_turn(&mut self, now_us: u64) {
        // Nobody has said when the last one ended: now, at the latest.
        self.end_turn(now_us);
        self.turn_us = now_us;
    }

    /// A request with this code has been handled for the connection that is being served.
    #[inline]
    pub(super) fn handled(&mut self, code: u16) {
        if !MEASURES {
            return;
        }
        match self.runs.last_mut() {
            Some(run) if run.code == code => run.count = run.count.saturating_add(1),
            _ => self.runs.push(Run { code, count: 1 }),
        }
    }

    /// The connection that was served had all its replies queued; its requests came at `since_us`.
    /// Each run is given to `mark`.
    #[inline]
    pub(super) fn queued(&mut self, since_us: u64, mut mark: impl FnMut(Mark)) {
        for at in 0..self.runs.len() {
            let Run { code, count } = self.runs[at];
            let series = self.codes.series_of(code);
            let run = Mark {
                since_us,
                count,
                series: u16::try_from(series).unwrap_or(0),
            };
            if since_us < self.turn_us {
                self.waited.push(run);
            } else {
                let fresh = &mut self.fresh[series];
                if *fresh == 0 {
                    self.touched.push(run.series);
                }
                *fresh = fresh.saturating_add(count);
            }
            mark(run);
        }
        self.runs.clear();
    }

    /// Replies were taken by the kernel, as is seen at the beginning of this turn.
    #[inline]
    pub(super) fn sent(&mut self, mark: Mark) {
        match &mut self.sent {
            Some(latest) if latest.series == mark.series && latest.since_us == mark.since_us => {
                latest.count = latest.count.saturating_add(mark.count);
            }
            _ => {
                self.record_sent();
                self.sent = Some(mark);
            }
        }
    }

    #[inline]
    fn record_sent(&mut self) {
        if let Some(mark) = self.sent.take() {
            let us = self.turn_us.saturating_sub(mark.since_us);
            self.latencies
                .record_sent(mark.series.into(), us, mark.count);
        }
    }

    /// A handler of this code was slow.
    pub(super) fn count_slow(&mut self, code: u16) {
        self.latencies.count_slow(self.codes.series_of(code));
    }

    /// The turn has ended.
    #[inline]
    pub(super) fn end_turn(&mut self, now_us: u64) {
        self.record_sent();
        let turn_us = now_us.saturating_sub(self.turn_us);
        for series in self.touched.drain(..) {
            let series = usize::from(series);
            let count = std::mem::take(&mut self.fresh[series]);
            self.latencies.record_queued(series, turn_us, count);
        }
        for run in self.waited.drain(..) {
            let us = now_us.saturating_sub(run.since_us);
            self.latencies
                .record_queued(run.series.into(), us, run.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued_of(latencies: &Latencies, series: usize) -> Vec<(u64, u64)> {
        let histogram = &latencies.get(series).unwrap().queued;
        let recorded = histogram.iter_recorded();
        recorded
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect()
    }

    #[test]
    fn what_came_in_a_turn_took_the_turn_and_what_waited_took_longer() {
        let mut recorder = Recorder::new(Codes::new([3, 9]));
        recorder.begin_turn(100);
        for code in [9, 9, 3, 9] {
            recorder.handled(code);
        }
        let mut marks = Vec::new();
        recorder.queued(100, |mark| marks.push((mark.series, mark.count)));
        assert_eq!(marks, [(2, 2), (1, 1), (2, 1)]);
        for _ in 0..4 {
            recorder.handled(9);
        }
        recorder.queued(40, |_| {});
        recorder.end_turn(150);
        let latencies = recorder.exchange(Latencies::new(3));
        assert_eq!(queued_of(&latencies, 2), [(50, 3), (110, 4)]);
        assert_eq!(queued_of(&latencies, 1), [(50, 1)]);
        recorder.begin_turn(200);
        assert!(recorder.exchange(Latencies::default()).get(2).is_none());
    }

    #[test]
    fn a_turn_whose_end_nobody_told_lasted_until_the_next() {
        let mut recorder = Recorder::new(Codes::new([]));
        recorder.begin_turn(10);
        recorder.handled(77);
        recorder.queued(10, |_| {});
        recorder.begin_turn(35);
        let latencies = recorder.exchange(Latencies::default());
        assert_eq!(queued_of(&latencies, Codes::OTHER), [(25, 1)]);
    }

    #[test]
    fn replies_that_were_sent_are_seen_when_the_turn_begins() {
        let mut recorder = Recorder::new(Codes::new([1]));
        recorder.begin_turn(1_000);
        for since_us in [400, 400, 900] {
            recorder.sent(Mark {
                since_us,
                count: 2,
                series: 1,
            });
        }
        recorder.end_turn(5_000);
        let latencies = recorder.exchange(Latencies::default());
        let sent = &latencies.get(1).unwrap().sent;
        assert_eq!((sent.len(), sent.min(), sent.max()), (6, 100, 600));
    }
}
