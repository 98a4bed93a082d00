//! What a process or a thread uses, by the kernel's own books.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// CPU time used so far, of a process or a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    /// On a CPU.
    pub ran: Duration,
    /// Ready to run while the CPU was somebody else's; `None` if the kernel does not say.
    pub waited: Option<Duration>,
}

/// The highest number that a process can have: `PID_MAX_LIMIT` of the kernel.
const PID_MAX: u32 = 1 << 22;

impl CpuTime {
    /// No time at all.
    pub const NONE: CpuTime = CpuTime {
        ran: Duration::ZERO,
        waited: Some(Duration::ZERO),
    };

    /// All threads that the process has had so far, those of io_uring included: by its own clock, in
    /// nanoseconds. What they waited is that of the threads which it has now, for the kernel forgets
    /// that when a thread ends.
    ///
    /// # Errors
    ///
    /// That the process is gone, or is hidden from this one.
    pub fn of_process(pid: u32) -> io::Result<CpuTime> {
        Ok(CpuTime {
            ran: cpu_clock(pid)?,
            waited: sum_of_waited(pid)?,
        })
    }

    /// This thread.
    pub fn of_this_thread() -> CpuTime {
        // A clock that is always there.
        let ran =
            clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
        let waited = read_waited(Path::new("/proc/thread-self/schedstat"));
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
}

fn cpu_clock(pid: u32) -> io::Result<Duration> {
    // The name of a process's clock has no room for higher numbers, and 0 is this process.
    let pid = match i32::try_from(pid) {
        Ok(number @ 1..) if pid <= PID_MAX => Pid::from_raw(number),
        _ => return Err(Errno::ESRCH.into()),
    };
    let now = clock_getcpuclockid(pid).and_then(clock_gettime)?;
    Ok(Duration::from(now))
}

/// `None` if this kernel keeps no such books.
fn sum_of_waited(pid: u32) -> io::Result<Option<Duration>> {
    let mut sum = None;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and here.
        if let Some(waited) = read_waited(&task?.path().join("schedstat")) {
            *sum.get_or_insert(Duration::ZERO) += waited;
        }
    }
    Ok(sum)
}

/// The second field: nanoseconds in the run queue. The first are those on a CPU.
fn read_waited(path: &Path) -> Option<Duration> {
    let text = fs::read_to_string(path).ok()?;
    let waited = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(waited))
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

    fn work() {
        let before = CpuTime::of_this_thread();
        while CpuTime::of_this_thread().since(before).ran < Duration::from_millis(30) {
            black_box((0..10_000_u64).sum::<u64>());
        }
    }

    /// Also of a thread that has ended.
    #[test]
    fn work_costs_cpu_time() {
        let pid = std::process::id();
        let before = CpuTime::of_process(pid).unwrap();
        work();
        std::thread::spawn(work).join().unwrap();
        let took = CpuTime::of_process(pid).unwrap().since(before);
        assert!(took.ran >= Duration::from_millis(60), "{took:?}");
    }

    #[test]
    fn memory_is_resident() {
        let memory = Memory::of_process(std::process::id()).unwrap();
        assert!(memory.anonymous_bytes > 0 && memory.resident_bytes >= memory.anonymous_bytes);
    }

    #[test]
    fn a_process_that_is_gone_is_told() {
        // None that the kernel gives out.
        for pid in [0, PID_MAX + 1, u32::MAX / 2, u32::MAX] {
            assert!(CpuTime::of_process(pid).is_err(), "{pid}");
            assert!(Memory::of_process(pid).is_err(), "{pid}");
        }
    }
}
