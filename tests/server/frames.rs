//! Frames in, replies out: the protocol as it stands on its page, byte by byte, so that no client is
//! in between.

use std::io::Write;
use std::thread;

use corelane::protocol::{HEADER_BYTES, Reason, checksum, codes};

use crate::support::peer::{Peer, bytes_of, frame, header};
use crate::support::program::serve;
use crate::support::seed;

/// The longest frame by default, and its body.
const FRAME_BYTES_MAX: usize = 29_000;
const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES;

#[test]
fn the_published_vectors_hold() {
    let server = serve(&[]);
    let mut peer = Peer::connect(server.address());

    let ping = bytes_of("0008 0000 00000000");
    peer.send_bytes(&ping);
    peer.expect_bytes(&ping);

    let echo = bytes_of("000d 0001 3610a686 68656c6c6f");
    peer.send_bytes(&echo);
    peer.expect_bytes(&echo);

    let mut all = bytes_of("0108 0001 29058c73");
    all.extend(0..=255);
    peer.send_bytes(&all);
    peer.expect_bytes(&all);

    peer.send(99, b"");
    peer.expect_bytes(&bytes_of(
        "0023 0002 2482d19b 0063 0003 \
         756e6b6e6f776e206d65737361676520636f6465203939",
    ));
    peer.ping();
}

#[test]
fn a_long_pipeline_in_arbitrary_pieces_is_answered_in_order() {
    let mut rng = seed::rng();
    let bodies: Vec<Vec<u8>> = (0..10_000u32)
        .map(|number| {
            let length = match rng.u32(..100) {
                0 => rng.usize(..=BODY_BYTES_MAX - 4),
                1..20 => 0,
                _ => rng.usize(..1000),
            };
            let mut body = number.to_be_bytes().to_vec();
            body.resize(4 + length, rng.u8(..));
            body
        })
        .collect();
    let mut stream = Vec::new();
    for body in &bodies {
        stream.extend(frame(codes::ECHO, body));
    }

    let server = serve(&[]);
    let mut peer = Peer::connect(server.address());
    let mut sender = peer.sender();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let length = match rng.u32(..4) {
                    0 => rng.usize(1..12),
                    1 => rng.usize(1..200_000),
                    _ => rng.usize(1..8000),
                };
                let (piece, after) = rest.split_at(length.min(rest.len()));
                sender.write_all(piece).unwrap();
                rest = after;
            }
        });
        for body in &bodies {
            peer.expect(codes::ECHO, body);
        }
    });
    peer.shut();
    peer.expect_end();
}

/// In which way a connection is received from follows what has come on it; those that send much share
/// a buffer.
#[test]
fn connections_that_send_much_and_little_by_turns_get_each_its_own() {
    let mut rng = seed::rng();
    let server = serve(&["shards.count=1"]);
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::connect(server.address())).collect();
    for phase in 0..12 {
        let lengths = if phase % 2 == 0 {
            9_000..BODY_BYTES_MAX
        } else {
            0..100
        };
        for _ in 0..8 {
            let bodies: Vec<Vec<u8>> = peers
                .iter()
                .map(|_| {
                    let mut body = vec![0; rng.usize(lengths.clone())];
                    rng.fill(&mut body);
                    body
                })
                .collect();
            for (peer, body) in peers.iter_mut().zip(&bodies) {
                peer.send(codes::ECHO, body);
            }
            for (peer, body) in peers.iter_mut().zip(&bodies) {
                peer.expect(codes::ECHO, body);
            }
        }
    }
    // The end may come before what is in front of it has been looked at.
    let body = vec![7; BODY_BYTES_MAX];
    for peer in &mut peers {
        for _ in 0..8 {
            peer.send(codes::ECHO, &body);
        }
        peer.shut();
    }
    for peer in &mut peers {
        for _ in 0..8 {
            peer.expect(codes::ECHO, &body);
        }
        peer.expect_end();
    }
}

#[test]
fn bytes_may_come_one_by_one() {
    let server = serve(&[]);
    let mut peer = Peer::connect(server.address());
    let bodies = [&b"hello"[..], b"", &[0xff; 300]];
    for body in bodies {
        for byte in frame(codes::ECHO, body) {
            peer.send_bytes(&[byte]);
        }
    }
    for body in bodies {
        peer.expect(codes::ECHO, body);
    }
}

#[test]
fn the_longest_frame_passes_and_one_byte_more_does_not() {
    let server = serve(&[]);
    let mut peer = Peer::connect(server.address());
    let longest = vec![0x5a; BODY_BYTES_MAX];
    assert_eq!(frame(codes::ECHO, &longest).len(), FRAME_BYTES_MAX);
    for _ in 0..20 {
        peer.send(codes::ECHO, &longest);
    }
    for _ in 0..20 {
        peer.expect(codes::ECHO, &longest);
    }

    peer.send(codes::ECHO, &vec![0x5a; BODY_BYTES_MAX + 1]);
    let text = peer.expect_error(codes::ECHO, Reason::BadLength);
    assert_eq!(text, "a length of 29001 is not between 8 and 29000");
    peer.expect_end();
}

#[test]
fn the_limit_of_a_frame_is_configurable() {
    let server = serve(&["limits.max_frame_bytes=40"]);
    let mut peer = Peer::connect(server.address());
    peer.echo(&[7; 32]);
    peer.send(codes::ECHO, &[7; 33]);
    peer.expect_error(codes::ECHO, Reason::BadLength);
    peer.expect_end();
}

/// Not by a reset, which could destroy the ERROR on its way: closing over bytes that were not read
/// would make the kernel send one.
#[test]
fn a_wrong_length_is_answered_and_ends_the_stream_in_good_order() {
    let server = serve(&[]);
    for length in [0, 7, 29_001, 65_535] {
        let mut peer = Peer::connect(server.address());
        let mut sender = peer.sender();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut stream = frame(codes::ECHO, b"before");
                stream.extend(header(length, 1234, 0));
                sender.write_all(&stream).unwrap();
                let behind = frame(codes::ECHO, &[7; 1000]).repeat(1000);
                sender.write_all(&behind).unwrap();
            });
            peer.expect(codes::ECHO, b"before");
            let text = peer.expect_error(1234, Reason::BadLength);
            assert_eq!(
                text,
                format!("a length of {length} is not between 8 and 29000")
            );
            peer.expect_end();
        });
    }
}

#[test]
fn bad_frames_are_dropped_and_the_third_ends_the_connection() {
    let server = serve(&[]);
    let mut peer = Peer::connect(server.address());
    let mut spoilt = frame(codes::ECHO, b"hello");
    spoilt[9] ^= 1;

    peer.send_bytes(&spoilt);
    peer.send(codes::ECHO, b"after the first");
    peer.expect_error(codes::ECHO, Reason::BadChecksum);
    peer.expect(codes::ECHO, b"after the first");

    peer.send(999, b"who?");
    peer.send(codes::ECHO, b"after the second");
    let text = peer.expect_error(999, Reason::UnknownCode);
    assert_eq!(text, "unknown message code 999");
    peer.expect(codes::ECHO, b"after the second");

    peer.send_bytes(&spoilt);
    peer.send(codes::ECHO, b"after the third");
    peer.expect_error(codes::ECHO, Reason::BadChecksum);
    peer.expect_end();

    // The next connection counts from nothing, also in the same slot.
    let mut next = Peer::connect(server.address());
    for _ in 0..2 {
        next.send_bytes(&spoilt);
        next.expect_error(codes::ECHO, Reason::BadChecksum);
    }
    next.ping();
}

#[test]
fn a_checksum_over_nothing_must_be_zero() {
    let server = serve(&[]);
    let mut peer = Peer::connect(server.address());
    peer.send_bytes(&header(8, codes::PING, checksum(b"something")));
    peer.expect_error(codes::PING, Reason::BadChecksum);
    peer.ping();
}

#[test]
fn a_ping_with_a_body_is_a_bad_frame() {
    let server = serve(&[]);
    let mut peer = Peer::connect(server.address());
    for _ in 0..3 {
        peer.send(codes::PING, b"x");
        let text = peer.expect_error(codes::PING, Reason::BadBody);
        assert_eq!(text, "a PING has no body");
    }
    peer.expect_end();
}

#[test]
fn what_only_servers_send_is_unknown_from_a_client() {
    let server = serve(&["limits.max_bad_frames=10"]);
    let mut peer = Peer::connect(server.address());
    for code in [codes::ERROR, 3, 4, 10, codes::APPLICATION, u16::MAX] {
        peer.send(code, b"body");
        peer.expect_error(code, Reason::UnknownCode);
    }
    peer.ping();
}

#[test]
fn a_silent_server_does_the_same_without_error_frames() {
    let server = serve(&["protocol.errors=silent"]);
    let mut spoilt = frame(codes::ECHO, b"hello");
    spoilt[9] ^= 1;

    let mut peer = Peer::connect(server.address());
    peer.send(99, b"unknown");
    peer.send(codes::ECHO, b"first");
    peer.send_bytes(&spoilt);
    peer.send(codes::ECHO, b"second");
    peer.send(codes::PING, b"not empty");
    peer.send(codes::ECHO, b"never handled");
    peer.expect(codes::ECHO, b"first");
    peer.expect(codes::ECHO, b"second");
    peer.expect_end();

    let mut peer = Peer::connect(server.address());
    peer.send(codes::ECHO, b"before");
    peer.send_bytes(&header(7, codes::ECHO, 0));
    peer.expect(codes::ECHO, b"before");
    peer.expect_end();
}
