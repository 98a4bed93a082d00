//! `corelane check`: is this configuration right, and what does it come to?

use std::io::Write;

use super::{ConfigArguments, Failure};
use clap::Args;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.config.load(Vec::new()).map_err(Failure::usage)?;
    std::io::stdout()
        .write_all(config.to_toml().as_bytes())
        .map_err(Failure::run)
}
