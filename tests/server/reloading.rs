//! Another configuration for a server that runs, in a program of somebody else.

use corelane::client::Client;
use corelane::protocol::{Reason, codes};
use corelane::{Config, ReloadError};

use crate::support::library::{address_of, builder, builder_with, config};
use crate::support::user::{User as _, connect};

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
    let mut clients: Vec<Client> = (0..8).map(|_| connect(address_of(&server))).collect();
    clients.iter_mut().for_each(Client::ping);
    for (max, is_taken) in [(100, false), (200, true), (100, false)] {
        let mut after = before.clone();
        after.limits.max_frame_bytes = max;
        let changes = server.handle().reload(after.clone()).unwrap();
        assert_eq!(changes.in_place, ["limits.max_frame_bytes"]);
        assert_eq!(server.handle().config(), after);
        for client in &mut clients {
            if is_taken {
                client.echo(&[7; 150]);
            } else {
                client.ask_in_vain(codes::ECHO, &[7; 150], Reason::BadLength);
                *client = connect(address_of(&server));
            }
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
    connect(address_of(&server)).echo(&[7; 150]);
    assert!(handle.reload(before).unwrap().is_empty());
}

#[test]
fn a_server_that_goes_down_keeps_what_it_has() {
    let server = builder().start().unwrap();
    let handle = server.handle();
    let mut client = connect(address_of(&server));
    client.ping();
    handle.drain();
    client.expect_push(codes::GOAWAY, &30_000_u32.to_be_bytes());
    let error = handle
        .reload(changed(|config| config.limits.max_frame_bytes = 100))
        .unwrap_err();
    assert_eq!(error.to_string(), "the server goes down");
    client.echo(&[7; 150]);
    drop(client);
    server.wait().unwrap();
    assert!(matches!(
        handle.reload(config(1)),
        Err(ReloadError::GoesDown)
    ));
}
