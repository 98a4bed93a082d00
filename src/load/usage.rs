//! What a process or a thread uses, by the kernel's own books.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time used so far, of a process or a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    /// On a CPU.
    pub ran: Duration,
    /// Ready to run while the CPU was somebody else's; `None` if the kernel does not say.
    pub waited: Option<Duration>,
}

/// The unit of /proc/PID/stat, in ticks a second: part of the kernel's interface on x86 and Arm.
const USER_HZ: u64 = 100;

impl CpuTime {
    /// No time at all.
    pub const NONE: CpuTime = CpuTime {
        ran: Duration::ZERO,
        waited: Some(Duration::ZERO),
    };

    /// All threads that the process has now, those of io_uring included, from the scheduler's
    /// nanoseconds, or from its 10 ms ticks where it keeps none.
    ///
    /// # Errors
    ///
    /// That the process is gone, or is hidden from this one.
    pub fn of_process(pid: u32) -> io::Result<CpuTime> {
        match sum_of_schedstat(pid)? {
            Some(time) => Ok(time),
            None => ticks_of(pid),
        }
    }

    /// This thread.
    pub fn of_this_thread() -> CpuTime {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        let ran = Duration::try_from(now).unwrap_or_default();
        let waited = read_schedstat(Path::new("/proc/thread-self/schedstat"))
            .ok()
            .and_then(|time| time.waited);
        CpuTime { ran, waited }
    }

    /// Of two threads or processes together.
    #[must_use]
    pub fn and(self, other: CpuTime) -> CpuTime {
        CpuTime {
            ran: self.ran + other.ran,
            waited: self.waited.zip(other.waited).map(|(a, b)| a + b),
        }
    }

    /// From an earlier reading to this one.
    #[must_use]
    pub fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            ran: self.ran.saturating_sub(earlier.ran),
            waited: self
                .waited
                .zip(earlier.waited)
                .map(|(now, before)| now.saturating_sub(before)),
        }
    }

    /// Whether the kernel keeps nanoseconds for processes; if not, they come in steps of 10 ms.
    pub fn is_exact() -> bool {
        Path::new("/proc/self/schedstat").exists()
    }
}

/// `None` if this kernel keeps no such books.
fn sum_of_schedstat(pid: u32) -> io::Result<Option<CpuTime>> {
    let mut sum = CpuTime::NONE;
    let mut any = false;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and here.
        if let Ok(time) = read_schedstat(&task?.path().join("schedstat")) {
            any = true;
            sum = sum.and(time);
        }
    }
    Ok(any.then_some(sum))
}

/// Nanoseconds on a CPU, nanoseconds in the run queue, and a count that nobody needs here.
fn read_schedstat(path: &Path) -> io::Result<CpuTime> {
    let text = fs::read_to_string(path)?;
    let mut fields = text
        .split_whitespace()
        .map(|field| field.parse().ok().map(Duration::from_nanos));
    Ok(CpuTime {
        ran: fields.next().flatten().unwrap_or_default(),
        waited: fields.next().flatten(),
    })
}

fn ticks_of(pid: u32) -> io::Result<CpuTime> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses and may hold anything; utime and stime are the
    // 14th and the 15th.
    let ticks: Option<u64> = text.rsplit_once(')').and_then(|(_, after)| {
        let mut fields = after.split_whitespace().skip(11);
        let utime: u64 = fields.next()?.parse().ok()?;
        let stime: u64 = fields.next()?.parse().ok()?;
        Some(utime + stime)
    });
    let ticks = ticks.ok_or_else(|| io::Error::other("/proc/PID/stat has no utime and stime"))?;
    Ok(CpuTime {
        ran: Duration::from_millis(ticks * 1000 / USER_HZ),
        waited: None,
    })
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of it: `VmRSS`.
    pub resident_bytes: u64,
    /// What no file stands behind: `RssAnon`, the heap and the stacks.
    pub anonymous_bytes: u64,
}

impl Memory {
    /// What a process has now.
    ///
    /// # Errors
    ///
    /// That the process is gone, or is hidden from this one.
    pub fn of_process(pid: u32) -> io::Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let bytes_of = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
                .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
                .map(|kib| kib * 1024)
                .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no {key}")))
        };
        Ok(Memory {
            resident_bytes: bytes_of("VmRSS")?,
            anonymous_bytes: bytes_of("RssAnon")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn work_costs_cpu_time_and_memory_is_resident() {
        let pid = std::process::id();
        let before = (CpuTime::of_process(pid).unwrap(), CpuTime::of_this_thread());
        while CpuTime::of_this_thread().since(before.1).ran < Duration::from_millis(30) {
            black_box((0..10_000_u64).sum::<u64>());
        }
        let process = CpuTime::of_process(pid).unwrap().since(before.0);
        assert!(process.ran >= Duration::from_millis(10), "{process:?}");
        let memory = Memory::of_process(pid).unwrap();
        assert!(memory.anonymous_bytes > 0 && memory.resident_bytes >= memory.anonymous_bytes);
    }

    #[test]
    fn ticks_are_read_where_there_is_nothing_better() {
        let ticks = ticks_of(std::process::id()).unwrap();
        assert_eq!(ticks.waited, None);
    }

    #[test]
    fn a_process_that_is_gone_is_told() {
        // Beyond what the kernel gives out, 2^22.
        let pid = u32::MAX / 2;
        assert!(CpuTime::of_process(pid).is_err());
        assert!(Memory::of_process(pid).is_err());
    }
}
