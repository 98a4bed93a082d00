//! The CPUs that this process may use.

use std::io;
use std::num::NonZeroUsize;

/// The CPUs of the process's affinity mask, in ascending order.
pub(crate) fn allowed() -> io::Result<Vec<usize>> {
    let mask = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&cpu| mask.is_set(cpu))
        .collect())
}

/// How many CPUs' worth of time the process may use: the affinity mask and the quota of its
/// cgroup (v1 or v2) together, at least 1. The standard library knows both.
pub(crate) fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
