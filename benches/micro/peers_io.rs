//! An [`Io`] without a kernel, as cheap as can be, so that what is measured is the shard: every
//! send is taken whole and at once, and a peer sends its next batch as soon as it has the replies
//! to the last one.

use std::net::SocketAddr;

use corelane::handler::ConnectionId;
use corelane::shard::{Arrival, Completion, Io, Operation, SendBuffer};

/// The peers of a shard, with the kernel between.
pub(crate) struct PeersIo<'a> {
    /// What a peer sends at a time; it is lent, not copied. An empty batch ends a stream: then
    /// peers leave as soon as they are there, and for each another one comes.
    batch: &'a [u8],
    /// Connections to be accepted.
    arriving: usize,
    /// New connections, whose peers have not sent anything yet.
    fresh: Vec<ConnectionId>,
    /// The sends of the last turn.
    sends: Vec<(ConnectionId, SendBuffer)>,
    /// What was reaped: connections whose batch is there, sends that were taken, and arrivals.
    waiting: Vec<ConnectionId>,
    taken: Vec<(ConnectionId, SendBuffer)>,
    calling: usize,
}

impl<'a> PeersIo<'a> {
    /// So many peers.
    pub(crate) fn new(batch: &'a [u8], peers: usize) -> PeersIo<'a> {
        PeersIo {
            batch,
            arriving: peers,
            fresh: Vec::new(),
            sends: Vec::new(),
            waiting: Vec::new(),
            taken: Vec::new(),
            calling: 0,
        }
    }

    /// What the shard has sent in its last turn, connection by connection.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &[u8]> {
        self.sends.iter().map(|(_, buffer)| buffer.remaining())
    }
}

impl<'a> Io for PeersIo<'a> {
    type Socket = ();
    type Received = &'a [u8];

    #[inline]
    fn submit(&mut self, operation: Operation<'_, ()>) {
        match operation {
            Operation::Send { id, buffer, .. } => self.sends.push((id, buffer)),
            Operation::Receive { id, .. } => self.fresh.push(id),
            Operation::Close { .. } => self.arriving += 1,
            Operation::Accept { .. } => {}
            other => panic!("peers that are never slow give no cause for {other:?}"),
        }
    }

    fn is_congested(&self) -> bool {
        false
    }

    #[inline]
    fn reap(&mut self, max: usize) {
        assert!(
            self.arriving + self.fresh.len() + 2 * self.sends.len() <= max,
            "a turn is to have room for all peers"
        );
        std::mem::swap(&mut self.sends, &mut self.taken);
        std::mem::swap(&mut self.fresh, &mut self.waiting);
        self.calling = std::mem::take(&mut self.arriving);
    }

    #[inline]
    fn completion(&mut self) -> Option<Completion<(), &'a [u8]>> {
        let batch = self.batch;
        if let Some(id) = self.waiting.pop() {
            return Some(Completion::Received {
                id,
                result: Ok(batch),
                more: !batch.is_empty(),
            });
        }
        if let Some((id, buffer)) = self.taken.pop() {
            self.waiting.push(id);
            let result = Ok(buffer.remaining().len());
            return Some(Completion::Sent { id, buffer, result });
        }
        self.calling = self.calling.checked_sub(1)?;
        Some(Completion::Accepted {
            listener: 0,
            result: Ok(Arrival::new((), SocketAddr::from(([127, 0, 0, 1], 9)))),
            more: true,
        })
    }
}
