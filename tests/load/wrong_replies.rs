//! Every reply is checked: what the server does wrong is counted once, under its name.

use std::io;
use std::sync::Mutex;

use corelane::protocol::{HEADER_BYTES, Reason, codes, encode_error};
use rustix::process::Signal;

use crate::support::measured::{Measured, load, start_load};
use crate::support::server::{Request, Server, Talk, frame};

// What a server sends besides goes out with a reply at once: a run does not wait for what comes
// after its last one.

/// Runs load for a short while on a server that does something else about some requests. A busy
/// host may have no time for it: then once more.
#[track_caller]
fn load_on(
    about: impl Fn(&mut Talk, &Request) -> io::Result<bool> + Send + Sync + Copy + 'static,
    words: &str,
) -> (Server, Measured) {
    for _ in 0..ATTEMPTS {
        let server = Server::start_but(about);
        let words = format!("--connections 2 --duration 100ms {words}");
        let measured = load(server.address(), &words);
        // One connection has had five of them.
        if server.requests() >= 10 {
            return (server, measured);
        }
    }
    panic!("no run has had the time for ten requests");
}

const ATTEMPTS: usize = 10;

/// Runs load on a server that answers each third request of a connection like this. Each of them
/// is to be counted once under this name, the first told like this, and all the others are
/// messages: with one request under way, and with several.
#[track_caller]
fn each_third(kind: &str, told: &str, wrong_reply: fn(&Request) -> Vec<u8>) {
    let about = move |talk: &mut Talk, request: &Request| {
        if !request.is_each(3) {
            return Ok(false);
        }
        talk.count_wrong();
        talk.send(&wrong_reply(request))?;
        Ok(true)
    };
    for words in ["--pipeline 1", "--pipeline 8"] {
        let (server, measured) = load_on(about, words);
        let wrongs = server.wrongs();
        let first = measured.failed_by(&[(kind, wrongs)]);
        assert!(first.ends_with(&format!(", request 2: {told}")), "{first}");
        assert_eq!(measured.answered(), server.requests() - wrongs);
    }
}

#[test]
fn a_body_that_does_not_fit_its_checksum() {
    let told = "the reply's checksum is wrong";
    each_third("bad_checksum", told, |request| {
        let mut reply = request.reply();
        reply[HEADER_BYTES + 20] ^= 0x10;
        reply
    });
}

#[test]
fn another_body_with_a_right_checksum() {
    let told = "the reply's body of 32 bytes is not the request's of 32 bytes";
    each_third("wrong_body", told, |request| {
        let mut body = request.body.clone();
        body[31] ^= 1;
        frame(request.code, &body)
    });
}

#[test]
fn a_body_that_is_cut_short() {
    let told = "the reply's body of 31 bytes is not the request's of 32 bytes";
    each_third("wrong_body", told, |request| {
        frame(request.code, &request.body[..31])
    });
}

#[test]
fn another_code() {
    let told = "the reply has code 77, the request code 1";
    each_third("wrong_code", told, |request| frame(77, &request.body));
}

#[test]
fn an_error_instead() {
    let told = "the server answered ERROR OVERLOADED: not now";
    each_third("error_reply", told, |request| {
        let mut reply = Vec::new();
        encode_error(&mut reply, request.code, Reason::Overloaded, "not now");
        reply
    });
}

#[test]
fn a_reply_that_comes_twice() {
    for words in ["--pipeline 1", "--pipeline 8"] {
        let twice = |talk: &mut Talk, request: &Request| {
            if !request.is_each(3) {
                return Ok(false);
            }
            talk.count_wrong();
            talk.send(&[request.reply(), request.reply()].concat())?;
            Ok(true)
        };
        let (server, measured) = load_on(twice, words);
        let first = measured.failed_by(&[("unexpected", server.wrongs())]);
        let expected = ": a second reply came to request 2";
        assert!(first.ends_with(expected), "{first}");
        assert_eq!(measured.answered(), server.requests());
    }
}

/// Something that was published, to a connection that has subscribed to nothing.
const EVENT: (u16, &[u8]) = (10, b"\x04newsgood");

#[test]
fn a_frame_that_nobody_asked_for() {
    let after_a_reply = |talk: &mut Talk, request: &Request| {
        if request.is_each(3) {
            talk.count_wrong();
            talk.send(&[request.reply(), frame(EVENT.0, EVENT.1)].concat())?;
        }
        Ok(request.is_each(3))
    };
    let (server, measured) = load_on(after_a_reply, "");
    let first = measured.failed_by(&[("unexpected", server.wrongs())]);
    let expected = "request 3: a frame of code 10 came that nobody had asked for";
    assert!(first.ends_with(expected), "{first}");
    assert_eq!(measured.answered(), server.requests());
}

#[test]
fn a_frame_among_others_costs_one_reply() {
    // It is taken for the reply to the oldest request, whose own one then answers nothing.
    let before_a_reply = |talk: &mut Talk, request: &Request| {
        if request.is_each(3) {
            talk.count_wrong();
            talk.send(&[frame(EVENT.0, EVENT.1), request.reply()].concat())?;
        }
        Ok(request.is_each(3))
    };
    let (server, measured) = load_on(before_a_reply, "--pipeline 8");
    let wrongs = server.wrongs();
    measured.failed_by(&[("wrong_code", wrongs), ("unexpected", wrongs)]);
    assert_eq!(measured.answered(), server.requests() - wrongs);
}

#[test]
fn a_goodbye_is_no_error() {
    let goodbye = |talk: &mut Talk, request: &Request| {
        if request.is_each(3) {
            talk.send(&frame(codes::GOAWAY, &1000_u32.to_be_bytes()))?;
        }
        Ok(false)
    };
    let (server, measured) = load_on(goodbye, "--pipeline 4");
    measured.passed();
    assert_eq!(measured.answered(), server.requests());
}

#[test]
fn replies_in_another_order() {
    let swap = |talk: &mut Talk, request: &Request| {
        // So it is with the fifth of the first eight, which come together.
        if !request.is_each(5) || !talk.has_next() {
            return Ok(false);
        }
        let Some(later) = talk.next()? else {
            return Ok(false);
        };
        talk.count_wrong();
        talk.send(&[later.reply(), request.reply()].concat())?;
        Ok(true)
    };
    let (server, measured) = load_on(swap, "--pipeline 8");
    let wrongs = server.wrongs();
    assert!(wrongs > 0);
    let first = measured.failed_by(&[("out_of_order", wrongs)]);
    let expected = ": the reply to request 4 came after that to a later one";
    assert!(first.ends_with(expected), "{first}");
    assert_eq!(measured.answered(), server.requests() - wrongs);
}

#[test]
fn the_reply_to_another_connection() {
    let latest = Mutex::new(None);
    let server = Server::start_but(move |talk, request| {
        let latest = latest
            .lock()
            .unwrap()
            .replace((talk.number, request.reply()));
        let Some((_, others)) = latest.filter(|&(number, _)| number != talk.number) else {
            return Ok(false);
        };
        talk.count_wrong();
        talk.send(&others)?;
        Ok(true)
    });
    let words = "--connections 2 --duration 1h";
    let program = start_load(server.address(), words);
    // The first one on each of the two, and no matter what from then on.
    server.wait_for_requests(2);
    program.signal(Signal::INT);
    let measured = Measured::of(program.ended());
    assert!(server.wrongs() > 0);
    measured.failed_by(&[("wrong_body", server.wrongs())]);
}

#[test]
fn replies_that_never_come_among_others() {
    let drop = |talk: &mut Talk, request: &Request| {
        if request.is_each(3) {
            talk.count_wrong();
        }
        Ok(request.is_each(3))
    };
    // The last ones of the run are given up after the timeout.
    let (server, measured) = load_on(drop, "--pipeline 8 --timeout 1s");
    let wrongs = server.wrongs();
    let first = measured.failed_by(&[("missing", wrongs)]);
    assert!(first.contains(": no reply came to request "), "{first}");
    assert_eq!(measured.answered(), server.requests() - wrongs);
}

#[test]
fn a_reply_that_never_comes_is_given_up_after_the_timeout() {
    let server = Server::start_but(|_, request| Ok(request.number == 2));
    let words = "--connections 2 --duration 1h --timeout 100ms";
    let program = start_load(server.address(), words);
    // More than the first three on each: it goes on.
    server.wait_for_requests(7);
    program.signal(Signal::INT);
    let measured = Measured::of(program.ended());
    assert!(measured.count("missing") >= 1, "{measured:?}");
    let first = measured.first_error();
    assert!(first.ends_with(": no reply came to request 2"), "{first}");
}

#[test]
fn a_reply_after_the_timeout_is_a_message_and_an_error() {
    let server = Server::start_but(|talk, request| {
        if request.number != 2 {
            return Ok(false);
        }
        // The next one is sent when this one has been given up.
        let Some(next) = talk.next()? else {
            return Ok(false);
        };
        talk.send(&[next.reply(), request.reply()].concat())?;
        Ok(true)
    });
    let words = "--connections 1 --duration 1h --timeout 200ms";
    let program = start_load(server.address(), words);
    server.wait_for_requests(20);
    program.signal(Signal::INT);
    let measured = Measured::of(program.ended());
    assert!(measured.count("late") >= 1, "{measured:?}");
    let first = measured.failed_by(&[]);
    let took_ms: u64 = first
        .strip_prefix("connection 0: the reply to request ")
        .and_then(|rest| {
            rest.split_once(" took ")?
                .1
                .strip_suffix(" ms")?
                .parse()
                .ok()
        })
        .unwrap_or_else(|| panic!("{first}"));
    assert!(took_ms >= 200, "{first}");
    assert!(measured.record.summary.latency_us.max >= 200_000.0);
}

#[test]
fn a_length_that_no_frame_has_ends_the_connection() {
    let server = Server::start_but(|talk, request| {
        if request.number < 3 {
            return Ok(false);
        }
        let mut reply = request.reply();
        reply[..2].copy_from_slice(&4_u16.to_be_bytes());
        talk.send(&reply)?;
        Ok(true)
    });
    let measured = load(server.address(), "--connections 2 --duration 1h");
    let first = measured.failed_by(&[("bad_length", 2), ("missing", 2)]);
    let expected = "request 3: a frame says that it is 4 bytes long, which none can be";
    assert!(first.ends_with(expected), "{first}");
    assert_eq!(measured.answered(), 6);
    assert!(measured.record.summary.seconds < 3600.0);
}

#[test]
fn a_length_that_takes_in_what_follows() {
    let server = Server::start_but(|talk, request| {
        if request.number != 2 {
            return Ok(false);
        }
        let mut reply = request.reply();
        reply[1] += 1;
        talk.send(&reply)?;
        Ok(true)
    });
    let words = "--connections 1 --duration 1h --timeout 100ms";
    let program = start_load(server.address(), words);
    // The third is given up, the fourth's reply ends that frame, and the rest makes no sense.
    server.wait_for_requests(6);
    program.signal(Signal::INT);
    let measured = Measured::of(program.ended());
    assert_eq!(measured.count("bad_checksum"), 1, "{measured:?}");
    assert!(measured.count("missing") > 0, "{measured:?}");
    assert_eq!(measured.answered(), 2);
    measured.first_error();
}

/// Lengths of the pieces that replies of 40 bytes come in.
const PIECES: [&[usize]; 4] = [&[1], &[7, 1, 33], &[39, 2], &[8, 32, 3, 5]];

#[test]
fn replies_in_pieces_are_right() {
    let answer = |talk: &mut Talk, request: &Request| {
        send_in_pieces(talk, request, &request.reply())?;
        Ok(true)
    };
    let (server, measured) = load_on(answer, "--pipeline 4");
    measured.passed();
    assert_eq!(measured.answered(), server.requests());
}

#[test]
fn replies_in_pieces_are_judged_like_whole_ones() {
    let answer = |talk: &mut Talk, request: &Request| {
        let mut reply = request.reply();
        if request.is_each(3) {
            talk.count_wrong();
            reply[39] ^= 1;
        }
        send_in_pieces(talk, request, &reply)?;
        Ok(true)
    };
    let (server, measured) = load_on(answer, "--pipeline 4");
    let wrongs = server.wrongs();
    measured.failed_by(&[("bad_checksum", wrongs)]);
    assert_eq!(measured.answered(), server.requests() - wrongs);
}

/// In other pieces on each connection and for each reply.
fn send_in_pieces(talk: &mut Talk, request: &Request, bytes: &[u8]) -> io::Result<()> {
    let number = usize::try_from(request.number).unwrap_or_default();
    let mut lengths = PIECES[(talk.number + number) % PIECES.len()].iter().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = lengths.next().map_or(1, |&length| length.min(rest.len()));
        talk.send(&rest[..length])?;
        rest = &rest[length..];
    }
    Ok(())
}
