//! HTTP as a peer that may also misbehave needs it: bytes out, an answer in.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::support::waiting::{DEADLINE, until};

/// How long to listen for what must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// The client's side of a connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By name in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str) -> Answer {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n").as_bytes());
        self.answer_to(method)
    }

    /// The next answer, to a request with this method.
    pub(crate) fn answer_to(&mut self, method: &str) -> Answer {
        let first = self.line();
        let status = first
            .split(' ')
            .nth(1)
            .unwrap_or_else(|| panic!("{first:?}"));
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else {
                assert_eq!(line, "");
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length");
        let length = length.map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
        self.stream.read_exact(&mut body).unwrap();
        Answer {
            status: status.parse().unwrap(),
            headers,
            body: String::from_utf8(body).unwrap(),
        }
    }

    /// Asserts that the server ends the connection here.
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end, too.
        if self.stream.read_to_end(&mut rest).is_ok() {
            assert_eq!(String::from_utf8_lossy(&rest), "");
        }
    }

    /// Asserts that nothing comes; that nothing ever will can't be seen.
    pub(crate) fn expect_silence(&mut self) {
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let error = self.stream.fill_buf().expect_err("nothing was to come");
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").expect("a whole line").to_owned()
    }
}

/// Asks on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    Connection::to(address).ask("GET", path)
}

/// Asks until there are not too many requests any more: a test that waits for something asks a lot.
fn get_patiently(address: SocketAddr, path: &str) -> Answer {
    let answer = until("a request is answered", || {
        let answer = get(address, path);
        (answer.status != 429).then_some(answer)
    });
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// The JSON of an answer that is right.
pub(crate) fn json(address: SocketAddr, path: &str) -> Value {
    let answer = get_patiently(address, path);
    assert_eq!(answer.headers["content-type"], "application/json");
    serde_json::from_str(&answer.body).unwrap()
}

/// The samples of /metrics, by name and labels as they are written.
pub(crate) fn metrics(address: SocketAddr) -> BTreeMap<String, f64> {
    let answer = get_patiently(address, "/metrics");
    let samples = answer.body.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    samples.collect()
}
