//! The machine: what it is, and whose CPU is whose.

use std::fmt;
use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{Failure, OrFailed as _};

/// Binds this thread to one CPU.
pub(crate) fn pin_this_thread(cpu: usize) -> Result<(), Failure> {
    keep_this_thread(&[cpu])
}

/// Keeps this thread, and the children that it starts, to these CPUs.
pub(crate) fn keep_this_thread(cpus: &[usize]) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    for &cpu in cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    sched_setaffinity(None, &set)
        .or_failed(format_args!("a thread cannot be bound to CPUs {cpus:?}"))
}

/// Which CPU the server has, and which the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpus {
    pub(crate) server: usize,
    pub(crate) client: usize,
}

impl Cpus {
    /// What is not asked for is chosen: the first CPU for the server, and for the client the
    /// first that shares no core with it, else any other, else the same.
    pub(crate) fn choose(server: Option<usize>, client: Option<usize>) -> Result<Cpus, Failure> {
        let allowed = allowed_cpus()?;
        for asked in [server, client].into_iter().flatten() {
            if !allowed.contains(&asked) {
                return Err(Failure::Words(format!(
                    "CPU {asked} is not among those that this process may use: {allowed:?}"
                )));
            }
        }
        let server = server
            .or_else(|| allowed.iter().copied().find(|cpu| Some(*cpu) != client))
            .unwrap_or(allowed[0]);
        let siblings = siblings(server);
        let others = || allowed.iter().copied().filter(|cpu| *cpu != server);
        let client = client
            .or_else(|| others().find(|cpu| !siblings.contains(cpu)))
            .or_else(|| others().next())
            .unwrap_or(server);
        Ok(Cpus { server, client })
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cpus { server, client } = self;
        write!(f, "server on CPU {server}, client on CPU {client}")?;
        if server == client {
            write!(
                f,
                ": they SHARE ONE CPU, so messages/s and round trips are those of both together"
            )
        } else if siblings(*server).contains(client) {
            write!(f, ": two threads of ONE CORE, which slow each other down")
        } else {
            Ok(())
        }
    }
}

/// Those of the affinity mask, ascending.
pub(crate) fn allowed_cpus() -> Result<Vec<usize>, Failure> {
    let set = sched_getaffinity(None).or_failed("sched_getaffinity")?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// The CPUs that are threads of the same core; only itself if the kernel does not say.
pub(crate) fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let list = fs::read_to_string(path).unwrap_or_default();
    let mut cpus = vec![cpu];
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cpus.extend(first..=last);
        }
    }
    cpus
}

/// Three lines about this machine.
pub(crate) fn describe() -> String {
    let kernel = rustix::system::uname();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value_of = |key: &str| {
        cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim() == key)
            .map_or("unknown", |(_, value)| value.trim())
    };
    let online = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let allowed = allowed_cpus().map_or(0, |cpus| cpus.len());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown");
    let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    let congestion = congestion.unwrap_or_else(|_| "unknown".to_owned());
    format!(
        "machine: {} {}, kernel {} {}\nCPU: {} ({online} online, {allowed} for this process); \
         load average before the start: {load}\n\
         TCP congestion control of the servers: {}",
        kernel.nodename().to_string_lossy(),
        kernel.machine().to_string_lossy(),
        kernel.sysname().to_string_lossy(),
        kernel.release().to_string_lossy(),
        value_of("model name"),
        congestion.trim(),
    )
}

/// Raises the limit of open files as far as this process may; children inherit it.
pub(crate) fn raise_open_files() -> Result<u64, Failure> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).or_failed("the limit of open files cannot be raised")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}
