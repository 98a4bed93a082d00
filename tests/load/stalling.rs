//! A server that stalls, is too slow, or never answers.

use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use corelane::load::Record;

use crate::support::measured::load;
use crate::support::server::Server;

const STALL: Duration = Duration::from_millis(200);

/// A server that answers nobody for [`STALL`] once so many requests have come.
fn stalls_once(after: u64) -> Server {
    let state = Mutex::new((0, None));
    Server::start_but(move |_, _| {
        let until = {
            let (requests, until) = &mut *state.lock().unwrap();
            *requests += 1;
            if *requests == after {
                *until = Some(Instant::now() + STALL);
            }
            *until
        };
        if let Some(until) = until {
            sleep(until.saturating_duration_since(Instant::now()));
        }
        Ok(false)
    })
}

/// The longest time in which no reply came, in parts of the timeline.
fn longest_gap(record: &Record) -> usize {
    let parts = record.timeline.split(|part| part.messages > 0);
    parts.map(<[_]>::len).max().unwrap_or_default()
}

#[test]
fn a_stall_shows_in_an_open_loop() {
    let server = stalls_once(800);
    let words = "--connections 4 --pipeline 4 --rate 2000 --duration 1s";
    let measured = load(server.address(), words);
    // A fifth of the requests were due in the stall: half of them waited for half of it or longer.
    let latency = measured.record.summary.latency_us;
    assert!(latency.p90 >= 90_000.0, "{latency:?}");
    assert!(latency.max >= 190_000.0, "{latency:?}");
    measured.found_nothing_wrong();
    assert!(measured.messages() <= 2000, "{measured:?}");

    // The timeline's parts are of 10 ms: nothing came in the stall, and then what had waited.
    let record = &measured.record;
    assert!(longest_gap(record) >= 15, "{measured:?}");
    let highest = record.timeline.iter().filter_map(|part| part.max_us);
    assert!(highest.fold(0.0, f64::max) >= 190_000.0);
}

#[test]
fn the_same_stall_hides_in_a_closed_loop() {
    let server = stalls_once(100);
    let measured = load(server.address(), "--connections 2 --duration 1s");
    measured.passed();
    let latency = measured.record.summary.latency_us;
    assert!(latency.p90 < 50_000.0, "{latency:?}");
    assert!(latency.max >= 190_000.0, "{latency:?}");
    assert!(longest_gap(&measured.record) >= 15, "{measured:?}");
}

#[test]
fn a_rate_that_is_not_reached_is_told() {
    let server = Server::start_but(|_, _| {
        sleep(Duration::from_millis(5));
        Ok(false)
    });
    let words = "--connections 1 --rate 10000 --duration 300ms";
    let measured = load(server.address(), words);
    let sentence = measured.failed_otherwise();
    let share = sentence
        .strip_prefix("a rate of 10000 requests a second was not reached: only ")
        .and_then(|rest| {
            rest.strip_suffix(
                "% of them were sent in time; lower --rate, or raise --connections, --pipeline \
                 or --threads",
            )
        });
    let share: f64 = share
        .and_then(|share| share.parse().ok())
        .unwrap_or_else(|| panic!("{sentence}"));
    // 60 requests at most, of 3,000.
    assert!(share <= 2.1, "{sentence}");
    let in_time = measured.record.summary.sent_in_time.unwrap();
    assert!((in_time * 100.0 - share).abs() <= 0.06, "{sentence}");
    // What is sent after the end has waited since it was due.
    assert!(measured.record.summary.latency_us.max >= 290_000.0);
    assert_eq!(measured.answered(), server.requests());
    // What came after the end is none of the throughput.
    assert!(measured.messages() <= 60, "{measured:?}");
}

#[test]
fn no_rate_is_too_high_to_end_in_time() {
    let server = Server::start_but(|_, _| Ok(false));
    let words = "--connections 2 --rate 1e9 --duration 300ms";
    let began = Instant::now();
    let measured = load(server.address(), words);
    // A second of catching up is allowed, and a busy host gets as much again, several times.
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(measured.failed_otherwise().contains("was not reached"));
}

#[test]
fn a_server_that_never_answers() {
    let server = Server::start_but(|_, _| Ok(true));
    let words = "--connections 2 --pipeline 4 --duration 300ms --timeout 200ms";
    let measured = load(server.address(), words);
    let requests = server.requests();
    assert!(requests >= 8);
    let first = measured.failed_by(&[("missing", requests)]);
    assert!(first.ends_with(": no reply came to request 0"), "{first}");
    let latency = measured.record.summary.latency_us;
    assert_eq!((measured.answered(), latency.max), (0, 0.0));
}

#[test]
fn a_server_that_never_answers_an_open_loop() {
    let server = Server::start_but(|_, _| Ok(true));
    let words = "--connections 2 --rate 100 --duration 300ms --timeout 200ms";
    let measured = load(server.address(), words);
    measured.failed_by(&[("missing", server.requests())]);
    assert_eq!(measured.messages(), 0);
}
