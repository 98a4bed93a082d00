//! Asks the shards how they are, and keeps what is known of them.
//!
//! A shard is asked for one snapshot at a time. One that does not answer within [`ANSWER_MAX`] is late
//! until it does: its figures stay what they were, nobody waits for it any more, and nothing is
//! lost when its answer comes. If it does not turn either, it is stuck; one that does looks through
//! many connections, a part of them a turn. All awaiting here may be given up at any point: answers that are
//! under way are taken in the next time.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::totals::{Stuck, Totals};
use crate::metrics::latency::Latencies;
use crate::process::handle::ServerHandle;
use crate::shard::{ConnectionView, Snapshot};

/// How long a shard is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// The shards are asked this often at most, whoever asks; others get what is known already.
const ASK_EVERY_MIN: Duration = Duration::from_millis(250);

/// So many connections are asked for, where some are wanted, and where more are.
const SOME: usize = 20;
const MANY: usize = 1000;

/// Everything that is known of a server.
#[derive(Debug)]
pub(super) struct Collector {
    handle: ServerHandle,
    seats: Vec<Seat>,
    totals: Totals,
    /// Those that the shards have shown last.
    connections: Vec<ConnectionView>,
    /// So many of them were asked for, in each order and of each shard.
    connections_asked: usize,
    began: Instant,
    asked_at: Option<Instant>,
}

/// What there is to a shard.
#[derive(Debug, Default)]
struct Seat {
    /// Given to the shard in exchange for its latencies.
    empty: Latencies,
    asked: Option<Asked>,
}

/// A question that is not answered.
#[derive(Debug)]
struct Asked {
    stillness: Stillness,
    answer: oneshot::Receiver<Snapshot>,
    /// The answer was waited for in vain.
    is_late: bool,
}

/// For how long a shard has been in the same turn, as far as it was looked at.
#[derive(Debug)]
struct Stillness {
    turn: u64,
    since: Instant,
}

impl Stillness {
    /// Looks at the number of its turn. Gives back how long it has been that one, if that is too long.
    fn look(&mut self, turn: u64, now: Instant) -> Option<Duration> {
        if self.turn != turn {
            *self = Stillness { turn, since: now };
        }
        let still = now - self.since;
        (still >= ANSWER_MAX).then_some(still)
    }
}

impl Collector {
    /// Of the server with this handle; nothing is known yet.
    pub(super) fn new(handle: ServerHandle) -> Collector {
        Collector {
            seats: (0..handle.shards()).map(|_| Seat::default()).collect(),
            totals: Totals::new(handle.codes().clone(), handle.shards()),
            connections: Vec::new(),
            connections_asked: 0,
            began: Instant::now(),
            asked_at: None,
            handle,
        }
    }

    /// Finds out how the shards are, unless that is known from right before, and as many of each
    /// shard's connections as are wanted in each order.
    pub(super) async fn collect(&mut self, connections: usize) {
        // In few sizes, so that many who want different numbers do not wait for one another.
        let connections = match connections {
            0 => 0,
            1..=SOME => SOME,
            _ => connections.max(MANY),
        };
        if let Some(asked_at) = self.asked_at {
            let next_at = asked_at + ASK_EVERY_MIN;
            if Instant::now() < next_at {
                if connections <= self.connections_asked {
                    return;
                }
                sleep_until(next_at).await;
            }
        }
        self.ask(connections).await;
    }

    /// Collects, and closes an interval of the history.
    pub(super) async fn close_interval(&mut self) {
        self.collect(0).await;
        let now_us = self.now_us();
        self.totals.close_interval(now_us);
    }

    /// What is known.
    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The connections that were collected last.
    pub(super) fn connections(&self) -> &[ConnectionView] {
        &self.connections
    }

    /// Since the collector was made, in microseconds: the clock of its totals.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    async fn ask(&mut self, connections: usize) {
        if !self.handle.has_started() {
            // None answers yet, and none is stuck.
            return;
        }
        let now = Instant::now();
        self.asked_at = Some(now);
        self.connections_asked = 0;
        self.connections.clear();
        for (shard, seat) in self.seats.iter_mut().enumerate() {
            if let Some(late) = seat.take_late() {
                seat.take_in(late, &mut self.totals);
            }
            if seat.asked.is_none() {
                seat.ask(&self.handle, shard, connections);
            }
        }
        // They answer side by side: one deadline for all.
        for seat in &mut self.seats {
            if let Some(snapshot) = seat.answer_until(now + ANSWER_MAX).await {
                let shown = seat.take_in(snapshot, &mut self.totals);
                self.connections.extend(shown);
            }
        }
        self.connections_asked = connections;
        // Whoever waited meanwhile gets what is known now.
        self.asked_at = Some(Instant::now());
        self.note_the_stuck();
        let now_us = self.now_us();
        self.totals.end_round(now_us);
    }

    fn note_the_stuck(&mut self) {
        let now = Instant::now();
        for (shard, seat) in self.seats.iter_mut().enumerate() {
            let still = seat.asked.as_mut().and_then(|asked| {
                let turn = self.handle.turn_of(shard);
                asked.stillness.look(turn, now)
            });
            let stuck = still.map(|still| Stuck {
                for_us: u64::try_from(still.as_micros()).unwrap_or(u64::MAX),
                at: self
                    .handle
                    .look_at(shard)
                    .map(|suspect| (suspect.connection, suspect.code)),
            });
            self.totals.set_stuck(shard, stuck);
        }
    }
}

impl Seat {
    fn ask(&mut self, handle: &ServerHandle, shard: usize, connections: usize) {
        let (reply, answer) = oneshot::channel();
        let stillness = Stillness {
            turn: handle.turn_of(shard),
            since: Instant::now(),
        };
        let empty = std::mem::take(&mut self.empty);
        handle.show(shard, empty, connections, move |snapshot| {
            // Nobody listens where the control plane has ended meanwhile.
            let _ = reply.send(snapshot);
        });
        self.asked = Some(Asked {
            stillness,
            answer,
            is_late: false,
        });
    }

    /// The answer to an earlier question, if it has come meanwhile.
    fn take_late(&mut self) -> Option<Snapshot> {
        let asked = self.asked.as_mut()?;
        match asked.answer.try_recv() {
            Ok(snapshot) => {
                self.asked = None;
                Some(snapshot)
            }
            Err(oneshot::error::TryRecvError::Empty) => None,
            // The shard has ended without an answer.
            Err(oneshot::error::TryRecvError::Closed) => {
                self.asked = None;
                None
            }
        }
    }

    /// The answer to the question, by this deadline; one that is late already is not waited for.
    async fn answer_until(&mut self, deadline: Instant) -> Option<Snapshot> {
        let asked = self.asked.as_mut().filter(|asked| !asked.is_late)?;
        let Ok(answer) = timeout_at(deadline, &mut asked.answer).await else {
            asked.is_late = true;
            return None;
        };
        self.asked = None;
        // A shard that has ended answers nothing.
        answer.ok()
    }

    /// Gives back the connections in it.
    fn take_in(&mut self, snapshot: Snapshot, totals: &mut Totals) -> Vec<ConnectionView> {
        totals.add(&snapshot);
        self.empty = snapshot.latencies;
        self.empty.clear();
        snapshot.connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_stuck_in_one_turn_and_not_in_many() {
        let since = Instant::now();
        let mut stillness = Stillness { turn: 7, since };
        assert_eq!(stillness.look(7, since + ANSWER_MAX / 2), None);
        assert_eq!(stillness.look(7, since + ANSWER_MAX), Some(ANSWER_MAX));
        // It turns, however late its answer is.
        for seconds in 2..9 {
            let now = since + ANSWER_MAX * seconds;
            assert_eq!(stillness.look(u64::from(seconds) * 100, now), None);
        }
        assert_eq!(
            stillness.look(800, since + ANSWER_MAX * 10),
            Some(ANSWER_MAX * 2)
        );
    }
}
