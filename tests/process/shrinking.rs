//! What becomes of those who wait in the socket of a shard that is no more.
//!
//! A worker that stands still (SIGSTOP) accepts nobody, so that who connects waits in the backlog of
//! whichever socket the kernel has put it into.

use std::fs;
use std::net::SocketAddr;

use corelane::client::Client;
use corelane::protocol::codes;
use rustix::process::Signal;

use crate::support::{DEADLINE, Running, Site, halt, kill, until};

/// Enough that none of a few sockets is left out, but for one time in millions.
const CLIENTS: u32 = 64;

/// How many connections wait in each listening socket of this port, as /proc/net/tcp has it.
fn waiting(address: SocketAddr) -> Vec<u32> {
    let own = format!("0100007F:{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let listening = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
        let queues = fields.next()?;
        let (_, waiting) = queues.split_once(':')?;
        (local == own && state == "0A").then(|| u32::from_str_radix(waiting, 16).unwrap())
    });
    listening.collect()
}

/// So many who connect and ask, of whom nobody is accepted as long as all workers stand still.
fn crowd(running: &Running) -> Vec<Client> {
    let come = |number: u32| {
        let mut client = Client::connect(running.address, DEADLINE).unwrap();
        client.send(codes::ECHO, &number.to_be_bytes()).unwrap();
        client
    };
    (0..CLIENTS).map(come).collect()
}

/// Waits until that many wait, and some of them in each of so many sockets.
fn until_all_wait(running: &Running, sockets: usize, clients: u32) {
    until("all wait, in each of the sockets", || {
        let waiting = waiting(running.address);
        let is_everywhere = waiting.len() == sockets && !waiting.contains(&0);
        (is_everywhere && waiting.iter().sum::<u32>() == clients).then_some(())
    });
}

/// Who came late to a worker that drains may get GOAWAY first.
fn expect_replies(crowd: Vec<Client>, running: &Running) {
    for (number, mut client) in crowd.into_iter().enumerate() {
        let reply = client.reply();
        let reply = reply
            .unwrap_or_else(|error| panic!("client {number}: {error}\n{}", running.site.log()));
        assert_eq!(reply.code, codes::ECHO);
        assert_eq!(reply.body, u32::try_from(number).unwrap().to_be_bytes());
    }
}

#[test]
fn who_waits_in_the_socket_of_a_shard_that_is_no_more_is_served() {
    const MOST: usize = 4;
    let running = Site::supervised(&["shards.count = 4"]).start();
    // Fewer, then more but not as many, then fewer: sockets without a shard before and after.
    for shards in [1, 3, 2] {
        let old = running.worker();
        halt(old);
        let before = crowd(&running);
        until_all_wait(&running, MOST, CLIENTS);
        let shards = format!("shards.count = {shards}");
        running
            .site
            .configure(&["process.mode = 'supervised'", &shards]);
        // The old one is told to drain, but stands still.
        running.site.succeed(&["reload", "--pid-file", "pid"]);
        expect_replies(before, &running);

        let workers = running.workers();
        let new = workers.into_iter().find(|&worker| worker != old).unwrap();
        halt(new);
        let between = crowd(&running);
        until_all_wait(&running, MOST, CLIENTS);
        // It accepts while it drains, and leaves the rest, in whichever socket, to the new one.
        kill(old, Signal::CONT);
        kill(new, Signal::CONT);
        expect_replies(between, &running);
        assert_eq!(running.worker(), new);
    }
}
