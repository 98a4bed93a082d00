//! The answer of /status: what the dashboard and `corelane top` show.

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use super::connections::Connections;
use crate::admin::totals::{Point, STEP_US, ShardTotals, Stuck, Totals, requests};
use crate::metrics::{BAD_FRAMES, CloseCause, Counters};
use crate::shard::ConnectionView;

/// Connections in each order.
const CONNECTIONS_SHOWN: usize = 10;

/// What is known of the server besides its figures.
#[derive(Clone, Copy, Debug)]
pub(in crate::admin) struct About {
    /// The process.
    pub(in crate::admin) pid: u32,
    /// Since the server started.
    pub(in crate::admin) uptime_us: u64,
    /// How far its life has come.
    pub(in crate::admin) life: Life,
}

/// How far a server's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::admin) enum Life {
    /// It lets nobody in yet.
    Starting,
    Serving,
    /// It lets nobody in any more.
    Draining,
}

/// The whole document.
#[derive(Debug, Serialize)]
pub(in crate::admin) struct Status {
    version: &'static str,
    pid: u32,
    uptime_seconds: f64,
    state: Life,
    shards: Vec<OfShard>,
    codes: Vec<OfCode>,
    closes: Named,
    bad_frames: Named,
    drops: Drops,
    history: History,
    connections: Connections,
}

#[derive(Debug, Serialize)]
struct OfShard {
    shard: usize,
    connections: u64,
    waiting: u64,
    handlers: u64,
    memory_bytes: u64,
    timers: u64,
    messages_per_second: f64,
    received_bytes_per_second: f64,
    sent_bytes_per_second: f64,
    busy: f64,
    completions_per_turn: f64,
    slow_turns: u64,
    stuck: Option<StuckShard>,
}

#[derive(Debug, Serialize)]
struct StuckShard {
    for_ms: u64,
    /// `null` if the shard is not at a request.
    connection: Option<String>,
    code: Option<u16>,
}

#[derive(Debug, Serialize)]
struct OfCode {
    /// `null` for all codes that no handler has.
    code: Option<u16>,
    messages: u64,
    messages_per_second: f64,
    slow: u64,
    queued_us: Percentiles,
    sent_us: Percentiles,
}

/// Of the last minute.
#[derive(Debug, Serialize)]
struct Percentiles {
    p50: u64,
    p90: u64,
    p99: u64,
    #[serde(rename = "p99.9")]
    p99_9: u64,
    max: u64,
}

#[derive(Debug, Serialize)]
struct Drops {
    overloaded: u64,
    late_replies: u64,
    stale_completions: u64,
    buffers_exhausted: u64,
}

#[derive(Debug, Serialize)]
struct History {
    step_seconds: u64,
    /// The latest first.
    points: Vec<HistoryPoint>,
}

#[derive(Debug, Serialize)]
struct HistoryPoint {
    seconds_ago: f64,
    codes: Vec<CodePoint>,
}

#[derive(Debug, Serialize)]
struct CodePoint {
    code: Option<u16>,
    messages: u64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

/// Counts by name, in their order.
#[derive(Debug)]
struct Named(Vec<(&'static str, u64)>);

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl Status {
    /// From all that is known; times are of the clock that the totals went by.
    pub(in crate::admin) fn new(
        about: About,
        totals: &Totals,
        connections: &[ConnectionView],
        now_us: u64,
    ) -> Status {
        let sum = |of: &dyn Fn(&Counters) -> u64| {
            let shards = totals.shards().iter();
            shards.map(|shard| of(&shard.counters)).sum::<u64>()
        };
        let closes = CloseCause::ALL.map(|cause| (cause.name(), sum(&|all| all.closed(cause))));
        let bad = BAD_FRAMES.map(|reason| (reason.name(), sum(&|all| all.bad_frames(reason))));
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: about.pid,
            uptime_seconds: seconds(about.uptime_us),
            state: about.life,
            shards: totals.shards().iter().enumerate().map(shard).collect(),
            codes: codes(totals),
            closes: Named(closes.to_vec()),
            bad_frames: Named(bad.to_vec()),
            drops: Drops {
                overloaded: sum(&|all| all.overloaded_total()),
                late_replies: sum(&|all| all.late_replies),
                stale_completions: sum(&|all| all.stale_completions),
                buffers_exhausted: sum(&|all| all.buffers_exhausted),
            },
            history: history(totals, now_us),
            connections: Connections::first(connections, CONNECTIONS_SHOWN),
        }
    }
}

impl Status {
    /// How many connections in each order are wanted of the shards.
    pub(in crate::admin) const CONNECTIONS: usize = CONNECTIONS_SHOWN;
}

fn shard((number, shard): (usize, &ShardTotals)) -> OfShard {
    let rates = shard.rates();
    OfShard {
        shard: number,
        connections: shard.gauges.connections,
        waiting: shard.gauges.waiting,
        handlers: shard.gauges.handlers,
        memory_bytes: shard.gauges.memory_bytes,
        timers: shard.gauges.timers,
        messages_per_second: rates.messages_per_second,
        received_bytes_per_second: rates.received_bytes_per_second,
        sent_bytes_per_second: rates.sent_bytes_per_second,
        busy: rates.busy,
        completions_per_turn: rates.completions_per_turn,
        slow_turns: shard.counters.slow_turns,
        stuck: shard.stuck.map(|Stuck { for_us, at }| StuckShard {
            for_ms: for_us / 1000,
            connection: at.map(|(connection, _)| connection.to_string()),
            code: at.map(|(_, code)| code),
        }),
    }
}

fn codes(totals: &Totals) -> Vec<OfCode> {
    let codes = totals.series().map(|(series, code)| {
        let minute = totals.latency_of_minute(series);
        let total = totals.latency(series);
        OfCode {
            code,
            messages: requests(total),
            messages_per_second: totals.requests_per_second(series),
            slow: total.map_or(0, |latency| latency.slow),
            queued_us: (&minute.queued).into(),
            sent_us: (&minute.sent).into(),
        }
    });
    codes.collect()
}

fn history(totals: &Totals, now_us: u64) -> History {
    let points = totals.history(now_us).map(|(age_us, points)| HistoryPoint {
        seconds_ago: seconds(age_us),
        codes: points
            .iter()
            .map(|point| code_point(totals, point))
            .collect(),
    });
    History {
        step_seconds: STEP_US / 1_000_000,
        points: points.collect(),
    }
}

fn code_point(totals: &Totals, point: &Point) -> CodePoint {
    CodePoint {
        code: totals.code_of(point.series),
        messages: point.requests,
        p50_us: point.p50_us,
        p99_us: point.p99_us,
        max_us: point.max_us,
    }
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(times: &Histogram<u64>) -> Percentiles {
        Percentiles {
            p50: times.value_at_quantile(0.5),
            p90: times.value_at_quantile(0.9),
            p99: times.value_at_quantile(0.99),
            p99_9: times.value_at_quantile(0.999),
            max: times.max(),
        }
    }
}

pub(super) fn seconds(us: u64) -> f64 {
    crate::admin::totals::float(us) / 1e6
}
