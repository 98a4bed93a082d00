//! The topics of all shards, and how their shards come to be crowded: with so much to do that what
//! topics want finds no room, wholly or in part.

use std::cell::{Cell, OnceCell, RefCell};

use corelane::apps::topics::{Figures, Topics};
use corelane::config;
use corelane::handler::Local;
use corelane::shard::Settings;

use crate::handlers::code;
use crate::limits::{connection_bytes, desk_errands};
use crate::random::Random;
use crate::run::Run;
use crate::state::State;

/// Shards that a run has at most.
const SHARDS_MAX: usize = 4;

/// What a seed means for topics.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) limits: config::Topics,
    crowds: Vec<Crowd>,
}

/// A shard gets more to do than it has room for.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    at_us: u64,
    shard: usize,
    by: By,
}

#[derive(Clone, Copy, Debug)]
enum By {
    /// Bytes of frames for who is gone.
    Bytes,
    /// Errands, with room for so many more.
    Number { spare: usize },
}

impl Plan {
    /// Small limits, where there are any, and `settings` that go with them.
    pub(crate) fn new(
        (start_us, shards): (u64, usize),
        settings: &mut Settings,
        random: &mut Random,
    ) -> Plan {
        let mut limits = config::Topics::default();
        if random.percent(30) {
            limits.per_connection = random.between(1, 3) as u32;
        }
        if random.percent(30) {
            limits.per_shard = random.between(1, 8) as u32;
        }
        if random.percent(30) {
            limits.distinct_per_shard = random.between(1, 2) as u32;
        }
        if random.percent(40) {
            let spare_bytes = random.one_of(&[100, 300, 3_000, 30_000]);
            settings.memory_bytes_max = random.between(3, 8) * connection_bytes() + spare_bytes;
        }
        // With short frames it would take too many turns until that is over.
        let is_by_bytes = settings.frame_bytes_max >= 8_000 && random.percent(50);
        if is_by_bytes {
            settings.turn_errands_max = random.one_of(&[30, 100, 512]);
        }
        let is_by_number = random.percent(6);
        if is_by_number {
            // So many that it is over with one turn.
            settings.turn_errands_max = 1 << 20;
        }
        let crowds = match (is_by_number, is_by_bytes) {
            (true, _) => random.between(1, 3),
            (_, true) => random.between(1, 8),
            _ => 0,
        };
        let crowd = |random: &mut Random| Crowd {
            at_us: start_us + random.between_us(0, 8_000),
            shard: random.between(0, shards - 1),
            by: if is_by_number {
                By::Number {
                    spare: random.between(0, 4),
                }
            } else {
                By::Bytes
            },
        };
        Plan {
            limits,
            crowds: (0..crowds).map(|_| crowd(random)).collect(),
        }
    }
}

/// The topics of all shards.
#[derive(Debug, Default)]
pub(crate) struct Forum {
    topics: [OnceCell<Topics<State>>; SHARDS_MAX],
    locals: RefCell<Vec<Local<State>>>,
    /// The shard that is at work.
    at: Cell<usize>,
}

/// The state is that of all shards, so these are the topics of the one that is at work.
impl AsRef<Topics<State>> for State {
    fn as_ref(&self) -> &Topics<State> {
        self.forum.topics[self.forum.at.get()].get().unwrap()
    }
}

impl Forum {
    /// Shards come in their order.
    pub(crate) fn add_shard(&self, local: &Local<State>, limits: config::Topics) {
        let topics = Topics::new(local.clone(), limits);
        assert!(self.topics[local.shard()].set(topics).is_ok());
        self.locals.borrow_mut().push(local.clone());
    }

    /// From now on, this shard is at work.
    pub(crate) fn enter(&self, shard: usize) {
        self.at.set(shard);
    }

    /// By shard.
    pub(crate) fn figures(&self) -> Vec<Figures> {
        let topics = self.topics.iter().filter_map(OnceCell::get);
        topics.map(Topics::figures).collect()
    }
}

impl Run {
    /// Gives shards that are to be crowded by now too much to do.
    pub(crate) fn crowd(&mut self) {
        let now_us = self.now_us;
        let mut crowds = std::mem::take(&mut self.scenario.topics.crowds);
        crowds.retain(|crowd| crowd.at_us > now_us || !self.crowd_out(*crowd));
        self.scenario.topics.crowds = crowds;
    }

    /// Gives back whether that is done with.
    fn crowd_out(&mut self, crowd: Crowd) -> bool {
        let shard = crowd.shard;
        if self.shards[shard].io_mut().going_down.is_begun() {
            return true;
        }
        let local = &self.state.forum.locals.borrow()[shard];
        match crowd.by {
            By::Bytes => {
                let links = &mut self.network.links.iter();
                let gone = links.find(|link| link.is_of(shard) && link.closed.is_some());
                let Some(gone) = gone.and_then(|link| link.id) else {
                    return false;
                };
                let body = vec![0; self.scenario.settings.frame_bytes_max - 8];
                // One that is shared counts once for those in a row.
                let [one, other] = [(); 2].map(|()| local.share(code::PUSHED, &body).unwrap());
                while local.push_shared(gone, &one).is_ok()
                    && local.push_shared(gone, &other).is_ok()
                {}
            }
            By::Number { spare } => {
                if self.shards[shard].has_errands() {
                    return false;
                }
                for _ in spare..desk_errands() {
                    local.tell(shard, |_| ()).unwrap();
                }
            }
        }
        self.network
            .note(|| format!("shard {shard} is crowded by {:?}", crowd.by));
        true
    }
}
