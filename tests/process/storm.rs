//! Clients of a server that is reloaded again and again: short ones, which come for one reply, and
//! long ones, which keep requests on the way until they are told GOAWAY, and come again.
//!
//! Each judges what PROTOCOL.md promises it and panics where that does not hold: a connect succeeds,
//! whatever was sent before GOAWAY was there to be read gets its reply, in order, GOAWAY comes once
//! and in time, and the stream ends in good order. After GOAWAY a client sends nothing more. They are
//! not the library's, so that what is read and when is theirs to say.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use corelane::protocol::{Decoded, Decoder, FRAME_BYTES_MAX, codes, encode};
use fastrand::Rng;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::support::{CONNECTS_PER_SECOND, DEADLINE};

/// Who stays, and has so many requests on the way.
pub(crate) const LONG: usize = 24;
pub(crate) const PIPELINE: u64 = 8;

/// How long a long client lets its requests travel before it looks for replies, at most.
const PAUSE_US_MAX: u64 = 4_000;

/// Who comes and goes takes turns: one that has to wait for its reply does not keep the others.
const SHORT: usize = 8;

/// What all clients share.
pub(crate) struct Storm {
    address: SocketAddr,
    drain_ms: u32,
    start: Instant,
    stop: AtomicBool,
    /// How many short connections were begun.
    begun: AtomicU64,
    short_replies: AtomicU64,
    long_replies: AtomicU64,
    goaways: AtomicU64,
}

/// What was got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) short_replies: u64,
    pub(crate) long_replies: u64,
    /// Long connections that were told to go.
    pub(crate) goaways: u64,
    pub(crate) elapsed: Duration,
}

impl Storm {
    /// On a server that drains for so long.
    pub(crate) fn new(address: SocketAddr, drain_ms: u32) -> Storm {
        Storm {
            address,
            drain_ms,
            start: Instant::now(),
            stop: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            short_replies: AtomicU64::new(0),
            long_replies: AtomicU64::new(0),
            goaways: AtomicU64::new(0),
        }
    }

    /// Lets the clients loose, until [`Storm::stop`].
    pub(crate) fn begin<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        rng: &mut Rng,
    ) -> Vec<ScopedJoinHandle<'scope, ()>> {
        let short = (0..SHORT).map(|_| scope.spawn(|| self.come_and_go()));
        let mut clients: Vec<_> = short.collect();
        for _ in 0..LONG {
            let rng = rng.fork();
            clients.push(scope.spawn(move || self.stay(rng)));
        }
        clients
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn got(&self) -> Got {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Got {
            short_replies: of(&self.short_replies),
            long_replies: of(&self.long_replies),
            goaways: of(&self.goaways),
            elapsed: self.start.elapsed(),
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn come_and_go(&self) {
        loop {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            let due = Duration::from_micros(number * 1_000_000 / CONNECTS_PER_SECOND);
            sleep(due.saturating_sub(self.start.elapsed()));
            if self.is_over() {
                return;
            }
            let mut conversation = self.open();
            conversation.ask(1);
            conversation.hear_the_rest();
            self.short_replies.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn stay(&self, mut rng: Rng) {
        while !self.is_over() {
            let mut conversation = self.open();
            while !self.is_over() && !conversation.hear_what_is_there() {
                conversation.ask(PIPELINE - conversation.owed());
                sleep(Duration::from_micros(rng.u64(..PAUSE_US_MAX)));
            }
            conversation.hear_the_rest();
            let told = u64::from(conversation.told);
            self.goaways.fetch_add(told, Ordering::Relaxed);
            self.long_replies
                .fetch_add(conversation.answered, Ordering::Relaxed);
            conversation.end();
        }
    }

    fn open(&self) -> Conversation {
        let stream = TcpStream::connect_timeout(&self.address, DEADLINE)
            .unwrap_or_else(|error| panic!("after {:?}: connect: {error}", self.start.elapsed()));
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Conversation {
            stream,
            drain_ms: self.drain_ms,
            storm_start: self.start,
            decoder: Decoder::new(),
            asked: 0,
            answered: 0,
            told: false,
        }
    }
}

/// One connection. Its requests are ECHOs of their own numbers.
struct Conversation {
    stream: TcpStream,
    drain_ms: u32,
    storm_start: Instant,
    decoder: Decoder,
    asked: u64,
    answered: u64,
    /// GOAWAY has come.
    told: bool,
}

impl Conversation {
    fn owed(&self) -> u64 {
        self.asked - self.answered
    }

    /// Sends so many requests more.
    fn ask(&mut self, requests: u64) {
        let mut bytes = Vec::new();
        for number in self.asked..self.asked + requests {
            encode(&mut bytes, codes::ECHO, &number.to_be_bytes()).unwrap();
        }
        self.asked += requests;
        let sent = self.stream.write_all(&bytes);
        sent.unwrap_or_else(|error| self.fail(&format!("requests could not be sent: {error}")));
    }

    /// Takes what has arrived. Gives back whether the client has been told to go.
    fn hear_what_is_there(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match recv(&self.stream, &mut bytes, RecvFlags::DONTWAIT) {
                // Who was told and is owed nothing has been quiet for too long.
                Ok((0, _)) if self.told && self.owed() == 0 => return true,
                Ok((0, _)) => self.fail("the stream ended"),
                Ok((length, _)) => self.hear(&bytes[..length]),
                Err(Errno::AGAIN) => return self.told,
                Err(Errno::INTR) => {}
                Err(error) => self.fail(&error.to_string()),
            }
        }
    }

    /// Waits for all replies that are owed.
    fn hear_the_rest(&mut self) {
        while self.owed() > 0 {
            if !self.hear_more() {
                self.fail("the stream ended");
            }
        }
    }

    /// Ends the sending side; the server has nothing more to say, but perhaps GOAWAY, and ends its
    /// own.
    fn end(mut self) {
        let shut = self.stream.shutdown(Shutdown::Write);
        shut.unwrap_or_else(|error| self.fail(&error.to_string()));
        while self.hear_more() {}
    }

    /// Waits for bytes and takes them. Gives back whether there were any: the stream may end here.
    fn hear_more(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(length) => {
                    self.hear(&bytes[..length]);
                    return length > 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.fail(&error.to_string()),
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut decoder = std::mem::take(&mut self.decoder);
        let mut frames = decoder.frames(bytes, FRAME_BYTES_MAX);
        while let Some(frame) = frames.next() {
            match frame {
                Decoded::Whole(frame) if frame.code == codes::GOAWAY => self.told_to_go(frame.body),
                Decoded::Whole(frame) if frame.code == codes::ECHO => self.replied(frame.body),
                wrong => self.fail(&format!("{wrong:?} came")),
            }
        }
        drop(frames);
        self.decoder = decoder;
    }

    fn told_to_go(&mut self, body: &[u8]) {
        if std::mem::replace(&mut self.told, true) {
            self.fail("GOAWAY came twice");
        }
        let left_ms = body.try_into().map(u32::from_be_bytes);
        if !left_ms.is_ok_and(|left_ms| left_ms <= self.drain_ms) {
            self.fail(&format!("GOAWAY says {body:?}"));
        }
    }

    fn replied(&mut self, body: &[u8]) {
        if self.owed() == 0 || body != self.answered.to_be_bytes() {
            self.fail(&format!("{body:?} came"));
        }
        self.answered += 1;
    }

    /// The promise that does not hold, with what it takes to find it in the log.
    fn fail(&self, what: &str) -> ! {
        panic!(
            "after {:?}, {:?}, {} of {} requests answered, {}: {what}",
            self.storm_start.elapsed(),
            self.stream.local_addr(),
            self.answered,
            self.asked,
            if self.told {
                "told GOAWAY"
            } else {
                "not told GOAWAY"
            },
        );
    }
}
