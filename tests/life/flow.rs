//! Those who send and never read, and the others on their shard.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corelane::client::Client;
use corelane::protocol::codes;

use crate::clients::{SetOnDrop, raise_file_limit};
use crate::support::peer::{Peer, frame};
use crate::support::program::serve;
use crate::support::user::{User as _, connect};
use crate::support::waiting::until_still;

const HOARDERS: usize = 500;
const GUESTS: usize = 50;
const HIGH_BYTES: u64 = 65_536;
const FRAME_BYTES: u64 = 29_000;

/// What the server may hold for a connection: queued replies up to the mark and one more, what one
/// receive buffer brought, and its state.
const CONNECTION_BYTES: u64 = HIGH_BYTES + FRAME_BYTES + 32 * 1024 + 1024;

/// What it may hold besides: its receive buffers (4 MiB), its spare buffers (32 MiB).
const SLACK_BYTES: u64 = 36 << 20;

/// What takes less than this is fast enough, whatever it was without the others: the scheduler of
/// a busy host alone can make that much.
const FAST_ENOUGH: Duration = Duration::from_millis(5);

/// One that sends large requests and never reads.
struct Hoarder {
    stream: TcpStream,
    /// Bytes of the current request that have gone.
    gone_bytes: usize,
}

impl Hoarder {
    /// Sends what goes of one request without waiting; gives back how much, in bytes.
    fn push(&mut self, request: &[u8]) -> u64 {
        match self.stream.write(&request[self.gone_bytes..]) {
            Ok(taken_bytes) => {
                self.gone_bytes = (self.gone_bytes + taken_bytes) % request.len();
                taken_bytes as u64
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("the server is to keep the connection: {error}"),
        }
    }
}

/// The 99th percentile of the guests' round trips.
fn p99(guests: &mut [Client]) -> Duration {
    const ROUNDS: usize = 40;
    let mut took = Vec::with_capacity(ROUNDS * guests.len());
    for round in 0..ROUNDS {
        for guest in &mut *guests {
            let asked_at = Instant::now();
            guest.echo(&round.to_be_bytes());
            took.push(asked_at.elapsed());
        }
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// The one comparison of times among the tests. It takes the best of three rounds with the load,
/// and the worst of three without, so that only a server which is slow every time fails; and it
/// does not see a difference below [`FAST_ENOUGH`].
#[test]
fn five_hundred_that_never_read_slow_nobody_down_and_hold_what_they_may() {
    raise_file_limit();
    let server = serve(&[
        "outbound.low_bytes=16384",
        "outbound.high_bytes=65536",
        // They are to stay.
        "timeouts.write_ms=0",
        // Its sums take their memory when it first comes.
        "log.stats_seconds=0",
    ]);
    let address = server.address();
    let mut guests: Vec<Client> = (0..GUESTS).map(|_| connect(address)).collect();
    let alone = (0..3).map(|_| p99(&mut guests)).max().unwrap();
    let resident_bytes = server.resident_bytes();

    let request = frame(codes::ECHO, &vec![7; 28_992]);
    let pushed_bytes = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut hoarders: Vec<Hoarder> = (0..HOARDERS)
                .map(|_| {
                    let stream = Peer::connect_small(address).sender();
                    stream.set_nonblocking(true).unwrap();
                    Hoarder {
                        stream,
                        gone_bytes: 0,
                    }
                })
                .collect();
            while !done.load(Ordering::Acquire) {
                for hoarder in &mut hoarders {
                    // As much as goes, so that it waits in the kernel where the server is slow; but
                    // no more often: it is not this thread that is to take the guests' time.
                    for _ in 0..8 {
                        let taken_bytes = hoarder.push(&request);
                        if taken_bytes == 0 {
                            break;
                        }
                        pushed_bytes.fetch_add(taken_bytes, Ordering::Relaxed);
                    }
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        let _ends = SetOnDrop(&done);
        let beside: Vec<Duration> = (0..3).map(|_| p99(&mut guests)).collect();
        let best = beside.iter().min().unwrap();
        assert!(
            *best <= (alone * 2).max(FAST_ENOUGH),
            "p99 was {alone:?} alone and {beside:?} beside them"
        );

        let pushed_bytes = until_still("the server takes no more", &pushed_bytes);
        assert!(
            pushed_bytes > HOARDERS as u64 * HIGH_BYTES,
            "they hold too little"
        );
        let grown_bytes = server.resident_bytes().saturating_sub(resident_bytes);
        let allowed_bytes = HOARDERS as u64 * CONNECTION_BYTES + SLACK_BYTES;
        assert!(
            grown_bytes <= allowed_bytes,
            "{grown_bytes} bytes for what may be {allowed_bytes}"
        );
        guests.iter_mut().for_each(Client::ping);
    });
}
