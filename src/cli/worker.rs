//! The worker of a master: no command of its own, but what the program is under that title.

use corelane::process::control::{Stage, Superior};
use corelane::process::handover::CAN_SUCCEED;
use corelane::process::notify::{MAILBOX, Mailbox, READY};
use corelane::process::{daemon, identity, launch, logging, title};

use super::{Failure, serve};

pub(super) fn run() -> Result<(), Failure> {
    title::name_process().map_err(Failure::run)?;
    let config = launch::config_of_worker().map_err(Failure::run)?;
    logging::start(&config.log).map_err(Failure::run)?;
    let (pid, version) = (std::process::id(), env!("CARGO_PKG_VERSION"));
    tracing::info!(pid, version, "the worker starts");
    let mailbox = Mailbox::open().map_err(Failure::run)?;
    let mail_to = format!("{MAILBOX}{}", mailbox.address());
    let superior = Superior::Master(mailbox);
    // Until it serves, operators are answered by the one that does.
    let admin_from = if launch::succeeds() {
        Stage::Serving
    } else {
        Stage::Starting
    };
    let (server, control) = serve::start(config, superior, admin_from)?;
    // Its signal has a handler now.
    identity::tie_to_master().map_err(Failure::run)?;
    daemon::let_go_of_streams().map_err(Failure::run)?;
    serve::tell(&format!("{CAN_SUCCEED}\n{mail_to}\n{READY}"));
    let outcome = server.wait();
    control.end();
    outcome.map(drop).map_err(Failure::run)
}
