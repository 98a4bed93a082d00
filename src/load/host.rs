//! The machine that the load generator runs on.

use std::fs;

use super::record::Host;
use crate::sys::cpus;

/// What is known of this machine; what the kernel does not say is called unknown.
pub(super) fn describe() -> Host {
    let kernel = rustix::system::uname();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let values = |key: &'static str| {
        cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(move |(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim().to_owned())
    };
    Host {
        name: kernel.nodename().to_string_lossy().into_owned(),
        kernel: format!(
            "{} {} {}",
            kernel.sysname().to_string_lossy(),
            kernel.release().to_string_lossy(),
            kernel.machine().to_string_lossy()
        ),
        cpu_model: values("model name")
            .next()
            .unwrap_or_else(|| "unknown".to_owned()),
        cpus_online: values("processor").count(),
        cpus_allowed: cpus::allowed().map_or(0, |cpus| cpus.len()),
    }
}
