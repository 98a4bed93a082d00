//! `corelane send`: one request, or several, and what came back.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use corelane::client::{Client, ClientError, Reply};
use corelane::protocol::codes;

use super::{Failure, parse_time};

#[derive(Args)]
pub(super) struct Arguments {
    /// Server's address: host and port
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:8700")]
    address: String,
    /// Message code: 0 is PING, 1 is ECHO, and so on as the protocol has it
    #[arg(long, value_name = "N")]
    code: u16,
    /// Body as text
    #[arg(long, value_name = "TEXT", group = "content")]
    body: Option<String>,
    /// Body as hexadecimal digits; spaces are ignored
    #[arg(long, value_name = "HEX", group = "content", value_parser = parse_hex)]
    hex: Option<Bytes>,
    /// Body from a file
    #[arg(long, value_name = "FILE", group = "content")]
    file: Option<PathBuf>,
    /// How many times, one after the other
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,
    /// How long to wait for the connection and for each reply, like 500ms
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_timeout)]
    timeout: Duration,
}

/// A type of its own, since clap takes `Vec` for a list of values.
#[derive(Clone)]
struct Bytes(Vec<u8>);

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let body = arguments.content()?;
    let options = Client::options().timeout(arguments.timeout);
    let mut client = options
        .connect(arguments.address.as_str())
        .map_err(failure)?;
    let mut out = std::io::stdout().lock();
    let mut drains = false;
    for _ in 0..arguments.count {
        let sent_at = Instant::now();
        let reply = client.request(arguments.code, &body).map_err(failure)?;
        writeln!(out, "{}", describe(&reply, sent_at.elapsed())).map_err(Failure::run)?;
        if client.is_going_away() && !drains {
            eprintln!("corelane: the server drains and will close the connection");
            drains = true;
        }
    }
    Ok(())
}

fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Resolve { .. } => Failure::Usage(error.to_string()),
        // That there was a request on its way is known to whoever gave the command.
        ClientError::Lost { cause } => Failure::run(cause),
        error => Failure::run(error),
    }
}

impl Arguments {
    fn content(&self) -> Result<Vec<u8>, Failure> {
        if let Some(path) = &self.file {
            return std::fs::read(path).map_err(|error| {
                Failure::Usage(format!("cannot read {}: {error}", path.display()))
            });
        }
        let text = self.body.as_ref().map(|text| text.clone().into_bytes());
        let hex = self.hex.as_ref().map(|bytes| bytes.0.clone());
        Ok(text.or(hex).unwrap_or_default())
    }
}

/// A reply as a line: `ECHO (code 1), 5 bytes in 0.08 ms: hello`.
fn describe(reply: &Reply, took: Duration) -> String {
    let code = reply.code;
    let name = match codes::name(code) {
        Some(name) => format!("{name} (code {code})"),
        None => format!("code {code}"),
    };
    let bytes = reply.body.len();
    let unit = if bytes == 1 { "byte" } else { "bytes" };
    let took_ms = took.as_secs_f64() * 1000.0;
    let separator = if bytes == 0 { "" } else { ": " };
    let body = readable(&reply.body);
    format!("{name}, {bytes} {unit} in {took_ms:.2} ms{separator}{body}")
}

/// Text where it is text that a terminal can show, hexadecimal digits where not.
fn readable(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\t') => text.to_owned(),
        _ => body
            .chunks(4)
            .map(|group| {
                group.iter().fold(String::new(), |mut digits, byte| {
                    let _ = write!(digits, "{byte:02x}");
                    digits
                })
            })
            .collect::<Vec<String>>()
            .join(" "),
    }
}

fn parse_hex(text: &str) -> Result<Bytes, String> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    if !digits.len().is_multiple_of(2) {
        return Err(format!(
            "{} digits are no whole number of bytes: give two for each",
            digits.len()
        ));
    }
    digits
        .chunks(2)
        .map(|pair| {
            // from_str_radix would take a sign, too.
            let byte: String = pair.iter().filter(|c| c.is_ascii_hexdigit()).collect();
            u8::from_str_radix(&byte, 16)
                .ok()
                .filter(|_| byte.len() == 2)
                .ok_or_else(|| {
                    let pair: String = pair.iter().collect();
                    format!("{pair:?} is not two hexadecimal digits")
                })
        })
        .collect::<Result<_, _>>()
        .map(Bytes)
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_time(text) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".to_owned()),
        timeout => timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_lines_that_people_can_read() {
        let reply = |code, body: &[u8]| Reply {
            code,
            body: body.to_vec(),
        };
        let took = Duration::from_micros(84);
        let cases = [
            (reply(0, b""), "PING (code 0), 0 bytes in 0.08 ms"),
            (reply(1, b"h"), "ECHO (code 1), 1 byte in 0.08 ms: h"),
            (
                reply(1000, b"\x00\x01\xff\x10\x20"),
                "code 1000, 5 bytes in 0.08 ms: 0001ff10 20",
            ),
        ];
        for (reply, line) in cases {
            assert_eq!(describe(&reply, took), line);
        }
    }

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(parse_hex("00 ff1e").unwrap().0, [0, 255, 30]);
        assert_eq!(
            parse_hex("abc").err().unwrap(),
            "3 digits are no whole number of bytes: give two for each"
        );
        assert_eq!(
            parse_hex("zz").err().unwrap(),
            "\"zz\" is not two hexadecimal digits"
        );
        assert!(parse_hex("+1").is_err());
        assert!(parse_hex("éa").is_err());
    }
}
