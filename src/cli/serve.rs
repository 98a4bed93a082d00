//! `corelane serve`: the server, until it is told to go down; alone, or by way of a master.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use clap::Args;
use corelane::apps::accounts::Accounts;
use corelane::apps::topics::Topics;
use corelane::config::{Config, Override, ProcessMode};
use corelane::process::control::{ControlThread, Stage, Superior};
use corelane::process::listeners::PassedOn;
use corelane::process::pid_file::PidFile;
use corelane::process::worker::{ServerBuilder, spare_cpus};
use corelane::process::{control, identity, listeners, logging, notify};
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
    /// HTTP address for the dashboard, metrics and health, or off
    #[arg(long, value_name = "ADDR|off")]
    admin: Option<String>,
    /// CPUs to pin the shards to, in order, like 0-3,8
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
}

impl Arguments {
    /// The configuration file, if there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.config.config.as_deref()
    }

    pub(super) fn load(&self) -> Result<Config, Failure> {
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
        if let Some(admin) = &self.admin {
            let address = if admin == "off" { "" } else { admin.as_str() };
            overrides.push(Override {
                key: "admin.listen".to_owned(),
                value: address.into(),
                origin: format!("--admin {admin}"),
            });
        }
        if let Some(cpus) = &self.cpus {
            let origin = format!("--cpus {cpus}");
            overrides.push(Override::new("shards.cpus", cpus, origin));
        }
        self.config.load(overrides).map_err(Failure::usage)
    }
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.load()?;
    match config.process.mode {
        ProcessMode::Single => serve_alone(arguments, config),
        ProcessMode::Supervised => super::master::become_master(&config, arguments.file()),
    }
}

/// The server in this process, without a master.
fn serve_alone(arguments: Arguments, config: Config) -> Result<(), Failure> {
    logging::start(&config.log).map_err(Failure::run)?;
    let _pid_file = config
        .process
        .pid_file()
        .map(PidFile::claim)
        .transpose()
        .map_err(Failure::run)?;
    let read_config = move || arguments.load().map_err(Failure::into_message);
    let superior = Superior::Operator(Box::new(read_config));
    let (server, control) = start(config, superior, Stage::Starting)?;
    announce(server.addresses(), server.shards()).map_err(Failure::run)?;
    tell(notify::READY);
    let outcome = server.wait();
    control.end();
    outcome.map(drop).map_err(Failure::run)
}

/// Takes the sockets that were passed on or opens those of the configuration, becomes the user
/// that it names, and starts the server that ships, which obeys this superior. Operators are
/// answered from this stage on.
pub(super) fn start(
    config: Config,
    superior: Superior,
    admin_from: Stage,
) -> Result<(Server, ControlThread), Failure> {
    let (sockets, admin) = match listeners::passed_on().map_err(Failure::usage)? {
        Some(PassedOn { serving, admin }) if !serving.is_empty() => (serving, admin),
        passed => {
            let admin = passed.and_then(|passed| passed.admin);
            (listeners::open_all(&config).map_err(start_failure)?, admin)
        }
    };
    let admin = match admin {
        Some(admin) => Some(admin),
        None => listeners::open_admin(&config).map_err(start_failure)?,
    };
    identity::take_on(&config.process).map_err(Failure::run)?;
    let accounts = accounts(&config)?;
    let mut server = with_topics(config)
        .listeners(sockets)
        .handler(codes::PING, apps::ping)
        .handler(codes::ECHO, apps::echo)
        // Also where nobody answers them.
        .secret(codes::REGISTER)
        .secret(codes::LOGIN);
    if let Some(accounts) = &accounts {
        server = server.accounts(accounts);
    }
    let (server, control) = server
        .start_with(|handle| {
            let companion = super::admin::companion(handle.clone(), admin, admin_from);
            control::obey(handle, superior, Some(companion))
        })
        .map_err(start_failure)?;
    let control = control.map_err(Failure::run)?;
    control.serving();
    Ok((server, control))
}

/// As the user that the server is by now.
fn accounts(config: &Config) -> Result<Option<Accounts>, Failure> {
    let cpus = spare_cpus(config).map_err(start_failure)?;
    Accounts::start(&config.accounts, &cpus).map_err(Failure::run)
}

/// What the handlers of one shard share.
struct State {
    topics: Topics<State>,
}

impl AsRef<Topics<State>> for State {
    fn as_ref(&self) -> &Topics<State> {
        &self.topics
    }
}

fn with_topics(config: Config) -> ServerBuilder<State> {
    let limits = config.topics.clone();
    let state = move |local| State {
        topics: Topics::new(local, limits.clone()),
    };
    Server::builder_with_state(config, state).topics()
}

fn start_failure(error: StartError) -> Failure {
    match error {
        StartError::Config(_) | StartError::Placement(_) => Failure::usage(error),
        _ => Failure::run(error),
    }
}

/// Tells whoever started this process that it is ready, if it wants to know.
pub(super) fn tell(words: &str) {
    if let Err(error) = notify::tell(words) {
        tracing::warn!(%error, "whoever started this can't be told that it is ready");
    }
}

pub(super) fn announce(addresses: &[SocketAddr], shards: usize) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let shards = match shards {
        1 => "1 shard".to_owned(),
        count => format!("{count} shards"),
    };
    for address in addresses {
        writeln!(out, "corelane: listening on {address} ({shards})")?;
    }
    out.flush()
}
