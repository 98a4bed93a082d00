//! One connection to a server, down to its bytes.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use corelane::protocol::{
    Decoded, ErrorBody, FRAME_BYTES_MAX, HEADER_BYTES, Reason, codes, decode, encode,
};
use socket2::{Domain, SockRef, Socket, Type};

use super::waiting::DEADLINE;

/// The client's side of a connection.
pub(crate) struct Peer {
    stream: BufReader<TcpStream>,
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) code: u16,
    pub(crate) body: Vec<u8>,
}

/// The bytes of a frame.
pub(crate) fn frame(code: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, code, body).unwrap();
    bytes
}

/// The bytes of a header with this length field, whatever it says.
pub(crate) fn header(length: u16, code: u16, checksum: u32) -> Vec<u8> {
    [
        &length.to_be_bytes()[..],
        &code.to_be_bytes(),
        &checksum.to_be_bytes(),
    ]
    .concat()
}

/// The bytes that these hexadecimal digits stand for, as the protocol's page writes them.
pub(crate) fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| u8::try_from(digit).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Peer {
        Peer::over(TcpStream::connect_timeout(&address, DEADLINE).unwrap())
    }

    /// Connects so that as little as can be is on its way when the peer does not read: with small
    /// buffers, and with segments as on an Ethernet. By the segments that a loopback has, the kernel
    /// would keep megabytes for each connection. And the window of such a buffer holds less than two
    /// of them: a peer that sends all the time could then wait for ever to be sent anything, since each
    /// acknowledgement puts off the server's probe of the window.
    pub(crate) fn connect_small(address: SocketAddr) -> Peer {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_tcp_mss(1400).unwrap();
        socket.set_recv_buffer_size(SMALL_BUFFER_BYTES).unwrap();
        socket.set_send_buffer_size(SMALL_BUFFER_BYTES).unwrap();
        socket.connect_timeout(&address.into(), DEADLINE).unwrap();
        Peer::over(socket.into())
    }

    /// The client's side over a socket that is connected already.
    pub(crate) fn over(stream: TcpStream) -> Peer {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Peer {
            stream: BufReader::new(stream),
        }
    }

    /// The sending side, for another thread.
    pub(crate) fn sender(&self) -> TcpStream {
        self.stream.get_ref().try_clone().unwrap()
    }

    /// Sends these bytes, whatever they are.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, code: u16, body: &[u8]) {
        self.send_bytes(&frame(code, body));
    }

    /// Shuts the sending side: the server sees the end of the stream.
    pub(crate) fn shut(&mut self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// Breaks the connection off: the server gets a reset.
    pub(crate) fn reset(self) {
        SockRef::from(self.stream.get_ref())
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// The next frame, or `None` at the end of the stream.
    ///
    /// # Panics
    ///
    /// If the connection breaks, ends within a frame, carries a bad frame or says nothing for too
    /// long.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Frame> {
        if self.is_at_end() {
            return None;
        }
        let mut bytes = vec![0; HEADER_BYTES];
        self.stream
            .read_exact(&mut bytes)
            .expect("a header is whole");
        let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        bytes.resize(length.max(HEADER_BYTES), 0);
        self.stream
            .read_exact(&mut bytes[HEADER_BYTES..])
            .expect("a frame is whole");
        match decode(&bytes, FRAME_BYTES_MAX) {
            Decoded::Whole(frame) => Some(Frame {
                code: frame.code,
                body: frame.body.to_vec(),
            }),
            bad => panic!("the server sent a bad frame: {bad:?}"),
        }
    }

    #[track_caller]
    fn is_at_end(&mut self) -> bool {
        loop {
            match self.stream.fill_buf() {
                Ok(buffered) => return buffered.is_empty(),
                // Starting a server interrupts the thread that started it.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("a frame or the end was to come: {error}"),
            }
        }
    }

    /// Asserts that this frame is next.
    #[track_caller]
    pub(crate) fn expect(&mut self, code: u16, body: &[u8]) {
        let next = self.next();
        let matches = next
            .as_ref()
            .is_some_and(|frame| frame.code == code && frame.body == body);
        let shown = &body[..body.len().min(80)];
        assert!(
            matches,
            "code {code} and {shown:?} were to come, not {next:?}"
        );
    }

    /// Asserts that exactly these bytes are next.
    #[track_caller]
    pub(crate) fn expect_bytes(&mut self, bytes: &[u8]) {
        let mut received = vec![0; bytes.len()];
        self.stream.read_exact(&mut received).unwrap();
        assert_eq!(received, bytes);
    }

    /// Asserts that an ERROR is next, which answers this code for this reason; gives back its text.
    #[track_caller]
    pub(crate) fn expect_error(&mut self, answered: u16, reason: Reason) -> String {
        let frame = self.next().expect("an ERROR comes, not the end");
        assert_eq!(frame.code, codes::ERROR, "{frame:?}");
        let error = ErrorBody::parse(&frame.body).unwrap();
        assert_eq!(
            (error.answered, error.reason),
            (answered, reason.number()),
            "{error:?}"
        );
        error.text.to_owned()
    }

    /// Asserts that the server ends the stream here, in good order: no reset.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.next(), None, "the stream was to end");
    }

    /// Asserts that an ECHO comes back: the server serves this connection.
    #[track_caller]
    pub(crate) fn echo(&mut self, body: &[u8]) {
        self.send(codes::ECHO, body);
        self.expect(codes::ECHO, body);
    }

    /// Asserts that a PING comes back: the server serves this connection.
    #[track_caller]
    pub(crate) fn ping(&mut self) {
        self.send(codes::PING, b"");
        self.expect(codes::PING, b"");
    }
}

/// The kernel doubles it, and has a minimum of its own.
const SMALL_BUFFER_BYTES: usize = 16 * 1024;
