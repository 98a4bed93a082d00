//! The client of the echo bench: closed loop, one thread, one epoll, every reply compared.
//!
//! Each connection sends a batch of requests encoded beforehand, waits until its replies are back
//! byte by byte as they were sent, and sends the next one. A reply to an ECHO equals its request,
//! so one comparison of memory checks length, code, checksum, body and order at once. No two
//! requests in flight have the same body, nor have a connection's batch and the one before it.
//!
//! What is ready is read first, then all that is due is sent: while it reads, the server has work,
//! and a server that has work need not be woken at every send.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use corelane::protocol::{
    Decoded, ErrorBody, FRAME_BYTES_MAX, HEADER_BYTES, codes, decode, encode,
};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_congestion;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::machine::{CpuTime, pin_this_thread};
use super::{Failure, OrFailed as _};

/// Bytes of every request's body.
pub(crate) const BODY_BYTES: usize = 32;
const FRAME_BYTES: usize = HEADER_BYTES + BODY_BYTES;

const READ_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 512;
/// Longer ones count as this long: then the server is about to be called stalled anyway.
const ROUND_TRIP_NS_MAX: u64 = 10_000_000_000;
const STALLED_AFTER: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// What to do, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// Requests in a batch.
    pub(crate) pipeline: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// Where the client runs.
    pub(crate) cpu: usize,
}

/// What came of it, within the measured time alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) messages: f64,
    pub(crate) seconds: f64,
    /// Round trip of a batch, in microseconds.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) server: CpuTime,
    pub(crate) client: CpuTime,
    /// How many connections were ready when the client looked, on average: near 1, the client
    /// waits for the server; near their number, the server waits for the client.
    pub(crate) ready: f64,
}

/// Drives the server at `address`; `server_cpu` reads what the server has used so far.
pub(crate) fn measure(
    load: &Load,
    address: SocketAddr,
    server_cpu: impl Fn() -> Result<CpuTime, Failure> + Sync,
) -> Result<Measured, Failure> {
    // A thread of its own: children would inherit the CPU of the one that starts them.
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            pin_this_thread(load.cpu)?;
            let mut client = Client::connect(load, address)?;
            client.start()?;
            client.run_until(Instant::now() + load.warm_up)?;
            client.reset();
            let (server_before, client_before) = (server_cpu()?, CpuTime::of_this_thread());
            let began = Instant::now();
            let ended = client.run_until(began + load.measured)?;
            let (server_after, client_after) = (server_cpu()?, CpuTime::of_this_thread());
            Ok(Measured {
                messages: (client.batches * load.pipeline) as f64,
                seconds: ended.duration_since(began).as_secs_f64(),
                p50_us: client.round_trip_us(50.0),
                p99_us: client.round_trip_us(99.0),
                server: server_after.since(server_before),
                client: client_after.since(client_before),
                ready: client.ready as f64 / client.looks as f64,
            })
        });
        client
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

struct Client {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    input: Vec<u8>,
    events: Vec<Event>,
    /// Round trips, in nanoseconds.
    round_trips: Histogram<u64>,
    /// Connections whose batch came back whole in this round.
    completed: Vec<usize>,
    /// Came back whole since the last reset.
    batches: usize,
    /// Calls of `epoll_wait` since the last reset, and the events that they brought.
    looks: usize,
    ready: usize,
}

impl Client {
    fn connect(load: &Load, address: SocketAddr) -> Result<Client, Failure> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).or_failed("epoll_create")?;
        let connections = (0..load.connections)
            .map(|index| Connection::open(index, load.pipeline, address, &epoll))
            .collect::<Result<Vec<Connection>, Failure>>()?;
        Ok(Client {
            epoll,
            connections,
            input: vec![0; READ_BYTES],
            events: Vec::with_capacity(EVENTS_MAX),
            round_trips: Histogram::new_with_max(ROUND_TRIP_NS_MAX, 3).or_failed("histogram")?,
            completed: Vec::with_capacity(load.connections),
            batches: 0,
            looks: 0,
            ready: 0,
        })
    }

    fn start(&mut self) -> Result<(), Failure> {
        for connection in &mut self.connections {
            connection.send_batch(Instant::now())?;
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.round_trips.reset();
        self.batches = 0;
        self.looks = 0;
        self.ready = 0;
    }

    fn round_trip_us(&self, percentile: f64) -> f64 {
        self.round_trips.value_at_percentile(percentile) as f64 / 1000.0
    }

    /// Returns when it stopped: the first moment at or after `end`.
    fn run_until(&mut self, end: Instant) -> Result<Instant, Failure> {
        loop {
            self.events.clear();
            match epoll::wait(
                &self.epoll,
                spare_capacity(&mut self.events),
                Some(&STALLED_AFTER),
            ) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).or_failed("epoll_wait"),
            }
            if self.events.is_empty() {
                return Err(self.stalled());
            }
            self.looks += 1;
            self.ready += self.events.len();
            self.completed.clear();
            for event in &self.events {
                let index = usize::try_from(event.data.u64()).or_failed("token")?;
                let connection = &mut self.connections[index];
                if let Some(round_trip) = connection.advance(&mut self.input)? {
                    self.round_trips.saturating_record(round_trip);
                    self.completed.push(index);
                }
            }
            self.batches += self.completed.len();
            for &index in &self.completed {
                self.connections[index].send_batch(Instant::now())?;
            }
            let now = Instant::now();
            if now >= end {
                return Ok(now);
            }
        }
    }

    fn stalled(&self) -> Failure {
        Failure::Running(format!(
            "the server sent nothing for {} s, though each of {} connections waits for replies",
            STALLED_AFTER.tv_sec,
            self.connections.len()
        ))
    }
}

struct Connection {
    index: usize,
    socket: OwnedFd,
    /// Two batches that take turns, so that a reply to the one is none to the other.
    batches: [Vec<u8>; 2],
    turn: usize,
    sent_bytes: usize,
    received_bytes: usize,
    sent_at: Instant,
}

impl Connection {
    fn open(
        index: usize,
        pipeline: usize,
        address: SocketAddr,
        epoll: &OwnedFd,
    ) -> Result<Connection, Failure> {
        let socket = TcpStream::connect(address)
            .and_then(|socket| {
                socket.set_nodelay(true)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .or_failed(format_args!("connection {index} to {address}"))?;
        // Loopback is never congested: the cheapest that there is will do, where it may be chosen.
        let _ = set_tcp_congestion(&socket, "reno");
        epoll::add(
            epoll,
            &socket,
            EventData::new_u64(index as u64),
            EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        )
        .or_failed("epoll_ctl")?;
        Ok(Connection {
            index,
            socket: socket.into(),
            batches: [0, 1].map(|turn| encoded_batch(index, turn, pipeline)),
            turn: 0,
            sent_bytes: 0,
            received_bytes: 0,
            sent_at: Instant::now(),
        })
    }

    fn send_batch(&mut self, now: Instant) -> Result<(), Failure> {
        self.turn ^= 1;
        self.sent_at = now;
        self.sent_bytes = 0;
        self.received_bytes = 0;
        self.send_rest()
    }

    fn send_rest(&mut self) -> Result<(), Failure> {
        let rest = &self.batches[self.turn][self.sent_bytes..];
        match send(&self.socket, rest, SendFlags::NOSIGNAL) {
            Ok(sent) => self.sent_bytes += sent,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(self.failed(format_args!("could not send: {error}"))),
        }
        Ok(())
    }

    /// Reads what there is. If that completes the batch, its round trip is returned, in
    /// nanoseconds, and the next one may be sent.
    fn advance(&mut self, input: &mut [u8]) -> Result<Option<u64>, Failure> {
        if self.sent_bytes < self.batches[self.turn].len() {
            self.send_rest()?;
        }
        loop {
            let received = match recv(&self.socket, &mut *input, RecvFlags::empty()) {
                Ok((0, _)) => return Err(self.failed("was closed by the server")),
                Ok((received, _)) => received,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(self.failed(format_args!("could not read: {error}"))),
            };
            self.check(&input[..received])?;
            self.received_bytes += received;
            if self.received_bytes == self.batches[self.turn].len() {
                let round_trip = self.sent_at.elapsed().as_nanos();
                return Ok(Some(u64::try_from(round_trip).unwrap_or(u64::MAX)));
            }
            if received < input.len() {
                return Ok(None);
            }
        }
    }

    fn check(&self, received: &[u8]) -> Result<(), Failure> {
        let expected = &self.batches[self.turn][self.received_bytes..];
        match expected.get(..received.len()) {
            Some(expected) if expected == received => Ok(()),
            _ => Err(self.wrong(expected, received)),
        }
    }

    fn wrong(&self, expected: &[u8], received: &[u8]) -> Failure {
        let same = expected
            .iter()
            .zip(received)
            .take_while(|(a, b)| a == b)
            .count();
        let at = self.received_bytes + same;
        let number = at / FRAME_BYTES;
        let start = (number * FRAME_BYTES).saturating_sub(self.received_bytes);
        let instead = match decode(received.get(start..).unwrap_or_default(), FRAME_BYTES_MAX) {
            Decoded::Whole(frame) if frame.code == codes::ERROR => ErrorBody::parse(frame.body)
                .map_or_else(
                    |error| error.to_string(),
                    |error| format!("an ERROR {} came: {}", error.reason_name(), error.text),
                ),
            _ if same == expected.len() => "more came than was asked for".to_owned(),
            _ => format!("it differs from the request at byte {}", at % FRAME_BYTES),
        };
        self.failed(format_args!(
            "got a wrong reply number {number} of its batch: {instead}"
        ))
    }

    fn failed(&self, how: impl std::fmt::Display) -> Failure {
        Failure::Running(format!("connection {} {how}", self.index))
    }
}

/// ECHO requests whose bodies say whose they are, and are filled up with noise.
fn encoded_batch(connection: usize, turn: u8, pipeline: usize) -> Vec<u8> {
    let mut batch = Vec::with_capacity(pipeline * FRAME_BYTES);
    for position in 0..pipeline {
        let mut body = [0; BODY_BYTES];
        body[..8].copy_from_slice(&connection.to_be_bytes());
        body[8..16].copy_from_slice(&position.to_be_bytes());
        body[16] = turn;
        let mut noise = (connection * 31 + position * 7 + usize::from(turn)) as u32 | 1;
        for byte in &mut body[17..] {
            // Xorshift (Marsaglia 2003), 32 bits.
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            *byte = noise.to_le_bytes()[0];
        }
        encode(&mut batch, codes::ECHO, &body).expect("32 bytes fit a frame");
    }
    batch
}
