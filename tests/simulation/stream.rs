//! What peers send: streams of requests, sound or not.

use corelane::shard::Settings;

use crate::handlers::code;
use crate::random::Random;
use crate::scenario::Class;
use crate::wire::{crc32, frame, raw_frame};

/// A stream of requests in the making.
pub(crate) struct Stream<'a> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) class: Class,
    pub(crate) peer: u16,
    pub(crate) settings: &'a Settings,
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

/// As often as they are in it.
const OF_TOPICS: [u16; 14] = [
    code::SUBSCRIBE,
    code::SUBSCRIBE,
    code::SUBSCRIBE,
    code::UNSUBSCRIBE,
    code::PUBLISH,
    code::PUBLISH,
    code::PUBLISH,
    code::PUBLISH,
    code::PUBLISH,
    code::PUBLISH,
    code::PUBLISH,
    code::PING,
    code::ECHO,
    code::ASYNC_ECHO,
];

impl Stream<'_> {
    /// So many PINGs.
    pub(crate) fn push_pings(&mut self, times: usize) {
        for _ in 0..times {
            self.bytes.extend_from_slice(&frame(code::PING, &[]));
        }
    }

    /// One whole frame.
    pub(crate) fn push(&mut self, number: u16, trouble_percent: u64, random: &mut Random) {
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
            // An ERROR of a handler's must not be taken for one about the rate.
            Class::Flood => random.one_of(&[
                code::PING,
                code::ECHO,
                code::NONE,
                code::ASYNC_ECHO,
                code::REVERSED,
            ]),
            _ if has_trouble && random.percent(30) => random.one_of(&FATAL),
            Class::Slow | Class::Hoarder | Class::Memory if random.percent(60) => code::AMPLIFY,
            Class::Large if random.percent(50) => code::ASYNC_ECHO,
            Class::Topics if number < 2 && random.percent(60) => code::SUBSCRIBE,
            Class::Topics => random.one_of(&OF_TOPICS),
            Class::Mesh if random.percent(60) => random.one_of(&[code::MESH, code::ASYNC_MESH]),
            _ => random.one_of(&HARMLESS),
        };
        let code = if has_trouble && random.percent(30) {
            code::UNKNOWN
        } else {
            code
        };
        let body = match code {
            code::PING => Vec::new(),
            code::SUBSCRIBE | code::UNSUBSCRIBE => topic(random).as_bytes().to_vec(),
            code::PUBLISH => self.publish_body(number, random),
            _ => self.body(code, number, has_trouble, random),
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
            code::AMPLIFY if self.class != Class::Calm => random.between(0, room_bytes),
            code::AMPLIFY => random.between(0, room_bytes.min(400)),
            // Beyond the codes that only the server uses, and none that is taken for a push.
            code::WITH_CODE | code::ASYNC_WITH_CODE => match random.between(4, 65_535) {
                pushed
                    if [code::PUSHED, code::EVENT]
                        .map(usize::from)
                        .contains(&pushed) =>
                {
                    pushed + 1
                }
                other => other,
            },
            _ => 0,
        };
        body.extend_from_slice(&(argument as u16).to_be_bytes());
        let filler_bytes = match self.class {
            Class::Large => random.between(0, 12_000),
            Class::Memory => random.between(0, 400.min(room_bytes - 2)),
            _ => random.between(0, 60.min(room_bytes - 2)),
        };
        body.extend((0..filler_bytes).map(|at| (at as u8).wrapping_mul(31)));
        body
    }

    /// A topic and a payload that nobody else publishes.
    fn publish_body(&self, number: u16, random: &mut Random) -> Vec<u8> {
        let topic = topic(random);
        let mut body = vec![topic.len() as u8];
        body.extend_from_slice(topic.as_bytes());
        body.extend_from_slice(&self.peer.to_be_bytes());
        body.extend_from_slice(&number.to_be_bytes());
        let room_bytes = self.settings.frame_bytes_max - 8 - body.len();
        let longest_bytes = match random.between(0, 9) {
            0..7 => 40,
            7..9 => 1_000,
            _ => 29_000,
        };
        let filler_bytes = random.between(0, room_bytes.min(longest_bytes));
        let seed = usize::from(self.peer) * 13 + usize::from(number);
        body.extend((0..filler_bytes).map(|at| (seed + at * 31) as u8));
        body
    }

    pub(crate) fn push_bad_length(&mut self, random: &mut Random) {
        let too_long = self.settings.frame_bytes_max + 1;
        let length = random.one_of(&[0, 7, too_long, 65_535]) as u16;
        let rubbish = vec![7; random.between(0, 100)];
        let bytes = raw_frame(length, code::ECHO, crc32(&rubbish), &rubbish);
        self.bytes.extend_from_slice(&bytes);
    }

    pub(crate) fn push_partial(&mut self, number: u16, random: &mut Random) {
        let body = self.body(code::ECHO, number, false, random);
        let bytes = frame(code::ECHO, &body);
        let cut = random.between(1, bytes.len() - 1);
        self.bytes.extend_from_slice(&bytes[..cut]);
    }
}

/// Few, so that many want the same; one as long as may be.
fn topic(random: &mut Random) -> &'static str {
    const LONGEST: &str = "the longest topic that there may be has 64 bytes, like this one.";
    random.one_of(&["news", "news", "news", "weather", "weather", LONGEST])
}
