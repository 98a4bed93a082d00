//! What a seed means: shards, limits, faults, peers and what they do.

use std::rc::Rc;

use corelane::shard::Settings;

use crate::forum::Plan;
use crate::io::Faults;
use crate::limits::{faults, other_settings, rate, settings};
use crate::network::address;
use crate::peer::{Pace, Reading, Script};
use crate::random::Random;
use crate::rate::Rate;
use crate::stream::Stream;

/// What the seeds of a class have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nothing breaks and everybody behaves: every number can be predicted.
    Calm,
    /// Everything that can go wrong.
    Faulty,
    /// Little room, so slots are used again at once, while late completions of those before are
    /// still to come.
    Crowded,
    /// Large replies to slow readers.
    Slow,
    /// Few handlers at once.
    Overload,
    /// A stop in the middle.
    Stopping,
    /// Long frames, so much that it can't all be kept waiting.
    Large,
    /// Peers that say nothing for long, and others that only seem to.
    Idle,
    /// More frames than may come.
    Flood,
    /// Peers that do not take their replies, and others that only take their time.
    Hoarder,
    /// Connections that are handed from shard to shard, and counted by address.
    Balanced,
    /// A drain in the middle, maybe with a stop in its middle.
    Drain,
    /// Hardly any memory.
    Memory,
    /// Other settings while it runs, which else is of one of the classes above.
    Reload,
    /// Handlers that push to connections of all shards, and have functions run there; maybe with a
    /// drain in the middle.
    Mesh,
    /// The topics that ship, on several shards: peers that subscribe, publish, leave and come again;
    /// maybe with a drain or a stop in the middle.
    Topics,
}

impl Class {
    pub(crate) const ALL: [Class; 16] = [
        Class::Calm,
        Class::Faulty,
        Class::Crowded,
        Class::Slow,
        Class::Overload,
        Class::Stopping,
        Class::Large,
        Class::Idle,
        Class::Flood,
        Class::Hoarder,
        Class::Balanced,
        Class::Drain,
        Class::Memory,
        Class::Reload,
        Class::Mesh,
        Class::Topics,
    ];
}

/// Other settings for all shards.
#[derive(Debug)]
pub(crate) struct Reload {
    /// When the first shard is told.
    pub(crate) at_us: u64,
    pub(crate) settings: Rc<Settings>,
    pub(crate) rate: Option<Rate>,
}

/// One run, down to the last byte that its peers will send.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// What it is like, settings apart that are reloaded.
    pub(crate) kind: Class,
    /// What the shards begin with.
    pub(crate) settings: Settings,
    pub(crate) rate: Option<Rate>,
    /// In their order.
    pub(crate) reloads: Vec<Reload>,
    pub(crate) shards: usize,
    /// Of each shard.
    pub(crate) listeners: usize,
    pub(crate) faults: Faults,
    pub(crate) scripts: Vec<Script>,
    pub(crate) topics: Plan,
    /// When the shards are told to drain.
    pub(crate) drain_us: Option<u64>,
    /// When the shards are told to stop; otherwise that is when nothing else is left to do.
    pub(crate) stop_us: Option<u64>,
    /// How much later each shard is told than the one before.
    pub(crate) told_apart_us: u64,
    /// Whether those who would stay for ever are stopped with the shard, or reset first.
    pub(crate) resets_the_eternal: bool,
    pub(crate) long_naps_percent: u64,
    /// Virtual time that passes between two turns, at most.
    pub(crate) tick_us_max: u64,
    pub(crate) start_us: u64,
    pub(crate) random: Random,
}

impl Scenario {
    pub(crate) fn new(class: Class, seed: u64) -> Scenario {
        let mut random = Random::new(seed);
        let kind = match class {
            Class::Reload => random.one_of(&RELOADED),
            other => other,
        };
        let rate = rate(kind, &mut random);
        let mut settings = settings(kind, rate, &mut random);
        let start_us = random.between_us(1, 1 << 40);
        let reloads = match class {
            Class::Reload => reloads(kind, (&mut settings, rate), start_us, &mut random),
            _ => Vec::new(),
        };
        let shards = match class {
            Class::Reload | Class::Mesh => random.one_of(&[1, 2, 2, 3]),
            Class::Topics => random.one_of(&[2, 2, 3, 4]),
            Class::Slow | Class::Overload | Class::Large => 1,
            Class::Balanced => random.between(2, 3),
            _ => random.one_of(&[1, 1, 2, 3]),
        };
        let listeners = random.between(1, 2);
        let (peers_min, peers_max) = match class {
            Class::Crowded | Class::Balanced | Class::Reload | Class::Mesh | Class::Topics => {
                (4, 12)
            }
            Class::Large => (1, 3),
            Class::Memory => (3, 10),
            _ => (1, 6),
        };
        let peers = random.between(peers_min, peers_max);
        let places = (shards, listeners);
        let mut scripts = scripts(kind, peers, places, (start_us, &settings), &mut random);
        let has_pushes = matches!(kind, Class::Mesh | Class::Topics);
        let drains = kind == Class::Drain || has_pushes && random.percent(40);
        let drain_us = drains.then(|| start_us + random.between_us(1, 15_000));
        let stop_us = match kind {
            Class::Topics if drain_us.is_none() && random.percent(30) => {
                Some(start_us + random.between_us(1, 15_000))
            }
            Class::Stopping => Some(start_us + random.between_us(1, 15_000)),
            Class::Drain if random.percent(30) => {
                drain_us.map(|at_us| at_us + random.between_us(1, 1_000_000))
            }
            _ => None,
        };
        let topics = match kind {
            Class::Topics => Plan::new((start_us, shards), &mut settings, &mut random),
            _ => Plan::default(),
        };
        let relief_us = topics.relief_us();
        let reloads = match relief_us {
            Some(at_us) => vec![relief(at_us, &settings)],
            None => reloads,
        };
        if relief_us.is_some() {
            scripts.extend((0..shards).map(|shard| brief(shard, start_us, &mut random)));
        }
        Scenario {
            kind,
            topics,
            rate,
            reloads,
            shards,
            listeners,
            faults: faults(kind, &mut random),
            scripts,
            drain_us: drain_us.filter(|_| relief_us.is_none()),
            stop_us: stop_us.filter(|_| relief_us.is_none()),
            told_apart_us: random.one_of(&[0, 0, 100, 3_000]),
            resets_the_eternal: random.percent(50),
            long_naps_percent: match kind {
                Class::Crowded | Class::Idle => 30,
                Class::Large => 50,
                _ => 10,
            },
            tick_us_max: random.one_of(&[20, 100, 500]),
            start_us,
            settings,
            random,
        }
    }
}

/// What a run with a reload may be like else.
const RELOADED: [Class; 13] = [
    Class::Slow,
    Class::Faulty,
    Class::Crowded,
    Class::Crowded,
    Class::Overload,
    Class::Stopping,
    Class::Idle,
    Class::Flood,
    Class::Hoarder,
    Class::Balanced,
    Class::Balanced,
    Class::Drain,
    Class::Memory,
];

/// Once to other settings, or there and back, and maybe there again, while the first is worked off.
fn reloads(
    kind: Class,
    (settings, rate): (&mut Settings, Option<Rate>),
    start_us: u64,
    random: &mut Random,
) -> Vec<Reload> {
    let (other, other_rate) = other_settings(kind, settings, random);
    let former = (Rc::new(settings.clone()), rate);
    let other = (Rc::new(other), other_rate);
    let longest_us = random.one_of(&[4_000, 10_000, 20_000, 100_000]);
    let mut at_us = start_us + random.between_us(0, longest_us);
    let times = random.one_of(&[1, 1, 1, 2, 3]);
    let turns = [&other, &former, &other];
    let reloads = turns[..times].iter().map(|(settings, rate)| {
        let reload = Reload {
            at_us,
            settings: Rc::clone(settings),
            rate: *rate,
        };
        at_us += random.between_us(0, 2_000);
        reload
    });
    reloads.collect()
}

fn scripts(
    class: Class,
    peers: usize,
    (shards, listeners): (usize, usize),
    (start_us, settings): (u64, &Settings),
    random: &mut Random,
) -> Vec<Script> {
    let behaves_percent = match class {
        Class::Calm | Class::Flood => 100,
        Class::Stopping | Class::Drain if random.percent(50) => 100,
        Class::Faulty | Class::Hoarder => 40,
        _ => 60,
    };
    let addresses = random.between(1, 4);
    let returns_percent = match class {
        Class::Crowded | Class::Balanced | Class::Memory | Class::Mesh | Class::Topics => 40,
        _ => 0,
    };
    let busy_shard = random.between(0, shards - 1);
    let everywhere = class != Class::Balanced || random.percent(30);
    (0..peers)
        .map(|peer| {
            let mut script = script(class, peer, settings, random);
            script.connect_us += start_us;
            let shard = if everywhere {
                random.between(0, shards - 1)
            } else {
                busy_shard
            };
            script.listener = (shard, random.between(0, listeners - 1));
            script.address = address(random.between(1, addresses), peer, random.percent(20));
            if peer > 0 && random.percent(returns_percent) {
                let former = random.between(0, peer - 1);
                script.follows = Some(former);
            }
            if !random.percent(behaves_percent) {
                misbehave(class, &mut script, random);
            }
            script
        })
        .collect()
}

/// A peer that behaves.
fn script(class: Class, peer: usize, settings: &Settings, random: &mut Random) -> Script {
    let mut stream = Stream {
        bytes: Vec::new(),
        class,
        peer: peer as u16,
        settings,
    };
    let frames = match class {
        Class::Crowded | Class::Balanced => random.between(0, 8),
        Class::Large => random.between(1, 20),
        Class::Topics => random.between(3, 40),
        _ => random.between(0, 30),
    };
    let pings_every_us = settings
        .idle_us
        .filter(|_| class == Class::Idle && random.percent(30));
    if let Some(idle_us) = pings_every_us {
        stream.push_pings(random.between(3, 20));
        return Script {
            pace: Pace::Frames {
                every_us: idle_us.min(settings.first_frame_us.unwrap_or(idle_us)) / 2,
            },
            half_closes: true,
            ..quick(stream.bytes, random)
        };
    }
    let trouble_percent = match class {
        Class::Flood => 0,
        _ => random.one_of(&[0, 0, 2, 10]),
    };
    for number in 0..frames {
        stream.push(number as u16, trouble_percent, random);
    }
    match random.between(0, 9) {
        _ if class == Class::Flood => {}
        0 => stream.push_bad_length(random),
        1 => stream.push_partial(frames as u16, random),
        2 | 3 if class == Class::Drain => stream.push_partial(frames as u16, random),
        _ => {}
    }
    let bytes = stream.bytes.len();
    let bytes_max = match (class, random.between(0, 3)) {
        (Class::Large, _) => random.between(1_000, 100_000),
        // Byte by byte, unless that would take for ever.
        (_, 0) => 1 + bytes / 150,
        (_, 1) => 20 + bytes / 150,
        (_, 2) => 200,
        _ => usize::MAX,
    };
    let gap_us_max = match class {
        Class::Idle if random.percent(50) => 100_000,
        _ => random.one_of(&[0, 10, 300]),
    };
    let is_sleepy = match class {
        Class::Slow | Class::Hoarder | Class::Mesh => random.percent(60),
        Class::Topics => random.percent(30),
        _ => random.percent(20),
    };
    Script {
        pace: Pace::Pieces {
            bytes_max,
            gap_us_max,
        },
        half_closes: random.percent(match class {
            Class::Drain => 40,
            Class::Topics => 50,
            _ => 80,
        }),
        reading: if is_sleepy {
            Reading::Sleepy(random.between(1, 20))
        } else {
            Reading::Eager
        },
        ..quick(stream.bytes, random)
    }
}

/// From then on, a turn does all errands that there are.
fn relief(at_us: u64, settings: &Settings) -> Reload {
    let settings = Settings {
        turn_errands_max: usize::MAX,
        ..settings.clone()
    };
    Reload {
        at_us,
        settings: Rc::new(settings),
        rate: None,
    }
}

/// A peer that comes early, and goes at once.
fn brief(shard: usize, start_us: u64, random: &mut Random) -> Script {
    Script {
        connect_us: start_us,
        listener: (shard, 0),
        address: address(5, shard, false),
        farewell_us: Some(0),
        ..quick(Vec::new(), random)
    }
}

/// A peer that writes and reads at once.
fn quick(stream: Vec<u8>, random: &mut Random) -> Script {
    Script {
        connect_us: random.between_us(0, 4_000),
        follows: None,
        listener: (0, 0),
        address: address(0, 0, false),
        stream,
        pace: Pace::Pieces {
            bytes_max: usize::MAX,
            gap_us_max: 0,
        },
        half_closes: true,
        reading: Reading::Eager,
        farewell_us: Some(random.one_of(&[0, 100, 500_000])),
        reset_us: None,
    }
}

fn misbehave(class: Class, script: &mut Script, random: &mut Random) {
    if random.percent(if class == Class::Hoarder { 70 } else { 30 }) {
        script.reading = Reading::Never;
    }
    if random.percent(30) {
        script.farewell_us = None;
    }
    if random.percent(30) {
        script.half_closes = false;
    }
    let resets_percent = match class {
        Class::Hoarder | Class::Drain => 20,
        _ => 60,
    };
    if random.percent(resets_percent) {
        script.reset_us = Some(script.connect_us + random.between_us(0, 10_000));
    }
}
