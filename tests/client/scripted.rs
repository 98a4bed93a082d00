//! A server that does what its script says, connection by connection.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use corelane::protocol::{Decoded, FRAME_BYTES_MAX, Reason, codes, decode, encode, encode_error};

use crate::server::DEADLINE;

/// What the server does with one connection, until it drops it.
pub(crate) type Script = Box<dyn FnOnce(&mut Peer) + Send>;

/// A scripted server; dropping it checks that its scripts went well.
pub(crate) struct Scripted {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    /// Each connection gets the next script; with the last one, it stops listening.
    pub(crate) fn start(scripts: impl IntoIterator<Item = Script>) -> Scripted {
        let scripts: VecDeque<Script> = scripts.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            for script in scripts {
                let (stream, _) = listener.accept().unwrap();
                script(&mut Peer::over(stream));
            }
        });
        Scripted {
            address,
            thread: Some(thread),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the scripts have come to their end.
    pub(crate) fn ended(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        // After a failure, the next connection may never come.
        if !std::thread::panicking() {
            self.join();
        }
    }
}

/// A script.
pub(crate) fn script(script: impl FnOnce(&mut Peer) + Send + 'static) -> Script {
    Box::new(script)
}

/// The server's side of a connection.
pub(crate) struct Peer {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Peer {
    pub(crate) fn over(stream: TcpStream) -> Peer {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer {
            stream,
            held: Vec::new(),
        }
    }

    /// The client's address, as a server has it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.peer_addr().unwrap()
    }

    /// The next frame, or none at the end.
    pub(crate) fn next(&mut self) -> Option<(u16, Vec<u8>)> {
        loop {
            match decode(&self.held, FRAME_BYTES_MAX) {
                Decoded::Whole(frame) => {
                    let next = (frame.code, frame.body.to_vec());
                    self.held.drain(..8 + next.1.len());
                    return Some(next);
                }
                Decoded::Incomplete { .. } => {}
                bad => panic!("the client sent {bad:?}"),
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes).unwrap() {
                0 => return None,
                read => self.held.extend_from_slice(&bytes[..read]),
            }
        }
    }

    /// Asserts that a frame with this code is next; gives back its body.
    #[track_caller]
    pub(crate) fn expect(&mut self, code: u16) -> Vec<u8> {
        let (came, body) = self.next().expect("a frame, not the end");
        assert_eq!(came, code);
        body
    }

    /// Waits until the client has sent more, and leaves it where it is.
    pub(crate) fn wait_for_more(&mut self) {
        assert_eq!(self.stream.peek(&mut [0]).unwrap(), 1);
    }

    /// Whether the client has sent more already.
    #[cfg(feature = "tokio-client")]
    pub(crate) fn has_more(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let outcome = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !self.held.is_empty() || outcome.is_ok()
    }

    /// Asserts that the client has ended the connection.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.next(), None);
    }

    pub(crate) fn send(&mut self, code: u16, body: &[u8]) {
        let mut bytes = Vec::new();
        encode(&mut bytes, code, body).unwrap();
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_error(&mut self, answered: u16, reason: Reason) {
        let mut bytes = Vec::new();
        encode_error(&mut bytes, answered, reason, "because");
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn send_goaway(&mut self) {
        self.send(codes::GOAWAY, &30_000_u32.to_be_bytes());
    }

    /// An EVENT of the topic `t`.
    pub(crate) fn send_event(&mut self, payload: &[u8]) {
        self.send(codes::EVENT, &[b"\x01t", payload].concat());
    }

    /// Echoes until the client has ended the connection.
    pub(crate) fn echo_to_the_end(&mut self) {
        while let Some((code, body)) = self.next() {
            self.send(code, &body);
        }
    }
}
