//! The pieces of work that `micro` takes the time of and `instructions` counts.
//!
//! Each is checked as it is set up: a bench of work that was not done would be the fastest of all.

#![allow(dead_code)] // each of the two uses its own part

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

use corelane::handler::Router;
use corelane::protocol::{Decoded, Decoder, codes, encode};
use corelane::shard::{Completion, Io as _, Loads, Operation, Settings, Shard};
use corelane::{Config, apps};

use super::peers_io::PeersIo;

/// The longest frame accepted: the default of `limits.max_frame_bytes`.
pub(crate) const FRAME_BYTES_MAX: usize = 29_000;

/// So many ECHO requests behind one another, with a body that no two share.
pub(crate) fn requests(count: usize, body_bytes: usize) -> Vec<u8> {
    let mut requests = Vec::new();
    for body in bodies(count, body_bytes) {
        encode(&mut requests, codes::ECHO, &body).expect("a body that fits a frame");
    }
    requests
}

/// So many bodies.
pub(crate) fn bodies(count: usize, body_bytes: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| {
            let pattern = number.to_be_bytes().into_iter().chain(0..=u8::MAX);
            pattern.cycle().take(body_bytes).collect()
        })
        .collect()
}

/// Decodes a slice to its end and gives the number of its frames, which must be good ones.
#[inline]
pub(crate) fn decode(decoder: &mut Decoder, slice: &[u8]) -> u64 {
    let mut count = 0;
    let mut frames = decoder.frames(slice, FRAME_BYTES_MAX);
    while let Some(decoded) = frames.next() {
        let Decoded::Whole(frame) = decoded else {
            panic!("a bench sends good frames only, and there came {decoded:?}");
        };
        black_box(frame);
        count += 1;
    }
    count
}

/// Encodes one frame for each body into a buffer that was in use before; gives their number.
#[inline]
pub(crate) fn encode_all(out: &mut Vec<u8>, bodies: &[Vec<u8>]) -> u64 {
    out.clear();
    let mut count = 0;
    for body in bodies {
        encode(out, codes::ECHO, body).expect("a body that fits a frame");
        count += 1;
    }
    black_box(out);
    count
}

/// A shard with the handler of ECHO, and its peers.
pub(crate) struct EchoShard<'a> {
    shard: Shard<PeersIo<'a>, ()>,
    now_us: u64,
}

impl<'a> EchoShard<'a> {
    /// So many connections, from each of which comes a batch of requests in every turn.
    pub(crate) fn start(batch: &'a [u8], connections: usize) -> EchoShard<'a> {
        let mut echo = EchoShard::new(batch, connections);
        // To accept, to receive, to answer; and once more, so that every buffer has its size.
        for _ in 0..4 {
            echo.turn();
        }
        let io = echo.shard.io_mut();
        assert_eq!(io.sent().count(), connections);
        assert!(io.sent().all(|replies| replies == batch));
        echo
    }

    /// A shard whose peers leave as soon as they are there; so many are on their way at a time.
    pub(crate) fn deserted(connections: usize) -> EchoShard<'a> {
        let mut shard = EchoShard::new(&[], connections);
        while shard.closed() == 0 {
            shard.turn();
        }
        shard
    }

    fn new(batch: &'a [u8], connections: usize) -> EchoShard<'a> {
        let mut router = Router::new();
        router.handler(codes::ECHO, apps::echo);
        let settings = Settings::from(&Config::default());
        let io = PeersIo::new(batch, connections);
        EchoShard {
            shard: Shard::new(
                io,
                (0, Arc::new(Loads::new(1))),
                1,
                settings,
                router,
                |_| Rc::new(()),
            ),
            now_us: 0,
        }
    }

    #[inline]
    pub(crate) fn turn(&mut self) {
        self.now_us += 1;
        black_box(self.shard.turn(self.now_us));
    }

    /// Requests answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.shard.counters().frames_sent
    }

    /// Connections that came and went so far.
    pub(crate) fn closed(&self) -> u64 {
        self.shard.counters().closed_total()
    }

    /// The peers without the shard.
    pub(crate) fn into_mirror(mut self) -> Mirror<'a> {
        let io = std::mem::replace(self.shard.io_mut(), PeersIo::new(&[], 0));
        Mirror { io }
    }
}

/// In a shard's place: sends back to each peer the buffer that it got last, and looks at nothing.
/// What it costs is the price of the peers themselves.
pub(crate) struct Mirror<'a> {
    io: PeersIo<'a>,
}

impl Mirror<'_> {
    /// Gives the number of sends.
    #[inline]
    pub(crate) fn turn(&mut self) -> u64 {
        let mut sends = 0;
        self.io.reap(usize::MAX);
        while let Some(completion) = self.io.completion() {
            if let Completion::Sent { id, buffer, .. } = completion {
                sends += 1;
                self.io.submit(Operation::Send {
                    id,
                    socket: &(),
                    buffer,
                });
            }
        }
        sends
    }
}
