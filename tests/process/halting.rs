//! What the host does to a worker that it keeps from its CPUs: it is late, no more.

use std::hint::spin_loop;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use corelane::client::Client;
use corelane::protocol::codes;
use fastrand::Rng;
use rustix::process::Signal;

use crate::seed;
use crate::support::{DEADLINE, Site, halt, kill};

/// Longer than the 100 ms after which glommio's preemption timer lapses and has an executor sleep
/// although there are tasks to run.
const HALT: Duration = Duration::from_millis(110);

/// So soon after it was continued a worker is halted again, at most: somewhere in what it does first.
const GAP_MAX: Duration = Duration::from_micros(200);

/// Every second run or so had a worker that stood still for good when nothing was done about it.
const SERVERS: usize = 4;
const ROUNDS: usize = 25;

/// Long enough without a message for a shard to park.
const PARKED_AFTER: Duration = Duration::from_millis(5);

#[test]
fn a_worker_that_is_halted_at_any_moment_serves_on() {
    let mut rng = seed::rng();
    thread::scope(|scope| {
        for _ in 0..SERVERS {
            let rng = rng.fork();
            scope.spawn(|| halt_again_and_again(rng));
        }
    });
}

fn halt_again_and_again(mut rng: Rng) {
    // Neither a deadline of the connection's nor whoever wants figures is to wake the shard.
    let running = Site::supervised(&[
        "timeouts.first_frame_ms = 3600000",
        "timeouts.idle_ms = 3600000",
        "timeouts.write_ms = 3600000",
        "log.stats_seconds = 0",
    ])
    .start();
    let worker = running.worker();
    let mut client = Client::connect(running.address, DEADLINE).unwrap();
    for round in 0..ROUNDS {
        sleep(PARKED_AFTER);
        halt(worker);
        client.send(codes::PING, b"").unwrap();
        sleep(HALT);
        let gap = GAP_MAX.mul_f64(rng.f64());
        kill(worker, Signal::CONT);
        let continued = Instant::now();
        while continued.elapsed() < gap {
            spin_loop();
        }
        kill(worker, Signal::STOP);
        sleep(HALT);
        kill(worker, Signal::CONT);
        let reply = client.receive();
        let reply = reply.unwrap_or_else(|error| {
            panic!("round {round}, {gap:?}: {error}\n{}", running.site.log())
        });
        assert_eq!(reply.code, codes::PING);
    }
}
