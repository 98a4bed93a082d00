//! What a host must have, what this one lacks, and how to mend it.
//!
//! Nothing falls back silently: a server that could not use its ring says so and does not start.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::ring;

/// The oldest kernel that has all of the ring that is used: 6.1.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// From this kernel on, sockets are registered with their ring; see [`registered_files_max`].
const REGISTERED_FILES_KERNEL_MIN: (u32, u32) = (6, 13);

/// What glommio's executor insists on, in bytes.
pub(crate) const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Descriptors of the admin server's connections: those that it serves, and one that waits.
pub(crate) const FILES_OF_OPERATORS: u64 = 64 + 1;

/// Descriptors that the process takes for itself, before the first connection: standard streams 3,
/// the log and a new one while it is reopened 2, pid file 1, the sockets for operators and for the
/// master's mail 3, the control thread's epoll, eventfd and signals 6, the master's pipes and what
/// libraries keep 7, files that are read and passed on for a moment 4, which with some to spare
/// makes 32; and operators.
const FILES_OF_PROCESS: u64 = 32 + FILES_OF_OPERATORS;

/// Descriptors that each shard takes (the rings and eventfds of its executor and its own, and its
/// doorbell) besides its listeners, before the first connection.
const FILES_OF_SHARD: u64 = 26;

/// Something that the host lacks. As text: one sentence that says what, and one how to mend it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lack {
    #[error(
        "the kernel is Linux {found}, but io_uring as it is used here needs 6.1 or newer: upgrade \
         the kernel"
    )]
    Kernel { found: String },
    #[error(
        "io_uring is switched off on this host (kernel.io_uring_disabled = {value}): run `sysctl \
         -w kernel.io_uring_disabled=0`, and put it into /etc/sysctl.d to keep it"
    )]
    Disabled { value: u8 },
    #[error(
        "a seccomp filter forbids io_uring, as containers' default profiles do: allow \
         io_uring_setup, io_uring_enter and io_uring_register in the profile, for Docker with \
         --security-opt seccomp=FILE, in Kubernetes with securityContext.seccompProfile"
    )]
    Seccomp,
    #[error(
        "the kernel was built without io_uring: use one with CONFIG_IO_URING=y, as \
         distributions' own kernels are"
    )]
    NotBuilt,
    #[error(
        "too little memory may be locked: {limit_bytes} bytes, at least {MEMLOCK_BYTES_MIN} are \
         needed: raise it with `ulimit -l`, LimitMEMLOCK= in systemd, or --ulimit memlock= in Docker"
    )]
    Memlock { limit_bytes: u64 },
    #[error(
        "too few files may be open: {limit}, at least {needed} are needed: raise it with `ulimit \
         -n`, LimitNOFILE= in systemd, or --ulimit nofile= in Docker"
    )]
    Files { limit: u64, needed: u64 },
    #[error("the kernel refuses an io_uring: {error}")]
    Refused { error: String },
}

/// What was seen of the host.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// As in `uname -r`.
    pub(crate) kernel: String,
    /// kernel.io_uring_disabled, where the kernel has it.
    pub(crate) disabled: Option<u8>,
    /// Whether a seccomp filter stands over this process.
    pub(crate) filtered: bool,
    /// The error of making a ring like the shards' own.
    pub(crate) ring: Option<i32>,
    pub(crate) memlock_bytes: u64,
    pub(crate) files: u64,
}

impl Seen {
    /// As a process sees it that has lost root's rights, if the kernel then lets it make no ring.
    pub(crate) fn without_ring_rights(self) -> Seen {
        Seen {
            ring: self.ring.or(Some(libc::EPERM)),
            ..self
        }
    }
}

/// Looks at this host. Gives back all that it lacks for so many shards with so many addresses.
pub(crate) fn lacks(shards: usize, addresses: usize) -> Vec<Lack> {
    judge(&look(), shards, addresses)
}

/// Raises the limit of open files as far as it may go; gives back where it stands then.
pub(crate) fn raise_file_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return maximum.unwrap_or(u64::MAX);
        }
    }
    current.unwrap_or(u64::MAX)
}

/// How many of so many sockets to register with a ring: none before Linux 6.13.
///
/// Up to there, a file that was taken out of a ring's table is not let go before all requests are
/// done that began earlier, and a receive may wait for hours: the sockets of closed connections
/// would stay open, without a word to their peers.
pub(crate) fn registered_files_max(sockets: usize) -> u32 {
    registered_max(&kernel(), file_limit(), sockets)
}

/// The same for this release of the kernel and this limit of open files.
pub(crate) fn registered_max(kernel: &str, file_limit: u64, sockets: usize) -> u32 {
    if kernel_version(kernel).is_none_or(|version| version < REGISTERED_FILES_KERNEL_MIN) {
        return 0;
    }
    // More than the process may open, the kernel does not register.
    u32::try_from(file_limit.min(sockets as u64)).unwrap_or(u32::MAX)
}

fn kernel() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

fn file_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many connections each of so many shards can have under this limit of open files.
pub(crate) fn connections_per_shard(file_limit: u64, shards: usize, addresses: usize) -> u64 {
    let shards = (shards as u64).max(1);
    let connections = file_limit.saturating_sub(needed_files(shards, addresses as u64) - shards);
    connections / shards
}

/// Descriptors for so many shards with so many addresses and connections each: the least limit of
/// open files for which [`connections_per_shard`] gives back so many.
pub(crate) fn files_for(connections: u64, shards: usize, addresses: usize) -> u64 {
    let shards = (shards as u64).max(1);
    let without = needed_files(shards, addresses as u64) - shards;
    without.saturating_add(connections.saturating_mul(shards))
}

/// Descriptors for so many shards with so many listeners and one connection each.
fn needed_files(shards: u64, addresses: u64) -> u64 {
    FILES_OF_PROCESS + shards * (FILES_OF_SHARD + addresses + 1)
}

/// Looks at this host.
pub(crate) fn look() -> Seen {
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    Seen {
        kernel: kernel(),
        disabled: text("/proc/sys/kernel/io_uring_disabled")
            .trim()
            .parse()
            .ok(),
        filtered: text("/proc/self/status")
            .lines()
            .any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
        ring: try_ring(),
        memlock_bytes: getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX),
        files: file_limit(),
    }
}

/// Makes a ring and drops it, on a thread of its own: its end could interrupt what the caller's
/// thread does next.
fn try_ring() -> Option<i32> {
    let trial = || ring::build(8, 16).err().map(|error| error.raw_os_error());
    std::thread::spawn(trial)
        .join()
        .unwrap_or(Some(None))
        .map(|errno| errno.unwrap_or(0))
}

/// All that a host lacks of which this was seen, for so many shards with so many addresses.
pub(crate) fn judge(seen: &Seen, shards: usize, addresses: usize) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let old = kernel_version(&seen.kernel).is_some_and(|version| version < KERNEL_MIN);
    if old {
        lacks.push(Lack::Kernel {
            found: seen.kernel.clone(),
        });
    }
    match seen.ring {
        // An old kernel's complaint about flags that it does not know is no news.
        None | Some(libc::EINVAL) if old => {}
        None => {}
        Some(libc::EPERM) => lacks.push(match seen.disabled {
            Some(value @ 1..) => Lack::Disabled { value },
            _ if seen.filtered => Lack::Seccomp,
            _ => refused(libc::EPERM),
        }),
        Some(libc::ENOSYS) if seen.filtered => lacks.push(Lack::Seccomp),
        Some(libc::ENOSYS) => lacks.push(Lack::NotBuilt),
        Some(errno) => lacks.push(refused(errno)),
    }
    if seen.memlock_bytes < MEMLOCK_BYTES_MIN {
        lacks.push(Lack::Memlock {
            limit_bytes: seen.memlock_bytes,
        });
    }
    let needed = needed_files(shards as u64, addresses as u64);
    if seen.files < needed {
        lacks.push(Lack::Files {
            limit: seen.files,
            needed,
        });
    }
    lacks
}

fn refused(errno: i32) -> Lack {
    Lack::Refused {
        error: io::Error::from_raw_os_error(errno).to_string(),
    }
}

/// Major and minor number of a release like `6.1.0-18-amd64`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Seen {
        Seen {
            kernel: "6.1.0-18-amd64".to_owned(),
            disabled: Some(0),
            filtered: false,
            ring: None,
            memlock_bytes: 8 << 20,
            files: 1024,
        }
    }

    #[test]
    fn a_good_host_lacks_nothing() {
        assert_eq!(judge(&good(), 4, 1), []);
    }

    #[test]
    fn every_lack_has_its_own_name() {
        type Change = fn(&mut Seen);
        let cases: [(Change, &str); 9] = [
            (
                |seen| seen.kernel = "5.15.0-91-generic".to_owned(),
                "Linux 5.15.0-91-generic",
            ),
            (
                |seen| {
                    seen.kernel = "6.0.9".to_owned();
                    seen.ring = Some(libc::EINVAL);
                },
                "Linux 6.0.9",
            ),
            (
                |seen| {
                    seen.ring = Some(libc::EPERM);
                    seen.disabled = Some(2);
                },
                "kernel.io_uring_disabled = 2",
            ),
            (
                |seen| {
                    seen.ring = Some(libc::EPERM);
                    seen.filtered = true;
                },
                "seccomp",
            ),
            (
                |seen| {
                    seen.ring = Some(libc::ENOSYS);
                    seen.filtered = true;
                },
                "seccomp",
            ),
            (|seen| seen.ring = Some(libc::ENOSYS), "built without"),
            (|seen| seen.memlock_bytes = 64 << 10, "65536 bytes"),
            (|seen| seen.files = 100, "100, at least 209"),
            (
                |seen| seen.ring = Some(libc::ENOMEM),
                "Cannot allocate memory",
            ),
        ];
        for (change, expected) in cases {
            let mut seen = good();
            change(&mut seen);
            let lacks = judge(&seen, 4, 1);
            assert_eq!(lacks.len(), 1, "{lacks:?}");
            let text = lacks[0].to_string();
            assert!(text.contains(expected), "{text}");
            assert!(!text.contains('\n') && !text.contains("  "), "{text}");
        }
    }

    #[test]
    fn all_lacks_are_told_at_once() {
        let mut seen = good();
        seen.kernel = "4.19".to_owned();
        seen.ring = Some(libc::ENOSYS);
        seen.memlock_bytes = 0;
        seen.files = 0;
        assert_eq!(judge(&seen, 1, 1).len(), 4);
    }

    #[test]
    fn the_file_limit_is_shared_among_the_shards() {
        assert_eq!(connections_per_shard(1024, 2, 3), (1024 - 97 - 58) / 2);
        assert_eq!(connections_per_shard(10, 2, 1), 0);
        let least = files_for(500, 2, 3);
        assert_eq!(connections_per_shard(least, 2, 3), 500);
        assert_eq!(connections_per_shard(least - 1, 2, 3), 499);
    }

    #[test]
    fn sockets_are_registered_where_the_kernel_lets_go_of_them() {
        assert_eq!(registered_max("6.12.48-generic", 1024, 500), 0);
        assert_eq!(registered_max("nonsense", 1024, 500), 0);
        assert_eq!(registered_max("6.13.0", 1024, 500), 500);
        assert_eq!(registered_max("7.0", 1024, 5000), 1024);
        assert_eq!(registered_max("7.0", u64::MAX, usize::MAX), u32::MAX);
    }

    #[test]
    fn versions_are_read_from_releases() {
        assert_eq!(kernel_version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(kernel_version("nonsense"), None);
    }
}
