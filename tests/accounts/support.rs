//! Requests, replies, and servers with a file of accounts in a folder of their own.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use corelane::Config;
use corelane::config::ShardCount;
use corelane::protocol::messages::{LoggedIn, Login, Register, Registered};
use corelane::protocol::{ErrorBody, Message, Reason, Secret, codes};
use tempfile::TempDir;

use crate::peer::{Frame, Peer};
use crate::program::{self, Program};

/// A folder, with or without a file of accounts in it.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("accounts.redb")
    }

    /// As a setting of the file.
    pub(crate) fn setting(&self) -> String {
        format!("accounts.path={}", self.path().display())
    }

    /// Starts a server with this file, and these settings besides; ready when this returns.
    pub(crate) fn serve(&self, settings: &[&str]) -> Program {
        let path = self.setting();
        program::serve(&[&[path.as_str()], settings].concat())
    }
}

/// The account's type in all tests.
pub(crate) const KIND: i32 = -77;

/// The body of a message.
pub(crate) fn body_of<M: Message>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    corelane::protocol::encode_message(&mut frame, message).unwrap();
    frame.split_off(corelane::protocol::HEADER_BYTES)
}

/// The body of a REGISTER.
pub(crate) fn register(username: &str, password: &str) -> Vec<u8> {
    body_of(&Register {
        kind: KIND,
        username,
        password: Secret::new(password).unwrap(),
    })
}

/// The body of a LOGIN.
pub(crate) fn login(username: &str, password: &str) -> Vec<u8> {
    body_of(&Login {
        username,
        password: Secret::new(password).unwrap(),
    })
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Done,
    Rejected,
    Overloaded,
}

/// What a reply to a REGISTER or LOGIN of this name says.
#[track_caller]
pub(crate) fn meaning(reply: &Frame, username: &str) -> Came {
    match reply.code {
        codes::REGISTER => {
            let expected = Registered {
                kind: KIND,
                username,
                password: (),
            };
            assert_eq!(reply.body, body_of(&expected));
            Came::Done
        }
        codes::LOGIN => {
            let expected = LoggedIn {
                username,
                password: (),
            };
            assert_eq!(reply.body, body_of(&expected));
            Came::Done
        }
        codes::ERROR => {
            let error = ErrorBody::parse(&reply.body).unwrap();
            match Reason::from_number(error.reason) {
                Some(Reason::Rejected) => Came::Rejected,
                Some(Reason::Overloaded) => Came::Overloaded,
                _ => panic!("{error:?}"),
            }
        }
        _ => panic!("{reply:?}"),
    }
}

/// Registers, once there is room for it.
#[track_caller]
pub(crate) fn try_register(peer: &mut Peer, username: &str, password: &str) -> Came {
    ask(
        peer,
        codes::REGISTER,
        &register(username, password),
        username,
    )
}

/// Logs in, once there is room for it.
#[track_caller]
pub(crate) fn try_login(peer: &mut Peer, username: &str, password: &str) -> Came {
    ask(peer, codes::LOGIN, &login(username, password), username)
}

#[track_caller]
fn ask(peer: &mut Peer, code: u16, body: &[u8], username: &str) -> Came {
    peer.send(code, body);
    let reply = peer.next().expect("a reply comes, not the end");
    meaning(&reply, username)
}

/// Connections that both of two shards have some of.
pub(crate) fn peers_on_two_shards(address: SocketAddr) -> Vec<Peer> {
    let mut peers: Vec<_> = (0..8).map(|_| Peer::connect(address)).collect();
    peers.iter_mut().for_each(Peer::ping);
    peers
}

/// The configuration of a server of one shard in this process.
pub(crate) fn modest() -> Config {
    let mut config = Config::default();
    config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.shards.count = ShardCount::Exactly(NonZeroU16::MIN);
    config.shards.pin = false;
    config.shards.busy_poll_us = 0;
    config
}
