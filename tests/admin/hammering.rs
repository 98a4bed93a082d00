//! The admin server can't be a burden to the shards, however hard it is hit.
//!
//! A load runs, and the CPU time that the shard's thread takes for a message is read off the kernel's
//! books in turns: while nobody asks, while four threads ask for /metrics as fast as they can, and
//! while they do the same to the admin server of another, idle server. The last tells what the
//! hammering costs by taking CPU time and caches away, which any other program would; what is left is
//! the admin server's own doing, and may be 2%. Shard and load have a CPU each; a round's turns are
//! compared with one another, since a machine's mood lasts longer than a round. Prints the medians. A
//! round says little on a busy machine, so the rounds vote (a sign test): were it 2% or less, as many
//! rounds as it takes to fail would be above that in 1 of 59,000 runs.
//!
//! A program of its own, with nothing beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also where its support does it"
)]

#[path = "../server/support/mod.rs"]
#[allow(dead_code, reason = "tests/server uses the rest of it")]
mod support;

#[allow(dead_code, reason = "tests/admin/main.rs uses the rest of it")]
mod http;
#[allow(dead_code, reason = "tests/admin/main.rs uses the rest of it")]
mod plane;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use corelane::Server;
use corelane::protocol::codes;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::plane::Admin;
use crate::support::library::{address_of, builder_with, config};
use crate::support::peer::frame;
use crate::support::user::{User as _, connect};
use crate::support::waiting::{DEADLINE, until};

const THREAD_ID: u16 = 1000;
const ROUNDS: usize = 31;
const TURN: Duration = Duration::from_millis(150);
const HAMMERS: usize = 4;
const CONNECTIONS: usize = 8;
const PIPELINE: usize = 16;

/// By how much a message may cost more.
const MOVES_MAX: f64 = 0.02;
/// Of 31 fair coins, 27 or more show heads in 1 of 59,000 tosses.
const ROUNDS_ABOVE: usize = 27;
/// What no noise explains, whoever takes the CPU time away.
const MOVES_BEYOND_NOISE: f64 = 0.25;

struct Loaded {
    server: Server,
    admin: Admin,
    shard_thread: String,
}

fn start() -> Loaded {
    let mut config = config(1);
    // To the first CPU that there is.
    config.shards.pin = true;
    let server = builder_with(config)
        .handler(THREAD_ID, |(), context, _body| {
            let id = rustix::thread::gettid().as_raw_pid().to_string();
            context.reply(id.as_bytes())
        })
        .start()
        .unwrap();
    let id = connect(address_of(&server)).ask(THREAD_ID, b"");
    let id = String::from_utf8(id).unwrap();
    Loaded {
        admin: Admin::of(&server),
        server,
        shard_thread: format!("/proc/self/task/{id}/schedstat"),
    }
}

impl Loaded {
    /// CPU time that the shard has used, in nanoseconds.
    fn used_ns(&self) -> u64 {
        let books = fs::read_to_string(&self.shard_thread).unwrap();
        books.split(' ').next().unwrap().parse().unwrap()
    }
}

/// Threads that go on until they are told.
#[derive(Clone, Default)]
struct Until(Arc<AtomicBool>);

impl Until {
    fn goes_on(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Moves this thread to the second CPU that there is, or lets it be if there is none.
fn pin_to_second_cpu() {
    let allowed = sched_getaffinity(None).unwrap();
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    if let Some(second) = cpus.nth(1) {
        let mut only = CpuSet::new();
        only.set(second);
        sched_setaffinity(None, &only).unwrap();
    }
}

/// A closed loop of ECHOs; counts the messages.
fn load(address: SocketAddr, until: Until, messages: Arc<AtomicU64>) -> thread::JoinHandle<()> {
    let requests = frame(codes::ECHO, &[7; 32]).repeat(PIPELINE);
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    };
    let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
    thread::spawn(move || {
        pin_to_second_cpu();
        let mut replies = vec![0; requests.len()];
        while until.goes_on() {
            for stream in &mut streams {
                stream.write_all(&requests).unwrap();
            }
            for stream in &mut streams {
                stream.read_exact(&mut replies).unwrap();
                assert_eq!(replies, requests);
                messages.fetch_add(PIPELINE as u64, Ordering::Relaxed);
            }
        }
    })
}

/// Asks for /metrics as fast as it can, on new connections as well as on old ones; counts the answers.
fn hammer(address: SocketAddr, until: Until, answers: Arc<AtomicU64>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while until.goes_on() {
            let mut stream = TcpStream::connect(address).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            for _ in 0..20 {
                // The server may have had enough of this connection.
                let request = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n";
                if !until.goes_on() || stream.write_all(request).is_err() {
                    break;
                }
                if is_answered(&mut stream) {
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    })
}

/// Reads what is there; the next request does not wait for all of it.
fn is_answered(stream: &mut TcpStream) -> bool {
    let mut bytes = vec![0; 64 * 1024];
    match stream.read(&mut bytes) {
        Ok(count) => count > 0,
        Err(error) => {
            let waits = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(
                waits || error.kind() == ErrorKind::ConnectionReset,
                "{error}"
            );
            false
        }
    }
}

/// Nanoseconds of the shard's CPU time for a message, while this admin server is hammered.
fn measure(loaded: &Loaded, hammered: Option<SocketAddr>) -> f64 {
    let messages = Arc::new(AtomicU64::new(0));
    let answers = Arc::new(AtomicU64::new(0));
    let ends = Until::default();
    let loading = load(
        address_of(&loaded.server),
        ends.clone(),
        Arc::clone(&messages),
    );
    let hammers: Vec<_> = hammered
        .into_iter()
        .flat_map(|address| (0..HAMMERS).map(move |_| address))
        .map(|address| hammer(address, ends.clone(), Arc::clone(&answers)))
        .collect();
    until("the load has begun", || {
        (messages.load(Ordering::Relaxed) > 1000).then_some(())
    });
    let before = (loaded.used_ns(), messages.load(Ordering::Relaxed));
    thread::sleep(TURN);
    let after = (loaded.used_ns(), messages.load(Ordering::Relaxed));
    if hammered.is_some() {
        until("something is answered", || {
            (answers.load(Ordering::Relaxed) > 0).then_some(())
        });
    }
    ends.end();
    loading.join().unwrap();
    for hammer in hammers {
        hammer.join().unwrap();
    }
    #[expect(clippy::cast_precision_loss, reason = "both are small")]
    let per_message = (after.0 - before.0) as f64 / (after.1 - before.1) as f64;
    per_message
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[test]
fn hammering_the_admin_server_costs_the_shards_nothing() {
    let (loaded, idle) = (start(), start());
    measure(&loaded, None);
    let rounds: Vec<[f64; 3]> = (0..ROUNDS)
        .map(|round| {
            let whom = [None, Some(idle.admin.address), Some(loaded.admin.address)];
            // Who comes last in a round, may find the machine in another mood than who comes first.
            let mut costs = [0.0; 3];
            for turn in (0..3).map(|turn| (turn + round) % 3) {
                costs[turn] = measure(&loaded, whom[turn]);
            }
            costs
        })
        .collect();
    let [quiet, elsewhere, here] =
        [0, 1, 2].map(|turn| median(rounds.iter().map(|round| round[turn])));
    let against = |turn: usize| median(rounds.iter().map(|round| round[2] / round[turn] - 1.0));
    let (against_quiet, against_elsewhere) = (against(0), against(1));
    let above = rounds
        .iter()
        .filter(|round| round[2] / round[1] - 1.0 > MOVES_MAX)
        .count();
    println!(
        "CPU of the shard, ns/message: {quiet:.0} quiet, {elsewhere:.0} with another admin server \
         hammered, {here:.0} with its own: {:+.1}% against quiet, {:+.1}% against the other; above \
         {:+.1}% in {above} of {ROUNDS} rounds",
        against_quiet * 100.0,
        against_elsewhere * 100.0,
        MOVES_MAX * 100.0,
    );
    assert!(above < ROUNDS_ABOVE, "{rounds:?}");
    assert!(against_quiet < MOVES_BEYOND_NOISE, "{rounds:?}");
}
