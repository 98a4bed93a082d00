//! Which shard runs on which CPU.

use std::fmt::Write as _;

use crate::config::{CpuChoice, ShardCount, Shards};

/// The shards do not fit the CPUs of this host: the configuration's mistake, or the host's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// A CPU was named that is not there, or not for this process.
    #[error(
        "shards.cpus names CPU {cpu}, but this process may run on {allowed} only: name some of \
         those, or widen its affinity mask"
    )]
    NoSuchCpu {
        /// The CPU.
        cpu: usize,
        /// The CPUs that there are, as a list.
        allowed: String,
    },
    /// More pinned shards than CPUs.
    #[error(
        "shards.count is {count}, but this process may run on {allowed} only: ask for {available} or \
         less, or set shards.pin = false"
    )]
    TooManyShards {
        /// Shards asked for.
        count: usize,
        /// How many CPUs there are.
        available: usize,
        /// The CPUs that there are, as a list.
        allowed: String,
    },
}

/// The CPU of each shard, in shard order; `None` where it is not pinned.
///
/// `allowed` are the CPUs of the affinity mask, ascending; `parallelism` is how many CPUs' worth
/// of time the process has.
pub(crate) fn place(
    shards: &Shards,
    allowed: &[usize],
    parallelism: usize,
) -> Result<Vec<Option<usize>>, PlacementError> {
    let cpus: Vec<usize> = match &shards.cpus {
        CpuChoice::Auto => allowed.to_vec(),
        CpuChoice::List(list) => list.ids().iter().map(|&cpu| usize::from(cpu)).collect(),
    };
    if let Some(&cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(PlacementError::NoSuchCpu {
            cpu,
            allowed: list(allowed),
        });
    }
    let count = match (shards.count, &shards.cpus) {
        (ShardCount::Exactly(count), _) => usize::from(count.get()),
        (ShardCount::Auto, CpuChoice::Auto) => parallelism.clamp(1, cpus.len().max(1)),
        (ShardCount::Auto, CpuChoice::List(_)) => cpus.len(),
    };
    if !shards.pin {
        return Ok(vec![None; count]);
    }
    if count > cpus.len() {
        return Err(PlacementError::TooManyShards {
            count,
            available: cpus.len(),
            allowed: list(allowed),
        });
    }
    Ok(cpus.into_iter().take(count).map(Some).collect())
}

/// CPUs as people write them: `CPUs 0-3,8`.
fn list(cpus: &[usize]) -> String {
    let mut text = String::from(if cpus.len() == 1 { "CPU " } else { "CPUs " });
    for (index, run) in cpus.chunk_by(|a, b| a + 1 == *b).enumerate() {
        if index > 0 {
            text.push(',');
        }
        if let [first, .., last] = run {
            let _ = write!(text, "{first}-{last}");
        } else if let [only] = run {
            let _ = write!(text, "{only}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Override};

    fn shards(settings: &[&str]) -> Shards {
        let overrides: Vec<_> = settings
            .iter()
            .map(|setting| Override::parse(setting).unwrap())
            .collect();
        Config::load(None, &overrides).unwrap().shards
    }

    fn pinned(cpus: &[usize]) -> Vec<Option<usize>> {
        cpus.iter().copied().map(Some).collect()
    }

    #[test]
    fn automatic_shards_take_what_mask_and_quota_leave() {
        let auto = shards(&[]);
        assert_eq!(place(&auto, &[0, 1, 4], 3), Ok(pinned(&[0, 1, 4])));
        assert_eq!(place(&auto, &[0, 1, 4], 2), Ok(pinned(&[0, 1])));
        assert_eq!(place(&auto, &[2], 1), Ok(pinned(&[2])));
    }

    #[test]
    fn a_list_pins_in_its_order() {
        let listed = shards(&["shards.cpus=3,0-1"]);
        assert_eq!(place(&listed, &[0, 1, 2, 3], 4), Ok(pinned(&[3, 0, 1])));
        let some = shards(&["shards.cpus=3,0-1", "shards.count=2"]);
        assert_eq!(place(&some, &[0, 1, 2, 3], 4), Ok(pinned(&[3, 0])));
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named() {
        let error = place(&shards(&["shards.cpus=0-3"]), &[0, 1], 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "shards.cpus names CPU 2, but this process may run on CPUs 0-1 only: name some of \
             those, or widen its affinity mask"
        );
    }

    #[test]
    fn more_shards_than_cpus_need_leave_to_float() {
        let error = place(&shards(&["shards.count=3"]), &[5], 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "shards.count is 3, but this process may run on CPU 5 only: ask for 1 or less, or set \
             shards.pin = false"
        );
        let floating = shards(&["shards.count=3", "shards.pin=false"]);
        assert_eq!(place(&floating, &[5], 1), Ok(vec![None; 3]));
    }

    #[test]
    fn cpus_are_written_as_ranges() {
        assert_eq!(list(&[0, 1, 2, 5, 7, 8]), "CPUs 0-2,5,7-8");
    }
}
