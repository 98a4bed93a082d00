//! The line of figures that a shard logs every so often.

use crate::metrics::Counters;

/// When the next line is due, and what the last one said.
#[derive(Debug)]
pub(super) struct Stats {
    shard: u16,
    every_us: u64,
    /// When the next line is due; `None` for never.
    pub(super) due_at_us: Option<u64>,
    logged_at_us: u64,
    logged: Counters,
}

impl Stats {
    /// A line every so often, from time 0 on; `None` for never.
    pub(super) fn new(shard: u16, every_us: Option<u64>) -> Stats {
        Stats {
            shard,
            every_us: every_us.unwrap_or(0),
            due_at_us: every_us,
            logged_at_us: 0,
            logged: Counters::default(),
        }
    }

    /// From now on, a line so often.
    pub(super) fn set_every(&mut self, every_us: Option<u64>, now_us: u64) {
        if every_us.unwrap_or(0) != self.every_us {
            self.every_us = every_us.unwrap_or(0);
            self.due_at_us = every_us.map(|every_us| now_us + every_us);
        }
    }

    /// Logs a line if it is time, and if anything has happened since the last one.
    pub(super) fn log_if_due(&mut self, now_us: u64, connections: usize, counters: &Counters) {
        if self.due_at_us.is_none_or(|at_us| now_us < at_us) {
            return;
        }
        self.due_at_us = Some(now_us + self.every_us);
        if *counters != self.logged {
            let frames = counters.frames_received - self.logged.frames_received;
            tracing::info!(
                shard = self.shard,
                connections,
                accepted = counters.accepted,
                handed_over = counters.handed_over,
                taken_over = counters.taken_over,
                closed = counters.closed_total(),
                frames_received = counters.frames_received,
                frames_sent = counters.frames_sent,
                frames_per_second = per_second(frames, now_us - self.logged_at_us),
                bad_frames = counters.bad_frames_total(),
                short_sends = counters.short_sends,
                receive_pauses = counters.receive_pauses,
                deferrals = counters.deferrals,
                memory_pauses = counters.memory_pauses,
                buffers_exhausted = counters.buffers_exhausted,
                overloaded = counters.overloaded,
                handler_panics = counters.handler_panics,
                late_replies = counters.late_replies,
                "figures"
            );
            self.logged = counters.clone();
        }
        self.logged_at_us = now_us;
    }
}

fn per_second(count: u64, in_us: u64) -> u64 {
    count.saturating_mul(1_000_000) / in_us.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_every_so_often_or_never() {
        let counters = Counters::default();
        let mut stats = Stats::new(0, Some(100));
        stats.log_if_due(99, 0, &counters);
        assert_eq!(stats.due_at_us, Some(100));
        stats.log_if_due(130, 0, &counters);
        assert_eq!(stats.due_at_us, Some(230));

        stats.set_every(Some(100), 150);
        assert_eq!(stats.due_at_us, Some(230));
        stats.set_every(Some(10), 150);
        assert_eq!(stats.due_at_us, Some(160));
        stats.set_every(None, 150);
        assert_eq!(stats.due_at_us, None);

        let mut never = Stats::new(0, None);
        never.log_if_due(u64::MAX, 0, &counters);
        assert_eq!(never.due_at_us, None);
    }

    #[test]
    fn a_rate_is_per_second() {
        assert_eq!(per_second(50, 500_000), 100);
        assert_eq!(per_second(50, 0), 50_000_000);
    }
}
