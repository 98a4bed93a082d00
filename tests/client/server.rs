//! The server of this crate, in this process, with handlers to talk to.

use std::cell::Cell;
use std::time::Duration;

use corelane::client::{Backoff, Client, Options};
use corelane::config::ShardCount;
use corelane::protocol::messages::{LoggedIn, Login, Publish, Published, Subscribe};
use corelane::protocol::{Reason, codes};
use corelane::{Config, Reply, Server, ServerBuilder, apps, glommio};

/// How long a test waits for anything: generous, since it is only reached by a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Answers how many requests of this code came before, as a `u32`.
pub(crate) const COUNT: u16 = 1000;
/// Answers with nothing.
pub(crate) const MUTE: u16 = 1001;

/// A configuration of one shard, on a port of the kernel's choice.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.server.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.shards.count = ShardCount::Exactly(1.try_into().unwrap());
    config.shards.pin = false;
    config.shards.busy_poll_us = 0;
    config.log.stats_seconds = 0;
    config
}

/// A client that waits until the deadline.
pub(crate) fn options() -> Options {
    Client::options().timeout(DEADLINE)
}

/// Pauses that a test can wait for.
pub(crate) fn quickly() -> Backoff {
    Backoff {
        first: Duration::from_millis(1),
        max: Duration::from_millis(10),
        attempts_max: 3,
    }
}

pub(crate) fn started(config: Config) -> Server {
    let builder = builder(config).handler(codes::PING, apps::ping);
    builder.start().unwrap()
}

/// All but PING.
pub(crate) fn builder(config: Config) -> ServerBuilder<Cell<u32>> {
    Server::builder_with_state(config, |_shard| Cell::new(0_u32))
        .handler(codes::ECHO, apps::echo)
        .handler(COUNT, |count, context, _body| {
            count.set(count.get() + 1);
            context.reply(&(count.get() - 1).to_be_bytes())
        })
        .handler(MUTE, |_count, _context, _body| Reply::none())
        .message_handler::<Publish, _>(|_count, context, publish| {
            let receivers = publish.payload.len().try_into().unwrap_or(u32::MAX);
            context.reply_message(&Published { receivers })
        })
        .async_message_handler::<Subscribe, _>(async |_count, _request, subscribe| {
            glommio::timer::sleep(Duration::from_millis(1)).await;
            Reply::message(&subscribe)
        })
        .message_handler::<Login, _>(|_count, context, login| {
            if login.password.expose() != "correct horse" {
                return Reply::error(Reason::Rejected, "wrong name or password");
            }
            context.reply_message(&LoggedIn {
                username: login.username,
                password: (),
            })
        })
}
