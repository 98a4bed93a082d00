//! Reloads under a rate of connects.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::support::{Site, connect_at_rate, until};

/// So many reloads; `CORELANE_TEST_RELOADS=30` takes half a minute or more.
fn reloads() -> u32 {
    match std::env::var("CORELANE_TEST_RELOADS") {
        Ok(count) => count.parse().expect("CORELANE_TEST_RELOADS is a number"),
        Err(_) => 6,
    }
}

#[test]
fn no_connect_is_refused_and_no_descriptor_left_behind_by_reloads() {
    let running = Site::supervised(&[]).start();
    let open_files = || {
        let folder = format!("/proc/{}/fd", running.pid());
        fs::read_dir(folder).unwrap().count()
    };
    let before = open_files();
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let connecting = scope.spawn(|| connect_at_rate(&running, &stop, &made));
        for number in 1..=reloads() {
            // Up and down again: the sockets of shards that are no more stay, and are used again.
            let shards = format!("shards.count = {}", 1 + number % 2);
            let limit = format!("limits.connections = {}", 1000 + number);
            running
                .site
                .configure(&["process.mode = 'supervised'", &shards, &limit]);
            let said = running.site.succeed(&["reload", "--pid-file", "pid"]);
            assert!(said.starts_with("reloaded: worker "), "{said}");
            let so_far = made.load(Ordering::Relaxed);
            until("some have connected to the new worker", || {
                (made.load(Ordering::Relaxed) > so_far + 50).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
        connecting.join().unwrap();
    });
    running.worker();
    // One socket more, of the second shard.
    assert_eq!(open_files(), before + 1);
    running.connect();
}
