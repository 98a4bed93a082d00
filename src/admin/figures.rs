//! The line of figures that a server logs every `log.stats_seconds`.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::http::Site;
use super::totals::Totals;

/// How often it is looked whether a line is due: a reload may bring it nearer.
const LOOK: Duration = Duration::from_secs(1);

/// Logs a line every so often, if anything has happened since the last one.
pub(super) async fn log(site: &Site) -> Infallible {
    let (mut before, mut logged_at) = (Sums::default(), Instant::now());
    loop {
        sleep(LOOK).await;
        let seconds = site.stats_seconds();
        if seconds == 0 || logged_at.elapsed() < Duration::from_secs(seconds.into()) {
            continue;
        }
        let sums = Sums::of(site.collected().await.totals());
        if sums != before {
            sums.log_since(&before, logged_at.elapsed());
        }
        (before, logged_at) = (sums, Instant::now());
    }
}

/// Of all shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sums {
    connections: u64,
    waiting: u64,
    handlers: u64,
    memory_bytes: u64,
    accepted: u64,
    closed: u64,
    frames_received: u64,
    frames_sent: u64,
    received_bytes: u64,
    sent_bytes: u64,
    bad_frames: u64,
    short_sends: u64,
    receive_pauses: u64,
    deferrals: u64,
    memory_pauses: u64,
    buffers_exhausted: u64,
    overloaded: u64,
    handler_panics: u64,
    late_replies: u64,
    slow_turns: u64,
}

impl Sums {
    fn of(totals: &Totals) -> Sums {
        let mut sums = Sums::default();
        for shard in totals.shards() {
            let (counters, gauges) = (&shard.counters, &shard.gauges);
            sums.connections += gauges.connections;
            sums.waiting += gauges.waiting;
            sums.handlers += gauges.handlers;
            sums.memory_bytes += gauges.memory_bytes;
            sums.accepted += counters.accepted;
            sums.closed += counters.closed_total();
            sums.frames_received += counters.frames_received;
            sums.frames_sent += counters.frames_sent;
            sums.received_bytes += counters.received_bytes;
            sums.sent_bytes += counters.sent_bytes;
            sums.bad_frames += counters.bad_frames_total();
            sums.short_sends += counters.short_sends;
            sums.receive_pauses += counters.receive_pauses;
            sums.deferrals += counters.deferrals;
            sums.memory_pauses += counters.memory_pauses;
            sums.buffers_exhausted += counters.buffers_exhausted;
            sums.overloaded += counters.overloaded_total();
            sums.handler_panics += counters.handler_panics;
            sums.late_replies += counters.late_replies;
            sums.slow_turns += counters.slow_turns;
        }
        sums
    }

    fn log_since(&self, before: &Sums, elapsed: Duration) {
        let frames = self.frames_received - before.frames_received;
        tracing::info!(
            connections = self.connections,
            accepted = self.accepted,
            closed = self.closed,
            waiting = self.waiting,
            frames_received = self.frames_received,
            frames_sent = self.frames_sent,
            frames_per_second = per_second(frames, elapsed),
            received_bytes = self.received_bytes,
            sent_bytes = self.sent_bytes,
            memory_bytes = self.memory_bytes,
            handlers = self.handlers,
            bad_frames = self.bad_frames,
            short_sends = self.short_sends,
            receive_pauses = self.receive_pauses,
            deferrals = self.deferrals,
            memory_pauses = self.memory_pauses,
            buffers_exhausted = self.buffers_exhausted,
            overloaded = self.overloaded,
            handler_panics = self.handler_panics,
            late_replies = self.late_replies,
            slow_turns = self.slow_turns,
            "figures"
        );
    }
}

fn per_second(count: u64, elapsed: Duration) -> u64 {
    let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    count.saturating_mul(1_000_000) / us.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_per_second() {
        assert_eq!(per_second(50, Duration::from_millis(500)), 100);
        assert_eq!(per_second(50, Duration::ZERO), 50_000_000);
    }
}
