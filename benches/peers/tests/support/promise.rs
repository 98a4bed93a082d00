//! The promises, each as a function that panics where it is broken.

use std::ffi::OsStr;
use std::io::{ErrorKind, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use corelane::protocol::codes;

use super::peer::{Peer, first_cpu};
use super::wire::{echo, expect, expect_closed, frame, ping};

const LONG_BODY_BYTES: usize = 16 * 1024;

pub(crate) fn the_test_vectors_are_answered(peer: &Peer) {
    let mut stream = peer.connect();
    let vectors: [&[u8]; 2] = [
        &[0, 8, 0, 0, 0, 0, 0, 0],
        b"\x00\x0d\x00\x01\x36\x10\xa6\x86hello",
    ];
    for vector in vectors {
        stream.write_all(vector).unwrap();
        expect(&mut stream, vector);
    }
    // The body of a PING is not sent back.
    stream.write_all(&frame(codes::PING, b"ignored")).unwrap();
    expect(&mut stream, &ping());
}

pub(crate) fn a_stream_may_be_cut_anywhere(peer: &Peer) {
    let frames = [echo(1, 5), ping(), echo(2, 0), echo(3, 40), ping()];
    let bytes = frames.concat();
    let mut stream = peer.connect();
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        // The replies to what is whole in the head show that the peer has seen the cut, or some
        // of the bytes before it.
        let whole = frames
            .iter()
            .scan(0, |end, frame| {
                *end += frame.len();
                Some(*end)
            })
            .take_while(|end| *end <= cut)
            .last()
            .unwrap_or(0);
        stream.write_all(head).unwrap();
        expect(&mut stream, &bytes[..whole]);
        stream.write_all(tail).unwrap();
        expect(&mut stream, &bytes[whole..]);
    }
    for byte in &bytes {
        stream.write_all(&[*byte]).unwrap();
    }
    expect(&mut stream, &bytes);
}

pub(crate) fn replies_come_in_the_order_of_requests(peer: &Peer) {
    let frames = (0..5000).map(|number| match number % 7 {
        0 => ping(),
        rest => echo(number, rest * 31),
    });
    pipelined(peer.connect(), frames.flatten().collect());
}

pub(crate) fn long_bodies_are_pipelined(peer: &Peer) {
    let longest = 65_535 - 8;
    let frames = (0..100).map(|number| match number % 10 {
        0 => echo(number, longest),
        _ => echo(number, LONG_BODY_BYTES + number),
    });
    pipelined(peer.connect(), frames.flatten().collect());
}

/// Sends all of it while the replies are read.
fn pipelined(mut stream: TcpStream, bytes: Vec<u8>) {
    let mut sender = stream.try_clone().unwrap();
    let expected = bytes.clone();
    let sending = thread::spawn(move || sender.write_all(&bytes).unwrap());
    expect(&mut stream, &expected);
    sending.join().unwrap();
}

pub(crate) fn a_slow_reader_is_not_read_from(peer: &Peer) {
    const TAKEN_BYTES_MAX: usize = 96 << 20;
    const GREW_BYTES_MAX: usize = 24 << 20;
    // The time in which a peer that reads takes at least one byte; if it is too short on a slow
    // machine, less is sent and all else is checked as well.
    const STALLED_AFTER: Duration = Duration::from_millis(500);

    let mut stream = peer.connect();
    stream.write_all(&ping()).unwrap();
    expect(&mut stream, &ping());
    let resident_before = peer.resident_bytes();
    stream.set_write_timeout(Some(STALLED_AFTER)).unwrap();
    let bytes: Vec<u8> = (0..64)
        .flat_map(|number| echo(number, LONG_BODY_BYTES))
        .collect();
    let mut taken = 0;
    while let Some(more) = write_until_stalled(&mut stream, &bytes[taken % bytes.len()..]) {
        taken += more;
        assert!(
            taken < TAKEN_BYTES_MAX,
            "it reads on and nobody takes the replies"
        );
    }
    let grew = peer.resident_bytes().saturating_sub(resident_before);
    assert!(grew < GREW_BYTES_MAX, "it grew by {grew} bytes");
    // It goes on where it stopped, once the replies are taken.
    let mut sender = stream.try_clone().unwrap();
    let rest = bytes[taken % bytes.len()..].to_vec();
    let expected_bytes = taken + rest.len();
    let sending = thread::spawn(move || {
        sender.set_write_timeout(None).unwrap();
        sender.write_all(&rest).unwrap();
    });
    assert_eq!(expected_bytes % bytes.len(), 0);
    for _ in 0..expected_bytes / bytes.len() {
        expect(&mut stream, &bytes);
    }
    sending.join().unwrap();
}

/// How many bytes were taken; `None` once none are.
fn write_until_stalled(stream: &mut TcpStream, bytes: &[u8]) -> Option<usize> {
    match stream.write(bytes) {
        Ok(taken) => Some(taken),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn what_is_no_request_closes_behind_the_replies(peer: &Peer) {
    let mut wrong_checksum = echo(1, 100);
    wrong_checksum[50] ^= 0x10;
    let too_short = vec![0, 7, 0, 1, 0, 0, 0, 0];
    for bad in [wrong_checksum, too_short, frame(99, b"")] {
        let good = [echo(1, 20), ping()].concat();
        for pieces in [
            vec![[&good[..], &bad].concat()],
            vec![good.clone(), bad.clone()],
        ] {
            let mut stream = peer.connect();
            for piece in pieces {
                stream.write_all(&piece).unwrap();
            }
            expect(&mut stream, &good);
            expect_closed(&mut stream);
        }
    }
}

pub(crate) fn a_half_closed_stream_is_answered(peer: &Peer) {
    let mut stream = peer.connect();
    let bytes: Vec<u8> = (0..300).flat_map(|number| echo(number, 100)).collect();
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    expect(&mut stream, &bytes);
    expect_closed(&mut stream);
}

pub(crate) fn a_hundred_connections_are_served(peer: &Peer) {
    let mut streams: Vec<TcpStream> = (0..100).map(|_| peer.connect()).collect();
    for round in 0..20 {
        let requests = |index: usize| [echo(round * 1000 + index, 32), ping()].concat();
        for (index, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&requests(index)).unwrap();
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            expect(stream, &requests(index));
        }
    }
}

pub(crate) fn connections_that_break_harm_no_other(peer: &Peer) {
    let mut steady = peer.connect();
    let long = echo(1, LONG_BODY_BYTES).repeat(20);
    for round in 0..50 {
        let mut half = peer.connect();
        half.write_all(&echo(round, 64)[..round]).unwrap();
        // Replies that nobody reads: closing resets the connection.
        let mut unread = peer.connect();
        unread.write_all(&long).unwrap();
        drop((half, unread));
        steady.write_all(&echo(round, 500)).unwrap();
        expect(&mut steady, &echo(round, 500));
    }
}

pub(crate) fn wrong_words_have_status_2(program: impl AsRef<OsStr>) {
    let cpu = first_cpu().to_string();
    let cases: [&[&str]; 4] = [
        &[],
        &["--listen", "127.0.0.1:0"],
        &["--listen", "nowhere", "--cpu", &cpu],
        &["--listen", "127.0.0.1:0", "--cpu", "x"],
    ];
    for words in cases {
        let output = Command::new(&program)
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {told}");
        assert_eq!(told.lines().count(), 1, "{words:?}: {told}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
}
