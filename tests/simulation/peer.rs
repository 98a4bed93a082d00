//! The other end of a connection: what it sends, when, and how it behaves.

use std::net::SocketAddr;

use corelane::metrics::CloseCause;

use crate::handlers::code;
use crate::mesh::Mesh;
use crate::model::{Expected, Progress};
use crate::network::{Link, Network};
use crate::random::Random;
use crate::topics::Oracle;
use crate::wire::{Reader, u16_at};

/// What a peer is going to do.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) connect_us: u64,
    /// Connects when the connection of this peer is over, too, at the soonest.
    pub(crate) follows: Option<usize>,
    /// The shard and its listener that the connection arrives at.
    pub(crate) listener: (usize, usize),
    pub(crate) address: SocketAddr,
    pub(crate) stream: Vec<u8>,
    pub(crate) pace: Pace,
    /// Shuts its sending side when all is written.
    pub(crate) half_closes: bool,
    pub(crate) reading: Reading,
    /// How long after the server's end of the stream it ends its own; `None` for never.
    pub(crate) farewell_us: Option<u64>,
    /// Resets the connection at this time.
    pub(crate) reset_us: Option<u64>,
}

/// How it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Whatever piece comes to hand, whenever.
    Pieces { bytes_max: usize, gap_us_max: u64 },
    /// A whole frame, each time this has passed.
    Frames { every_us: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Eager,
    /// Reads a little, then sleeps; so often at most.
    Sleepy(usize),
    Never,
}

/// A sleepy reader sleeps so long at a time, at most.
const SLEEP_US_MAX: u64 = 40_000;

/// A peer at work.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) script: Script,
    pub(crate) expected: Expected,
    pub(crate) progress: Progress,
    pub(crate) reader: Reader,
    /// Bytes that were judged.
    pub(crate) judged_bytes: usize,
    number: usize,
    written_bytes: usize,
    write_us: u64,
    read_us: u64,
    sleeps: usize,
    /// When it ends its own side after the server has ended its.
    farewell_at_us: Option<u64>,
    random: Random,
}

impl Peer {
    pub(crate) fn new(number: usize, script: Script, expected: Expected, random: Random) -> Peer {
        Peer {
            sleeps: match script.reading {
                Reading::Sleepy(times) => times,
                Reading::Eager | Reading::Never => 0,
            },
            write_us: script.connect_us,
            script,
            expected,
            progress: Progress::default(),
            reader: Reader::default(),
            judged_bytes: 0,
            number,
            written_bytes: 0,
            read_us: 0,
            farewell_at_us: None,
            random,
        }
    }

    /// Whether it reads what comes and ends its side in time, so that it must get everything.
    pub(crate) fn is_good(&self) -> bool {
        self.script.reading != Reading::Never
            && self.script.farewell_us.is_some()
            && self.script.reset_us.is_none()
    }

    /// Whether its shard has got what is to end its connection.
    pub(crate) fn is_at_its_end(&self, link: &Link) -> bool {
        let end_at = self.expected.end_at;
        link.end_told || link.broken || end_at.is_some_and(|at| at <= link.received_bytes)
    }

    /// Why its connection is to end, if nothing breaks it.
    pub(crate) fn end(&self, end_told: bool) -> Option<CloseCause> {
        self.expected
            .end
            .or(end_told.then_some(CloseCause::PeerClosed))
    }

    /// Breaks the connection.
    pub(crate) fn reset(&mut self, network: &mut Network) {
        network.links[self.number].broken = true;
        let number = self.number;
        network.note(|| format!("peer {number} resets"));
    }

    /// Does what it can do now.
    pub(crate) fn act(&mut self, now_us: u64, network: &mut Network) {
        if self.is_done(network) || self.connect_us(network).is_none_or(|at_us| now_us < at_us) {
            return;
        }
        if !network.links[self.number].connected {
            network.connect(self.number, self.script.listener);
        }
        if self.script.reset_us.is_some_and(|at_us| at_us <= now_us) {
            self.reset(network);
            return;
        }
        if self.wants_to_write(network) && self.write_us <= now_us {
            self.write(now_us, network);
        }
        if self.wants_to_read(network) && self.read_us <= now_us {
            self.read(now_us, network);
        }
        let link = &mut network.links[self.number];
        if link.shutdown_us.is_some() && link.read_bytes == link.taken.len() {
            let farewell_at_us = self
                .farewell_at_us
                .or_else(|| Some(now_us + self.script.farewell_us?));
            self.farewell_at_us = farewell_at_us;
            link.inbound_ended |= farewell_at_us.is_some_and(|at_us| at_us <= now_us);
        }
    }

    fn write(&mut self, now_us: u64, network: &mut Network) {
        let rest = &self.script.stream[self.written_bytes..];
        if rest.is_empty() {
            network.links[self.number].inbound_ended = true;
            return;
        }
        let (bytes, gap_us) = match self.script.pace {
            Pace::Pieces {
                bytes_max,
                gap_us_max,
            } => {
                let bytes = self.random.between(1, bytes_max.min(rest.len()));
                (bytes, self.random.between_us(0, gap_us_max))
            }
            Pace::Frames { every_us } => (usize::from(u16_at(rest, 0)).min(rest.len()), every_us),
        };
        network.links[self.number].inbound.extend(&rest[..bytes]);
        self.written_bytes += bytes;
        self.write_us = now_us + gap_us;
    }

    fn read(&mut self, now_us: u64, network: &mut Network) {
        let link = &mut network.links[self.number];
        let unread_bytes = link.taken.len() - link.read_bytes;
        if self.sleeps > 0 {
            self.sleeps -= 1;
            self.read_us = now_us + self.random.between_us(0, SLEEP_US_MAX);
            link.read_bytes += self.random.between(1, unread_bytes);
        } else {
            link.read_bytes += unread_bytes;
        }
    }

    fn wants_to_write(&self, network: &Network) -> bool {
        let has_more = self.written_bytes < self.script.stream.len() || self.script.half_closes;
        has_more && !network.links[self.number].inbound_ended
    }

    fn wants_to_read(&self, network: &Network) -> bool {
        let link = &network.links[self.number];
        self.script.reading != Reading::Never && link.read_bytes < link.taken.len()
    }

    /// Its connection is over.
    pub(crate) fn is_done(&self, network: &Network) -> bool {
        let link = &network.links[self.number];
        link.broken || link.closed.is_some()
    }

    /// When it connects, if that is known yet.
    fn connect_us(&self, network: &Network) -> Option<u64> {
        let is_over = |peer: usize| {
            let link = &network.links[peer];
            link.broken || link.closed.is_some()
        };
        let follows = self.script.follows;
        follows
            .is_none_or(is_over)
            .then_some(self.script.connect_us)
    }

    /// When it acts next.
    pub(crate) fn next_us(&self, network: &Network) -> Option<u64> {
        if self.is_done(network) {
            return None;
        }
        if !network.links[self.number].connected {
            return self.connect_us(network);
        }
        let writes = self.wants_to_write(network).then_some(self.write_us);
        let reads = self.wants_to_read(network).then_some(self.read_us);
        let farewell = self.farewell_us(network);
        [writes, reads, farewell, self.script.reset_us]
            .into_iter()
            .flatten()
            .min()
    }

    /// When it ends its own side because the server has ended its.
    fn farewell_us(&self, network: &Network) -> Option<u64> {
        let link = &network.links[self.number];
        let knows = link.shutdown_us.is_some() && link.read_bytes == link.taken.len();
        if !knows || link.inbound_ended {
            return None;
        }
        self.farewell_at_us.or(self.script.farewell_us)
    }

    /// Judges what has been sent to it since it was asked last.
    pub(crate) fn judge(
        &mut self,
        (network, mesh, topics): (&Network, &Mesh, &mut Oracle),
        frame_bytes_max: usize,
        reply_errors: bool,
    ) {
        let link = &network.links[self.number];
        let taken = &link.taken;
        if self.judged_bytes == taken.len() {
            return;
        }
        self.reader.feed(&taken[self.judged_bytes..]);
        self.judged_bytes = taken.len();
        loop {
            let judged = self.reader.next(frame_bytes_max).and_then(|frame| {
                let Some((code, body)) = frame else {
                    return Ok(false);
                };
                let pushed = |body: &[u8]| {
                    let id = link.id.ok_or("it was never let in")?;
                    if code == code::EVENT {
                        return topics.arrived(self.number, body);
                    }
                    mesh.arrived(id, body)
                };
                let frame = (code, &*body);
                let progress = &mut self.progress;
                let request = progress.take(&self.expected, reply_errors, frame, pushed)?;
                if let Some(request) = request {
                    topics.answered((self.number, request), frame)?;
                }
                Ok(true)
            });
            match judged {
                Ok(true) => {}
                Ok(false) => return,
                Err(wrong) => panic!("peer {}: {wrong}", self.number),
            }
        }
    }

    /// Replies that it has not got.
    pub(crate) fn missing(&self, reply_errors: bool) -> usize {
        self.progress.missing(&self.expected, reply_errors)
    }
}
