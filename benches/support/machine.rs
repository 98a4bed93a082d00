//! The machine: what it is, whose CPU is whose, and what a process costs by the kernel's own
//! books.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use super::{Failure, OrFailed as _};

/// Binds this thread to one CPU.
pub(crate) fn pin_this_thread(cpu: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    if cpu < CpuSet::MAX_CPU {
        set.set(cpu);
    }
    sched_setaffinity(None, &set).or_failed(format_args!("a thread cannot be bound to CPU {cpu}"))
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

fn allowed_cpus() -> Result<Vec<usize>, Failure> {
    let set = sched_getaffinity(None).or_failed("sched_getaffinity")?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// The CPUs that are threads of the same core; only itself if the kernel does not say.
fn siblings(cpu: usize) -> Vec<usize> {
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

/// CPU time used so far, of a process or a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// On a CPU.
    pub(crate) ran: Duration,
    /// Ready to run while the CPU was somebody else's; `None` if the kernel does not say.
    pub(crate) waited: Option<Duration>,
}

/// The unit of /proc/PID/stat, in ticks a second: part of the kernel's interface on x86 and Arm.
const USER_HZ: u64 = 100;

impl CpuTime {
    /// All threads that the process has now, from its scheduler's nanoseconds, else from its
    /// 10 ms ticks.
    pub(crate) fn of_process(pid: u32) -> Result<CpuTime, Failure> {
        match sum_of_schedstat(pid)? {
            Some(time) => Ok(time),
            None => ticks_of(pid),
        }
    }

    /// This thread.
    pub(crate) fn of_this_thread() -> CpuTime {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        let ran = Duration::try_from(now).unwrap_or_default();
        let waited = read_schedstat(Path::new("/proc/thread-self/schedstat"))
            .ok()
            .and_then(|time| time.waited);
        CpuTime { ran, waited }
    }

    /// From an earlier reading to this one.
    pub(crate) fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            ran: self.ran.saturating_sub(earlier.ran),
            waited: self
                .waited
                .zip(earlier.waited)
                .map(|(now, before)| now.saturating_sub(before)),
        }
    }

    /// A sentence where the coarse books had to do.
    pub(crate) fn caveat() -> Option<&'static str> {
        (!Path::new("/proc/self/schedstat").exists()).then_some(
            "this kernel has no /proc/PID/schedstat: server CPU comes from utime + stime, \
             in steps of 10 ms",
        )
    }
}

/// `None` if this kernel keeps no such books.
fn sum_of_schedstat(pid: u32) -> Result<Option<CpuTime>, Failure> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).or_failed("the server is gone")?;
    let mut sum = CpuTime {
        ran: Duration::ZERO,
        waited: Some(Duration::ZERO),
    };
    let mut any = false;
    for task in tasks {
        let path = task.or_failed("the server is gone")?.path();
        // A thread may end between the listing and here.
        if let Ok(time) = read_schedstat(&path.join("schedstat")) {
            any = true;
            sum.ran += time.ran;
            sum.waited = sum.waited.zip(time.waited).map(|(a, b)| a + b);
        }
    }
    Ok(any.then_some(sum))
}

/// Nanoseconds on a CPU, nanoseconds in the run queue, and a count that nobody needs here.
fn read_schedstat(path: &Path) -> std::io::Result<CpuTime> {
    let text = fs::read_to_string(path)?;
    let mut fields = text
        .split_whitespace()
        .map(|field| field.parse().ok().map(Duration::from_nanos));
    Ok(CpuTime {
        ran: fields.next().flatten().unwrap_or_default(),
        waited: fields.next().flatten(),
    })
}

fn ticks_of(pid: u32) -> Result<CpuTime, Failure> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).or_failed("the server is gone")?;
    // The second field is the name in parentheses and may hold anything; utime and stime are the
    // 14th and the 15th.
    let ticks: Option<u64> = text.rsplit_once(')').and_then(|(_, after)| {
        let mut fields = after.split_whitespace().skip(11);
        let utime: u64 = fields.next()?.parse().ok()?;
        let stime: u64 = fields.next()?.parse().ok()?;
        Some(utime + stime)
    });
    let ticks = ticks.ok_or("no utime and stime in it").or_failed(&path)?;
    Ok(CpuTime {
        ran: Duration::from_millis(ticks * 1000 / USER_HZ),
        waited: None,
    })
}

/// Resident memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All of it: `VmRSS`.
    pub(crate) resident_bytes: u64,
    /// What no file stands behind: `RssAnon`, the heap and the stacks.
    pub(crate) anonymous_bytes: u64,
}

impl Memory {
    pub(crate) fn of_process(pid: u32) -> Result<Memory, Failure> {
        let path = format!("/proc/{pid}/status");
        let text = fs::read_to_string(&path).or_failed("the server is gone")?;
        let bytes_of = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
                .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
                .map(|kib| kib * 1024)
                .ok_or(format!("no {key} in it"))
                .or_failed(&path)
        };
        Ok(Memory {
            resident_bytes: bytes_of("VmRSS")?,
            anonymous_bytes: bytes_of("RssAnon")?,
        })
    }
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
