//! Load on the real server, which answers everything rightly or says why not.

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::measured::{Measured, load, start_load};
use crate::support::program::{allowed_cpu, serve, start, start_on_terminal, until};
use crate::support::server::Server;

/// Runs load for a short while, which must find nothing wrong, and whose figures must agree with
/// each other.
#[track_caller]
fn runs_well(address: SocketAddr, words: &str) -> Measured {
    let words = format!("{words} --duration 100ms");
    let measured = load_until(address, &words, |measured| measured.messages() > 0);
    measured.passed();
    let summary = &measured.record.summary;
    let settings = &measured.record.settings;
    assert!((summary.seconds - 0.1).abs() < 1e-9 && !summary.interrupted);

    let in_timeline: u64 = measured
        .record
        .timeline
        .iter()
        .map(|part| part.messages)
        .sum();
    assert_eq!(in_timeline, summary.messages);
    // The replies to what was in flight at the end come after it.
    let in_flight = (settings.connections * settings.pipeline) as u64;
    let after_end = measured.answered() - summary.messages;
    assert!(after_end <= in_flight, "{after_end} of {in_flight}");

    let latency = summary.latency_us;
    let ascending = [
        0.0,
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p99_9,
        latency.p99_99,
        latency.max,
    ];
    assert!(ascending.is_sorted() && latency.p50 > 0.0, "{latency:?}");

    #[expect(clippy::cast_precision_loss, reason = "few messages")]
    let messages = summary.messages as f64;
    let frame_bytes = u32::try_from(8 + settings.body_bytes).unwrap();
    let bytes = messages * 2.0 * f64::from(frame_bytes);
    near(summary.messages_per_second * summary.seconds, messages);
    near(summary.bytes_per_second * summary.seconds, bytes);
    assert!(summary.load_cpu_us_per_message > 0.0);
    measured
}

/// Runs load until it has got on well enough, which a busy host may prevent.
#[track_caller]
fn load_until(address: SocketAddr, words: &str, enough: fn(&Measured) -> bool) -> Measured {
    let mut runs = (0..10).map(|_| load(address, words));
    runs.find(enough).expect("a run that gets on well")
}

#[track_caller]
fn near(number: f64, expected: f64) {
    assert!(
        (number / expected - 1.0).abs() < 1e-6,
        "{number} for {expected}"
    );
}

#[test]
fn what_is_asked_for_is_done() {
    let (_server, address) = serve();
    let as_usual = runs_well(address, "").record.settings;
    assert_eq!(
        (
            as_usual.connections,
            as_usual.pipeline,
            as_usual.code,
            as_usual.body_bytes
        ),
        (64, 1, 1, 32)
    );
    assert_eq!((as_usual.threads, as_usual.rate), (1, None));

    let ping = runs_well(address, "--code 0 --connections 3")
        .record
        .settings;
    assert_eq!((ping.code, ping.body_bytes), (0, 0));
    runs_well(
        address,
        "--code 0 --body-size 0 --pipeline 4 --connections 1",
    );
    for body in ["0", "1", "7", "16384", "28992"] {
        let words = format!("--connections 2 --pipeline 3 --body-size {body}");
        runs_well(address, &words);
    }
    runs_well(address, "--connections 2 --pipeline 32");
    let threads = runs_well(address, "--threads 3 --connections 7")
        .record
        .settings;
    assert_eq!((threads.threads, threads.connections), (3, 7));
    let few = runs_well(address, "--threads 3 --connections 2 --pipeline 2")
        .record
        .settings;
    assert_eq!(few.threads, 2, "a thread without a connection is none");
}

#[test]
fn many_connections_are_served() {
    let (server, address) = serve();
    let listening = server.open_sockets();
    let words = "--connections 500 --threads 2 --pipeline 2 --duration 1h";
    let program = start_load(address, words);
    until(|| (server.open_sockets() >= listening + 500).then_some(()));
    program.signal(Signal::INT);
    Measured::of(program.ended()).passed();
}

#[test]
fn threads_are_pinned_where_it_says() {
    let (_server, address) = serve();
    let cpu = allowed_cpu();
    let words = format!("--cpus {cpu} --threads 2 --connections 4 --duration 1h");
    let mut program = start_load(address, &words);
    // The threads besides the first, which only watches.
    let pinned = until(|| {
        assert!(!program.has_ended());
        let pinned = cpus_of_threads(program.pid());
        let pinned: Vec<String> = pinned
            .into_iter()
            .filter(|cpus| *cpus == cpu.to_string())
            .collect();
        (pinned.len() >= 2).then_some(pinned)
    });
    assert!(pinned.len() >= 2);
    program.signal(Signal::INT);
    let measured = Measured::of(program.ended());
    measured.passed();
    assert_eq!(measured.record.settings.cpus, [cpu]);
}

/// The CPUs that each thread of a process may run on, as the kernel writes them.
fn cpus_of_threads(pid: u32) -> Vec<String> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = folder.filter_map(|task| {
        // A thread may end meanwhile.
        std::fs::read_to_string(task.ok()?.path().join("status")).ok()
    });
    status
        .filter_map(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            line.map(|cpus| cpus.trim().to_owned())
        })
        .collect()
}

#[test]
fn a_rate_is_kept() {
    let (_server, address) = serve();
    for (words, messages) in [
        ("--rate 500 --duration 500ms", 250),
        (
            "--rate 100.5 --duration 500ms --connections 3 --threads 2 --pipeline 2",
            50,
        ),
    ] {
        let measured = load_until(address, words, |measured| {
            measured.record.summary.sent_in_time.unwrap() >= 0.95
        });
        measured.passed();
        assert!(measured.answered().abs_diff(messages) <= 2, "{measured:?}");
        assert!(measured.record.summary.sent_in_time.unwrap() <= 1.0);
    }
}

#[test]
fn what_came_before_the_measured_time_does_not_count() {
    let (_server, address) = serve();
    let words = "--rate 500 --warmup 500ms --duration 300ms";
    let measured = load(address, &format!("{words} --connections 8"));
    measured.found_nothing_wrong();
    assert!(measured.answered().abs_diff(150) <= 2, "{measured:?}");
}

#[test]
fn the_servers_process_is_measured() {
    let (server, address) = serve();
    let words = format!("--duration 200ms --server-pid {}", server.pid());
    // On a busy host, both readings may come when all is over.
    let measured = load_until(address, &words, |measured| {
        let used = measured.record.summary.server.as_ref();
        measured.messages() > 0 && used.is_some_and(|used| used.cpu_seconds > 0.0)
    });
    measured.passed();
    let used = measured.record.summary.server.clone().unwrap();
    assert!(used.resident_bytes > 1 << 20);
    #[expect(clippy::cast_precision_loss, reason = "few messages")]
    let messages = measured.messages() as f64;
    near(used.cpu_us_per_message * messages, used.cpu_seconds * 1e6);
}

#[test]
fn a_process_that_ends_before_the_run_is_told_and_the_rest_reported() {
    let (other, _) = serve();
    let server = Server::start_but(|_, _| Ok(false));
    let pid = other.pid();
    let words = format!("--connections 2 --duration 1h --server-pid {pid}");
    let program = start_load(server.address(), &words);
    server.wait_for_requests(20);
    other.signal(Signal::TERM);
    assert!(other.ended().status.success());
    program.signal(Signal::INT);
    let measured = Measured::of(program.ended());
    assert_eq!(
        measured.failed_otherwise(),
        format!(
            "process {pid} ended before the run did, so what it used is not known; give the \
             process that serves"
        )
    );
    assert!(measured.messages() > 10 && measured.record.summary.server.is_none());
}

#[test]
fn json_is_one_document_with_the_promised_keys() {
    let server = Server::start_but(|_, _| Ok(false));
    let program = start_load(server.address(), "--connections 2 --duration 1h");
    server.wait_for_requests(100);
    program.signal(Signal::INT);
    let ended = program.ended();
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""));
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    for key in ["messages", "seconds", "messages_per_second"] {
        assert!(document[key].as_f64().unwrap() > 0.0, "{key}: {document}");
    }
    for key in ["p50", "p90", "p99", "p99.9", "p99.99", "max"] {
        assert!(
            document["latency_us"][key].as_f64().unwrap() > 0.0,
            "{key}: {document}"
        );
    }
    let errors = document["errors"].as_object().unwrap();
    assert!(
        !errors.is_empty() && errors.values().all(|count| *count == 0),
        "{document}"
    );
    assert_eq!(document["format"], "corelane-load/1");
}

#[test]
fn people_get_a_table() {
    let (server, address) = serve();
    let (address, pid) = (address.to_string(), server.pid().to_string());
    let words = ["load", &address, "--warmup", "0s", "--duration", "300ms"];
    let more = ["--rate", "300", "--connections", "1", "--server-pid", &pid];
    // Whether a busy host lets it keep the rate is another matter.
    let ended = start(&[&words[..], &more].concat()).ended();
    let mut lines = ended.stdout.lines();
    let first = format!(
        "{address}: 1 connection, pipeline 1, open loop of 300 requests/s, ECHO with 32 bytes of \
         body, 1 thread"
    );
    assert_eq!(lines.next(), Some(first.as_str()));
    assert_eq!(lines.next(), Some(""));
    let rows = [
        ("messages", ""),
        ("throughput", " messages/s"),
        ("", " MB/s"),
        ("latency p50", " us"),
        ("p90", " us"),
        ("p99", " us"),
        ("p99.9", " us"),
        ("p99.99", " us"),
        ("max", " us"),
        ("load CPU", " us/message"),
        ("server CPU", " us/message"),
        ("server memory", " MiB resident"),
        ("sent in time", " %"),
        ("errors", " 0"),
    ];
    for (start, end) in rows {
        let line = lines.next().unwrap_or_default();
        let starts = line.starts_with(&format!("{start} "));
        assert!(starts && line.ends_with(end), "{start}: {ended:?}");
        assert!(line.contains(|c: char| c.is_ascii_digit()), "{line}");
    }
    assert_eq!(lines.next(), None, "{ended:?}");
}

#[test]
fn progress_shows_on_a_terminal_and_makes_room_for_the_table() {
    let server = Server::start_but(|_, _| Ok(false));
    let address = server.address().to_string();
    let words = ["load", &address, "--connections", "1", "--warmup", "0s"];
    let long = start_on_terminal(&[&words[..], &["--duration", "2100ms"]].concat()).ended();
    let (progress, table) = long.stdout.rsplit_once("\x1b[2K").unwrap();
    assert!(progress.contains(" s left "), "{progress}");
    assert!(progress.contains(" messages/s, p99 "), "{progress}");
    assert!(
        table.starts_with(&format!("{address}: 1 connection, ")),
        "{table}"
    );
    assert!(long.status.success(), "{table}");

    // What is over at once needs none.
    let short = start_on_terminal(&[&words[..], &["--duration", "50ms"]].concat()).ended();
    assert!(short.stdout.starts_with(&address), "{short:?}");
}

#[test]
fn requests_that_the_server_refuses_are_errors() {
    let (_server, address) = serve();
    // It closes at the third unknown code, and may do so when the next request is on its way.
    let unknown = load(address, "--code 4242 --connections 2 --duration 1h");
    let first = unknown.first_error();
    let expected = "the server answered ERROR UNKNOWN_CODE: unknown message code 4242";
    assert!(first.ends_with(expected), "{first}");
    refused(&unknown, 6, 2);

    let long = load(address, "--body-size 28993 --connections 3 --duration 1h");
    let first = long.first_error();
    let expected =
        "the server answered ERROR BAD_LENGTH: a length of 29001 is not between 8 and 29000";
    assert!(first.ends_with(expected), "{first}");
    refused(&long, 3, 3);
}

#[track_caller]
fn refused(measured: &Measured, error_replies: u64, connections: u64) {
    assert_eq!(measured.messages(), 0);
    assert_eq!(measured.count("error_reply"), error_replies, "{measured:?}");
    assert_eq!(measured.count("closed"), connections, "{measured:?}");
    assert!(measured.count("missing") <= connections, "{measured:?}");
    assert!(measured.record.summary.seconds < 3600.0);
}

#[test]
fn a_server_that_is_stopped_ends_the_run() {
    let (server, address) = serve();
    let listening = server.open_sockets();
    let words = format!(
        "--connections 8 --duration 1h --server-pid {}",
        server.pid()
    );
    let program = start_load(address, &words);
    until(|| (server.open_sockets() >= listening + 8).then_some(()));
    server.signal(Signal::TERM);
    let measured = Measured::of(program.ended());
    let first = measured.first_error();
    assert_eq!(measured.count("closed"), 8, "{measured:?}");
    assert!(first.contains("the server closed connection "), "{first}");
    assert!(measured.record.summary.seconds < 3600.0);
    assert!(!measured.record.summary.interrupted);
    assert!(server.ended().status.success());
}
