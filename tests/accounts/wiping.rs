//! Passwords leave no trace in the server's memory once they were used, or refused: all of it is
//! looked through, by way of /proc/PID/mem. What matters is how the bytes come, so that most of them
//! are no client's.
//!
//! A kernel may forbid that. These tests then say so and pass, unless CORELANE_TEST_MEMORY=required.

use std::fs::{self, File};
use std::io::{BufRead as _, Cursor, ErrorKind};
use std::os::unix::fs::FileExt as _;

use corelane::protocol::messages::{LoggedIn, Registered};
use corelane::protocol::{Reason, codes};

use crate::peer::{Peer, frame, header};
use crate::program::{self, Program};
use crate::support::{Came, KIND, body_of, login, meaning, register, try_login, try_register};
use crate::user::{connect, refused};
use crate::waiting::until;

const PAGE_BYTES: u64 = 4096;

/// Where in the server's memory these bytes stand; nothing if that can't be read.
fn places(server: &Program, wanted: &[u8]) -> Option<Vec<String>> {
    let process = format!("/proc/{}", server.pid());
    let opened = File::open(format!("{process}/mem"))
        .and_then(|memory| Ok((memory, File::open(format!("{process}/pagemap"))?)));
    let (memory, pages) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            assert!(
                std::env::var("CORELANE_TEST_MEMORY").as_deref() != Ok("required"),
                "the memory of a child can't be read here: {error}"
            );
            eprintln!("SKIPPED: the memory of a child can't be read here: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let maps = fs::read_to_string(format!("{process}/maps")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with('r') || rest.ends_with("[vvar]") || rest.ends_with("[vsyscall]") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        for (at, bytes) in present(&memory, &pages, (start, end)) {
            found.extend(
                positions(&bytes, wanted)
                    .into_iter()
                    .map(|place| format!("{:x} in {rest}", at + place as u64)),
            );
        }
    }
    Some(found)
}

/// The parts of a mapping that are in memory, each with its address; what was never touched holds
/// nothing.
fn present(memory: &File, pages: &File, (start, end): (u64, u64)) -> Vec<(u64, Vec<u8>)> {
    let count = usize::try_from((end - start) / PAGE_BYTES).unwrap();
    let mut entries = vec![0; count * 8];
    let entries_bytes = pages
        .read_at(&mut entries, start / PAGE_BYTES * 8)
        .unwrap_or(0);
    let entries = entries[..entries_bytes].chunks_exact(8);
    // Bit 63: in memory. Bit 62: swapped out.
    let is_there = |entry: &[u8]| entry[7] & 0b1100_0000 != 0;
    let numbered: Vec<_> = (0..).zip(entries.map(is_there)).collect();
    let runs = numbered.chunk_by(|a, b| a.1 == b.1);
    runs.filter(|run| run[0].1)
        .filter_map(|run| {
            let at = start + run[0].0 * PAGE_BYTES;
            let mut bytes = vec![0; run.len() * usize::try_from(PAGE_BYTES).unwrap()];
            // What the server has given back meanwhile is not there any more.
            memory.read_exact_at(&mut bytes, at).ok()?;
            Some((at, bytes))
        })
        .collect()
}

fn positions(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut cursor = Cursor::new(bytes);
    while cursor.skip_until(wanted[0]).unwrap() > 0 {
        let next = usize::try_from(cursor.position()).unwrap();
        if bytes[..next].ends_with(&wanted[..1]) && bytes[next - 1..].starts_with(wanted) {
            found.push(next - 1);
        }
    }
    found
}

/// Passwords of one test: each has the same random text at both of its ends, by which a copy of any
/// half of it is found.
struct Passwords {
    text: String,
    given: u32,
}

impl Passwords {
    fn new() -> Passwords {
        Passwords {
            text: std::iter::repeat_with(fastrand::alphanumeric)
                .take(16)
                .collect(),
            given: 0,
        }
    }

    fn next(&mut self) -> String {
        self.given += 1;
        format!("{0}{1:07}{0}", self.text, self.given)
    }

    /// Asserts that none is in the memory of the server, nor in what it has logged.
    #[track_caller]
    fn expect_nowhere(&self, server: &Program, after: &str) {
        if let Some(places) = places(server, self.text.as_bytes()) {
            assert_eq!(places, [] as [&str; 0], "after {after}");
        }
        assert!(!server.has_logged(&self.text), "after {after}");
    }
}

fn serve(settings: &[&str]) -> Program {
    let all = ["accounts.store=memory", "log.level=info,corelane=trace"];
    program::serve(&[&all, settings].concat())
}

/// Sends these parts one after the other, each in a segment of its own that the server has taken in
/// before the next is sent: a PING behind it, on the same shard, is answered.
fn send_in_parts(server: &Program, peer: &mut Peer, parts: &[&[u8]]) {
    let mut other = Peer::connect(server.address());
    for part in parts {
        peer.send_bytes(part);
        other.ping();
    }
}

fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let ends = places.iter().copied().chain([bytes.len()]);
    let starts = [0].into_iter().chain(places.iter().copied());
    starts
        .zip(ends)
        .map(|(start, end)| &bytes[start..end])
        .collect()
}

fn register_frame(username: &str, password: &str) -> Vec<u8> {
    frame(codes::REGISTER, &body_of(&register(username, password)))
}

fn login_frame(username: &str, password: &str) -> Vec<u8> {
    frame(codes::LOGIN, &body_of(&login(username, password)))
}

#[track_caller]
fn expect_registered(peer: &mut Peer, username: &str) {
    let reply = Registered {
        kind: KIND,
        username,
        password: (),
    };
    peer.expect(codes::REGISTER, &body_of(&reply));
}

#[track_caller]
fn expect_logged_in(peer: &mut Peer, username: &str) {
    let reply = LoggedIn {
        username,
        password: (),
    };
    peer.expect(codes::LOGIN, &body_of(&reply));
}

/// What is not secret is found: the tests below can fail.
#[test]
fn a_text_that_is_not_secret_is_found() {
    let server = serve(&[]);
    let text = Passwords::new().text;
    let mut peer = Peer::connect(server.address());
    peer.echo(text.as_bytes());
    assert_ne!(places(&server, text.as_bytes()), Some(Vec::new()));
}

#[test]
fn however_the_frame_is_cut_its_password_is_nowhere_after_the_reply() {
    let server = serve(&[]);
    let mut passwords = Passwords::new();
    let mut peer = Peer::connect(server.address());
    let each_byte: Vec<usize> = (1..108).collect();
    let cuts: [&[usize]; 11] = [
        &[],
        &[1],
        &[3],
        &[4],
        &[8],
        &[68],
        &[69, 70],
        &[85],
        &[20, 90, 100],
        &[107],
        &each_byte,
    ];
    for (number, places) in cuts.into_iter().enumerate() {
        let (name, password) = (format!("name {number}"), passwords.next());
        let request = register_frame(&name, &password);
        send_in_parts(&server, &mut peer, &cut(&request, places));
        expect_registered(&mut peer, &name);
        let request = login_frame(&name, &password);
        let places: Vec<_> = places
            .iter()
            .copied()
            .filter(|&at| at < request.len())
            .collect();
        send_in_parts(&server, &mut peer, &cut(&request, &places));
        expect_logged_in(&mut peer, &name);
        passwords.expect_nowhere(&server, &format!("cut at {places:?}"));
    }
    let mut client = connect(server.address());
    assert_eq!(
        try_login(&mut client, "name 0", &passwords.next()),
        Came::Rejected
    );
    passwords.expect_nowhere(&server, "a wrong password");
}

#[test]
fn what_waits_behind_a_handler_leaves_nothing() {
    let server = serve(&[]);
    let mut passwords = Passwords::new();
    let mut peer = Peer::connect(server.address());
    let password = passwords.next();
    let mut bytes = frame(codes::ECHO, &[7; 3000]);
    bytes.extend(register_frame("alice", &password));
    for _ in 0..3 {
        bytes.extend(login_frame("alice", &password));
        bytes.extend(frame(codes::ECHO, b"between"));
    }
    // And one that waits in two parts.
    let middle = bytes.len() - 15 - 30;
    send_in_parts(&server, &mut peer, &cut(&bytes, &[middle]));
    peer.expect(codes::ECHO, &[7; 3000]);
    expect_registered(&mut peer, "alice");
    for _ in 0..3 {
        expect_logged_in(&mut peer, "alice");
        peer.expect(codes::ECHO, b"between");
    }
    passwords.expect_nowhere(&server, "many at once");
}

#[test]
fn what_is_turned_away_leaves_nothing() {
    let server = serve(&["accounts.hash_queue=1", "limits.max_bad_frames=100"]);
    let mut passwords = Passwords::new();
    let mut clients: Vec<_> = (0..12).map(|_| connect(server.address())).collect();
    for client in &mut clients {
        let login = login("alice", &passwords.next());
        client.send_message(&login).unwrap();
    }
    let came = clients
        .iter_mut()
        .map(|client| meaning(client.reply(), "alice"));
    let overloaded = came.filter(|&came| came == Came::Overloaded).count();
    assert!(overloaded > 0, "more came at once than are hashed and wait");
    passwords.expect_nowhere(&server, "OVERLOADED");

    let mut peer = Peer::connect(server.address());
    let mut request = register_frame("alice", &passwords.next());
    request[7] ^= 1;
    for places in [&[][..], &[80]] {
        send_in_parts(&server, &mut peer, &cut(&request, places));
        let text = peer.expect_error(codes::REGISTER, Reason::BadChecksum);
        passwords.expect_nowhere(&server, &text);
    }
    let body = body_of(&register("", &passwords.next()));
    peer.send(codes::REGISTER, &body);
    let text = peer.expect_error(codes::REGISTER, Reason::BadBody);
    passwords.expect_nowhere(&server, &text);
    peer.send(codes::REGISTER, &body[..99]);
    let text = peer.expect_error(codes::REGISTER, Reason::BadBody);
    passwords.expect_nowhere(&server, &text);
}

#[test]
fn where_there_are_no_accounts_nothing_stays_either() {
    let server = program::serve(&["accounts.store=off"]);
    let mut passwords = Passwords::new();
    let mut client = connect(server.address());
    let outcome = client.call(&login("alice", &passwords.next()));
    let text = refused(outcome, Reason::UnknownCode);
    passwords.expect_nowhere(&server, &text);
}

#[test]
fn a_connection_that_ends_leaves_nothing() {
    let server = serve(&[]);
    let mut passwords = Passwords::new();
    let request = |passwords: &mut Passwords| register_frame("alice", &passwords.next());
    // In the middle of its password, in good order and with a reset.
    let whole = request(&mut passwords);
    let mut shut = Peer::connect(server.address());
    send_in_parts(&server, &mut shut, &[&whole[..50], &whole[50..90]]);
    shut.shut();
    shut.expect_end();
    let mut reset = Peer::connect(server.address());
    send_in_parts(&server, &mut reset, &[&request(&mut passwords)[..107]]);
    reset.reset();
    // Behind what ends it, at once and later.
    let mut ended = Peer::connect(server.address());
    let bad = [header(7, 1, 0), request(&mut passwords)].concat();
    let later = request(&mut passwords);
    send_in_parts(&server, &mut ended, &[&bad, &later]);
    ended.expect_error(codes::ECHO, Reason::BadLength);
    until("the memory is clean", || {
        let left = places(&server, passwords.text.as_bytes());
        left.is_none_or(|left| left.is_empty()).then_some(())
    });
    let mut client = connect(server.address());
    assert_eq!(
        try_register(&mut client, "alice", &passwords.next()),
        Came::Done
    );
    passwords.expect_nowhere(&server, "connections that have ended");
}
