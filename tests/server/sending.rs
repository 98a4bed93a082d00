//! `corelane send` against a server, no server, and a listener that never answers.

use std::net::TcpListener;

use crate::support::program::{Ended, run, serve};

fn send(address: &str, words: &[&str]) -> Ended {
    run(&[&["send", address][..], words].concat())
}

#[test]
fn replies_are_printed_a_line_each() {
    let server = serve(&[]);
    let address = server.address().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, "from a file").unwrap();
    let file = file.to_str().unwrap();

    let cases: [(&[&str], &str, &str); 6] = [
        (&["--code", "0"], "PING (code 0), 0 bytes in ", " ms\n"),
        (&["--code", "1"], "ECHO (code 1), 0 bytes in ", " ms\n"),
        (
            &["--code", "1", "--body", "hello wörld"],
            "ECHO (code 1), 12 bytes in ",
            " ms: hello wörld\n",
        ),
        (
            &["--code", "1", "--hex", "00 01 ff"],
            "ECHO (code 1), 3 bytes in ",
            " ms: 0001ff\n",
        ),
        (
            &["--code", "1", "--hex", "41"],
            "ECHO (code 1), 1 byte in ",
            " ms: A\n",
        ),
        (
            &["--code", "1", "--file", file],
            "ECHO (code 1), 11 bytes in ",
            " ms: from a file\n",
        ),
    ];
    for (words, start, end) in cases {
        let ended = send(&address, words);
        let line = ended.succeeded();
        assert!(line.starts_with(start) && line.ends_with(end), "{line:?}");
        assert_eq!(line.lines().count(), 1);
    }

    let ended = send(
        &address,
        &["--code", "1", "--body", "again", "--count", "5"],
    );
    let lines: Vec<_> = ended.succeeded().lines().collect();
    assert_eq!(lines.len(), 5);
    assert!(
        lines.iter().all(|line| line.ends_with("ms: again")),
        "{lines:?}"
    );
}

#[test]
fn an_error_is_a_failure_with_its_reason() {
    let server = serve(&[]);
    let address = server.address().to_string();
    let cases: [(&[&str], &str); 3] = [
        (
            &["--code", "1000"],
            "the server answered ERROR UNKNOWN_CODE to code 1000: unknown message code 1000",
        ),
        (
            &["--code", "0", "--body", "x"],
            "the server answered ERROR BAD_BODY to code 0: a PING has no body",
        ),
        (
            &["--code", "65535", "--count", "100"],
            "the server answered ERROR UNKNOWN_CODE to code 65535: unknown message code 65535",
        ),
    ];
    for (words, expected) in cases {
        assert_eq!(send(&address, words).failed_with(1), expected);
    }
}

#[test]
fn a_body_beyond_the_servers_limit_is_a_failure_with_its_reason() {
    let server = serve(&["limits.max_frame_bytes=100"]);
    let address = server.address().to_string();
    let ended = send(&address, &["--code", "1", "--body", &"x".repeat(93)]);
    assert_eq!(
        ended.failed_with(1),
        "the server answered ERROR BAD_LENGTH to code 1: a length of 101 is not between 8 and 100"
    );
}

#[test]
fn no_server_is_a_failure() {
    // Nobody listens any more on a port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ended = send(&address.to_string(), &["--code", "0"]);
    let expected = format!("cannot connect to {address}: Connection refused");
    let sentence = ended.failed_with(1);
    assert!(sentence.starts_with(&expected), "{sentence}");
}

#[test]
fn a_server_that_never_answers_is_a_failure_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ended = send(&address, &["--code", "0", "--timeout", "50ms"]);
    assert_eq!(ended.failed_with(1), "no reply came within 50 ms");
}

#[test]
fn a_server_that_hangs_up_is_a_failure() {
    let server = serve(&["protocol.errors=silent", "limits.max_bad_frames=1"]);
    let ended = send(&server.address().to_string(), &["--code", "77"]);
    assert_eq!(ended.failed_with(1), "the server closed the connection");
}

#[test]
fn what_is_no_body_is_refused() {
    let cases: [(&[&str], &str); 5] = [
        (&["--hex", "0g"], "\"0g\" is not two hexadecimal digits"),
        (&["--hex", "123"], "3 digits are no whole number of bytes"),
        (
            &["--file", "/nonexistent/body"],
            "cannot read /nonexistent/body",
        ),
        (&["--body", "a", "--hex", "00"], "cannot be used with"),
        (&["--timeout", "0s"], "must be longer than nothing"),
    ];
    for (words, expected) in cases {
        // A port where nothing listens: it must not come to that.
        let ended = send("127.0.0.1:1", &[&["--code", "1"], words].concat());
        assert_eq!(ended.status, Some(2), "{words:?}: {ended:?}");
        assert_eq!(ended.stdout, "");
        assert!(ended.stderr.contains(expected), "{words:?}: {ended:?}");
    }
}

#[test]
fn a_body_that_no_frame_can_hold_is_refused() {
    let server = serve(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, vec![b'x'; 65_528]).unwrap();
    let words = ["--code", "1", "--file", file.to_str().unwrap()];
    let ended = send(&server.address().to_string(), &words);
    assert_eq!(
        ended.failed_with(1),
        "a body of 65528 bytes is too long: at most 65527 fit a frame"
    );
}

#[test]
fn names_of_hosts_are_looked_up_and_nonsense_is_told() {
    let server = serve(&[]);
    let named = format!("localhost:{}", server.address().port());
    assert_eq!(send(&named, &["--code", "0"]).status, Some(0));

    let ended = send("nowhere", &["--code", "0"]);
    let sentence = ended.failed_with(2);
    assert!(
        sentence.starts_with("nowhere is no address: "),
        "{sentence}"
    );
}
