//! Another configuration for a server that runs, in a program of somebody else.

use corelane::protocol::codes;
use corelane::{Config, ReloadError};

use crate::support::library::{address_of, builder, builder_with, config};
use crate::support::peer::Peer;

fn changed(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = config(1);
    change(&mut config);
    config
}

#[test]
fn all_shards_go_by_the_new_limits_when_the_call_returns() {
    let before = config(2);
    let server = builder_with(before.clone()).start().unwrap();
    // Enough for both shards to have some.
    let mut peers: Vec<Peer> = (0..8).map(|_| Peer::connect(address_of(&server))).collect();
    peers.iter_mut().for_each(Peer::ping);
    for (max, is_taken) in [(100, false), (200, true), (100, false)] {
        let mut after = before.clone();
        after.limits.max_frame_bytes = max;
        let changes = server.handle().reload(after.clone()).unwrap();
        assert_eq!(changes.in_place, ["limits.max_frame_bytes"]);
        assert_eq!(server.handle().config(), after);
        for peer in &mut peers {
            peer.send(codes::ECHO, &[7; 150]);
            let reply = peer.next().unwrap();
            let expected = if is_taken { codes::ECHO } else { codes::ERROR };
            assert_eq!(reply.code, expected);
        }
        if !is_taken {
            peers = (0..8).map(|_| Peer::connect(address_of(&server))).collect();
        }
    }
}

#[test]
fn what_can_not_change_or_is_wrong_changes_nothing() {
    let server = builder().start().unwrap();
    let handle = server.handle();
    let before = handle.config();
    let fixed = changed(|config| {
        config.server.backlog = 9;
        config.shards.pin = !config.shards.pin;
        config.limits.max_frame_bytes = 100;
    });
    let error = handle.reload(fixed).unwrap_err();
    let sentence = "server.backlog, shards.pin can't change while the server runs: start it again, \
                    or set them back";
    assert_eq!(error.to_string(), sentence);
    assert!(matches!(error, ReloadError::Fixed { .. }));
    let wrong = changed(|config| config.limits.max_bad_frames = 0);
    assert!(matches!(handle.reload(wrong), Err(ReloadError::Config(_))));
    assert_eq!(handle.config(), before);
    let mut peer = Peer::connect(address_of(&server));
    peer.send(codes::ECHO, &[7; 150]);
    assert_eq!(peer.next().unwrap().code, codes::ECHO);
    assert!(handle.reload(before).unwrap().is_empty());
}

#[test]
fn a_server_that_goes_down_keeps_what_it_has() {
    let server = builder().start().unwrap();
    let handle = server.handle();
    let mut peer = Peer::connect(address_of(&server));
    peer.ping();
    handle.drain();
    assert_eq!(peer.next().unwrap().code, codes::GOAWAY);
    let error = handle
        .reload(changed(|config| config.limits.max_frame_bytes = 100))
        .unwrap_err();
    assert_eq!(error.to_string(), "the server goes down");
    peer.send(codes::ECHO, &[7; 150]);
    assert_eq!(peer.next().unwrap().code, codes::ECHO);
    drop(peer);
    server.wait().unwrap();
    assert!(matches!(
        handle.reload(config(1)),
        Err(ReloadError::GoesDown)
    ));
}
