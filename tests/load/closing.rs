//! Connections that end: counted, with what was under way, and a run without connections is over.

use std::io;

use rustix::process::Signal;

use crate::support::measured::{Measured, load, start_load};
use crate::support::server::{Request, Server, Talk};

/// Runs load with three connections on a server that answers three requests on each and does this
/// with the fourth before it closes. The run would take far longer than any test.
#[track_caller]
fn at_the_fourth(
    end: impl Fn(&mut Talk, &Request) -> io::Result<()> + Send + Sync + 'static,
) -> Measured {
    let server = Server::start(move |talk| {
        while let Some(request) = talk.next()? {
            if request.number == 3 {
                return end(talk, &request);
            }
            talk.answer(&request)?;
        }
        Ok(())
    });
    let measured = load(server.address(), "--connections 3 --duration 1h");
    assert_eq!(measured.answered(), 9, "{measured:?}");
    assert!(measured.record.summary.seconds < 3600.0);
    assert!(!measured.record.summary.interrupted);
    measured
}

const ENDED: [(&str, u64); 2] = [("closed", 3), ("missing", 3)];

#[test]
fn a_server_that_closes() {
    let measured = at_the_fourth(|_, _| Ok(()));
    let first = measured.failed_by(&ENDED);
    assert!(
        first.starts_with("the server closed connection "),
        "{first}"
    );
}

#[test]
fn a_server_that_breaks_off() {
    let measured = at_the_fourth(|talk, _| talk.reset_at_end());
    let first = measured.failed_by(&ENDED);
    assert!(
        first.contains(" broke: Connection reset by peer"),
        "{first}"
    );
}

#[test]
fn a_server_that_closes_in_the_middle_of_a_reply() {
    for length in [1, 4, 8, 39] {
        let measured = at_the_fourth(move |talk, request| talk.send(&request.reply()[..length]));
        let first = measured.failed_by(&ENDED);
        assert!(
            first.starts_with("the server closed connection "),
            "{first}"
        );
    }
}

#[test]
fn the_other_connections_go_on() {
    let server = Server::start(|talk| {
        while let Some(request) = talk.next()? {
            if talk.number == 0 && request.number == 2 {
                return Ok(());
            }
            talk.answer(&request)?;
        }
        Ok(())
    });
    let words = "--connections 3 --threads 2 --duration 1h";
    let program = start_load(server.address(), words);
    server.wait_for_requests(1000);
    program.signal(Signal::INT);
    let measured = Measured::of(program.ended());
    measured.failed_by(&[("closed", 1), ("missing", 1)]);
    assert!(measured.messages() > 900, "{measured:?}");
}

#[test]
fn with_a_rate_too() {
    let server = Server::start(|talk| {
        while let Some(request) = talk.next()? {
            if request.number == 3 {
                return Ok(());
            }
            talk.answer(&request)?;
        }
        Ok(())
    });
    let words = "--connections 3 --rate 1000 --duration 1h";
    let measured = load(server.address(), words);
    measured.failed_by(&ENDED);
    assert_eq!(measured.answered(), 9);
}
