//! Reads the host: what files tell, from below a root, and what only the kernel does.
//!
//! Nothing is changed, but for this process's own limit of open files. What can't be read is left
//! out and so told as unseen.

mod cards;
mod cgroup;
mod holder;
mod process;
mod tree;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::facts::{
    self, Address, Area, Cpus, Facts, Kernel, Lack, Limits, Memory, Network, Problem, ProblemKind,
    shards_asked,
};
use crate::config::Config;
use crate::process::pid_file::PidFileError;
use crate::process::worker::{StartError, placement};
use crate::sys::{cpus, host, socket};
use tree::Tree;

/// What no file tells.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) seen: host::Seen,
    pub(super) allowed: Vec<usize>,
    pub(super) parallelism: usize,
    pub(super) placement: Result<Vec<Option<usize>>, StartError>,
    /// What is said against listening on each address of `server.listen`.
    pub(super) listening: Vec<(SocketAddr, Option<io::Error>)>,
    /// Whether the last of them is that of `admin.listen`.
    pub(super) has_admin: bool,
    pub(super) process: facts::Process,
    /// The groups of a user other than root that the server is to become.
    pub(super) groups: Option<Vec<u32>>,
    pub(super) host_name: String,
}

impl Asked {
    /// What the kernel tells this process, as it would a server with this configuration.
    pub(super) fn of_this_process(config: &Config) -> Asked {
        host::raise_file_limit();
        Asked {
            seen: host::look(),
            allowed: cpus::allowed().unwrap_or_default(),
            parallelism: cpus::parallelism(),
            placement: placement(config),
            listening: {
                let mut all = config.server.listen.clone();
                all.extend(config.admin.listen);
                try_addresses(&all)
            },
            has_admin: config.admin.listen.is_some(),
            process: process::look(config),
            groups: process::groups(&config.process),
            host_name: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
        }
    }
}

fn try_addresses(addresses: &[SocketAddr]) -> Vec<(SocketAddr, Option<io::Error>)> {
    let tried = addresses.iter().enumerate().map(|(at, &address)| {
        // Nothing listens here that could stand in the way of the next, as it would in a server.
        let stands_in_the_way = addresses[..at].iter().any(|&other| collide(other, address));
        let in_use = stands_in_the_way.then(|| io::ErrorKind::AddrInUse.into());
        (address, in_use.or_else(|| try_address(address).err()))
    });
    tried.collect()
}

/// Whether one server can't listen on both: those of IPv6 are for IPv6 alone.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() != 0 && one.is_ipv4() == other.is_ipv4() && overlap(one, other)
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (this, that) = (one.ip(), other.ip());
    one.port() == other.port() && (this == that || this.is_unspecified() || that.is_unspecified())
}

/// Takes an address as the server's start does, and lets it go. Without a socket that listens, so
/// that nobody is let in; but where the kernel is to choose the port, there is none otherwise.
fn try_address(address: SocketAddr) -> io::Result<()> {
    let sockets = usize::from(address.port() == 0);
    socket::listen(address, 1, sockets).map(drop)
}

/// Puts together what the files below `root` and the kernel tell.
pub(super) fn look(root: &Path, asked: Asked, config: &Config) -> Facts {
    let tree = Tree::new(root);
    let addresses = config.server.listen.len();
    let shards = match &asked.placement {
        Ok(placed) => placed.len(),
        Err(_) => shards_asked(config.shards.count, asked.parallelism),
    };
    let seen = as_user(asked.seen, asked.groups.as_deref(), &tree);
    let connections = u64::from(config.limits.connections);
    Facts {
        lacks: host::judge(&seen, shards, addresses)
            .iter()
            .map(lack)
            .collect(),
        process: own(&tree, asked.process),
        limits: Limits {
            memlock_bytes: seen.memlock_bytes,
            memlock_bytes_min: host::MEMLOCK_BYTES_MIN,
            files: seen.files,
            files_min: host::files_for(1, shards, addresses),
            files_wanted: host::files_for(connections, shards, addresses),
            connections: host::connections_per_shard(seen.files, shards, addresses),
            nr_open: tree.number("proc/sys/fs/nr_open"),
        },
        kernel: kernel(&tree, seen),
        cpus: Cpus {
            quota: cgroup::quota(&tree, &asked.host_name),
            siblings: of_each(&asked.allowed, |cpu| {
                tree.cpus(&format!(
                    "sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
                ))
            }),
            governors: of_each(&asked.allowed, |cpu| {
                tree.word(&format!(
                    "sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"
                ))
            }),
            allowed: asked.allowed,
            parallelism: asked.parallelism,
            placement: asked.placement,
        },
        memory: memory(&tree),
        network: network(&tree, asked.listening, asked.has_admin),
    }
}

/// A server that runs and holds the pid file does not speak against itself.
fn own(tree: &Tree, mut process: facts::Process) -> facts::Process {
    if let Some(PidFileError::Held { pid, .. }) = &process.pid_file
        && let Some(holder) = holder::process(tree, *pid).filter(|holder| holder.is_ours)
    {
        process.pid_file_holder = Some(holder);
        process.pid_file = None;
    }
    process
}

/// What is seen after the rights of root are given up: kernel.io_uring_disabled = 1 lets root and
/// one group have rings.
fn as_user(seen: host::Seen, groups: Option<&[u32]>, tree: &Tree) -> host::Seen {
    let group: Option<u32> = tree.number("proc/sys/kernel/io_uring_group");
    match groups {
        Some(groups)
            if seen.disabled == Some(1) && !group.is_some_and(|group| groups.contains(&group)) =>
        {
            seen.without_ring_rights()
        }
        _ => seen,
    }
}

fn lack(lack: &host::Lack) -> Lack {
    Lack {
        area: match lack {
            host::Lack::Kernel { .. } => Area::Kernel,
            host::Lack::Disabled { .. } => Area::Switch,
            host::Lack::Seccomp => Area::Seccomp,
            host::Lack::NotBuilt | host::Lack::Refused { .. } => Area::Ring,
            host::Lack::Memlock { .. } => Area::Memlock,
            host::Lack::Files { .. } => Area::Files,
        },
        sentence: lack.to_string(),
    }
}

fn kernel(tree: &Tree, seen: host::Seen) -> Kernel {
    let clock = |file| {
        tree.word(&format!(
            "sys/devices/system/clocksource/clocksource0/{file}"
        ))
    };
    let clocks = clock("available_clocksource").unwrap_or_default();
    Kernel {
        registers: host::registered_max(&seen.kernel, 1, 1) > 0,
        release: seen.kernel,
        disabled: seen.disabled,
        filtered: seen.filtered,
        clock: clock("current_clocksource"),
        clocks: clocks.split_whitespace().map(str::to_owned).collect(),
    }
}

fn of_each<T>(cpus: &[usize], read: impl Fn(usize) -> Option<T>) -> BTreeMap<usize, T> {
    let known = cpus.iter().filter_map(|&cpu| Some((cpu, read(cpu)?)));
    known.collect()
}

fn memory(tree: &Tree) -> Memory {
    let huge_pages = tree.word("sys/kernel/mm/transparent_hugepage/enabled");
    let chosen = |modes: String| {
        let (_, behind) = modes.split_once('[')?;
        Some(behind.split_once(']')?.0.to_owned())
    };
    let folder = "sys/devices/system/node";
    let node = |name: String| {
        let node = name.strip_prefix("node")?.parse().ok()?;
        // A node without CPUs is memory alone: nothing runs there.
        Some((node, tree.cpus(&format!("{folder}/{name}/cpulist"))?))
    };
    Memory {
        huge_pages: huge_pages.and_then(chosen),
        nodes: tree.names(folder).into_iter().filter_map(node).collect(),
    }
}

fn network(
    tree: &Tree,
    listening: Vec<(SocketAddr, Option<io::Error>)>,
    has_admin: bool,
) -> Network {
    let range = tree.word("proc/sys/net/ipv4/ip_local_port_range");
    let ports = |range: String| {
        let mut ports = range.split_whitespace().map(str::parse);
        Some((ports.next()?.ok()?, ports.next()?.ok()?))
    };
    let addresses: Vec<SocketAddr> = listening.iter().map(|(address, _)| *address).collect();
    let address = |(at, (address, error)): (usize, (SocketAddr, Option<io::Error>))| {
        let is_admin = has_admin && at + 1 == addresses.len();
        let problem =
            error.map(|error| problem(tree, (address, is_admin), error, &addresses[..at]));
        Address {
            address,
            is_admin,
            problem,
        }
    };
    Network {
        addresses: listening.into_iter().enumerate().map(address).collect(),
        somaxconn: tree.number("proc/sys/net/core/somaxconn"),
        port_range: range.and_then(ports),
        reserved_ports: tree
            .word("proc/sys/net/ipv4/ip_local_reserved_ports")
            .unwrap_or_default(),
        cards: cards::cards(tree),
        irqbalance: tree
            .processes()
            .any(|pid| tree.word(&format!("proc/{pid}/comm")).as_deref() == Some("irqbalance")),
    }
}

/// What keeps a server from an address, where it listens on `earlier` already.
fn problem(
    tree: &Tree,
    (address, is_admin): (SocketAddr, bool),
    error: io::Error,
    earlier: &[SocketAddr],
) -> Problem {
    let own = earlier.iter().find(|&&other| collide(other, address));
    Problem {
        kind: match (error.kind(), own) {
            (io::ErrorKind::AddrInUse, Some(own)) => ProblemKind::Overlaps(*own),
            (io::ErrorKind::AddrInUse, None) => ProblemKind::InUse(holder::of(tree, address)),
            (io::ErrorKind::AddrNotAvailable, _) => ProblemKind::NoSuchAddress,
            (io::ErrorKind::PermissionDenied, _) => ProblemKind::Privileged,
            _ => ProblemKind::Other,
        },
        sentence: if is_admin {
            StartError::Admin { address, error }.to_string()
        } else {
            StartError::Listen { address, error }.to_string()
        },
    }
}

#[cfg(test)]
mod tests;
