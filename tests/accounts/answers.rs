//! What clients are told.

use corelane::protocol::messages::{LoggedIn, Registered};
use corelane::protocol::{Reason, codes};

use crate::peer::{Peer, bytes_of};
use crate::program;
use crate::support::{Came, Site, body_of, login, register, try_login, try_register};
use crate::user::{User as _, connect, refused};

const IN_MEMORY: &str = "accounts.store=memory";

#[test]
fn an_account_is_registered_once_and_logs_in_with_its_password() {
    let server = program::serve(&[IN_MEMORY]);
    let mut client = connect(server.address());
    assert_eq!(
        try_login(&mut client, "alice", "correct horse"),
        Came::Rejected
    );
    assert_eq!(
        try_register(&mut client, "alice", "correct horse"),
        Came::Done
    );
    assert_eq!(
        try_register(&mut client, "alice", "another"),
        Came::Rejected
    );
    assert_eq!(try_login(&mut client, "alice", "another"), Came::Rejected);
    assert_eq!(try_login(&mut client, "alice", "correct horse"), Came::Done);
    // As it is, byte by byte.
    assert_eq!(
        try_login(&mut client, "Alice", "correct horse"),
        Came::Rejected
    );
    let (longest, password) = ("ü".repeat(27) + "x", "p".repeat(39));
    assert_eq!(try_register(&mut client, &longest, &password), Came::Done);
    assert_eq!(try_login(&mut client, &longest, &password), Came::Done);
    assert_eq!(
        try_login(&mut client, &longest[..54], &password),
        Came::Rejected
    );
}

#[test]
fn an_unknown_name_and_a_wrong_password_are_answered_alike() {
    let server = program::serve(&[IN_MEMORY]);
    let mut client = connect(server.address());
    assert_eq!(
        try_register(&mut client, "alice", "correct horse"),
        Came::Done
    );
    let mut answer_to = |name: &str| {
        client.send_message(&login(name, "wrong")).unwrap();
        client.receive().unwrap()
    };
    assert_eq!(answer_to("alice"), answer_to("nobody"));
}

#[test]
fn what_does_not_fit_is_a_bad_body() {
    let server = program::serve(&[IN_MEMORY, "limits.max_bad_frames=100"]);
    let mut client = connect(server.address());
    let whole = body_of(&register("alice", "correct horse"));
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
            &body_of(&register("", "correct horse")),
            "a username has 1 to 55 bytes",
        ),
        (
            &body_of(&register("alice", "")),
            "a password has 1 to 39 bytes",
        ),
    ] {
        let text = client.ask_in_vain(codes::REGISTER, body, Reason::BadBody);
        assert!(text.contains(words), "{text}");
    }
    for message in [login("", "x"), login("alice", "")] {
        refused(client.call(&message), Reason::BadBody);
    }
    client.ask_in_vain(codes::LOGIN, &whole, Reason::BadBody);
    assert_eq!(
        try_register(&mut client, "alice", "correct horse"),
        Came::Done
    );
}

#[test]
fn switched_off_there_are_no_such_codes() {
    let server = program::serve(&["accounts.store=off", "accounts.path=/nowhere/at/all"]);
    let mut client = connect(server.address());
    let register = client.call(&register("alice", "correct horse"));
    refused(register, Reason::UnknownCode);
    let login = client.call(&login("alice", "correct horse"));
    refused(login, Reason::UnknownCode);
}

/// The bytes that the protocol's page has, so that no client is in between.
#[test]
fn requests_are_those_of_the_test_vectors() {
    let server = program::serve(&[IN_MEMORY]);
    let mut peer = Peer::connect(server.address());
    let mut bytes = bytes_of("006c 0005 76876d70 00000001 616c696365");
    bytes.resize(8 + 60, 0);
    bytes.extend(b"correct horse");
    bytes.resize(0x6c, 0);
    peer.send_bytes(&bytes);
    let (username, password) = ("alice", ());
    let reply = Registered {
        kind: 1,
        username,
        password,
    };
    peer.expect(codes::REGISTER, &body_of(&reply));
    let mut bytes = bytes_of("0068 0006 204e6b05 616c696365");
    bytes.resize(8 + 56, 0);
    bytes.extend(b"correct horse");
    bytes.resize(0x68, 0);
    peer.send_bytes(&bytes);
    let reply = LoggedIn { username, password };
    peer.expect(codes::LOGIN, &body_of(&reply));
}

#[test]
fn a_start_again_keeps_the_accounts() {
    let site = Site::new();
    let server = site.serve(&[]);
    let mut client = connect(server.address());
    assert_eq!(
        try_register(&mut client, "alice", "correct horse"),
        Came::Done
    );
    server.signal(rustix::process::Signal::TERM);
    let ended = server.ended();
    assert_eq!(ended.status, Some(0));
    // Hashing takes longer than handlers.slow_ms, which is no news.
    assert!(!ended.stderr.contains("a handler was slow"), "{ended:?}");
    let server = site.serve(&[]);
    let mut client = connect(server.address());
    assert_eq!(try_login(&mut client, "alice", "correct horse"), Came::Done);
    assert_eq!(
        try_register(&mut client, "alice", "another"),
        Came::Rejected
    );
}
