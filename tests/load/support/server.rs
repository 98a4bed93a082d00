//! A server that does as a test says: a thread for each connection, which runs the test's
//! behaviour.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use corelane::protocol::{Decoded, Decoder, FRAME_BYTES_MAX, encode};
use socket2::SockRef;

use super::program::DEADLINE;

/// The server. Dropping it stops accepting; its connections end with their clients.
pub(crate) struct Server {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    counts: Arc<Counts>,
}

/// A request that came.
#[derive(Debug)]
pub(crate) struct Request {
    /// Counted on its connection, from 0.
    pub(crate) number: u64,
    pub(crate) code: u16,
    pub(crate) body: Vec<u8>,
}

/// One connection, as its behaviour sees it.
pub(crate) struct Talk {
    /// Its number, in the order in which they were accepted, from 0.
    pub(crate) number: usize,
    stream: TcpStream,
    decoder: Decoder,
    waiting: VecDeque<Request>,
    received: u64,
    counts: Arc<Counts>,
}

/// What the server counts, over all connections.
#[derive(Default)]
struct Counts {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Requests that a behaviour has taken.
    taken: u64,
    /// What a behaviour calls wrong.
    wrong: u64,
}

impl Server {
    /// A server whose connections behave like this. That the client is gone, which is an error
    /// of its, ends a behaviour, too.
    pub(crate) fn start(
        behaviour: impl Fn(&mut Talk) -> io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            stopping: Arc::default(),
            counts: Arc::default(),
        };
        let (stopping, counts) = (Arc::clone(&server.stopping), Arc::clone(&server.counts));
        let behaviour = Arc::new(behaviour);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                let mut talk = Talk::new(number, stream.unwrap(), Arc::clone(&counts));
                let behaviour = Arc::clone(&behaviour);
                thread::spawn(move || behaviour(&mut talk));
            }
        });
        server
    }

    /// A server that answers each request, but for those that it is to do something else about:
    /// `about` does it, and says so.
    pub(crate) fn start_but(
        about: impl Fn(&mut Talk, &Request) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Server {
        Server::start(move |talk| {
            while let Some(request) = talk.next()? {
                if !about(talk, &request)? {
                    talk.answer(&request)?;
                }
            }
            Ok(())
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that came so far.
    pub(crate) fn requests(&self) -> u64 {
        self.counts.state.lock().unwrap().taken
    }

    /// How often it did wrong so far.
    pub(crate) fn wrongs(&self) -> u64 {
        self.counts.state.lock().unwrap().wrong
    }

    /// Waits until so many requests have come.
    #[track_caller]
    pub(crate) fn wait_for_requests(&self, requests: u64) {
        let state = self.counts.state.lock().unwrap();
        let (state, waited) = self
            .counts
            .changed
            .wait_timeout_while(state, DEADLINE, |state| state.taken < requests)
            .unwrap();
        assert!(!waited.timed_out(), "only {} requests came", state.taken);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // It wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Request {
    /// The right reply's bytes.
    pub(crate) fn reply(&self) -> Vec<u8> {
        frame(self.code, &self.body)
    }

    /// Whether it is one of those, on its connection, that come so far apart: not the first.
    pub(crate) fn is_each(&self, apart: u64) -> bool {
        self.number % apart == apart - 1
    }
}

/// The bytes of a frame.
pub(crate) fn frame(code: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, code, body).unwrap();
    bytes
}

impl Talk {
    fn new(number: usize, stream: TcpStream, counts: Arc<Counts>) -> Talk {
        stream.set_nodelay(true).unwrap();
        Talk {
            number,
            stream,
            decoder: Decoder::new(),
            waiting: VecDeque::new(),
            received: 0,
            counts,
        }
    }

    /// The next request; `None` once the client has closed.
    pub(crate) fn next(&mut self) -> io::Result<Option<Request>> {
        while self.waiting.is_empty() {
            let mut slice = [0; 4096];
            let length = self.stream.read(&mut slice)?;
            if length == 0 {
                return Ok(None);
            }
            self.take_apart(&slice[..length]);
        }
        self.counts.update(|state| state.taken += 1);
        Ok(self.waiting.pop_front())
    }

    fn take_apart(&mut self, bytes: &[u8]) {
        let mut frames = self.decoder.frames(bytes, FRAME_BYTES_MAX);
        while let Some(decoded) = frames.next() {
            let Decoded::Whole(frame) = decoded else {
                panic!("load sent a bad frame: {decoded:?}");
            };
            self.waiting.push_back(Request {
                number: self.received,
                code: frame.code,
                body: frame.body.to_vec(),
            });
            self.received += 1;
        }
    }

    /// Whether another request is here already.
    pub(crate) fn has_next(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn answer(&mut self, request: &Request) -> io::Result<()> {
        self.send(&request.reply())
    }

    /// Sends these bytes, whatever they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Counts that it does wrong now.
    pub(crate) fn count_wrong(&self) {
        self.counts.update(|state| state.wrong += 1);
    }

    /// Has the connection's end be a reset.
    pub(crate) fn reset_at_end(&self) -> io::Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }
}

impl Counts {
    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}
