//! `corelane serve`: the server, until INT or TERM.

use std::io::Write;

use clap::Args;
use corelane::config::{Config, Override};
use corelane::process::{logging, signals};
use corelane::protocol::codes;
use corelane::{Server, StartError, apps};

use super::{ConfigArguments, Failure};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// TCP address to listen on; may be given several times
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// How many shards: a number, or auto for one per available CPU
    #[arg(long, value_name = "N|auto")]
    shards: Option<String>,
    /// CPUs to pin the shards to, in order, like 0-3,8
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
}

impl Arguments {
    fn load(&self) -> Result<Config, Failure> {
        let mut overrides = Vec::new();
        if !self.listen.is_empty() {
            overrides.push(Override {
                key: "server.listen".to_owned(),
                value: self.listen.clone().into(),
                origin: format!("--listen {}", self.listen.join(" --listen ")),
            });
        }
        if let Some(count) = &self.shards {
            let origin = format!("--shards {count}");
            overrides.push(Override::new("shards.count", count, origin));
        }
        if let Some(cpus) = &self.cpus {
            let origin = format!("--cpus {cpus}");
            overrides.push(Override::new("shards.cpus", cpus, origin));
        }
        self.config.load(overrides).map_err(Failure::usage)
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.load()?;
    logging::start(&config.log).map_err(Failure::run)?;
    let server = Server::builder(config)
        .handler(codes::PING, apps::ping)
        .handler(codes::ECHO, apps::echo)
        .start()
        .map_err(|error| match error {
            StartError::Config(_) | StartError::Placement(_) => Failure::usage(error),
            _ => Failure::run(error),
        })?;
    signals::stop_on_signals(server.handle()).map_err(Failure::run)?;
    announce(&server).map_err(Failure::run)?;
    server.wait().map(drop).map_err(Failure::run)
}

fn announce(server: &Server) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let shards = match server.shards() {
        1 => "1 shard".to_owned(),
        count => format!("{count} shards"),
    };
    for address in server.addresses() {
        writeln!(out, "corelane: listening on {address} ({shards})")?;
    }
    out.flush()
}
