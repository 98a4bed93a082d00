//! What is known of a running server: snapshots of its shards in, sums, rates and history out.
//!
//! A shard that shows nothing any more keeps the figures that it had. Latencies come as intervals and
//! are summed up here; all other figures are absolute and replace those before. Times are
//! microseconds of one clock that only goes forward, whoever's it is.

mod history;
mod rate;

pub(super) use history::{MINUTE_INTERVALS, Point, STEP_US};

use std::collections::VecDeque;

use history::History;
use rate::Stretch;

use crate::handler::ConnectionId;
use crate::metrics::Counters;
use crate::metrics::latency::{Codes, Latencies, Latency};
use crate::shard::{Gauges, MeshCounts, Pace, Snapshot};

/// The whole server.
#[derive(Debug)]
pub(super) struct Totals {
    codes: Codes,
    shards: Vec<ShardTotals>,
    /// Since the start, by series.
    latencies: Latencies,
    /// Since the last interval was closed.
    open: Latencies,
    history: History,
    /// Requests by series, for their rates.
    requests: Stretch<Vec<u64>>,
}

/// One shard, as it was when it last answered.
#[derive(Debug, Default)]
pub(super) struct ShardTotals {
    /// Everything counted since the shard started.
    pub(super) counters: Counters,
    /// What there was.
    pub(super) gauges: Gauges,
    /// What the shard had done with its time.
    pub(super) pace: Pace,
    /// What went to and from other shards.
    pub(super) mesh: MeshCounts,
    /// Figures of the program's own metrics; none before its first answer.
    pub(super) own: Vec<f64>,
    /// Whether it answers no more, and at what it is.
    pub(super) stuck: Option<Stuck>,
    recent: Stretch<Counted>,
    /// Receive buffers in use at most, in each of the last intervals and in the open one.
    buffers_peaks: VecDeque<u64>,
}

/// A shard that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stuck {
    /// For how long it has not answered.
    pub(super) for_us: u64,
    /// The connection and the code of the request that it is at; `None` if it is between two turns.
    pub(super) at: Option<(ConnectionId, u16)>,
}

/// What rates are made of.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    frames_received: u64,
    received_bytes: u64,
    sent_bytes: u64,
    turns: u64,
    completions: u64,
    idle_us: u64,
}

/// How a shard fared between two looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Whole frames received.
    pub(super) messages_per_second: f64,
    pub(super) received_bytes_per_second: f64,
    pub(super) sent_bytes_per_second: f64,
    /// The share of the time in which it had something to do, from 0 to 1.
    pub(super) busy: f64,
    pub(super) completions_per_turn: f64,
}

impl Totals {
    /// Of a server of so many shards whose handlers have these codes; nothing is known yet.
    pub(super) fn new(codes: Codes, shards: usize) -> Totals {
        Totals {
            latencies: Latencies::new(codes.len()),
            open: Latencies::new(codes.len()),
            history: History::new(),
            requests: Stretch::default(),
            shards: (0..shards).map(|_| ShardTotals::default()).collect(),
            codes,
        }
    }

    /// Takes in what a shard has shown. One that there is not is nobody's.
    pub(super) fn add(&mut self, snapshot: &Snapshot) {
        let Some(shard) = self.shards.get_mut(usize::from(snapshot.shard)) else {
            return;
        };
        shard.take_in(snapshot);
        self.latencies.add(&snapshot.latencies);
        self.open.add(&snapshot.latencies);
    }

    /// Says whether a shard answers.
    pub(super) fn set_stuck(&mut self, shard: usize, stuck: Option<Stuck>) {
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.stuck = stuck;
        }
    }

    /// All shards that answer have been taken in, at this time.
    pub(super) fn end_round(&mut self, now_us: u64) {
        let series = 0..self.codes.len();
        let requests = series.map(|series| requests(self.latencies.get(series)));
        self.requests.push(now_us, requests.collect());
    }

    /// Closes an interval of the history, which is due every [`STEP_US`].
    pub(super) fn close_interval(&mut self, now_us: u64) {
        self.history.close(now_us, self.codes.len(), &self.open);
        self.open.clear();
        for shard in &mut self.shards {
            shard.begin_interval();
        }
    }

    /// The shards, by number.
    pub(super) fn shards(&self) -> &[ShardTotals] {
        &self.shards
    }

    /// The series of requests that there were any of: with a handler's code, in the order of the
    /// codes, and after them that of all other codes, which has none.
    pub(super) fn series(&self) -> impl Iterator<Item = (usize, Option<u16>)> {
        let known = 1..self.codes.len();
        known
            .chain([Codes::OTHER])
            .filter(|&series| self.latencies.get(series).is_some())
            .map(|series| (series, self.codes.code_of(series)))
    }

    /// The code of a series; `None` for that of all others.
    pub(super) fn code_of(&self, series: usize) -> Option<u16> {
        self.codes.code_of(series)
    }

    /// A series since the start.
    pub(super) fn latency(&self, series: usize) -> Option<&Latency> {
        self.latencies.get(series)
    }

    /// A series in the last minute: in the last intervals of the history and in the open one.
    pub(super) fn latency_of_minute(&self, series: usize) -> Latency {
        self.history.minute_with(series, self.open.get(series))
    }

    /// Requests of a series a second, between the last two rounds that are far enough apart.
    pub(super) fn requests_per_second(&self, series: usize) -> f64 {
        let count = |counts: &Vec<u64>| counts.get(series).copied().unwrap_or(0);
        let Some((earlier, later, us)) = self.requests.get() else {
            return 0.0;
        };
        per_second(count(later).saturating_sub(count(earlier)), us)
    }

    /// The points of the history, the latest first, with their age in microseconds.
    pub(super) fn history(&self, now_us: u64) -> impl Iterator<Item = (u64, &[Point])> {
        self.history.points(now_us)
    }
}

impl ShardTotals {
    fn take_in(&mut self, snapshot: &Snapshot) {
        let counters = &snapshot.counters;
        let counted = Counted {
            frames_received: counters.frames_received,
            received_bytes: counters.received_bytes,
            sent_bytes: counters.sent_bytes,
            turns: counters.turns,
            completions: counters.completions,
            idle_us: snapshot.pace.idle_us,
        };
        self.recent.push(snapshot.pace.up_us, counted);
        self.counters = counters.clone();
        self.gauges = snapshot.gauges;
        self.pace = snapshot.pace;
        self.mesh = snapshot.mesh;
        self.own.clone_from(&snapshot.own);
        if self.buffers_peaks.is_empty() {
            self.buffers_peaks.push_back(0);
        }
        if let Some(open) = self.buffers_peaks.back_mut() {
            *open = (*open).max(snapshot.gauges.buffers_peak);
        }
    }

    fn begin_interval(&mut self) {
        if self.buffers_peaks.len() > MINUTE_INTERVALS {
            self.buffers_peaks.pop_front();
        }
        self.buffers_peaks.push_back(0);
    }

    /// Receive buffers that held bytes at once at most, in the last minute.
    pub(super) fn buffers_peak(&self) -> u64 {
        self.buffers_peaks.iter().copied().max().unwrap_or(0)
    }

    /// How it fared between its last two answers that are far enough apart, by its own clock; since
    /// its start if there was one only.
    pub(super) fn rates(&self) -> Rates {
        let Some((earlier, later, us)) = self.recent.get() else {
            return Rates::default();
        };
        let rate = |of: fn(&Counted) -> u64| per_second(of(later).saturating_sub(of(earlier)), us);
        let turns = rate(|counted| counted.turns);
        let completions = rate(|counted| counted.completions);
        Rates {
            messages_per_second: rate(|counted| counted.frames_received),
            received_bytes_per_second: rate(|counted| counted.received_bytes),
            sent_bytes_per_second: rate(|counted| counted.sent_bytes),
            busy: (1.0 - rate(|counted| counted.idle_us) / US_PER_SECOND).clamp(0.0, 1.0),
            completions_per_turn: if turns > 0.0 {
                completions / turns
            } else {
                0.0
            },
        }
    }
}

/// Requests that were handled; also those that got no reply.
pub(super) fn requests(latency: Option<&Latency>) -> u64 {
    latency.map_or(0, |latency| latency.queued.len())
}

const US_PER_SECOND: f64 = 1e6;

/// A number for people or for programs that calculate with floating point anyway.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53, which no count reaches"
)]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

fn per_second(count: u64, us: u64) -> f64 {
    float(count) * US_PER_SECOND / float(us.max(1))
}

#[cfg(test)]
mod tests;
