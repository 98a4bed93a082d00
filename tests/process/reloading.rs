//! Reloads under load: no connect is refused, no reply is missing, and nothing piles up, whatever a
//! reload changes.

use std::fs;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use corelane::load::Memory;

use crate::seed;
use crate::storm::{LONG, PIPELINE, Storm};
use crate::support::{CONNECTS_PER_SECOND, Running, Site, until};

/// So many reloads at this interval: `CORELANE_TEST_RELOADS=30` is the guarantee as it is stated, one
/// a second, the default the same in little.
fn reloads() -> (u32, Duration) {
    match std::env::var("CORELANE_TEST_RELOADS") {
        Ok(count) => {
            let count = count.parse().expect("CORELANE_TEST_RELOADS is a number");
            (count, Duration::from_secs(1))
        }
        Err(_) => (14, Duration::from_millis(500)),
    }
}

/// Longer than any client takes to leave, and not so long that one that is stuck goes unnoticed.
const DRAIN_MS: u32 = 20_000;

/// What a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holds {
    memory_kib: u64,
    files: usize,
}

fn holds(process: u32) -> Holds {
    let memory = Memory::of_process(process).unwrap();
    let files = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    Holds {
        memory_kib: memory.resident_bytes / 1024,
        files: files.count(),
    }
}

/// How much memory may come and go by chance. A master that kept 10 KiB of each reload would have
/// more after thirty.
const MASTER_SLACK_KIB: u64 = 256;
const WORKER_SLACK_KIB: u64 = 16 * 1024;

/// Asserts that nothing has grown since the first reloads, in which each path was taken for the first
/// time: compares with what was most until then. A worker has the more the more shards it has, which
/// are one and two by turns.
fn expect_steady(held: &[[Holds; 2]]) {
    let warm = 2 * TURNS as usize;
    assert!(held.len() > warm, "it takes more than {warm} reloads");
    let (first, later) = held.split_at(warm);
    let most = |held: &[[Holds; 2]], which: usize| {
        let memory_kib = held.iter().map(|both| both[which].memory_kib).max();
        memory_kib.unwrap_or(0)
    };
    for (which, slack_kib) in [(0, MASTER_SLACK_KIB), (1, WORKER_SLACK_KIB)] {
        let growth_kib = most(later, which).saturating_sub(most(first, which));
        assert!(growth_kib <= slack_kib, "{growth_kib} KiB: {held:?}");
    }
}

/// What is asked of the master, one after the other.
struct Wishes {
    shards: u32,
    idle_ms: u32,
}

/// So many kinds of reload take turns.
const TURNS: u32 = 3;

impl Wishes {
    fn configure(&self, site: &Site, more: &[&str]) {
        let lines = [
            "process.mode = 'supervised'".to_owned(),
            format!("timeouts.drain_ms = {DRAIN_MS}"),
            format!("timeouts.idle_ms = {}", self.idle_ms),
            format!("shards.count = {}", self.shards),
        ];
        let lines = lines.iter().map(String::as_str).chain(more.iter().copied());
        site.configure(&lines.collect::<Vec<_>>());
    }

    /// By turns: another number of shards, which takes another worker; another time-out, which a
    /// worker might take over; nonsense.
    fn reload(&mut self, number: u32, site: &Site) {
        match number % TURNS {
            0 => self.shards = 3 - self.shards,
            1 => self.idle_ms += 1,
            _ => {
                self.configure(site, &["limits.connections = 0"]);
                let said = site.fail(1, &["reload", "--pid-file", "pid"]);
                assert!(said.contains("nothing has changed"), "{said}");
                return;
            }
        }
        self.configure(site, &[]);
        let said = site.succeed(&["reload", "--pid-file", "pid"]);
        assert!(said.starts_with("reloaded"), "{said}");
    }
}

/// Reloads at the interval. Gives back what master and worker held after each, once there was but
/// one worker again: all that have to leave have left. The master has to come back to `files_max`
/// open files each time; it has one more while it answers.
fn reload_all(running: &Running, wishes: &mut Wishes, files_max: usize) -> Vec<[Holds; 2]> {
    let (count, interval) = reloads();
    let start = Instant::now();
    let reload = |number| {
        sleep((start + interval * number).saturating_duration_since(Instant::now()));
        wishes.reload(number, &running.site);
        let worker = running.worker();
        let master = until("the master has as many files as ever", || {
            Some(holds(running.pid())).filter(|master| master.files <= files_max)
        });
        [master, holds(worker)]
    };
    (0..count).map(reload).collect()
}

#[test]
fn reloads_refuse_no_connect_lose_no_reply_and_pile_nothing_up() {
    let mut wishes = Wishes {
        shards: 1,
        idle_ms: 60_000,
    };
    let site = Site::supervised(&[]);
    wishes.configure(&site, &[]);
    let running = site.start();
    let quiet = [running.pid(), running.worker()].map(|process| holds(process).files);
    let storm = Storm::new(running.address, DRAIN_MS);
    let mut rng = seed::rng();
    let (held, failed) = thread::scope(|scope| {
        let clients = storm.begin(scope, &mut rng);
        let reloading = scope.spawn(|| reload_all(&running, &mut wishes, quiet[0] + 1));
        let held = reloading.join();
        storm.stop();
        let failed = clients.into_iter().filter_map(|client| client.join().err());
        (held, failed.count())
    });
    let got = storm.got();
    println!("{got:?}\n{held:?}");
    assert_eq!(
        failed,
        0,
        "clients have failed; the log:\n{}",
        running.site.log()
    );
    expect_steady(&held.unwrap());

    // Half of the rate is enough for a busy host. Each long client was sent away again and again.
    let enough = got.elapsed.as_secs() * CONNECTS_PER_SECOND / 2;
    assert!(got.short_replies >= enough, "{got:?}");
    assert!(got.goaways > LONG as u64, "{got:?}");
    assert!(got.long_replies > got.goaways * PIPELINE, "{got:?}");

    // As before the storm, but with a socket more, which was the second shard's.
    wishes.shards = 1;
    wishes.idle_ms += 1;
    wishes.configure(&running.site, &[]);
    running.site.succeed(&["reload", "--pid-file", "pid"]);
    // A worker that has just said that it is ready may have the socket by which it said so.
    until("nothing is open but what was and one socket", || {
        let files = [running.pid(), running.worker()].map(|process| holds(process).files);
        let is_as_before = files
            .iter()
            .zip(quiet)
            .all(|(&now, quiet)| now <= quiet + 1);
        is_as_before.then_some(())
    });
}
