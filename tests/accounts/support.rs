//! Requests, replies, and servers with a file of accounts in a folder of their own.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use corelane::Config;
use corelane::client::{Answer, Client, ClientError, Reply};
use corelane::config::ShardCount;
use corelane::protocol::messages::{LoggedIn, Login, Register, Registered};
use corelane::protocol::{Message, Reason, Secret, codes};
use tempfile::TempDir;

use crate::program::{self, Program};
use crate::user::{User as _, connect};

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

pub(crate) fn register<'a>(username: &'a str, password: &str) -> Register<'a> {
    Register {
        kind: KIND,
        username,
        password: Secret::new(password).unwrap(),
    }
}

pub(crate) fn login<'a>(username: &'a str, password: &str) -> Login<'a> {
    Login {
        username,
        password: Secret::new(password).unwrap(),
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Done,
    Rejected,
    Overloaded,
}

/// What the answer to a REGISTER or LOGIN of this name says.
#[track_caller]
pub(crate) fn meaning(answer: Result<Reply, ClientError>, username: &str) -> Came {
    let password = ();
    match answer {
        Ok(reply) if reply.code == codes::LOGIN => {
            let expected = LoggedIn { username, password };
            assert_eq!(reply.message::<LoggedIn<'_>>().unwrap(), expected);
            Came::Done
        }
        Ok(reply) => {
            let expected = Registered {
                kind: KIND,
                username,
                password,
            };
            assert_eq!(reply.message::<Registered<'_>>().unwrap(), expected);
            Came::Done
        }
        Err(error) => match error.reason() {
            Some(Reason::Rejected) => Came::Rejected,
            Some(Reason::Overloaded) => Came::Overloaded,
            _ => panic!("{error}"),
        },
    }
}

#[track_caller]
pub(crate) fn try_register(client: &mut Client, username: &str, password: &str) -> Came {
    let answer = client.call(&register(username, password));
    meaning(answer.map(Answer::into_reply), username)
}

#[track_caller]
pub(crate) fn try_login(client: &mut Client, username: &str, password: &str) -> Came {
    let answer = client.call(&login(username, password));
    meaning(answer.map(Answer::into_reply), username)
}

/// Connections that both of two shards have some of.
pub(crate) fn clients_on_two_shards(address: SocketAddr) -> Vec<Client> {
    let mut clients: Vec<_> = (0..8).map(|_| connect(address)).collect();
    clients.iter_mut().for_each(Client::ping);
    clients
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
