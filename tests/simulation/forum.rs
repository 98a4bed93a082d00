//! The topics of all shards, and how their shards come to be crowded: with so much to do that what
//! topics want finds no room, wholly or in part.

use std::cell::{Cell, OnceCell, RefCell};

use corelane::apps::topics::{Figures, Topics};
use corelane::config;
use corelane::handler::Local;
use corelane::shard::Settings;

use crate::handlers::code;
use crate::limits::connection_bytes;
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

/// A shard gets more bytes of frames, for who is gone, than it has room for, again and again.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    at_us: u64,
    until_us: u64,
    shard: usize,
}

impl Plan {
    /// When all that is too much for shards is to be done at once.
    pub(crate) fn relief_us(&self) -> Option<u64> {
        self.crowds.iter().map(|crowd| crowd.until_us).max()
    }

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
        // With short frames it would take too many.
        let is_crowded = settings.frame_bytes_max >= 8_000 && random.percent(60);
        if is_crowded {
            // A turn begins with errands, which must leave little room.
            settings.turn_errands_max = random.between(1, 3);
        }
        let crowds = if is_crowded { random.between(1, 3) } else { 0 };
        let crowd = |_| {
            let at_us = start_us + random.between_us(500, 10_000);
            Crowd {
                at_us,
                until_us: at_us + random.between_us(300, 2_000),
                shard: random.between(0, shards - 1),
            }
        };
        Plan {
            limits,
            crowds: (0..crowds).map(crowd).collect(),
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
        let (shard, now_us) = (crowd.shard, self.now_us);
        if self.shards[shard].io_mut().going_down.is_begun() {
            return true;
        }
        let local = &self.state.forum.locals.borrow()[shard];
        let links = &mut self.network.links.iter();
        let gone = links.find(|link| link.is_of(shard) && link.closed.is_some());
        let Some(gone) = gone.and_then(|link| link.id) else {
            return crowd.until_us <= now_us;
        };
        // Short ones are done first, and leave little room; what long ones leave is filled.
        let long_bytes = self.scenario.settings.frame_bytes_max - 8;
        for (body_bytes, times) in [(50, 50), (long_bytes, usize::MAX), (50, usize::MAX)] {
            let body = vec![0; body_bytes];
            // One that is shared counts once for those in a row.
            let [one, other] = [(); 2].map(|()| local.share(code::PUSHED, &body).unwrap());
            let mut frames = [&one, &other].into_iter().cycle().take(times);
            while frames
                .next()
                .is_some_and(|frame| local.push_shared(gone, frame).is_ok())
            {}
        }
        self.network.note(|| format!("shard {shard} is full"));
        crowd.until_us <= now_us
    }
}
