//! Asks a server for its status: one GET over a connection of its own, with a limit to how long and
//! how much.
//!
//! It is HTTP/1.1 of the least kind, by hand: there is one path, one method and one server to talk
//! to, and a client library would be more code to trust than these lines.

use std::fmt::Display;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::model::Status;

/// From the first try to connect to the last byte.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(4);

/// Head and body together. Ten connections of each kind, 64 shards and five minutes of every code
/// are a tenth of that.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The head of an answer is within its first bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The status of the first of these addresses where somebody listens, or why there is none.
pub(super) fn status(addresses: &[SocketAddr], host: &str) -> Result<Status, String> {
    let deadline = Instant::now() + ANSWER_TIME_MAX;
    let mut stream = connect(addresses, deadline)?;
    let request = format!(
        "GET /status HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    stream
        .set_write_timeout(Some(left(deadline)?))
        .map_err(lost)?;
    stream.write_all(request.as_bytes()).map_err(lost)?;
    let answer = read(deadline, |chunk, left| {
        stream.set_read_timeout(Some(left))?;
        stream.read(chunk)
    })?;
    serde_json::from_slice(body(&answer)?).map_err(|error| {
        format!("what it says is not the status of a corelane that this one knows: {error}")
    })
}

fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, String> {
    let mut why = "its host has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

/// How long is left; never zero, which sockets take for no limit.
fn left(deadline: Instant) -> Result<Duration, String> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(late())
    } else {
        Ok(left)
    }
}

fn late() -> String {
    let seconds = ANSWER_TIME_MAX.as_secs();
    format!("there was no whole answer within {seconds} s")
}

fn lost(error: impl Display) -> String {
    format!("the connection broke off: {error}")
}

/// Reads until the end, with what is left of the time for each part of it. A length that the head
/// tells ends it, too: not every server closes at once.
fn read(
    deadline: Instant,
    mut next: impl FnMut(&mut [u8], Duration) -> std::io::Result<usize>,
) -> Result<Vec<u8>, String> {
    let mut answer = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    while !is_whole(&answer) {
        match next(&mut chunk, left(deadline)?) {
            Ok(0) => break,
            Ok(bytes) => answer.extend_from_slice(&chunk[..bytes]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(late());
            }
            Err(error) => return Err(lost(error)),
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(format!(
                "its answer is longer than {ANSWER_BYTES_MAX} bytes"
            ));
        }
    }
    Ok(answer)
}

fn is_whole(answer: &[u8]) -> bool {
    let Some((head, body)) = split(answer) else {
        return false;
    };
    length(head).is_some_and(|length| body.len() >= length)
}

/// Head and body, once the whole head is there.
fn split(answer: &[u8]) -> Option<(&str, &[u8])> {
    let first = &answer[..answer.len().min(HEAD_BYTES_MAX)];
    let end = first.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = str::from_utf8(&answer[..end]).ok()?;
    Some((head, &answer[end + 4..]))
}

fn length(head: &str) -> Option<usize> {
    field(head, "content-length")?.parse().ok()
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let found = fields.find(|(given, _)| given.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

/// The body of a good answer.
fn body(answer: &[u8]) -> Result<&[u8], String> {
    let no_http = || "what answers there does not speak HTTP; give the server's admin address";
    if answer.is_empty() {
        return Err("it closed the connection without an answer".to_owned());
    }
    let (head, body) = split(answer).ok_or_else(no_http)?;
    let mut words = head.lines().next().unwrap_or_default().splitn(3, ' ');
    let is_http = words
        .next()
        .is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(200) if is_http => {}
        Some(status) if is_http => return Err(format!("it says {status} to GET /status")),
        _ => return Err(no_http().to_owned()),
    }
    if field(head, "transfer-encoding").is_some() {
        return Err("its answer comes in an encoding that no corelane uses".to_owned());
    }
    match length(head) {
        Some(length) if body.len() < length => Err("its answer ends too early".to_owned()),
        Some(length) => Ok(&body[..length]),
        None => Ok(body),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::TcpListener;

    use super::super::model::tests::SAMPLE;
    use super::*;

    fn answer(head: &str, body: &str) -> Vec<u8> {
        format!("{head}\r\n\r\n{body}").into_bytes()
    }

    #[test]
    fn the_body_of_a_good_answer_is_found() {
        let good = answer("HTTP/1.1 200 OK\r\ncontent-LENGTH:  2 \r\nX: y", "{}rest");
        assert_eq!(body(&good).unwrap(), b"{}");
        let until_close = answer("HTTP/1.0 200 OK", "{}");
        assert_eq!(body(&until_close).unwrap(), b"{}");
    }

    #[test]
    fn a_bad_answer_is_told_in_one_sentence() {
        let cases = [
            (
                answer("HTTP/1.1 404 Not Found", ""),
                "it says 404 to GET /status",
            ),
            (
                answer("HTTP/1.1 200 OK\r\nContent-Length: 9", "{}"),
                "its answer ends too early",
            ),
            (
                answer(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
                    "2\r\n{}\r\n0\r\n\r\n",
                ),
                "its answer comes in an encoding that no corelane uses",
            ),
            (
                vec![0, 8, 0, 2, 0, 0, 0, 0],
                "what answers there does not speak HTTP; give the server's admin address",
            ),
            (Vec::new(), "it closed the connection without an answer"),
        ];
        for (answer, sentence) in cases {
            assert_eq!(body(&answer).unwrap_err(), sentence);
        }
    }

    #[test]
    fn it_reads_to_the_told_length_or_to_the_end_and_no_further_than_the_limit() {
        let deadline = Instant::now() + Duration::from_mins(1);
        let mut parts = VecDeque::from([
            "HTTP/1.1 200 OK\r\nContent-Le".as_bytes(),
            b"ngth: 4\r\n\r\n{}",
            b"  ",
            b"never asked for",
        ]);
        let whole = read(deadline, |chunk, _| {
            let part = parts.pop_front().unwrap_or_default();
            chunk[..part.len()].copy_from_slice(part);
            Ok(part.len())
        });
        assert_eq!(body(&whole.unwrap()).unwrap(), b"{}  ");
        assert_eq!(parts.len(), 1);

        let endless = read(deadline, |chunk, _| Ok(chunk.len()));
        assert!(endless.unwrap_err().contains("longer than 4194304 bytes"));

        let silent = read(deadline, |_, _| Err(ErrorKind::WouldBlock.into()));
        assert_eq!(silent.unwrap_err(), "there was no whole answer within 4 s");
        let over = read(Instant::now(), |_, _| unreachable!());
        assert_eq!(over.unwrap_err(), "there was no whole answer within 4 s");
    }

    #[test]
    fn a_server_is_asked_for_its_status() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}", SAMPLE.len());
            stream.write_all(&answer(&head, SAMPLE)).unwrap();
            String::from_utf8(request).unwrap()
        });
        let status = status(&[address], "127.0.0.1:8701").unwrap();
        assert_eq!(status.pid, 4711);
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /status HTTP/1.1\r\nHost: 127.0.0.1:8701\r\n"));
    }

    #[test]
    fn nobody_there_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let why = status(&[address], "nobody").unwrap_err();
        assert!(why.contains("refused"), "{why}");
        assert_eq!(
            status(&[], "nobody").unwrap_err(),
            "its host has no address"
        );
    }
}
