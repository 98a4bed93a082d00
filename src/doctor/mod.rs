//! What is wrong with this host for a server, and the command that mends it.
//!
//! Looking and judging are apart: `look` reads the host once and touches nothing, and each group
//! of judgements is a pure function of what was seen and the configuration. Whether a server would
//! start is judged by the very code that its start uses; all else is advice. What the host does
//! not show is called unseen, never good.
//!
//! Limits and rights are those of this process: ask as the user, and under the limits, that the
//! server will have.

mod check;
mod cpus;
mod facts;
mod kernel;
mod limits;
mod look;
#[cfg(test)]
mod made_up;
mod memory;
mod network;
mod process;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;

pub use check::{Check, Verdict};

use crate::config::Config;
use facts::Facts;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// Why a server would not start, in its own words; none if it would.
    pub refusals: Vec<String>,
    /// One for each thing that was looked at.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// Whether a server with the configuration would start on this host.
    pub fn starts(&self) -> bool {
        self.refusals.is_empty() && self.count(Verdict::Fatal) == 0
    }

    /// How many things were judged so.
    pub fn count(&self, verdict: Verdict) -> usize {
        let such = |check: &&Check| check.verdict == verdict;
        self.checks.iter().filter(such).count()
    }
}

/// Looks at this host with the eyes of a server with this configuration, which was checked.
///
/// Raises this process's limit of open files as far as it may go, as a server does.
pub fn examine(config: &Config) -> Diagnosis {
    let asked = look::Asked::of_this_process(config);
    judge(&look::look(Path::new("/"), asked, config), config)
}

fn judge(facts: &Facts, config: &Config) -> Diagnosis {
    let groups = [
        kernel::judge,
        limits::judge,
        cpus::judge,
        memory::judge,
        network::judge,
        process::judge,
    ];
    Diagnosis {
        refusals: facts.refusals(),
        checks: groups
            .iter()
            .flat_map(|group| group(facts, config))
            .collect(),
    }
}
