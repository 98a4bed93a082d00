//! `corelane report`: several load runs, laid over one another in one page.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use corelane::load;

use super::Failure;

#[derive(Args)]
pub(super) struct Arguments {
    /// Report folders that `corelane load --report` wrote, or their latency.json
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Name of a run in the page, once for each run in their order; without, its folder's name
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (runs, names) = (&arguments.runs, &arguments.names);
    if names.len() > runs.len() {
        return Err(Failure::Usage(format!(
            "--name stands {} times, but must stand at most once for each run, which is {}",
            names.len(),
            runs.len()
        )));
    }
    let runs = load::read_runs(runs, names).map_err(Failure::usage)?;
    load::save_page(&arguments.output, &runs).map_err(Failure::run)?;
    writeln!(std::io::stdout(), "{}", arguments.output.display()).map_err(Failure::run)
}
