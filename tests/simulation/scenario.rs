//! What a seed means: limits, faults, peers and what they send.

use corelane::shard::Settings;

use crate::handlers::code;
use crate::io::Faults;
use crate::peer::{Reading, Script};
use crate::random::Random;
use crate::wire::{crc32, frame, raw_frame};

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
}

impl Class {
    pub(crate) const ALL: [Class; 7] = [
        Class::Calm,
        Class::Faulty,
        Class::Crowded,
        Class::Slow,
        Class::Overload,
        Class::Stopping,
        Class::Large,
    ];
}

/// One run, down to the last byte that its peers will send.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) settings: Settings,
    pub(crate) listeners: usize,
    pub(crate) faults: Faults,
    pub(crate) scripts: Vec<Script>,
    /// When the shard is told to stop; otherwise that is when nothing else is left to do.
    pub(crate) stop_us: Option<u64>,
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
        let settings = settings(class, &mut random);
        let start_us = random.between_us(1, 1 << 40);
        let (peers_min, peers_max) = match class {
            Class::Crowded => (4, 12),
            Class::Large => (1, 3),
            _ => (1, 8),
        };
        let listeners = random.between(1, 2);
        let peers = random.between(peers_min, peers_max);
        let behaves_percent = match class {
            Class::Calm => 100,
            Class::Stopping if random.percent(50) => 100,
            Class::Faulty => 40,
            _ => 60,
        };
        let scripts = (0..peers)
            .map(|peer| {
                let mut script = script(class, peer, &settings, &mut random);
                script.connect_us += start_us;
                script.listener = random.between(0, listeners - 1);
                if !random.percent(behaves_percent) {
                    misbehave(&mut script, &mut random);
                }
                script
            })
            .collect();
        Scenario {
            listeners,
            faults: faults(class, &mut random),
            scripts,
            stop_us: (class == Class::Stopping).then(|| start_us + random.between_us(1, 15_000)),
            resets_the_eternal: random.percent(50),
            long_naps_percent: match class {
                Class::Crowded => 30,
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

fn settings(class: Class, random: &mut Random) -> Settings {
    let frame_bytes_max = match class {
        Class::Large => 29_000,
        Class::Slow => random.between(64, 2_000),
        _ => random.one_of(&[64, 100, 300, 29_000]),
    };
    let outbound_high_bytes = match class {
        Class::Slow => random.between(2, 600),
        Class::Large => 100_000,
        _ => random.one_of(&[100, 1_000, 10_000, 100_000]),
    };
    Settings {
        connections_max: match class {
            Class::Crowded => random.between(1, 3),
            _ => random.between(1, 12),
        },
        frame_bytes_max,
        bad_frames_max: random.between(1, 5) as u32,
        outbound_low_bytes: random.between(1, outbound_high_bytes - 1),
        outbound_high_bytes,
        handlers_max: match class {
            Class::Overload => random.between(1, 3),
            _ => 1_000,
        },
        reply_errors: random.percent(70),
        stop_us: random.one_of(&[0, 1_000, 100_000, 2_000_000, 30_000_000]),
    }
}

fn faults(class: Class, random: &mut Random) -> Faults {
    let mut sometimes = |most: u64| {
        if random.percent(50) {
            random.between_us(1, most)
        } else {
            0
        }
    };
    let is_calm = class == Class::Calm;
    let mut faults = Faults {
        progress_percent: 100 - sometimes(70),
        ends_percent: sometimes(60),
        no_buffers_percent: sometimes(50),
        short_sends_percent: sometimes(90),
        sends_wait: sometimes(1) == 1,
        late_percent: sometimes(80),
        breaks_per_mille: if is_calm { 0 } else { sometimes(20) },
        cancel_races_percent: sometimes(80),
        accept_fails_percent: if is_calm { 0 } else { sometimes(40) },
        buffers: 1 + sometimes(7) as usize,
        buffer_bytes: 0,
        window_bytes: 0,
        reap_max: usize::MAX,
    };
    faults.window_bytes = match class {
        Class::Slow => random.between(1, 400),
        _ => random.one_of(&[50, 500, 1 << 20]),
    };
    faults.buffer_bytes = match class {
        Class::Large => random.between(1_000, 16_000),
        _ => random.one_of(&[10, 100, 4_096]),
    };
    if random.percent(30) {
        faults.reap_max = random.between(1, 4);
    }
    faults
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
        Class::Crowded => random.between(0, 8),
        Class::Large => random.between(1, 20),
        _ => random.between(0, 40),
    };
    let trouble_percent = random.one_of(&[0, 0, 2, 10]);
    for number in 0..frames {
        stream.push(number as u16, trouble_percent, random);
    }
    match random.between(0, 9) {
        0 => stream.push_bad_length(random),
        1 => stream.push_partial(frames as u16, random),
        _ => {}
    }
    let bytes = stream.bytes.len();
    Script {
        connect_us: random.between_us(0, 4_000),
        listener: 0,
        stream: stream.bytes,
        chunk_bytes_max: match (class, random.between(0, 3)) {
            (Class::Large, _) => random.between(1_000, 100_000),
            // Byte by byte, unless that would take for ever.
            (_, 0) => 1 + bytes / 500,
            (_, 1) => 20 + bytes / 500,
            (_, 2) => 200,
            _ => usize::MAX,
        },
        gap_us_max: random.one_of(&[0, 10, 300]),
        half_closes: random.percent(80),
        reading: if random.percent(if class == Class::Slow { 60 } else { 20 }) {
            Reading::Sleepy(random.between(1, 20))
        } else {
            Reading::Eager
        },
        farewell_us: Some(random.one_of(&[0, 100, 500_000])),
        reset_us: None,
    }
}

fn misbehave(script: &mut Script, random: &mut Random) {
    if random.percent(30) {
        script.reading = Reading::Never;
    }
    if random.percent(30) {
        script.farewell_us = None;
    }
    if random.percent(30) {
        script.half_closes = false;
    }
    if random.percent(60) {
        script.reset_us = Some(script.connect_us + random.between_us(0, 10_000));
    }
}

/// A stream of requests in the making.
struct Stream<'a> {
    bytes: Vec<u8>,
    class: Class,
    peer: u16,
    settings: &'a Settings,
}

const HARMLESS: [u16; 12] = [
    code::PING,
    code::ECHO,
    code::COUNT,
    code::ASYNC_ECHO,
    code::NONE,
    code::ASYNC_NONE,
    code::ERROR_REPLY,
    code::ASYNC_ERROR_REPLY,
    code::WITH_CODE,
    code::ASYNC_WITH_CODE,
    code::REVERSED,
    code::AMPLIFY,
];

const FATAL: [u16; 9] = [
    code::OVERSIZED,
    code::OVERSIZED_IN_PLACE,
    code::ASYNC_OVERSIZED,
    code::PANIC,
    code::PANIC_HALFWAY,
    code::ASYNC_PANIC,
    code::PANIC_AT_START,
    code::ERROR_REPLY,
    code::ASYNC_ERROR_REPLY,
];

impl Stream<'_> {
    /// One whole frame.
    fn push(&mut self, number: u16, trouble_percent: u64, random: &mut Random) {
        let has_trouble = random.percent(trouble_percent);
        let code = match self.class {
            // Whatever else may be the answer, it must not change what comes after.
            Class::Overload => random.one_of(&[
                code::PING,
                code::ECHO,
                code::COUNT,
                code::ASYNC_ECHO,
                code::ASYNC_ECHO,
            ]),
            _ if has_trouble && random.percent(30) => random.one_of(&FATAL),
            Class::Slow if random.percent(60) => code::AMPLIFY,
            Class::Large if random.percent(50) => code::ASYNC_ECHO,
            _ => random.one_of(&HARMLESS),
        };
        let code = if has_trouble && random.percent(30) {
            code::UNKNOWN
        } else {
            code
        };
        let body = if code == code::PING {
            Vec::new()
        } else {
            self.body(code, number, has_trouble, random)
        };
        let mut bytes = frame(code, &body);
        if has_trouble && random.percent(30) {
            bytes[4 + random.between(0, 3)] ^= 1 << random.between(0, 7);
        }
        self.bytes.extend_from_slice(&bytes);
    }

    fn body(&self, code: u16, number: u16, has_trouble: bool, random: &mut Random) -> Vec<u8> {
        let room_bytes = self.settings.frame_bytes_max - 8 - 4;
        let mut body = self.peer.to_be_bytes().to_vec();
        body.extend_from_slice(&number.to_be_bytes());
        let argument = match code {
            code::ERROR_REPLY | code::ASYNC_ERROR_REPLY if has_trouble => random.between(1, 11),
            code::ERROR_REPLY | code::ASYNC_ERROR_REPLY => random.between(6, 8),
            code::AMPLIFY if self.class == Class::Slow => random.between(0, room_bytes),
            code::AMPLIFY => random.between(0, room_bytes.min(400)),
            code::WITH_CODE | code::ASYNC_WITH_CODE => random.between(0, 65_535),
            _ => 0,
        };
        body.extend_from_slice(&(argument as u16).to_be_bytes());
        let filler_bytes = match self.class {
            Class::Large => random.between(0, 12_000),
            _ => random.between(0, 60.min(room_bytes - 2)),
        };
        body.extend((0..filler_bytes).map(|at| (at as u8).wrapping_mul(31)));
        body
    }

    fn push_bad_length(&mut self, random: &mut Random) {
        let too_long = self.settings.frame_bytes_max + 1;
        let length = random.one_of(&[0, 7, too_long, 65_535]) as u16;
        let rubbish = vec![7; random.between(0, 100)];
        let bytes = raw_frame(length, code::ECHO, crc32(&rubbish), &rubbish);
        self.bytes.extend_from_slice(&bytes);
    }

    fn push_partial(&mut self, number: u16, random: &mut Random) {
        let body = self.body(code::ECHO, number, false, random);
        let bytes = frame(code::ECHO, &body);
        let cut = random.between(1, bytes.len() - 1);
        self.bytes.extend_from_slice(&bytes[..cut]);
    }
}
