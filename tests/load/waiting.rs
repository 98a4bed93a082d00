//! How threads wait: by looking for what comes, or asleep.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::measured::{Measured, load, start_load};
use crate::support::program::{allowed_cpu, serve, until};

/// Requests a second.
const RATE: u32 = 100;

/// What a thread of a load has done so far.
#[derive(Debug)]
struct Thread {
    ran: Duration,
    sleeps: u64,
}

/// The only thread of a load that does more than to watch, once it is there.
fn thread_of(pid: u32) -> Option<Thread> {
    fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .find_map(|task| {
            // A thread may end meanwhile.
            let read = |name| fs::read_to_string(task.as_ref().ok()?.path().join(name)).ok();
            if read("comm")?.trim() != "load-0" {
                return None;
            }
            let ran_ns: u64 = read("schedstat")?.split(' ').next()?.parse().ok()?;
            let status = read("status")?;
            let sleeps = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            Some(Thread {
                ran: Duration::from_nanos(ran_ns),
                sleeps: sleeps.trim().parse().ok()?,
            })
        })
}

/// A run at [`RATE`], ended as soon as its thread has done so much.
fn run_until(address: SocketAddr, words: &str, is_enough: impl Fn(&Thread) -> bool) -> Thread {
    let words = format!("--connections 1 --rate {RATE} --duration 1h {words}");
    let mut program = start_load(address, &words);
    let thread = until(|| {
        assert!(!program.has_ended());
        thread_of(program.pid()).filter(|thread| is_enough(thread))
    });
    program.signal(Signal::INT);
    Measured::of(program.ended()).found_nothing_wrong();
    thread
}

#[test]
fn who_looks_until_the_next_request_is_due_does_not_sleep() {
    let (_server, address) = serve();
    // Twenty requests were due in the time, and before each one a thread that sleeps would.
    let enough = Duration::from_millis(200);
    for busy_poll in ["1h", "20ms"] {
        let words = format!("--busy-poll {busy_poll}");
        let thread = run_until(address, &words, |thread| thread.ran >= enough);
        assert!(thread.sleeps < 20, "{busy_poll}: {thread:?}");
    }
}

#[test]
fn who_does_not_look_sleeps_before_each_request() {
    let (_server, address) = serve();
    let thread = run_until(address, "--busy-poll 0s", |thread| thread.sleeps >= 20);
    // Else it would have run for the tenth of a second that nine of them are apart.
    assert!(thread.ran < Duration::from_millis(90), "{thread:?}");
}

#[test]
fn a_thread_with_a_cpu_of_its_own_looks() {
    let (_server, address) = serve();
    let cpu = allowed_cpu();
    for (words, busy_poll_seconds) in [
        (String::new(), 0.0),
        (format!("--cpus {cpu}"), 0.0002),
        (format!("--cpus {cpu} --threads 2"), 0.0),
        // The second one has nothing to do, and is not there.
        (format!("--cpus {cpu} --threads 2 --connections 1"), 0.0002),
        (format!("--cpus {cpu} --busy-poll 0s"), 0.0),
        ("--busy-poll 50us".to_owned(), 0.00005),
    ] {
        let measured = load(address, &format!("{words} --duration 20ms"));
        measured.found_nothing_wrong();
        let settings = &measured.record.settings;
        let found = settings.busy_poll_seconds;
        assert!((found - busy_poll_seconds).abs() < 1e-9, "{words}: {found}");
    }
}
