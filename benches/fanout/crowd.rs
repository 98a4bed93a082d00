//! Everybody who is connected to the server, in one thread over one epoll: subscribers, who ask for
//! ECHOs as well, their publisher, and a bystander who asks for a PING meanwhile. The thread looks for
//! work without a pause: on loopback, waking a reader is the sender's work, and would be counted as
//! the server's.
//!
//! Invariant: each of them has all frames so far, or the bytes of the one under way up to where it
//! stands; anything else that comes ends the bench.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use corelane::protocol::messages::{Echo, Event, Ping, Publish, Published as Reply, Subscribe};
use corelane::protocol::{HEADER_BYTES, Message, encode_message};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use super::support::{Failure, OrFailed as _};

const TOPIC: &str = "fanout";
/// Few, so that nobody is read long after it was found ready.
const EVENTS_MAX: usize = 64;
/// More than a frame.
const READ_BYTES: usize = 4096;
const REPLY_WITHIN: Duration = Duration::from_secs(10);

/// Everybody who is connected.
pub(super) struct Crowd {
    epoll: OwnedFd,
    /// Behind the last subscriber are the publisher and the bystander.
    streams: Vec<TcpStream>,
    /// Of the frame under way: bytes that came.
    came_bytes: Vec<usize>,
    payload: Vec<u8>,
    published: u64,
    ready: Vec<epoll::Event>,
}

/// What was published in some time.
pub(super) struct Published {
    pub(super) took: Duration,
    /// From each PUBLISH to its last EVENT, in microseconds.
    pub(super) last_us: Vec<f64>,
    /// From each PING to its reply, in microseconds.
    pub(super) pings_us: Vec<f64>,
}

/// What was asked for in some time.
pub(super) struct Echoed {
    pub(super) took: Duration,
    pub(super) replies: u64,
}

impl Crowd {
    /// Connects so many subscribers, a publisher and a bystander.
    pub(super) fn connect(
        address: SocketAddr,
        subscribers: usize,
        payload_bytes: usize,
    ) -> Result<Crowd, Failure> {
        let mut streams = (0..subscribers + 2)
            .map(|index| connect(address).or_failed(format_args!("connection {index}")))
            .collect::<Result<Vec<_>, _>>()?;
        for stream in &mut streams[..subscribers] {
            subscribe(stream)?;
        }
        let crowd = Crowd {
            epoll: epoll::create(CreateFlags::CLOEXEC).or_failed("epoll_create")?,
            came_bytes: vec![0; streams.len()],
            streams,
            payload: vec![0; payload_bytes.max(size_of::<u64>())],
            published: 0,
            ready: Vec::with_capacity(EVENTS_MAX),
        };
        crowd.begin()
    }

    /// From now on, who has something to read is told of.
    fn begin(self) -> Result<Crowd, Failure> {
        for (index, stream) in self.streams.iter().enumerate() {
            stream.set_nonblocking(true).or_failed("nonblocking")?;
            let data = EventData::new_u64(index as u64);
            epoll::add(&self.epoll, stream, data, EventFlags::IN).or_failed("epoll_ctl")?;
        }
        Ok(self)
    }

    fn subscribers(&self) -> usize {
        self.streams.len() - 2
    }

    /// All subscribers ask for one ECHO, and for the next when it has come, for so long; then all
    /// that was asked for is awaited.
    pub(super) fn echo_for(&mut self, time: Duration) -> Result<Echoed, Failure> {
        let echo = frame(&Echo {
            bytes: &self.payload,
        })?;
        let began = Instant::now();
        let (mut left, mut replies) = (self.subscribers(), 0);
        for stream in &mut self.streams[..left] {
            stream.write_all(&echo).or_failed("ECHO")?;
        }
        while left > 0 {
            let goes_on = began.elapsed() < time;
            for index in self.wait()? {
                if !self.read(index, &echo)? {
                    continue;
                }
                replies += 1;
                self.came_bytes[index] = 0;
                if goes_on {
                    self.streams[index].write_all(&echo).or_failed("ECHO")?;
                } else {
                    left -= 1;
                }
            }
        }
        Ok(Echoed {
            took: began.elapsed(),
            replies,
        })
    }

    /// Publishes one event after the other for so long, and awaits all that comes of each.
    pub(super) fn publish_for(&mut self, time: Duration) -> Result<Published, Failure> {
        let began = Instant::now();
        let (mut last_us, mut pings_us) = (Vec::new(), Vec::new());
        while began.elapsed() < time || last_us.is_empty() {
            last_us.push(self.publish(&mut pings_us)?.as_secs_f64() * 1e6);
        }
        Ok(Published {
            took: began.elapsed(),
            last_us,
            pings_us,
        })
    }

    /// Gives back how long it took until the last subscriber had its event. The bystander has asked
    /// for one PING after the other until then.
    fn publish(&mut self, pings_us: &mut Vec<f64>) -> Result<Duration, Failure> {
        self.published += 1;
        let number = self.published.to_be_bytes();
        self.payload[..number.len()].copy_from_slice(&number);
        let (topic, payload) = (TOPIC, &self.payload[..]);
        let publish = frame(&Publish { topic, payload })?;
        let event = frame(&Event { topic, payload })?;
        let ping = frame(&Ping {})?;
        let subscribers = self.subscribers();
        let (publisher, bystander) = (subscribers, subscribers + 1);
        let reply = frame(&Reply {
            receivers: u32::try_from(subscribers).or_failed("subscribers")?,
        })?;
        let began = Instant::now();
        self.ask(publisher, &publish)?;
        let mut pinged = Some(self.ask(bystander, &ping)?);
        let (mut left, mut last) = (subscribers, began);
        let mut has_reply = false;
        while left > 0 || !has_reply || pinged.is_some() {
            for index in self.wait()? {
                if index == publisher {
                    has_reply |= self.read(index, &reply)?;
                } else if index != bystander {
                    left -= usize::from(self.read(index, &event)?);
                } else if self.read(index, &ping)? {
                    pings_us.extend(pinged.map(|at| at.elapsed().as_secs_f64() * 1e6));
                    self.came_bytes[index] = 0;
                    pinged = (left > 0).then(|| self.ask(index, &ping)).transpose()?;
                }
            }
            if left == 0 && last == began {
                last = Instant::now();
            }
        }
        self.came_bytes.fill(0);
        Ok(last - began)
    }

    /// Gives back when that was.
    fn ask(&mut self, index: usize, request: &[u8]) -> Result<Instant, Failure> {
        let now = Instant::now();
        self.streams[index].write_all(request).or_failed("asking")?;
        Ok(now)
    }

    /// Those who have something to read, as soon as there are any.
    fn wait(&mut self) -> Result<Vec<usize>, Failure> {
        let began = Instant::now();
        loop {
            self.ready.clear();
            let at_once = Some(&Timespec::default());
            match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), at_once) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => break,
                Err(error) => return Err(error).or_failed("epoll_wait"),
            }
            if began.elapsed() > REPLY_WITHIN {
                return Err(Failure::Running(format!(
                    "nothing came for {} s, and not everybody has what is due",
                    REPLY_WITHIN.as_secs()
                )));
            }
        }
        let indices = self.ready.iter().map(|event| event.data.u64());
        let indices = indices.map(|index| usize::try_from(index).or_failed("epoll"));
        indices.collect()
    }

    /// Takes what has come for one of them. Gives back whether that is all that was expected.
    fn read(&mut self, index: usize, expected: &[u8]) -> Result<bool, Failure> {
        let mut buffer = [0; READ_BYTES];
        let count = self.streams[index]
            .read(&mut buffer)
            .or_failed(format_args!("connection {index}"))?;
        let came = self.came_bytes[index];
        let end = came + count;
        if count == 0 || expected.get(came..end) != Some(&buffer[..count]) {
            return Err(Failure::Running(format!(
                "connection {index} got {:02x?} where {:02x?} was to come",
                &buffer[..count],
                expected.get(came..).unwrap_or_default(),
            )));
        }
        self.came_bytes[index] = end;
        Ok(end == expected.len())
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(REPLY_WITHIN))?;
    Ok(stream)
}

fn subscribe(stream: &mut TcpStream) -> Result<(), Failure> {
    let subscribe = frame(&Subscribe { topic: TOPIC })?;
    stream.write_all(&subscribe).or_failed("SUBSCRIBE")?;
    let mut reply = vec![0; subscribe.len()];
    stream.read_exact(&mut reply).or_failed("its reply")?;
    if reply == subscribe {
        return Ok(());
    }
    Err(Failure::Running(format!(
        "a SUBSCRIBE was answered by {:02x?}",
        &reply[..HEADER_BYTES]
    )))
}

fn frame(message: &impl Message) -> Result<Vec<u8>, Failure> {
    let mut frame = Vec::new();
    encode_message(&mut frame, message).or_failed("a frame")?;
    Ok(frame)
}
