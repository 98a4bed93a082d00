//! What a shard shows of itself at one moment.

use std::net::SocketAddr;

use super::Shard;
use super::connection::{Connection, Phase};
use super::io::Io;
use crate::handler::ConnectionId;
use crate::metrics::latency::Latencies;
use crate::metrics::{CloseCause, Counters};

/// One shard at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Its number.
    pub shard: u16,
    /// Everything counted since it started.
    pub counters: Counters,
    /// What there is now.
    pub gauges: Gauges,
    /// What it has done with its time since it started.
    pub pace: Pace,
    /// What went to and from other shards since it started. Who runs the turns knows it.
    pub mesh: MeshCounts,
    /// The latencies since the snapshot before.
    pub latencies: Latencies,
    /// Figures of the program's own metrics, in the order in which those were registered; not a number
    /// where one could not be read.
    pub own: Vec<f64>,
    /// Those of its connections that were asked for: see [`Shard::begin_census`].
    pub connections: Vec<ConnectionView>,
}

/// What there is at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Connections that are open, or not quite closed yet.
    pub connections: u64,
    /// Connections that wait for room.
    pub waiting: u64,
    /// Asynchronous handlers at work.
    pub handlers: u64,
    /// Memory that the connections are charged for, and handlers, in bytes.
    pub memory_bytes: u64,
    /// Timers that are armed.
    pub timers: u64,
    /// Receive buffers that held bytes at once at most since the snapshot before. Who runs the turns
    /// knows it.
    pub buffers_peak: u64,
}

/// What a shard has done with its time. Who runs the turns knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Since the shard started, in microseconds.
    pub up_us: u64,
    /// Of it, what was spent on looking or waiting for something to do, in microseconds.
    pub idle_us: u64,
    /// Times that the shard slept, in its ring or in its executor.
    pub parks: u64,
}

/// Messages between shards, as one of them has counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeshCounts {
    /// Sent to others.
    pub sent: u64,
    /// Received from others.
    pub received: u64,
    /// Those of the sent ones that found no room in the queue, and waited.
    pub overflowed: u64,
}

/// A connection, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionView {
    /// Its id.
    pub id: ConnectionId,
    /// The peer's address.
    pub peer: SocketAddr,
    /// How long it has been open, in microseconds.
    pub age_us: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes that the kernel took for sending.
    pub sent_bytes: u64,
    /// Whole frames received.
    pub frames_received: u64,
    /// Frames queued for sending.
    pub frames_sent: u64,
    /// Bytes that are queued, or in the kernel's hands.
    pub queued_bytes: u64,
    /// The longest that a request of its has taken until its reply was sent, in microseconds.
    pub slowest_us: u64,
    /// Why it ends, if it does.
    pub ending: Option<CloseCause>,
}

/// The order of a census, which is of those that come first in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CensusBy {
    /// Most bytes queued.
    Queued,
    /// Most frames received, since they were opened.
    Busy,
    /// Longest from a request to its reply sent.
    Slow,
}

/// Slots looked at in one turn, which takes some ten microseconds.
const SLOTS_PER_TURN: usize = 512;

/// A sweep over all connections, a part of them a turn, for the first ones in each order.
#[derive(Debug)]
pub(super) struct Census {
    next_slot: usize,
    limit: usize,
    found: [Vec<(u64, ConnectionId)>; 3],
}

impl Census {
    fn add(&mut self, by: CensusBy, rank: u64, id: ConnectionId) {
        let (found, limit) = (&mut self.found[by as usize], self.limit);
        let place = found.partition_point(|&(other, _)| other >= rank);
        if place < limit {
            found.truncate(limit - 1);
            found.insert(place, (rank, id));
        }
    }
}

impl<I: Io, S: 'static> Shard<I, S> {
    /// The shard at this moment. The latencies come in exchange for an empty set of those that were
    /// given out before, so that nothing is copied.
    pub fn snapshot(&mut self, empty: Latencies) -> Snapshot {
        Snapshot {
            shard: self.number,
            counters: self.counters.clone(),
            gauges: Gauges {
                connections: self.connections.len() as u64,
                waiting: self.waiting.len() as u64,
                handlers: self.handlers as u64,
                memory_bytes: self.ledger.held_bytes() as u64,
                timers: self.timers.len() as u64,
                ..Gauges::default()
            },
            pace: Pace::default(),
            mesh: MeshCounts::default(),
            latencies: self.recorder.exchange(empty),
            own: self.router.read_metrics(&self.state),
            connections: Vec::new(),
        }
    }

    /// Begins to look for the `limit` connections that come first in each order of [`CensusBy`]. Goes
    /// on with the turns that follow, until [`Shard::take_census`] has them. One at a time: another
    /// one takes its place.
    pub fn begin_census(&mut self, limit: usize) {
        self.census = (limit > 0).then(|| Census {
            next_slot: 0,
            limit,
            found: Default::default(),
        });
    }

    /// Goes on with a census. Gives back whether there is something left to look at.
    pub(super) fn go_on_with_census(&mut self) -> bool {
        let Some(mut census) = self.census.take() else {
            return false;
        };
        let end = (census.next_slot + SLOTS_PER_TURN).min(self.connections.slots());
        for slot in census.next_slot..end {
            let id = u32::try_from(slot).ok();
            let id = id.and_then(|slot| self.connections.id_at(slot));
            let Some((id, connection)) = id.and_then(|id| {
                self.connections
                    .get_mut(id)
                    .map(|connection| (id, connection))
            }) else {
                continue;
            };
            census.add(CensusBy::Queued, connection.outbound.bytes() as u64, id);
            census.add(CensusBy::Busy, connection.traffic.frames_received, id);
            census.add(CensusBy::Slow, connection.traffic.slowest_us.into(), id);
        }
        census.next_slot = end;
        let is_left = end < self.connections.slots();
        self.census = Some(census);
        is_left
    }

    /// What a census has found, once it is done: each connection once, in no order.
    pub fn take_census(&mut self) -> Option<Vec<ConnectionView>> {
        let slots = self.connections.slots();
        let census = self.census.take_if(|census| census.next_slot >= slots)?;
        let mut ids: Vec<_> = census
            .found
            .into_iter()
            .flatten()
            .map(|(_, id)| id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let views = ids.into_iter().filter_map(|id| {
            // Some may have gone meanwhile.
            let connection = self.connections.get_mut(id)?;
            Some(view(id, connection, self.now_us))
        });
        Some(views.collect())
    }
}

fn view<Socket>(id: ConnectionId, connection: &Connection<Socket>, now_us: u64) -> ConnectionView {
    let traffic = &connection.traffic;
    ConnectionView {
        id,
        peer: connection.peer,
        age_us: now_us.saturating_sub(traffic.since_us),
        received_bytes: traffic.received_bytes,
        sent_bytes: traffic.sent_bytes,
        frames_received: traffic.frames_received,
        frames_sent: traffic.frames_sent,
        queued_bytes: connection.outbound.bytes() as u64,
        slowest_us: traffic.slowest_us.into(),
        ending: match connection.phase {
            Phase::Open => None,
            Phase::Ending(cause) | Phase::Lingering(cause) | Phase::Closing(cause) => Some(cause),
        },
    }
}
