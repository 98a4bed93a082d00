//! Ctrl-C ends a run early, which still reports; a second one ends it at once.

use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::measured::{Measured, start_load};
use crate::support::program::{DEADLINE, start};
use crate::support::server::Server;

#[test]
fn an_interrupted_run_reports() {
    for signal in [Signal::INT, Signal::TERM] {
        let measured = interrupted(signal, "--connections 2 --duration 1h");
        measured.passed();
    }
}

#[test]
fn an_interrupted_run_with_a_rate_reports() {
    let words = "--connections 2 --duration 1h --rate 1000 --threads 2";
    let measured = interrupted(Signal::INT, words);
    measured.found_nothing_wrong();
    assert!(measured.record.summary.sent_in_time.is_some());
}

/// Interrupts a run after a hundred requests.
#[track_caller]
fn interrupted(signal: Signal, words: &str) -> Measured {
    let server = Server::start_but(|_, _| Ok(false));
    let program = start_load(server.address(), words);
    server.wait_for_requests(100);
    program.signal(signal);
    let measured = Measured::of(program.ended());
    let summary = &measured.record.summary;
    assert!(summary.interrupted);
    assert!(summary.seconds > 0.0 && summary.seconds < 3600.0);
    assert!(summary.messages > 50 && summary.messages <= server.requests());
    measured
}

#[test]
fn an_interrupted_run_fails_by_what_went_wrong() {
    let server = Server::start_but(|talk, request| {
        if request.number != 5 {
            return Ok(false);
        }
        let mut reply = request.reply();
        reply[39] ^= 1;
        talk.send(&reply)?;
        Ok(true)
    });
    let program = start_load(server.address(), "--connections 1 --duration 1h");
    server.wait_for_requests(20);
    program.signal(Signal::INT);
    let measured = Measured::of(program.ended());
    measured.failed_by(&[("bad_checksum", 1)]);
    assert!(measured.record.summary.interrupted);
}

#[test]
fn a_run_interrupted_in_its_warm_up_reports_nothing() {
    let server = Server::start_but(|_, _| Ok(false));
    let program = start_load(server.address(), "--connections 2 --warmup 1h --rate 500");
    server.wait_for_requests(20);
    program.signal(Signal::INT);
    let measured = Measured::of(program.ended());
    measured.passed();
    let summary = &measured.record.summary;
    assert!(summary.interrupted);
    assert_eq!((summary.messages, summary.seconds), (0, 0.0));
}

#[test]
fn an_interrupted_run_has_a_table() {
    let server = Server::start_but(|_, _| Ok(false));
    let address = server.address().to_string();
    let program = start(&["load", &address, "--warmup", "0s", "--duration", "1h"]);
    server.wait_for_requests(100);
    program.signal(Signal::INT);
    let ended = program.ended();
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""));
    let first_line = ended.stdout.lines().next().unwrap();
    assert!(first_line.contains(" (ended early, after "), "{ended:?}");
}

#[test]
fn a_second_interrupt_does_not_wait_for_replies() {
    let server = Server::start_but(|_, _| Ok(true));
    let mut program = start_load(server.address(), "--connections 1 --timeout 1h");
    server.wait_for_requests(1);
    // One is not enough, and two that come together count as one.
    let deadline = Instant::now() + DEADLINE;
    while !program.has_ended() {
        assert!(Instant::now() < deadline, "the program does not end");
        program.signal(Signal::INT);
        sleep(Duration::from_millis(5));
    }
    let ended = program.ended();
    assert_eq!(ended.status.signal(), Some(Signal::INT.as_raw()));
}

#[test]
fn an_interrupt_waits_for_the_last_replies_but_not_long() {
    let server = Server::start_but(|_, _| Ok(true));
    let words = "--connections 2 --duration 1h --timeout 1h";
    let program = start_load(server.address(), words);
    server.wait_for_requests(2);
    program.signal(Signal::INT);
    let measured = Measured::of(program.ended());
    assert!(measured.record.summary.interrupted);
    measured.failed_by(&[("missing", 2)]);
}
