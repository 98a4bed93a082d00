//! What a crash of the worker does to those who connect: they wait, and are not refused.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corelane::client::Client;
use corelane::protocol::codes;
use rustix::process::Signal;

use crate::support::{
    CONNECTS_PER_SECOND, DEADLINE, Running, Site, connect_at_rate, kill, ping, until,
};

/// How long the ten kills take together, in seconds: `CORELANE_TEST_CRASH_SECONDS=60` is the
/// guarantee as it is stated, the default the same in little.
fn crash_seconds() -> u64 {
    match std::env::var("CORELANE_TEST_CRASH_SECONDS") {
        Ok(seconds) => seconds
            .parse()
            .expect("CORELANE_TEST_CRASH_SECONDS is a number"),
        Err(_) => 10,
    }
}

const KILLS: u32 = 10;

/// Kills the worker at these intervals, each time a new one that serves.
fn kill_workers(running: &Running, every: Duration) {
    let start = Instant::now();
    for number in 0..KILLS {
        let due = start + every * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        wait_until_served(running);
        kill(running.worker(), Signal::KILL);
    }
    wait_until_served(running);
}

/// A dying worker may take some connections along, but every connect succeeds.
fn wait_until_served(running: &Running) {
    until("the next worker serves", || {
        let mut client = Client::connect(running.address, DEADLINE).unwrap();
        let is_served = client.send(codes::PING, b"").is_ok() && client.receive().is_ok();
        is_served.then_some(())
    });
}

#[test]
fn no_connect_is_refused_while_the_worker_is_killed_ten_times() {
    let running = Site::supervised(&["shards.count = 2", "process.respawn_max_ms = 100"]).start();
    let every = Duration::from_secs(crash_seconds()) / KILLS;
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let connecting = scope.spawn(|| connect_at_rate(&running, &stop, &made));
        let killing = scope.spawn(|| kill_workers(&running, every));
        let killed = killing.join();
        stop.store(true, Ordering::Relaxed);
        connecting.join().unwrap();
        killed.unwrap();
    });
    until("each death is in the log", || {
        let deaths = running.site.log().matches("killed by SIGKILL").count();
        (deaths == KILLS as usize).then_some(())
    });
    // Half of the rate is enough for a busy host.
    let made = made.into_inner();
    assert!(made >= crash_seconds() * CONNECTS_PER_SECOND / 2, "{made}");
}

#[test]
fn who_connects_while_nobody_serves_is_served_by_the_next_worker() {
    // Young deaths make for pauses from the second on, in which there is no worker at all.
    let running = Site::supervised(&["process.respawn_max_ms = 1000"]).start();
    for deaths in 1..=5 {
        running.connect();
        kill(running.worker(), Signal::KILL);
        let died = || running.site.log().matches("killed by SIGKILL").count() == deaths;
        until("the master knows", || died().then_some(()));
    }
    // The pause is 800 ms, so nobody is there to accept it yet.
    let mut waiting = Client::connect(running.address, DEADLINE).unwrap();
    ping(&mut waiting);
}

#[test]
fn a_worker_without_a_master_drains_and_frees_the_port() {
    let running = Site::supervised(&[]).start();
    let (worker, address) = (running.worker(), running.address);
    running.signal(Signal::KILL);
    until("the worker has ended", || {
        (!std::fs::exists(format!("/proc/{worker}")).unwrap() || is_zombie(worker)).then_some(())
    });
    // Its first thread may have ended before the others, and the kernel closes a ring's files behind
    // the process's back.
    until("nobody listens", || {
        TcpStream::connect(address).is_err().then_some(())
    });
}

/// Nobody may be there to reap it.
fn is_zombie(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| rest.starts_with('Z'))
}
