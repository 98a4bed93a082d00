//! Hosts that can't run the server: they are told what they lack and how to mend it.

use crate::support::program::{Ended, start_limited};
use crate::support::user::{User as _, connect};

fn served_under(limits: &str) -> Ended {
    start_limited(
        limits,
        &["--admin", "off", "--listen", "127.0.0.1:0", "--shards", "1"],
    )
    .ended()
}

#[test]
fn too_little_memory_to_lock_is_told() {
    let ended = served_under("ulimit -l 64");
    assert_eq!(
        ended.failed_with(1),
        "this host can't run corelane: too little memory may be locked: 65536 bytes, at least \
         524288 are needed: raise it with `ulimit -l`, LimitMEMLOCK= in systemd, or --ulimit \
         memlock= in Docker"
    );
}

#[test]
fn too_few_files_are_told() {
    let ended = served_under("ulimit -n 40");
    assert_eq!(
        ended.failed_with(1),
        "this host can't run corelane: too few files may be open: 40, at least 125 are needed: \
         raise it with `ulimit -n`, LimitNOFILE= in systemd, or --ulimit nofile= in Docker"
    );
}

#[test]
fn all_that_is_lacking_is_told_at_once() {
    let ended = served_under("ulimit -l 64 && ulimit -n 40");
    let sentence = ended.failed_with(1);
    for lack in [
        "too little memory may be locked",
        "too few files may be open",
    ] {
        assert!(sentence.contains(lack), "{sentence}");
    }
}

#[test]
fn a_soft_limit_of_files_is_raised() {
    let words = [
        "--admin",
        "off",
        "--listen",
        "127.0.0.1:0",
        "--shards",
        "1",
        "--set",
        "shards.pin=false",
    ];
    let server = start_limited("ulimit -S -n 40", &words);
    connect(server.address()).ping();
}
