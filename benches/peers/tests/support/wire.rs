//! Requests, the replies that are due for them, and reading as many.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;

use corelane::protocol::{codes, encode};

pub(crate) fn frame(code: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, code, body).unwrap();
    bytes
}

pub(crate) fn ping() -> Vec<u8> {
    frame(codes::PING, b"")
}

/// No two numbers have the same body.
pub(crate) fn echo(number: usize, body_bytes: usize) -> Vec<u8> {
    let mut body: Vec<u8> = (number..)
        .map(|byte| byte.to_le_bytes()[0])
        .take(body_bytes)
        .collect();
    let name = number.to_be_bytes();
    let named = name.len().min(body_bytes);
    body[..named].copy_from_slice(&name[name.len() - named..]);
    frame(codes::ECHO, &body)
}

/// Every reply is the request's own bytes; what is read must be exactly these.
#[track_caller]
pub(crate) fn expect(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    // Not assert_eq: megabytes tell nobody anything.
    let different = bytes.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(different, None, "the first byte that differs");
}

/// The other side closes without another byte.
#[track_caller]
pub(crate) fn expect_closed(stream: &mut TcpStream) {
    match stream.read(&mut [0; 64]) {
        // A reset where it had not read all that we sent.
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("expected the end of the stream, got {other:?}"),
    }
}
