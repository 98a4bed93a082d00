//! Words that make no sense are status 2, and what cannot be done is status 1: each with one
//! sentence.

use std::net::TcpListener;

use crate::support::program::{Ended, start, start_limited};

fn load(words: &[&str]) -> Ended {
    start(&[&["load"][..], words].concat()).ended()
}

#[test]
fn a_plan_that_makes_no_sense() {
    let cases: [(&[&str], &str); 14] = [
        (
            &["--connections", "0"],
            "the number of connections must be at least 1",
        ),
        (&["--pipeline", "0"], "the pipeline must be at least 1"),
        (
            &["--threads", "0"],
            "the number of threads must be at least 1",
        ),
        (
            &["--duration", "0s"],
            "the duration must be longer than nothing",
        ),
        (
            &["--duration", "31d"],
            "the duration is longer than 30 days: give a shorter one",
        ),
        (
            &["--warmup", "31d"],
            "the warm-up is longer than 30 days: give a shorter one",
        ),
        (
            &["--rate", "0"],
            "a rate of 0 requests a second cannot be kept: give a number above 0, up to 1e9",
        ),
        (
            &["--rate", "-5"],
            "a rate of -5 requests a second cannot be kept: give a number above 0, up to 1e9",
        ),
        (
            &["--rate", "nan"],
            "a rate of NaN requests a second cannot be kept: give a number above 0, up to 1e9",
        ),
        (
            &["--rate", "inf"],
            "a rate of inf requests a second cannot be kept: give a number above 0, up to 1e9",
        ),
        (
            &["--body-size", "65528"],
            "a body of 65528 bytes fits no frame: at most 65527 do",
        ),
        (
            &["--code", "0", "--body-size", "1"],
            "a PING (code 0) has no body: leave the body's size out, or make it 0",
        ),
        (
            &["127.0.0.1"],
            "127.0.0.1 is no address: invalid socket address; give host and port, like \
             127.0.0.1:8700",
        ),
        (
            &["127.0.0.1:65536"],
            "127.0.0.1:65536 is no address: invalid port value; give host and port, like \
             127.0.0.1:8700",
        ),
    ];
    for (words, sentence) in cases {
        let ended = load(words);
        assert_eq!(ended.failed_with(2), sentence);
        assert_eq!(ended.stdout, "");
    }
    let ended = load(&["--cpus", "1023"]);
    let sentence = ended.failed_with(2);
    let start = "this process may not run on CPU 1023: it may on ";
    assert!(sentence.starts_with(start), "{sentence}");
}

#[test]
fn words_that_cannot_be_read() {
    let cases: [(&[&str], &str); 8] = [
        (&["--cpus", "3-1"], "the range 3-1 runs backwards"),
        (&["--cpus", "one"], "--cpus <LIST>"),
        (&["--rate", "fast"], "--rate <R>"),
        (&["--connections", "-1"], "-1"),
        (&["--duration", "10"], "give a time like 5s or 500ms"),
        (&["--busy-poll", "10"], "give a time like 5s or 500ms"),
        (&["--code", "65536"], "--code <N>"),
        (&["127.0.0.1:1", "127.0.0.1:2"], "127.0.0.1:2"),
    ];
    for (words, told) in cases {
        let ended = load(words);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert_eq!(ended.stdout, "");
        let first = ended.stderr.lines().next().unwrap();
        assert!(
            first.starts_with("error: ") && first.contains(told),
            "{ended:?}"
        );
    }
}

#[test]
fn nobody_listens() {
    // Nobody does any more on a port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for more in [&[][..], &["--json"], &["--threads", "3"], &["--rate", "10"]] {
        let ended = load(&[&[address.to_string().as_str()], more].concat());
        let expected = format!("cannot connect to {address}: Connection refused (os error 111)");
        assert_eq!(ended.failed_with(1), expected);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn a_server_process_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Beyond what the kernel gives out, 2^22.
    let ended = load(&[&address, "--server-pid", "4194999"]);
    assert_eq!(
        ended.failed_with(1),
        "process 4194999 cannot be looked at: No such process (os error 3)"
    );
    assert_eq!(ended.stdout, "");
}

#[test]
fn more_connections_than_files() {
    let words = ["load", "127.0.0.1:1", "--connections", "100"];
    let ended = start_limited("ulimit -n 100", &words).ended();
    assert_eq!(
        ended.failed_with(1),
        "100 connections need 134 open files, but only 100 are allowed: ask for fewer, or raise \
         the limit with `ulimit -n`"
    );
    assert_eq!(ended.stdout, "");
}
