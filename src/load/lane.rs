//! The connections of one thread: what to send when, and when it is over.
//!
//! No socket and no clock: bytes and the time come in, bytes to send go out.

use super::gauge::{Gauge, Window};
use super::schedule::Schedule;
use super::session::Session;

/// With a rate: how long requests that were due in time are still sent after the end, in
/// nanoseconds.
const CATCH_UP_NS: u64 = 1_000_000_000;

/// How many requests ahead it is looked for one that can be sent when it is due.
const DUE_LOOKED_AT: u64 = 64;

/// How often the connections are looked over for requests that no reply came to.
const SWEEP_NS: u64 = 100_000_000;

/// The connections of one thread.
#[derive(Debug)]
pub(super) struct Lane {
    connections: Vec<Connection>,
    pace: Pace,
    gauge: Gauge,
    /// The connections that may have something to send.
    ready: Vec<usize>,
    sweep_at_ns: u64,
    /// With a rate: requests due in the measured time that were not sent by its end.
    unsent_at_end: Option<u64>,
}

#[derive(Debug)]
struct Connection {
    session: Session,
    /// With a rate: how many of its requests were due so far.
    due: u64,
    sending: bool,
    ready: bool,
}

/// What decides when a request is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// The reply to another one.
    Closed,
    /// A schedule, and of its requests so many were due so far.
    Open { schedule: Schedule, due: u64 },
}

impl Lane {
    pub(super) fn new(sessions: Vec<Session>, pace: Pace, window: Window) -> Lane {
        let connection = |session| Connection {
            session,
            due: 0,
            sending: false,
            ready: true,
        };
        let connections: Vec<Connection> = sessions.into_iter().map(connection).collect();
        Lane {
            ready: (0..connections.len()).collect(),
            connections,
            pace,
            gauge: Gauge::new(window),
            sweep_at_ns: 0,
            unsent_at_end: None,
        }
    }

    /// Ends the measured time at this time, if it would end later.
    pub(super) fn end_at(&mut self, until_ns: u64) {
        let window = &mut self.gauge.window;
        window.until_ns = window.until_ns.min(until_ns);
    }

    pub(super) fn gauge(&mut self) -> &mut Gauge {
        &mut self.gauge
    }

    /// Bytes came on a connection.
    #[inline]
    pub(super) fn received(&mut self, index: usize, bytes: &[u8], now_ns: u64) {
        self.connections[index]
            .session
            .receive(bytes, now_ns, &mut self.gauge);
        self.make_ready(index);
    }

    /// All that was to be sent on a connection was taken.
    #[inline]
    pub(super) fn sent(&mut self, index: usize) {
        self.connections[index].sending = false;
        self.make_ready(index);
    }

    /// A connection ended, by the server or for this reason.
    pub(super) fn ended(&mut self, index: usize, reason: Option<&str>, now_ns: u64) {
        self.connections[index]
            .session
            .end(reason, now_ns, &mut self.gauge);
    }

    pub(super) fn is_closed(&self, index: usize) -> bool {
        self.connections[index].session.is_closed()
    }

    /// Has every request sent that may be: `send` is given a connection and a buffer from `buffer`
    /// with what to send on it.
    #[inline]
    pub(super) fn turn(
        &mut self,
        now_ns: u64,
        mut buffer: impl FnMut() -> Vec<u8>,
        mut send: impl FnMut(usize, Vec<u8>),
    ) {
        self.release(now_ns);
        if now_ns >= self.sweep_at_ns {
            self.sweep(now_ns);
        }
        let mut ready = std::mem::take(&mut self.ready);
        for index in ready.drain(..) {
            self.connections[index].ready = false;
            let count = self.may_send(index, now_ns);
            if count == 0 {
                continue;
            }
            let mut out = buffer();
            let Lane {
                connections,
                pace,
                gauge,
                ..
            } = self;
            let connection = &mut connections[index];
            let pace = *pace;
            let began_ns = |request| match pace {
                Pace::Closed => now_ns,
                Pace::Open { schedule, .. } => schedule.due_of_connection_ns(index, request),
            };
            connection
                .session
                .send(count, &mut out, now_ns, began_ns, gauge);
            connection.sending = true;
            send(index, out);
        }
        self.ready = ready;
    }

    /// Whether nothing is sent any more and no reply is waited for.
    pub(super) fn is_finished(&self, now_ns: u64) -> bool {
        let until_ns = self.gauge.window.until_ns;
        let all_closed = || {
            self.connections
                .iter()
                .all(|connection| connection.session.is_closed())
        };
        if now_ns < until_ns {
            return all_closed();
        }
        self.connections.iter().all(|connection| {
            let Connection { session, .. } = connection;
            let nothing_to_send = || self.unsent(connection) == 0 || self.gives_up(now_ns);
            session.is_closed() || (session.is_idle() && nothing_to_send())
        })
    }

    /// What is not there now will not come: gives out what was measured.
    pub(super) fn finish(mut self, now_ns: u64) -> Gauge {
        for connection in &mut self.connections {
            connection.session.finish(now_ns, &mut self.gauge);
        }
        self.gauge
    }

    /// With a rate: how many requests were due in the measured time, and how many of those had not
    /// been sent by its end.
    pub(super) fn sent_late(&self) -> Option<(u64, u64)> {
        let Pace::Open { schedule, .. } = self.pace else {
            return None;
        };
        let Window {
            from_ns, until_ns, ..
        } = self.gauge.window;
        let before = schedule.due(from_ns.saturating_sub(1));
        let due = schedule
            .due(until_ns.saturating_sub(1))
            .saturating_sub(before);
        // Where all connections ended early, there was no turn at the end.
        let unsent = self.unsent_at_end.unwrap_or_else(|| self.unsent_of_all());
        Some((due, unsent.min(due)))
    }

    /// When to have the next turn though nothing comes.
    pub(super) fn wake_at_ns(&self, now_ns: u64) -> u64 {
        let Window {
            from_ns, until_ns, ..
        } = self.gauge.window;
        let phases = [from_ns, until_ns]
            .into_iter()
            .filter(|&at_ns| at_ns > now_ns);
        let due = match self.pace {
            Pace::Open { schedule, due } if now_ns < until_ns => {
                Some(self.next_to_send_ns(schedule, due))
            }
            _ => None,
        };
        phases.chain(due).fold(self.sweep_at_ns, u64::min)
    }

    /// When the next request is due that does not have to wait for a reply, or an earlier time. Were
    /// every due time waited for, a load that is behind would spend on waking what it needs to
    /// catch up.
    fn next_to_send_ns(&self, schedule: Schedule, due: u64) -> u64 {
        let waits_for_reply = |number: &u64| {
            let connection = &self.connections[schedule.connection(*number)];
            connection.session.room() == 0
        };
        let end = due + DUE_LOOKED_AT;
        let next = (due..end).find(|number| !waits_for_reply(number));
        schedule.due_at_ns(next.unwrap_or(end))
    }

    fn make_ready(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.ready {
            connection.ready = true;
            self.ready.push(index);
        }
    }

    /// Lets the requests go that are due by now.
    fn release(&mut self, now_ns: u64) {
        let until_ns = self.gauge.window.until_ns;
        let Pace::Open { schedule, due } = self.pace else {
            return;
        };
        let due_now = schedule.due(now_ns.min(until_ns.saturating_sub(1)));
        // Each connection's latest one says how many of its requests are due, so that a rate out of
        // reach costs no more than a round of the connections.
        let round = self.connections.len() as u64;
        for number in due.max(due_now.saturating_sub(round))..due_now {
            let index = schedule.connection(number);
            self.connections[index].due = schedule.request_of_connection(number) + 1;
            self.make_ready(index);
        }
        self.pace = Pace::Open {
            schedule,
            due: due_now.max(due),
        };
        if now_ns >= until_ns && self.unsent_at_end.is_none() {
            self.unsent_at_end = Some(self.unsent_of_all());
        }
    }

    #[inline]
    fn may_send(&self, index: usize, now_ns: u64) -> u64 {
        let connection = &self.connections[index];
        if connection.sending {
            return 0;
        }
        let room = connection.session.room();
        match self.pace {
            Pace::Closed if now_ns < self.gauge.window.until_ns => room,
            Pace::Closed => 0,
            Pace::Open { .. } if self.gives_up(now_ns) => 0,
            Pace::Open { .. } => room.min(self.unsent(connection)),
        }
    }

    /// With a rate: requests of a connection that are due and were not sent.
    fn unsent(&self, connection: &Connection) -> u64 {
        match self.pace {
            Pace::Closed => 0,
            Pace::Open { .. } => connection.due.saturating_sub(connection.session.next()),
        }
    }

    fn unsent_of_all(&self) -> u64 {
        let unsent = |connection| self.unsent(connection);
        self.connections.iter().map(unsent).sum()
    }

    /// Whether what was not sent by now will not be.
    fn gives_up(&self, now_ns: u64) -> bool {
        now_ns >= self.gauge.window.until_ns.saturating_add(CATCH_UP_NS)
    }

    fn sweep(&mut self, now_ns: u64) {
        self.sweep_at_ns = now_ns + SWEEP_NS;
        for index in 0..self.connections.len() {
            self.connections[index].session.give_up_late(now_ns);
            self.make_ready(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::latency::Latencies;
    use crate::load::schedule::Share;
    use crate::load::session::Shape;
    use crate::protocol::{HEADER_BYTES, codes};

    const MS: u64 = 1_000_000;
    /// How long the server of these tests takes.
    const SERVICE_NS: u64 = MS;

    /// A lane and a server that answers after [`SERVICE_NS`], in virtual time in steps of 100 us.
    /// While it stalls it answers nothing.
    struct Simulation {
        lane: Lane,
        stall: std::ops::Range<u64>,
        /// When a reply is due, on which connection, and the reply.
        replies: Vec<(u64, usize, Vec<u8>)>,
        sent: usize,
        now_ns: u64,
    }

    const CONNECTIONS: usize = 4;
    const WINDOW: Window = Window {
        from_ns: 100 * MS,
        until_ns: 1_100 * MS,
        part_ns: 10 * MS,
    };

    impl Simulation {
        fn new(rate: Option<f64>, pipeline: usize, stall: std::ops::Range<u64>) -> Simulation {
            let shape = Shape {
                code: codes::ECHO,
                body_bytes: 32,
                pipeline,
                timeout_ns: 5_000 * MS,
            };
            let share = Share {
                thread: 0,
                connections: CONNECTIONS,
                all_connections: CONNECTIONS,
            };
            let pace = rate.map_or(Pace::Closed, |rate| Pace::Open {
                schedule: Schedule::new(0, rate, share),
                due: 0,
            });
            let sessions = (0..CONNECTIONS)
                .map(|number| Session::new(number, shape).unwrap())
                .collect();
            Simulation {
                lane: Lane::new(sessions, pace, WINDOW),
                stall,
                replies: Vec::new(),
                sent: 0,
                now_ns: 0,
            }
        }

        /// Runs until it is over: what was measured, and what was not sent in time.
        fn run(mut self) -> (Gauge, Option<(u64, u64)>, usize) {
            while !self.lane.is_finished(self.now_ns) {
                assert!(self.now_ns < 20_000 * MS, "it never ends");
                self.now_ns += MS / 10;
                let now_ns = self.now_ns;
                self.lane.gauge().advance(now_ns);
                if !self.stall.contains(&now_ns) {
                    for (_, index, bytes) in self.replies.extract_if(.., |reply| reply.0 <= now_ns)
                    {
                        self.lane.received(index, &bytes, now_ns);
                    }
                }
                let mut sends = Vec::new();
                self.lane
                    .turn(now_ns, Vec::new, |index, bytes| sends.push((index, bytes)));
                for (index, bytes) in sends {
                    self.sent += bytes.len() / (HEADER_BYTES + 32);
                    self.replies.push((now_ns + SERVICE_NS, index, bytes));
                    self.lane.sent(index);
                }
            }
            let unsent = self.lane.sent_late();
            (self.lane.finish(self.now_ns), unsent, self.sent)
        }
    }

    fn latencies(gauge: Gauge) -> Latencies {
        let (parts, tally, _) = gauge.finish();
        assert_eq!(tally.total(), 0, "{:?}", tally.first());
        let mut all = Latencies::new();
        for part in &parts {
            all.add(&part.latencies);
        }
        all
    }

    #[test]
    fn a_closed_loop_keeps_the_pipeline_full() {
        let (gauge, unsent, _) = Simulation::new(None, 3, 0..0).run();
        assert_eq!(unsent, None);
        let all = latencies(gauge);
        // A second of 1 ms round trips.
        let expected = (1_000 * CONNECTIONS * 3) as u64;
        assert!(all.count().abs_diff(expected) <= 30, "{}", all.count());
        assert!((all.quantile_us(0.5) / 1_000.0 - 1.0).abs() < 0.01);
        assert!((all.max_us() / 1_000.0 - 1.0).abs() < 0.01);
    }

    #[test]
    fn an_open_loop_sends_what_is_due_and_no_more() {
        let (gauge, unsent, sent) = Simulation::new(Some(2_000.0), 8, 0..0).run();
        assert_eq!(unsent, Some((2_000, 0)));
        assert_eq!(sent, 2_200);
        let all = latencies(gauge);
        assert_eq!(all.count(), 2_000);
        assert!(all.max_us() <= 1_200.0, "{}", all.max_us());
    }

    #[test]
    fn a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one() {
        let stall = 500 * MS..700 * MS;
        let (gauge, unsent, _) = Simulation::new(Some(2_000.0), 8, stall.clone()).run();
        // All of it was caught up long before the end.
        assert_eq!(unsent, Some((2_000, 0)));
        let open = latencies(gauge);
        assert_eq!(open.count(), 2_000);
        // A fifth was due in it, and waited for half of it on average.
        assert!(
            open.quantile_us(0.9) > 90_000.0,
            "{}",
            open.quantile_us(0.9)
        );
        assert!((open.max_us() / 201_000.0 - 1.0).abs() < 0.01);

        let (gauge, ..) = Simulation::new(None, 1, stall).run();
        let closed = latencies(gauge);
        assert!(closed.quantile_us(0.99) < 2_000.0);
        assert!(closed.max_us() > 190_000.0);
    }

    #[test]
    fn a_stall_at_the_end_is_waited_for() {
        let stall = 1_000 * MS..1_300 * MS;
        let (gauge, unsent, _) = Simulation::new(Some(2_000.0), 8, stall).run();
        let (due, late) = unsent.unwrap();
        // 32 of the 200 that were due in it are in the pipelines.
        assert_eq!(due, 2_000);
        assert!((150..=170).contains(&late), "{late}");
        let all = latencies(gauge);
        assert_eq!(all.count(), 2_000, "they are sent after the end");
        assert!(all.max_us() > 290_000.0);
    }

    #[test]
    fn a_rate_that_cannot_be_reached_is_seen() {
        // At most 4 * 2 in flight for 1 ms each: 8,000 a second, less what 0.1 ms steps cost.
        let (gauge, unsent, _) = Simulation::new(Some(20_000.0), 2, 0..0).run();
        let (due, late) = unsent.unwrap();
        assert_eq!(due, 20_000);
        assert!(late > 10_000, "{late}");
        assert!(latencies(gauge).max_us() > 500_000.0);
    }

    #[test]
    fn a_run_that_ends_early_waits_for_replies_only() {
        let mut simulation = Simulation::new(None, 1, 0..0);
        simulation.lane.end_at(300 * MS);
        let (gauge, ..) = simulation.run();
        let count = latencies(gauge).count();
        assert!(count.abs_diff(200 * CONNECTIONS as u64) <= 8, "{count}");
    }

    #[test]
    fn it_is_over_when_all_connections_are() {
        let mut simulation = Simulation::new(None, 1, 0..0);
        (0..CONNECTIONS).for_each(|index| simulation.lane.ended(index, None, 5));
        assert!(simulation.lane.is_finished(6));
    }

    #[test]
    fn the_next_turn_is_when_something_is_due() {
        let simulation = Simulation::new(Some(10.0), 1, 0..0);
        let mut lane = simulation.lane;
        assert_eq!(lane.wake_at_ns(0), 0, "the first is due at once");
        let mut sent = 0;
        lane.turn(50 * MS, Vec::new, |_, _| sent += 1);
        assert_eq!(sent, 1);
        // The next is due at 100 ms, which is when the measured time begins.
        assert_eq!(lane.wake_at_ns(50 * MS), 100 * MS);
    }

    #[test]
    fn nothing_is_woken_for_that_waits_for_a_reply() {
        let simulation = Simulation::new(Some(2_000.0), 1, 0..0);
        let mut lane = simulation.lane;
        let mut sent = Vec::new();
        // Those of connections 0, 1 and 2 are due.
        lane.turn(MS, Vec::new, |index, bytes| sent.push((index, bytes)));
        assert_eq!(sent.len(), 3);
        // The next is the fourth connection's, half a millisecond apart from the others.
        assert_eq!(lane.wake_at_ns(MS), 3 * MS / 2);
        lane.turn(3 * MS / 2, Vec::new, |index, bytes| {
            sent.push((index, bytes));
        });
        assert_eq!(sent.len(), 4);
        assert!(
            lane.wake_at_ns(3 * MS / 2) >= 30 * MS,
            "all wait for replies"
        );
        // The second connection's reply: its next request is due at 2.5 ms.
        let (index, reply) = &sent[1];
        lane.sent(*index);
        lane.received(*index, reply, 2 * MS);
        lane.turn(2 * MS, Vec::new, |_, _| {});
        assert_eq!(lane.wake_at_ns(2 * MS), 5 * MS / 2);
    }
}
