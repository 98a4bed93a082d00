//! One publisher and its subscribers, all in one thread over one epoll.
//!
//! Invariant: each subscriber has all events so far, or the bytes of the one under way up to where
//! it stands; anything else that comes ends the bench.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use corelane::protocol::messages::{Event, Publish, Published as Reply, Subscribe};
use corelane::protocol::{HEADER_BYTES, Message, encode_message};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use super::support::{Failure, OrFailed as _};

const TOPIC: &str = "fanout";
const EVENTS_MAX: usize = 1024;
/// More than an event and a reply.
const READ_BYTES: usize = 4096;
const REPLY_WITHIN: Duration = Duration::from_secs(10);

/// Everybody who is connected.
pub(super) struct Crowd {
    epoll: OwnedFd,
    /// The publisher is behind the last subscriber.
    streams: Vec<TcpStream>,
    /// Of the event under way: bytes that came.
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
}

impl Crowd {
    /// Connects so many subscribers and a publisher.
    pub(super) fn gather(
        address: SocketAddr,
        subscribers: usize,
        payload_bytes: usize,
    ) -> Result<Crowd, Failure> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).or_failed("epoll_create")?;
        let mut streams = Vec::with_capacity(subscribers + 1);
        for index in 0..=subscribers {
            let mut stream = connect(address).or_failed(format_args!("connection {index}"))?;
            if index < subscribers {
                subscribe(&mut stream)?;
            }
            stream.set_nonblocking(true).or_failed("nonblocking")?;
            epoll::add(
                &epoll,
                &stream,
                EventData::new_u64(index as u64),
                EventFlags::IN,
            )
            .or_failed("epoll_ctl")?;
            streams.push(stream);
        }
        Ok(Crowd {
            epoll,
            came_bytes: vec![0; streams.len()],
            streams,
            payload: vec![0; payload_bytes.max(size_of::<u64>())],
            published: 0,
            ready: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Publishes one event after the other for so long, and awaits all that comes of each.
    pub(super) fn publish_for(&mut self, time: Duration) -> Result<Published, Failure> {
        let began = Instant::now();
        let mut last_us = Vec::new();
        while began.elapsed() < time || last_us.is_empty() {
            last_us.push(self.publish()?.as_secs_f64() * 1e6);
        }
        Ok(Published {
            took: began.elapsed(),
            last_us,
        })
    }

    /// Gives back how long it took until the last subscriber had its event.
    fn publish(&mut self) -> Result<Duration, Failure> {
        self.published += 1;
        let number = self.published.to_be_bytes();
        self.payload[..number.len()].copy_from_slice(&number);
        let (topic, payload) = (TOPIC, &self.payload[..]);
        let publish = frame(&Publish { topic, payload })?;
        let event = frame(&Event { topic, payload })?;
        let subscribers = self.streams.len() - 1;
        let reply = frame(&Reply {
            receivers: u32::try_from(subscribers).or_failed("subscribers")?,
        })?;
        let began = Instant::now();
        self.streams[subscribers]
            .write_all(&publish)
            .or_failed("PUBLISH")?;
        let (mut left, mut last) = (subscribers, began);
        let mut has_reply = false;
        while left > 0 || !has_reply {
            for index in self.wait()? {
                let expected = if index == subscribers { &reply } else { &event };
                if self.read(index, expected)? {
                    if index == subscribers {
                        has_reply = true;
                    } else {
                        left -= 1;
                    }
                }
            }
            if left == 0 && last == began {
                last = Instant::now();
            }
        }
        self.came_bytes.fill(0);
        Ok(last - began)
    }

    /// Those who have something to read.
    fn wait(&mut self) -> Result<Vec<usize>, Failure> {
        self.ready.clear();
        let within = Timespec::try_from(REPLY_WITHIN).or_failed("time")?;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&within)) {
            Ok(0) => Err(Failure::Running(format!(
                "nothing came for {} s, and not everybody has its event",
                REPLY_WITHIN.as_secs()
            ))),
            Ok(_) | Err(Errno::INTR) => {
                let indices = self.ready.iter().map(|event| event.data.u64());
                let indices = indices.map(|index| usize::try_from(index).or_failed("epoll"));
                indices.collect()
            }
            Err(error) => Err(error).or_failed("epoll_wait"),
        }
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
