//! The log under pressure: nothing waits for it, and what does not get into it is told in it.

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::program::{Program, serve, start_limited};
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

/// A folder for a log.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A server that logs there, to the file `log`, the shard's debug lines, too, all as JSON.
    fn serve(&self, settings: &[&str]) -> Program {
        let file = format!("log.file={}", self.path("log").display());
        let ours = [
            file.as_str(),
            "log.level=info,corelane::shard=debug",
            "log.format=json",
        ];
        serve(&[&ours[..], settings].concat())
    }
}

/// The entries of a log, each an object of JSON in a line of its own.
#[track_caller]
fn entries(log: &str) -> Vec<serde_json::Value> {
    assert!(log.is_empty() || log.ends_with('\n'), "a line is torn");
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}")))
        .collect()
}

fn entries_in(file: &Path) -> Vec<serde_json::Value> {
    entries(&fs::read_to_string(file).unwrap())
}

/// The whole entries in a log that is being written.
fn entries_so_far(file: &Path) -> Vec<serde_json::Value> {
    let log = fs::read(file).unwrap();
    let end = log
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    entries(std::str::from_utf8(&log[..end]).unwrap())
}

/// How many entries have this message.
fn count(entries: &[serde_json::Value], message: &str) -> u64 {
    let with = |entry: &&serde_json::Value| entry["fields"]["message"] == message;
    entries.iter().filter(with).count() as u64
}

/// The sum of this field over all entries that have it.
fn sum(entries: &[serde_json::Value], field: &str) -> u64 {
    let value = |entry: &serde_json::Value| entry["fields"][field].as_u64();
    entries.iter().filter_map(value).sum()
}

/// Connects, gets a reply and goes: two lines of the log.
fn visit(server: &Program) {
    connect(server.address()).ping();
}

/// Stops a server that logs to a file, and waits until it has ended.
fn stop(server: Program) {
    server.signal(Signal::TERM);
    let ended = server.ended();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
}

/// A pipe in the place of a log file, which nobody has to write to yet.
fn pipe_at(path: &Path) -> File {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let pipe = rustix::fs::open(path, flags, Mode::empty()).unwrap();
    fcntl_setfl(&pipe, OFlags::empty()).unwrap();
    pipe.into()
}

#[test]
fn a_reader_that_stops_holds_up_nobody_and_is_told_what_it_missed() {
    let place = Place::new();
    let mut pipe = pipe_at(&place.path("log"));
    // What a busy host makes slow is not to be told in between.
    let server = place.serve(&["log.stats_seconds=0", "handlers.slow_ms=60000"]);
    // The pipe holds 64 KiB, the queue 4 MiB, and two lines take about half a kilobyte.
    let visits = 15_000;
    for _ in 0..visits {
        visit(&server);
    }
    let mut log = Vec::new();
    let mut told = false;
    while !told {
        let mut chunk = [0; 4096];
        let length = pipe.read(&mut chunk).unwrap();
        let tail = log.len().saturating_sub(100);
        log.extend_from_slice(&chunk[..length]);
        told = String::from_utf8_lossy(&log[tail..]).contains("\"dropped\":");
    }
    visit(&server);
    server.signal(Signal::TERM);
    pipe.read_to_end(&mut log).unwrap();
    assert_eq!(server.ended().status, Some(0));

    let entries = entries(std::str::from_utf8(&log).unwrap());
    let logged = count(&entries, "accepted") + count(&entries, "closed");
    let dropped = sum(&entries, "dropped");
    assert!(dropped > 0);
    assert_eq!(logged + dropped, 2 * (visits + 1));
    assert_eq!(count(&entries, "stopping"), 1);
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_the_server_from_its_end() {
    let place = Place::new();
    let pipe = pipe_at(&place.path("log"));
    let server = place.serve(&[]);
    for _ in 0..500 {
        visit(&server);
    }
    stop(server);
    drop(pipe);
}

#[test]
fn reopening_under_a_storm_of_lines_loses_none_and_tears_none() {
    let place = Place::new();
    let server = place.serve(&["log.stats_seconds=0"]);
    let (going, visits) = (AtomicBool::new(true), AtomicU64::new(0));
    let old: Vec<(PathBuf, u64)> = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while going.load(Ordering::Relaxed) {
                    visit(&server);
                    visits.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let old = (0..10)
            .map(|round| {
                // On a busy host all ten may be done before anybody was there.
                until("more have visited", || {
                    (visits.load(Ordering::Relaxed) > 2 * u64::from(round)).then_some(())
                });
                rotate(&place, &server, round)
            })
            .collect();
        going.store(false, Ordering::Relaxed);
        old
    });
    stop(server);

    let mut all = entries_in(&place.path("log"));
    for (file, bytes) in old {
        let now = fs::metadata(&file).unwrap().len();
        assert_eq!(now, bytes, "written to after the new one was told of");
        all.extend(entries_in(&file));
    }
    let visits = visits.into_inner();
    assert!(visits > 18);
    for message in ["accepted", "closed"] {
        assert_eq!(count(&all, message), visits, "{message}");
    }
}

/// Moves the log away and has a new one made. Gives back the old one, and how long it is when the
/// new one says that it is in use.
fn rotate(place: &Place, server: &Program, round: u32) -> (PathBuf, u64) {
    let (log, old) = (place.path("log"), place.path(&format!("log.{round}")));
    fs::rename(&log, &old).unwrap();
    server.signal(Signal::USR1);
    until("the log file was reopened", || {
        let text = fs::read_to_string(&log).ok()?;
        text.contains("the log file was reopened").then_some(())
    });
    let bytes = fs::metadata(&old).unwrap().len();
    (old, bytes)
}

#[test]
fn a_repeated_event_is_left_out_and_counted_even_when_it_falls_silent() {
    let place = Place::new();
    let limit = ["log.repeats_per_second=1", "log.repeats_burst=5"];
    let server = place.serve(&limit);
    let visits = 50;
    for _ in 0..visits {
        visit(&server);
    }
    let log = place.path("log");
    let told = |message: &str| {
        let entries = entries_so_far(&log);
        let of_it: Vec<_> = entries
            .into_iter()
            .filter(|entry| entry["fields"]["like"] == message)
            .collect();
        sum(&of_it, "left_out")
    };
    for message in ["accepted", "closed"] {
        until("all that is left out is told", || {
            let logged = count(&entries_so_far(&log), message);
            (logged + told(message) == visits).then_some(())
        });
        let logged = count(&entries_so_far(&log), message);
        assert!((5..visits).contains(&logged), "{logged}");
    }
    stop(server);
}

#[test]
fn what_is_left_out_last_is_told_before_the_end() {
    let server = serve(&[
        "log.level=error,corelane::shard=debug",
        "log.repeats_per_second=1",
        "log.repeats_burst=1",
    ]);
    for _ in 0..20 {
        visit(&server);
    }
    server.signal(Signal::QUIT);
    let log = server.ended().stderr;
    let left_out: u64 = log
        .split("left_out=")
        .skip(1)
        .map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    let logged = log.matches(": accepted ").count() + log.matches(": closed ").count();
    assert_eq!(logged as u64 + left_out, 40, "{log}");
}

#[test]
fn a_full_disk_holds_up_nobody_and_is_told_when_there_is_room_again() {
    let place = Place::new();
    let log = place.path("log");
    symlink("/dev/full", &log).unwrap();
    let server = place.serve(&[]);
    for _ in 0..10 {
        visit(&server);
    }
    fs::remove_file(&log).unwrap();
    server.signal(Signal::USR1);
    until("the loss is told", || {
        let lost = sum(&entries_so_far(log.exists().then_some(&*log)?), "unwritten");
        (lost >= 19).then_some(())
    });
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("No space left on device"), "{text}");
    stop(server);
}

#[test]
fn a_failure_comes_after_all_that_was_logged() {
    let limits = "ulimit -n 135 && exec >/dev/full";
    let words = ["--listen", "127.0.0.1:0", "--shards", "1"];
    let ended = start_limited(limits, &words).ended();
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let (log, sentence) = ended.stderr.rsplit_once("corelane: ").unwrap();
    assert!(log.contains("the limit of open files (135)"), "{log}");
    assert!(
        sentence.starts_with("No space left on device"),
        "{sentence}"
    );
}

#[test]
fn a_server_that_ends_has_its_last_line_however_much_waits_before_it() {
    let place = Place::new();
    let mut pipe = pipe_at(&place.path("log"));
    let server = place.serve(&["log.stats_seconds=0"]);
    // More than a pipe holds.
    let visits = 500;
    for _ in 0..visits {
        visit(&server);
    }
    let address = server.address();
    server.signal(Signal::QUIT);
    until("its shards have ended", || {
        TcpStream::connect(address).is_err().then_some(())
    });
    let mut log = String::new();
    pipe.read_to_string(&mut log).unwrap();
    assert_eq!(server.ended().status, Some(0));
    let entries = entries(&log);
    // Looking for its end connects as well.
    let accepted = count(&entries, "accepted");
    assert!(accepted >= visits, "{accepted}");
    assert_eq!(count(&entries, "closed"), accepted);
    assert_eq!(count(&entries, "draining"), 1);
}
