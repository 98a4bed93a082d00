//! Everything that is looked at, as plain data. `None` and an empty list are what the host does not
//! show; what the server's own code says against a start is here in its words.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::config::{Config, CpuList, ShardCount};
use crate::process::identity::IdentityError;
use crate::process::logging::LogError;
use crate::process::pid_file::PidFileError;
use crate::process::worker::StartError;

#[derive(Debug)]
pub(super) struct Facts {
    pub(super) kernel: Kernel,
    pub(super) limits: Limits,
    pub(super) cpus: Cpus,
    pub(super) memory: Memory,
    pub(super) network: Network,
    /// What the host lacks, as the server's start judges it.
    pub(super) lacks: Vec<Lack>,
    pub(super) process: Process,
}

/// What the start says against the process around the shards.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) user: Option<IdentityError>,
    pub(super) log_file: Option<LogError>,
    pub(super) pid_file: Option<PidFileError>,
    /// A server like this one, which holds the pid file.
    pub(super) pid_file_holder: Option<Holder>,
}

/// Something that the host lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    pub(super) area: Area,
    /// As the server says it.
    pub(super) sentence: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Kernel,
    /// kernel.io_uring_disabled.
    Switch,
    Seccomp,
    /// Not built, or refused for another reason.
    Ring,
    Memlock,
    Files,
}

#[derive(Debug)]
pub(super) struct Kernel {
    /// As in `uname -r`.
    pub(super) release: String,
    /// Whether it lets sockets be registered with their ring.
    pub(super) registers: bool,
    /// kernel.io_uring_disabled.
    pub(super) disabled: Option<u8>,
    /// Whether a seccomp filter stands over this process.
    pub(super) filtered: bool,
    pub(super) clock: Option<String>,
    /// Clock sources that could be had instead.
    pub(super) clocks: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Limits {
    pub(super) memlock_bytes: u64,
    pub(super) memlock_bytes_min: u64,
    /// Open files, raised as far as they may be.
    pub(super) files: u64,
    /// How many it takes to start.
    pub(super) files_min: u64,
    /// How many it takes for `limits.connections` on every shard.
    pub(super) files_wanted: u64,
    /// Connections that each shard can have under the limit.
    pub(super) connections: u64,
    /// fs.nr_open: the highest limit of open files that can be set.
    pub(super) nr_open: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Cpus {
    /// Those of the affinity mask.
    pub(super) allowed: Vec<usize>,
    /// How many CPUs' worth of time the process has.
    pub(super) parallelism: usize,
    /// The CPU of each shard, as the server's start places them.
    pub(super) placement: Result<Vec<Option<usize>>, StartError>,
    pub(super) quota: Option<Quota>,
    /// The threads of the core that a CPU is one of, itself included.
    pub(super) siblings: BTreeMap<usize, Vec<usize>>,
    pub(super) governors: BTreeMap<usize, String>,
}

/// How much time the cgroup lets its processes have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Quota {
    Unlimited,
    Limited {
        quota_us: u64,
        period_us: u64,
        /// Where it is set.
        set_in: QuotaFile,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QuotaFile {
    pub(super) path: String,
    pub(super) version: CgroupVersion,
    /// The systemd unit whose cgroup it is.
    pub(super) unit: Option<String>,
    /// Whether it is set from outside of what this process sees, as for a container; with the
    /// host's name, which is the container's id.
    pub(super) outside: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CgroupVersion {
    V1,
    V2,
}

#[derive(Debug)]
pub(super) struct Memory {
    /// The chosen mode of transparent huge pages.
    pub(super) huge_pages: Option<String>,
    /// The CPUs of each NUMA node.
    pub(super) nodes: BTreeMap<usize, Vec<usize>>,
}

#[derive(Debug)]
pub(super) struct Network {
    pub(super) addresses: Vec<Address>,
    pub(super) somaxconn: Option<u64>,
    /// First and last port that the kernel gives to connections that go out.
    pub(super) port_range: Option<(u16, u16)>,
    /// net.ipv4.ip_local_reserved_ports, as it is written there.
    pub(super) reserved_ports: String,
    /// Network cards that are up, virtual ones left out.
    pub(super) cards: Vec<Card>,
    /// Whether a daemon moves interrupts about.
    pub(super) irqbalance: bool,
}

/// An address to listen on.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "an address has an address")]
pub(super) struct Address {
    pub(super) address: SocketAddr,
    /// What the server's start says of it.
    /// It is that of `admin.listen`, where clients do not come.
    pub(super) is_admin: bool,
    pub(super) problem: Option<Problem>,
}

#[derive(Debug)]
pub(super) struct Problem {
    /// As the server says it.
    pub(super) sentence: String,
    pub(super) kind: ProblemKind,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProblemKind {
    /// Somebody listens there; who it is, where that can be seen.
    InUse(Option<Holder>),
    /// The server itself listens there by this other address, which comes first.
    Overlaps(SocketAddr),
    NoSuchAddress,
    Privileged,
    Other,
}

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) name: String,
    /// Whether it is a server like this one, or systemd, which passes sockets on to one.
    pub(super) is_ours: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) name: String,
    pub(super) node: Option<usize>,
    /// Those that have come at least once.
    pub(super) interrupts: Vec<Interrupt>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interrupt {
    pub(super) number: u32,
    /// Where it comes; empty where that can't be seen.
    pub(super) cpus: Vec<usize>,
}

impl Address {
    /// What keeps a server from listening there. One that runs already does not: the host is
    /// judged as if it were down.
    pub(super) fn refusal(&self) -> Option<&Problem> {
        self.problem.as_ref().filter(|problem| match &problem.kind {
            ProblemKind::InUse(Some(holder)) => !holder.is_ours,
            _ => true,
        })
    }
}

impl Facts {
    /// Why a server would not start, in its own words and in the order of its start.
    pub(super) fn refusals(&self) -> Vec<String> {
        let process = &self.process;
        let mut refusals = Vec::new();
        refusals.extend(process.log_file.as_ref().map(ToString::to_string));
        refusals.extend(process.pid_file.as_ref().map(ToString::to_string));
        refusals.extend(self.cpus.placement.as_ref().err().map(ToString::to_string));
        let addresses = self.network.addresses.iter().filter_map(Address::refusal);
        refusals.extend(addresses.map(|problem| problem.sentence.clone()));
        refusals.extend(process.user.as_ref().map(ToString::to_string));
        if !self.lacks.is_empty() {
            let lacks = self
                .lacks
                .iter()
                .map(|lack| lack.sentence.clone())
                .collect();
            refusals.push(StartError::Host { lacks }.to_string());
        }
        refusals
    }

    pub(super) fn lack(&self, area: Area) -> Option<&str> {
        let lack = self.lacks.iter().find(|lack| lack.area == area);
        lack.map(|lack| lack.sentence.as_str())
    }

    /// The CPUs that shards are pinned to, in shard order; none where they float.
    pub(super) fn pinned(&self) -> Vec<usize> {
        let placed = self.cpus.placement.as_deref().unwrap_or_default();
        placed.iter().copied().flatten().collect()
    }

    /// Why [`pinned`](Self::pinned) has none.
    pub(super) fn unpinned(&self) -> &'static str {
        match self.cpus.placement {
            Ok(_) => "shards are not pinned",
            Err(_) => "can't be told before the shards fit",
        }
    }

    /// The CPUs that shards may run on.
    pub(super) fn busy(&self) -> Vec<usize> {
        let pinned = self.pinned();
        if pinned.is_empty() {
            self.cpus.allowed.clone()
        } else {
            pinned
        }
    }

    /// How many shards there would be; where they can't be placed, how many were asked for.
    pub(super) fn shards(&self, config: &Config) -> usize {
        match (&self.cpus.placement, config.shards.count) {
            (Ok(placed), _) => placed.len(),
            (Err(_), count) => shards_asked(count, self.cpus.parallelism),
        }
    }

    /// The NUMA node of a CPU.
    pub(super) fn node_of(&self, cpu: usize) -> Option<usize> {
        let mut nodes = self.memory.nodes.iter();
        nodes
            .find(|(_, cpus)| cpus.contains(&cpu))
            .map(|(&node, _)| node)
    }

    /// So many of these CPUs, those of different cores first, ascending.
    pub(super) fn spread(&self, among: &[usize], count: usize) -> Vec<usize> {
        let is_first = |cpu: &usize| {
            let siblings = self.cpus.siblings.get(cpu);
            let mut before = siblings.into_iter().flatten().filter(|other| *other < cpu);
            !before.any(|other| among.contains(other))
        };
        let (first, others): (Vec<usize>, Vec<usize>) = among.iter().partition(|cpu| is_first(cpu));
        let mut chosen: Vec<usize> = first.into_iter().chain(others).take(count).collect();
        chosen.sort_unstable();
        chosen
    }
}

/// How many shards a configuration asks for.
pub(super) fn shards_asked(count: ShardCount, parallelism: usize) -> usize {
    match count {
        ShardCount::Exactly(count) => usize::from(count.get()),
        ShardCount::Auto => parallelism,
    }
}

/// CPUs as people and the kernel write them: `0-3,8`.
pub(super) fn list(cpus: &[usize]) -> String {
    let ids: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    let ids = ids.join(",");
    ids.parse::<CpuList>().map_or(ids, |list| list.to_string())
}

/// The same with the word for it: `CPU 0`, `CPUs 0-3,8`.
pub(super) fn named(cpus: &[usize]) -> String {
    let word = if cpus.len() == 1 { "CPU" } else { "CPUs" };
    format!("{word} {}", list(cpus))
}

/// `1 shard`, `2 shards`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
