//! What the kernel knows of this process.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::exposition::Vitals;

/// Looks at this process; its server started then.
pub(super) fn look(started_at: SystemTime, is_ready: bool) -> Vitals {
    let started = started_at.duration_since(UNIX_EPOCH);
    let cpu = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime));
    Vitals {
        // A clock before 1970 is as wrong as it can be.
        started_unix_seconds: started.unwrap_or_default().as_secs_f64(),
        is_ready,
        resident_bytes: resident_bytes(),
        open_fds: open_fds(),
        max_fds: getrlimit(Resource::Nofile).current,
        cpu_seconds: cpu.unwrap_or_default().as_secs_f64(),
    }
}

fn resident_bytes() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(resident * page_size() as u64)
}

fn open_fds() -> Option<u64> {
    let folder = "/proc/self/fd";
    // Since Linux 6.2 the folder's size is the number of files in it. To list a hundred thousand
    // takes long.
    match fs::metadata(folder).ok()?.len() {
        // One of them is that of the listing itself.
        0 => Some((fs::read_dir(folder).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_files_and_used_time() {
        let vitals = look(UNIX_EPOCH + Duration::from_millis(1500), true);
        assert!((vitals.started_unix_seconds - 1.5).abs() < 1e-9);
        assert!(vitals.resident_bytes.unwrap() > 1 << 20);
        let files: Vec<_> = (0..10)
            .map(|_| fs::File::open("/proc/self/stat").unwrap())
            .collect();
        // Other tests open and close some meanwhile, but standard input, output and errors stay.
        assert!(open_fds().unwrap() >= 3 + files.len() as u64);
        assert!(vitals.max_fds.is_none_or(|max| max >= 64));
        assert!(vitals.cpu_seconds > 0.0);
    }
}
