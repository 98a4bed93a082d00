//! How a shard records latencies: by turns, not by messages.
//!
//! Requests of one code that came at one time, and had their replies queued in one turn, took equally
//! long, whichever connections they came on: they are counted, and recorded together. So are replies
//! that were sent. Mostly all of a turn are of one kind, so the latest kind is at hand; the others of
//! a turn are kept by series, if they came in it, or one by one, if they had to wait.

use super::marks::{Kind, Mark};
use crate::metrics::MEASURES;
use crate::metrics::latency::{Codes, Latencies};

/// Requests of one code, one after the other on one connection.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// `None` before the first.
    code: Option<u16>,
    series: u16,
    count: u32,
}

/// What a shard records.
#[derive(Debug)]
pub(super) struct Recorder {
    codes: Codes,
    latencies: Latencies,
    /// When the turn began.
    turn_us: u64,
    /// The latest, and those before it on the connection that is being served.
    run: Run,
    runs_before: Vec<Run>,
    /// Requests that had their replies queued in this turn: the latest of one kind.
    queued: Mark,
    /// Those that came in this turn, beside the latest, by series; and the series that have some.
    fresh: Vec<u32>,
    touched: Vec<u16>,
    /// Those from before this turn, beside the latest.
    waited: Vec<Mark>,
    /// Replies that were sent, as seen at one time: the latest of one kind, not recorded yet.
    sent: Mark,
    /// How long those took; what is longer than an hour is cut.
    sent_us: u32,
}

/// Of no request.
const NONE: Mark = Mark {
    kind: Kind::NONE,
    count: 0,
};

impl Recorder {
    pub(super) fn new(codes: Codes) -> Recorder {
        Recorder {
            latencies: Latencies::new(codes.len()),
            turn_us: 0,
            run: Run {
                code: None,
                series: 0,
                count: 0,
            },
            runs_before: Vec::new(),
            queued: NONE,
            fresh: vec![0; codes.len()],
            touched: Vec::new(),
            waited: Vec::new(),
            sent: NONE,
            sent_us: 0,
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

    /// Requests with this code are handled from here on, for the connection that is being served.
    #[inline]
    pub(super) fn begin(&mut self, code: u16) {
        if MEASURES && self.run.code != Some(code) {
            self.begin_other(code);
        }
    }

    #[inline(never)]
    fn begin_other(&mut self, code: u16) {
        if self.run.count > 0 {
            self.runs_before.push(self.run);
        }
        self.run = Run {
            code: Some(code),
            series: u16::try_from(self.codes.series_of(code)).unwrap_or(0),
            count: 0,
        };
    }

    /// So many of them have been.
    #[inline]
    pub(super) fn handled(&mut self, count: u32) {
        if MEASURES {
            self.run.count += count;
        }
    }

    /// The connection that was served had all its replies queued; its requests came at `since_us`.
    /// Each run is given to `mark`.
    #[inline]
    pub(super) fn queued(&mut self, since_us: u64, mut mark: impl FnMut(Mark)) {
        if !MEASURES {
            return;
        }
        if !self.runs_before.is_empty() {
            self.queue_runs_before(since_us, &mut mark);
        }
        if self.run.count > 0 {
            mark(self.count_queued(since_us, self.run));
            self.run.count = 0;
        }
    }

    #[inline(never)]
    fn queue_runs_before(&mut self, since_us: u64, mark: &mut impl FnMut(Mark)) {
        for at in 0..self.runs_before.len() {
            let run = self.runs_before[at];
            mark(self.count_queued(since_us, run));
        }
        self.runs_before.clear();
    }

    #[inline]
    fn count_queued(&mut self, since_us: u64, run: Run) -> Mark {
        let kind = Kind::new(since_us, run.series);
        if self.queued.kind != kind {
            self.begin_queued(kind);
        }
        self.queued.count += run.count;
        Mark {
            kind,
            count: run.count,
        }
    }

    /// Those queued from here on are of another kind.
    #[inline(never)]
    fn begin_queued(&mut self, kind: Kind) {
        let before = std::mem::replace(&mut self.queued, Mark { kind, count: 0 });
        if before.count == 0 {
            return;
        }
        if before.kind.took_us(self.turn_us) > 0 {
            return self.waited.push(before);
        }
        let series = before.kind.series();
        let fresh = &mut self.fresh[usize::from(series)];
        if *fresh == 0 {
            self.touched.push(series);
        }
        *fresh += before.count;
    }

    /// Replies were taken by the kernel, as is seen now: when this turn began or, for those that were
    /// sent in it, has ended. Gives how long they took, in microseconds.
    #[inline]
    pub(super) fn sent(&mut self, mark: Mark, now_us: u64) -> u32 {
        if self.sent.kind != mark.kind {
            self.record_sent();
            self.sent.kind = mark.kind;
            let us = mark.kind.took_us(now_us);
            self.sent_us = u32::try_from(us).unwrap_or(u32::MAX);
        }
        self.sent.count += mark.count;
        self.sent_us
    }

    #[inline(never)]
    fn record_sent(&mut self) {
        let Mark { kind, count } = std::mem::replace(&mut self.sent, NONE);
        if count > 0 {
            self.latencies
                .record_sent(kind.series().into(), self.sent_us.into(), count);
        }
    }

    /// A handler of this code was slow.
    pub(super) fn count_slow(&mut self, code: u16) {
        self.latencies.count_slow(self.codes.series_of(code));
    }

    /// The turn has ended.
    #[inline]
    pub(super) fn end_turn(&mut self, now_us: u64) {
        if self.sent.count > 0 {
            self.record_sent();
        }
        self.end_queued(now_us);
    }

    /// No more is queued in this turn.
    #[inline]
    pub(super) fn end_queued(&mut self, now_us: u64) {
        // There are others only beside it.
        if self.queued.count > 0 {
            self.record_queued(now_us);
        }
    }

    fn record_queued(&mut self, now_us: u64) {
        if !self.touched.is_empty() || !self.waited.is_empty() {
            self.record_others(now_us);
        }
        let Mark { kind, count } = std::mem::replace(&mut self.queued, NONE);
        let us = kind.took_us(now_us);
        self.latencies
            .record_queued(kind.series().into(), us, count);
    }

    #[cold]
    fn record_others(&mut self, now_us: u64) {
        let turn_us = now_us.saturating_sub(self.turn_us);
        for series in self.touched.drain(..) {
            let series = usize::from(series);
            let count = std::mem::take(&mut self.fresh[series]);
            self.latencies.record_queued(series, turn_us, count);
        }
        for Mark { kind, count } in self.waited.drain(..) {
            let us = kind.took_us(now_us);
            self.latencies
                .record_queued(kind.series().into(), us, count);
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
            recorder.begin(code);
            recorder.handled(1);
        }
        // Its reply comes later.
        recorder.begin(3);
        let mut marks = Vec::new();
        recorder.queued(100, |mark| marks.push((mark.kind.series(), mark.count)));
        assert_eq!(marks, [(2, 2), (1, 1), (2, 1)]);
        recorder.begin(9);
        for _ in 0..4 {
            recorder.handled(1);
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
        recorder.begin(77);
        recorder.handled(1);
        recorder.queued(10, |_| {});
        recorder.begin_turn(35);
        let latencies = recorder.exchange(Latencies::default());
        assert_eq!(queued_of(&latencies, Codes::OTHER), [(25, 1)]);
    }

    #[test]
    fn replies_that_were_sent_are_seen_when_the_turn_begins_or_ends() {
        let mut recorder = Recorder::new(Codes::new([1]));
        recorder.begin_turn(1_000);
        let sent = |recorder: &mut Recorder, since_us, now_us| {
            let kind = Kind::new(since_us, 1);
            recorder.sent(Mark { kind, count: 2 }, now_us)
        };
        let took_us = [400, 400, 900, 400].map(|since_us| sent(&mut recorder, since_us, 1_000));
        assert_eq!(took_us, [600, 600, 100, 600]);
        recorder.end_turn(5_000);
        assert_eq!(sent(&mut recorder, 400, 5_000), 4_600);
        recorder.end_turn(5_000);
        let latencies = recorder.exchange(Latencies::default());
        let sent = &latencies.get(1).unwrap().sent;
        assert_eq!((sent.len(), sent.min()), (10, 100));
        assert_eq!(sent.count_between(4_590, 4_610), 2);
    }
}
