//! The library's server in this process: modest, on a port of the kernel's choice.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use corelane::config::ShardCount;
use corelane::metrics::Counters;
use corelane::protocol::codes;
use corelane::{Config, Server, ServerBuilder, apps};

/// The configuration of a server of so many shards.
pub(crate) fn config(shards: u16) -> Config {
    let mut config = Config::default();
    config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.shards.count = ShardCount::Exactly(NonZeroU16::new(shards).unwrap());
    config.shards.pin = false;
    config.shards.busy_poll_us = 0;
    config.log.stats_seconds = 0;
    config
}

/// Puts a server of one shard together, with PING and ECHO.
pub(crate) fn builder() -> ServerBuilder<()> {
    builder_with(config(1))
}

/// The same with a configuration of one's own.
pub(crate) fn builder_with(config: Config) -> ServerBuilder<()> {
    Server::builder(config)
        .handler(codes::PING, apps::ping)
        .handler(codes::ECHO, apps::echo)
}

/// Where it listens.
pub(crate) fn address_of(server: &Server) -> SocketAddr {
    server.addresses()[0]
}

/// Stops a server of one shard and gives back what it has counted.
pub(crate) fn stopped(server: Server) -> Counters {
    server.handle().stop();
    let [counters] = server.wait().unwrap().try_into().unwrap();
    counters
}
