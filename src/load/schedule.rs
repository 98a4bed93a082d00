//! The open loop: when each request of a thread is due.
//!
//! The times are fixed before the run and depend on nothing that happens in it. A server that
//! stalls does not delay them, so its stall shows in the latency of every request that was due
//! meanwhile, and not only in that of those that happened to be under way: no coordinated omission
//! (Gil Tene's term).

/// When the requests of one thread are due. Its connections take turns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start_ns: f64,
    interval_ns: f64,
    connections: u64,
}

/// Which share of a run's requests a thread has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Number of the thread, from 0.
    pub(super) thread: usize,
    /// Connections of this thread.
    pub(super) connections: usize,
    /// Connections of all threads.
    pub(super) all_connections: usize,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and nanoseconds are far below 2^53, and never negative"
)]
impl Schedule {
    /// The share of a run that sends `rate` requests a second from `start_ns` on, evenly.
    pub(super) fn new(start_ns: u64, rate: f64, share: Share) -> Schedule {
        let part = share.connections as f64 / share.all_connections as f64;
        // Threads begin one after the other, so that their requests do not come in bursts.
        let offset_ns = NS_PER_SECOND / rate * share.thread as f64;
        Schedule {
            start_ns: start_ns as f64 + offset_ns,
            interval_ns: NS_PER_SECOND / (rate * part),
            connections: share.connections as u64,
        }
    }

    /// How many requests of the thread are due at this time or were before.
    pub(super) fn due(&self, now_ns: u64) -> u64 {
        let since_ns = now_ns as f64 - self.start_ns;
        if since_ns < 0.0 {
            return 0;
        }
        (since_ns / self.interval_ns) as u64 + 1
    }

    /// When the thread's request of this number, from 0, is due.
    pub(super) fn due_at_ns(&self, number: u64) -> u64 {
        (self.start_ns + number as f64 * self.interval_ns) as u64
    }

    /// The connection whose turn the thread's request of this number is.
    pub(super) fn connection(&self, number: u64) -> usize {
        (number % self.connections) as usize
    }

    /// Which request of its connection, from 0, the thread's request of this number is.
    pub(super) fn request_of_connection(&self, number: u64) -> u64 {
        number / self.connections
    }

    /// When a connection's request of this number, from 0, is due.
    pub(super) fn due_of_connection_ns(&self, connection: usize, request: u64) -> u64 {
        self.due_at_ns(request * self.connections + connection as u64)
    }
}

const NS_PER_SECOND: f64 = 1e9;

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Share = Share {
        thread: 0,
        connections: 4,
        all_connections: 4,
    };

    #[test]
    fn requests_are_due_at_even_distances() {
        let schedule = Schedule::new(1_000, 1e6, ALONE);
        assert_eq!(schedule.due(999), 0);
        assert_eq!(schedule.due(1_000), 1);
        assert_eq!(schedule.due(1_999), 1);
        assert_eq!(schedule.due(2_000), 2);
        assert_eq!(schedule.due(1_001_000), 1_001);
        assert_eq!(schedule.due_at_ns(1_000), 1_001_000);
    }

    #[test]
    fn connections_take_turns() {
        let schedule = Schedule::new(0, 1e6, ALONE);
        let turns: Vec<usize> = (0..6).map(|number| schedule.connection(number)).collect();
        assert_eq!(turns, [0, 1, 2, 3, 0, 1]);
        for number in 0..100 {
            let connection = schedule.connection(number);
            let request = schedule.request_of_connection(number);
            let due = schedule.due_of_connection_ns(connection, request);
            assert_eq!(due, schedule.due_at_ns(number));
        }
    }

    #[test]
    fn threads_together_keep_the_rate() {
        let share = |thread, connections| Share {
            thread,
            connections,
            all_connections: 10,
        };
        let threads = [share(0, 4), share(1, 3), share(2, 3)];
        let schedules = threads.map(|share| Schedule::new(0, 1e5, share));
        let due: u64 = schedules
            .iter()
            .map(|schedule| schedule.due(1_000_000_000))
            .sum();
        assert!(due.abs_diff(100_000) <= 3, "{due}");
    }

    #[test]
    fn times_stay_exact_over_days() {
        let schedule = Schedule::new(0, 1e6, ALONE);
        let day_ns = 86_400_000_000_000;
        assert_eq!(schedule.due(day_ns), day_ns / 1_000 + 1);
        assert_eq!(schedule.due_at_ns(day_ns / 1_000), day_ns);
    }
}
