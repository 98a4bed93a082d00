//! Threads that work in the background: behind all others, and away from their CPUs.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Has the calling thread run only where nothing else wants the CPU. Whatever wakes up there takes
/// the CPU from it at once, which a nice thread may keep for some milliseconds more.
///
/// # Errors
///
/// What the operating system says against it, a seccomp filter for example.
pub(crate) fn step_back() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a valid sched_param, which the call only reads; 0 is the calling
    // thread, and the class SCHED_IDLE takes the priority 0.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Has the calling thread run behind others, and not as far behind as [`step_back`] does: it gets
/// a little of a CPU that others want all of.
///
/// # Errors
///
/// What the operating system says against it.
pub(crate) fn be_nice() -> io::Result<()> {
    rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICEST)?;
    Ok(())
}

/// As nice as nice(1) makes it.
const NICEST: i32 = 19;

/// Has the calling thread run on these CPUs alone.
///
/// # Errors
///
/// What the operating system says against it; above all that none of them is this process's.
pub(crate) fn keep_to(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    sched_setaffinity(None, &set)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::cpus;

    #[test]
    fn a_thread_steps_back_and_keeps_to_its_cpus() {
        let thread = std::thread::spawn(|| {
            step_back().unwrap();
            // SAFETY: asks for the calling thread's class, and takes no pointer.
            let class = unsafe { libc::sched_getscheduler(0) };
            let first = cpus::allowed().unwrap()[0];
            keep_to(&[first]).unwrap();
            (class, vec![first] == cpus::allowed().unwrap())
        });
        assert_eq!(thread.join().unwrap(), (libc::SCHED_IDLE, true));
    }

    #[test]
    fn no_cpu_at_all_is_refused() {
        keep_to(&[]).unwrap_err();
    }
}
