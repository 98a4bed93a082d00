//! What clients are told.

use corelane::protocol::{Reason, codes};

use crate::peer::Peer;
use crate::program;
use crate::support::{Came, Site, body_of, login, register, try_login, try_register};

const IN_MEMORY: &str = "accounts.store=memory";

#[test]
fn an_account_is_registered_once_and_logs_in_with_its_password() {
    let server = program::serve(&[IN_MEMORY]);
    let mut peer = Peer::connect(server.address());
    assert_eq!(
        try_login(&mut peer, "alice", "correct horse"),
        Came::Rejected
    );
    assert_eq!(
        try_register(&mut peer, "alice", "correct horse"),
        Came::Done
    );
    assert_eq!(try_register(&mut peer, "alice", "another"), Came::Rejected);
    assert_eq!(try_login(&mut peer, "alice", "another"), Came::Rejected);
    assert_eq!(try_login(&mut peer, "alice", "correct horse"), Came::Done);
    // As it is, byte by byte.
    assert_eq!(
        try_login(&mut peer, "Alice", "correct horse"),
        Came::Rejected
    );
    let (longest, password) = ("ü".repeat(27) + "x", "p".repeat(39));
    assert_eq!(try_register(&mut peer, &longest, &password), Came::Done);
    assert_eq!(try_login(&mut peer, &longest, &password), Came::Done);
    assert_eq!(
        try_login(&mut peer, &longest[..54], &password),
        Came::Rejected
    );
}

#[test]
fn an_unknown_name_and_a_wrong_password_are_answered_alike() {
    let server = program::serve(&[IN_MEMORY]);
    let mut peer = Peer::connect(server.address());
    assert_eq!(
        try_register(&mut peer, "alice", "correct horse"),
        Came::Done
    );
    let mut answer_to = |name: &str| {
        peer.send(codes::LOGIN, &login(name, "wrong"));
        peer.next().unwrap()
    };
    assert_eq!(answer_to("alice"), answer_to("nobody"));
}

#[test]
fn what_does_not_fit_is_a_bad_body() {
    let server = program::serve(&[IN_MEMORY, "limits.max_bad_frames=100"]);
    let mut peer = Peer::connect(server.address());
    let whole = register("alice", "correct horse");
    let mut no_text = whole.clone();
    no_text[4] = 0xff;
    let mut unended = whole.clone();
    unended[60..].fill(b'x');
    for (body, words) in [
        (&whole[..99], "password"),
        (&[&whole[..], b"x"].concat(), "Register"),
        (&no_text[..], "UTF-8"),
        (&unended[..], "0 to 39 bytes"),
        (
            &register("", "correct horse"),
            "a username has 1 to 55 bytes",
        ),
        (&register("alice", ""), "a password has 1 to 39 bytes"),
    ] {
        peer.send(codes::REGISTER, body);
        let text = peer.expect_error(codes::REGISTER, Reason::BadBody);
        assert!(text.contains(words), "{text}");
    }
    for body in [&login("", "x"), &login("alice", ""), &whole] {
        peer.send(codes::LOGIN, body);
        peer.expect_error(codes::LOGIN, Reason::BadBody);
    }
    assert_eq!(
        try_register(&mut peer, "alice", "correct horse"),
        Came::Done
    );
}

#[test]
fn switched_off_there_are_no_such_codes() {
    let server = program::serve(&["accounts.store=off", "accounts.path=/nowhere/at/all"]);
    let mut peer = Peer::connect(server.address());
    peer.send(codes::REGISTER, &register("alice", "correct horse"));
    peer.expect_error(codes::REGISTER, Reason::UnknownCode);
    peer.send(codes::LOGIN, &login("alice", "correct horse"));
    peer.expect_error(codes::LOGIN, Reason::UnknownCode);
}

/// The bytes that the protocol's page has.
#[test]
fn requests_are_those_of_the_test_vectors() {
    let server = program::serve(&[IN_MEMORY]);
    let mut peer = Peer::connect(server.address());
    let mut bytes = crate::peer::bytes_of("006c 0005 76876d70 00000001 616c696365");
    bytes.resize(8 + 60, 0);
    bytes.extend(b"correct horse");
    bytes.resize(0x6c, 0);
    peer.send_bytes(&bytes);
    let mut reply = body_of(&corelane::protocol::messages::Registered {
        kind: 1,
        username: "alice",
        password: (),
    });
    peer.expect(codes::REGISTER, &reply);
    let mut bytes = crate::peer::bytes_of("0068 0006 204e6b05 616c696365");
    bytes.resize(8 + 56, 0);
    bytes.extend(b"correct horse");
    bytes.resize(0x68, 0);
    peer.send_bytes(&bytes);
    peer.expect(codes::LOGIN, &reply.split_off(4));
}

#[test]
fn a_start_again_keeps_the_accounts() {
    let site = Site::new();
    let server = site.serve(&[]);
    let mut peer = Peer::connect(server.address());
    assert_eq!(
        try_register(&mut peer, "alice", "correct horse"),
        Came::Done
    );
    server.signal(rustix::process::Signal::TERM);
    let ended = server.ended();
    assert_eq!(ended.status, Some(0));
    // Hashing takes longer than handlers.slow_ms, which is no news.
    assert!(!ended.stderr.contains("a handler was slow"), "{ended:?}");
    let server = site.serve(&[]);
    let mut peer = Peer::connect(server.address());
    assert_eq!(try_login(&mut peer, "alice", "correct horse"), Came::Done);
    assert_eq!(try_register(&mut peer, "alice", "another"), Came::Rejected);
}
