//! What all shards and peers have in common: the connections, the listeners, and what shards tell
//! one another. Between turns a run holds it; in a turn, the shard whose turn it is.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use corelane::handler::ConnectionId;
use corelane::shard::{Message, Reception, SendBuffer};

use crate::life::Life;

/// One end of a [`Link`]: nobody can copy it, and it is to be closed once.
#[derive(Debug)]
pub(crate) struct Socket(pub(crate) usize);

/// One TCP connection, with what both sides know of it. It has its peer's number.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // facts that have nothing to do with each other
pub(crate) struct Link {
    pub(crate) id: Option<ConnectionId>,
    pub(crate) address: SocketAddr,
    /// It stands in a listener's backlog, or did.
    pub(crate) connected: bool,
    pub(crate) place: Place,
    /// The shard that accepted it.
    pub(crate) arrived_at: usize,
    /// Bytes on their way to the shard.
    pub(crate) inbound: VecDeque<u8>,
    /// The peer has shut its sending side.
    pub(crate) inbound_ended: bool,
    pub(crate) end_told: bool,
    pub(crate) received_bytes: usize,
    /// All bytes that were taken for sending.
    pub(crate) taken: Vec<u8>,
    /// How many of these the peer has read.
    pub(crate) read_bytes: usize,
    /// Broken, by the peer or by the network.
    pub(crate) broken: bool,
    /// The turn in which the shard was told.
    pub(crate) broken_told: Option<u64>,
    pub(crate) shutdown_us: Option<u64>,
    pub(crate) closed: Option<Closed>,
    /// Closed over bytes that nobody had received: what the peer has not read yet is lost.
    pub(crate) destroyed: bool,
    pub(crate) receive: Option<Armed>,
    pub(crate) send: Option<Send>,
    /// What a short send has left over, which comes next.
    pub(crate) rest_bytes: Option<usize>,
    pub(crate) life: Life,
    /// Whether the shard that counts its address has it, or is about to hear of it.
    pub(crate) counted: Counted,
}

/// Who has a connection's socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// The kernel: no shard has got it yet, or it broke before.
    #[default]
    Backlog,
    /// This shard.
    At(usize),
    /// The mesh, on its way to the shard that counts its address.
    ToBeCounted,
    /// The mesh, on its way to the shard that is to serve it.
    ToBeServed(usize),
}

/// Whether a connection counts for its address, once the messages about it have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    No,
    /// It was there before there was a limit, and its shard gets to it in one of these turns.
    Maybe,
    Yes,
}

/// When and how a shard closed a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) at_us: u64,
    pub(crate) by: usize,
    pub(crate) reset: bool,
    /// Its address had as many connections as it may have.
    pub(crate) at_limit: bool,
}

/// A multishot operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Armed {
    pub(crate) cancelled: bool,
    /// `None` for an accept.
    pub(crate) how: Option<Reception>,
    /// Its last completion is on its way.
    pub(crate) ended: bool,
}

#[derive(Debug)]
pub(crate) struct Send {
    /// `None` once its completion is on its way.
    pub(crate) buffer: Option<SendBuffer>,
    pub(crate) taken_bytes: usize,
    pub(crate) cancelled: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Listener {
    pub(crate) backlog: VecDeque<usize>,
    pub(crate) accept: Option<Armed>,
    pub(crate) closed: bool,
    /// Until then it is not to be tried again, unless a connection closes.
    pub(crate) full_until_us: u64,
}

impl Link {
    fn new(address: SocketAddr) -> Link {
        Link {
            id: None,
            address,
            connected: false,
            place: Place::default(),
            arrived_at: 0,
            inbound: VecDeque::new(),
            inbound_ended: false,
            end_told: false,
            received_bytes: 0,
            taken: Vec::new(),
            read_bytes: 0,
            broken: false,
            broken_told: None,
            shutdown_us: None,
            closed: None,
            destroyed: false,
            receive: None,
            send: None,
            rest_bytes: None,
            life: Life::default(),
            counted: Counted::No,
        }
    }

    /// A shard got its socket.
    pub(crate) fn is_accepted(&self) -> bool {
        self.place != Place::Backlog
    }

    /// Whether it is served, or was, by this shard.
    pub(crate) fn is_of(&self, shard: usize) -> bool {
        self.id.is_some_and(|id| id.shard() == shard)
    }

    /// The shard that is to let it in, if it arrived at this one.
    pub(crate) fn waits_at(&self, listener: usize) -> usize {
        match self.place {
            Place::At(shard) | Place::ToBeServed(shard) => shard,
            Place::Backlog | Place::ToBeCounted => listener,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_accepted() && self.closed.is_none()
    }
}

/// Longer lines of a trace are cut.
const LINE_BYTES_MAX: usize = 200;

/// Everything outside the shards.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) links: Vec<Link>,
    /// By shard.
    pub(crate) listeners: Vec<Vec<Listener>>,
    pub(crate) mesh: Mesh,
    /// By shard: it took in no other connection after its last turn.
    pub(crate) full: Vec<bool>,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) now_us: u64,
    pub(crate) turn: u64,
    /// Sends of which something was taken at once.
    pub(crate) sends_at_once: u64,
}

impl Network {
    pub(crate) fn new(addresses: &[SocketAddr], (shards, listeners): (usize, usize)) -> Network {
        let of_shard = || (0..listeners).map(|_| Listener::default()).collect();
        Network {
            links: addresses.iter().copied().map(Link::new).collect(),
            listeners: (0..shards).map(|_| of_shard()).collect(),
            mesh: Mesh::new(shards),
            full: vec![false; shards],
            ..Network::default()
        }
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let mut line = format!("{:>9} {}", self.now_us, line());
            // Pushed frames are long.
            line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
            trace.push(line);
        }
    }

    /// A peer connects.
    pub(crate) fn connect(&mut self, peer: usize, (shard, listener): (usize, usize)) {
        self.links[peer].connected = true;
        self.note(|| format!("peer {peer} connects to {shard}.{listener}"));
        self.listeners[shard][listener].backlog.push_back(peer);
    }

    /// Ids are never used again, so this works for closed connections too.
    pub(crate) fn link_of(&self, id: ConnectionId) -> usize {
        self.links
            .iter()
            .position(|link| link.id == Some(id))
            .unwrap_or_else(|| panic!("nobody knows {id}"))
    }

    /// How many connections of each address are counted, if the shard that counts them does it
    /// right: those that there are, and those of which it has not heard yet that they are gone,
    /// without those of which it has not heard yet that they are there.
    pub(crate) fn counts(&self) -> BTreeMap<IpAddr, Count> {
        let mut counts: BTreeMap<IpAddr, Count> = BTreeMap::new();
        for (address, on_their_way) in &self.mesh.on_their_way {
            counts.entry(*address).or_default().add(*on_their_way);
        }
        for link in self.links.iter().filter(|link| link.is_open()) {
            let count = counts.entry(link.address.ip().to_canonical()).or_default();
            match link.counted {
                Counted::No => {}
                Counted::Maybe => count.max += 1,
                Counted::Yes => count.add(1),
            }
        }
        counts
    }

    /// A shard has got other settings, by which addresses have a limit: who waits there is counted
    /// at once, and who is served soon.
    pub(crate) fn count_those_of(&mut self, shard: usize) {
        for link in self.links.iter_mut().filter(|link| link.is_open()) {
            if link.place == Place::At(shard) && link.counted == Counted::No {
                let is_served = link.id.is_some();
                link.counted = if is_served {
                    Counted::Maybe
                } else {
                    Counted::Yes
                };
            }
        }
    }

    /// All that a shard serves are counted by now.
    pub(crate) fn has_counted_those_of(&mut self, shard: usize) {
        for link in &mut self.links {
            if link.is_of(shard) && link.counted == Counted::Maybe {
                link.counted = Counted::Yes;
                self.mesh.presented.push(link.address.ip().to_canonical());
            }
        }
    }

    /// Whether connections wait at this shard for room.
    pub(crate) fn has_waiting(&self, shard: usize) -> bool {
        let waits = |link: &Link| link.is_open() && link.id.is_none();
        self.links
            .iter()
            .any(|link| link.place == Place::At(shard) && waits(link))
    }

    /// How many connections are placed on this shard.
    pub(crate) fn placed(&self, shard: usize) -> usize {
        let is_there = |link: &&Link| {
            link.is_open() && [Place::At(shard), Place::ToBeServed(shard)].contains(&link.place)
        };
        self.links.iter().filter(is_there).count()
    }
}

/// A number of connections that is at least and at most so large.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) min: i64,
    pub(crate) max: i64,
}

impl Count {
    fn add(&mut self, connections: i64) {
        self.min += connections;
        self.max += connections;
    }
}

/// Whether a shard with so many connections hands the next one to another with so many: if it has
/// clearly more, by one and by 3%.
pub(crate) fn is_clearly_more(own: usize, other: usize) -> bool {
    own > other + (other / 32).max(1)
}

/// The address of a peer; those of the same number have the same one, by IPv4 or mapped into IPv6.
pub(crate) fn address(number: usize, peer: usize, mapped: bool) -> SocketAddr {
    let v4 = Ipv4Addr::new(10, 0, 0, number as u8);
    let ip = if mapped {
        IpAddr::V6(v4.to_ipv6_mapped())
    } else {
        IpAddr::V4(v4)
    };
    SocketAddr::new(ip, 1024 + peer as u16)
}

/// From one shard to another: when each message is due, and what it is.
type Queue = VecDeque<(u64, Message<Socket>)>;

/// What shards tell one another: by pair in order, late, and in bounded queues.
#[derive(Debug, Default)]
pub(crate) struct Mesh {
    /// By receiver, then by sender.
    queues: Vec<Vec<Queue>>,
    /// A sender with more messages than this in one queue is congested.
    pub(crate) queue_max: usize,
    /// A queue of this sender's has room again, which it does not know yet.
    pub(crate) relieved: Vec<bool>,
    /// Connections that are gone, of which the shard that counts them has not heard, less those
    /// that are there and of which it has not heard.
    on_their_way: BTreeMap<IpAddr, i64>,
    /// Those that are gone and of which it has heard in this very turn.
    pub(crate) departed: Vec<IpAddr>,
    /// Those that are there and have come to be counted in this very turn, whatever the limit.
    pub(crate) presented: Vec<IpAddr>,
}

impl Mesh {
    fn new(shards: usize) -> Mesh {
        let queues = || (0..shards).map(|_| VecDeque::new()).collect();
        Mesh {
            queues: (0..shards).map(|_| queues()).collect(),
            queue_max: 1,
            relieved: vec![false; shards],
            on_their_way: BTreeMap::new(),
            departed: Vec::new(),
            presented: Vec::new(),
        }
    }

    pub(crate) fn is_congested(&self, from: usize) -> bool {
        self.queues
            .iter()
            .any(|queues| queues[from].len() > self.queue_max)
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, due_us: u64, message: Message<Socket>) {
        match &message {
            Message::Departed(address) => *self.on_their_way.entry(*address).or_default() += 1,
            Message::Present(address) => *self.on_their_way.entry(*address).or_default() -= 1,
            _ => {}
        }
        self.queues[to][from].push_back((due_us, message));
    }

    /// The senders whose first message for this shard is due.
    pub(crate) fn due(&self, to: usize, now_us: u64) -> impl Iterator<Item = usize> {
        self.queues[to]
            .iter()
            .enumerate()
            .filter(move |(_, queue)| queue.front().is_some_and(|(due_us, _)| *due_us <= now_us))
            .map(|(from, _)| from)
    }

    pub(crate) fn receive(&mut self, from: usize, to: usize) -> Option<Message<Socket>> {
        let queue = &mut self.queues[to][from];
        let was_congested = queue.len() > self.queue_max;
        let (_, message) = queue.pop_front()?;
        self.relieved[from] |= was_congested && queue.len() <= self.queue_max;
        match &message {
            Message::Departed(address) => {
                *self.on_their_way.entry(*address).or_default() -= 1;
                self.departed.push(*address);
            }
            Message::Present(address) => {
                *self.on_their_way.entry(*address).or_default() += 1;
                self.presented.push(*address);
            }
            _ => {}
        }
        Some(message)
    }

    /// All that is on its way.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message<Socket>> {
        let queues = self.queues.iter().flatten().flatten();
        queues.map(|(_, message)| message)
    }

    /// When the next message is due.
    pub(crate) fn next_us(&self) -> Option<u64> {
        let queues = self.queues.iter().flatten();
        queues.filter_map(|queue| Some(queue.front()?.0)).min()
    }
}
