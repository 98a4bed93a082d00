//! How connections spread over the shards.

use std::net::SocketAddr;
use std::thread;

use corelane::client::Client;
use corelane::config::Accept;
use corelane::metrics::Counters;
use corelane::protocol::codes;
use corelane::{Config, Server};

use crate::clients::raise_file_limit;
use crate::support::library::{address_of, builder_with, config};
use crate::support::user::{User as _, connect};

/// Tells the shard that a connection is on.
const SHARD: u16 = codes::APPLICATION;

const CONNECTIONS: usize = 1000;

fn serve(config: Config) -> Server {
    raise_file_limit();
    builder_with(config)
        .handler(SHARD, |(), context, _body| {
            let shard = u16::try_from(context.connection().shard()).unwrap();
            context.reply(&shard.to_be_bytes())
        })
        .start()
        .unwrap()
}

/// The shard that serves this connection.
fn shard_of(client: &mut Client) -> usize {
    let shard = client.ask(SHARD, b"");
    u16::from_be_bytes(shard.try_into().unwrap()).into()
}

fn per_shard(clients: &mut [Client]) -> [usize; 2] {
    let mut count = [0; 2];
    for client in clients {
        count[shard_of(client)] += 1;
    }
    count
}

/// Within 5% of even.
#[track_caller]
fn assert_even(count: [usize; 2]) {
    let even = count.iter().sum::<usize>() / 2;
    assert!(
        count.iter().all(|each| each.abs_diff(even) * 20 <= even),
        "{count:?}"
    );
}

fn stopped(server: Server) -> [Counters; 2] {
    server.handle().stop();
    server.wait().unwrap().try_into().unwrap()
}

#[test]
fn connections_one_by_one_spread_evenly_and_again_after_one_shard_has_lost_its() {
    let server = serve(config(2));
    let address = address_of(&server);
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| connect(address)).collect();
    assert_even(per_shard(&mut clients));

    let on_first = |client: &mut Client| shard_of(client) == 0;
    let lost: Vec<Client> = clients.extract_if(.., on_first).collect();
    let replaced = lost.len();
    for client in lost {
        client.close().unwrap();
    }
    clients.extend((0..replaced).map(|_| connect(address)));
    assert_even(per_shard(&mut clients));
    drop(clients);
    let counters = stopped(server);
    let sum = |of: fn(&Counters) -> u64| counters.iter().map(of).sum::<u64>();
    assert_eq!(sum(|each| each.accepted), (CONNECTIONS + replaced) as u64);
    assert_eq!(sum(|each| each.accepted), sum(Counters::closed_total));
    assert_eq!(sum(|each| each.handed_over), sum(|each| each.taken_over));
}

#[test]
fn a_burst_spreads_evenly() {
    const THREADS: usize = 8;
    fn share_of(address: SocketAddr) -> Vec<Client> {
        (0..CONNECTIONS / THREADS)
            .map(|_| connect(address))
            .collect()
    }
    let server = serve(config(2));
    let address = address_of(&server);
    let mut clients: Vec<Client> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(move || share_of(address)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_even(per_shard(&mut clients));
}

#[test]
fn local_connections_stay_where_the_kernel_put_them() {
    let mut config = config(2);
    config.shards.accept = Accept::Local;
    let server = serve(config);
    let mut clients: Vec<Client> = (0..CONNECTIONS)
        .map(|_| connect(address_of(&server)))
        .collect();
    let count = per_shard(&mut clients);
    let counters = stopped(server);
    for (count, counters) in count.into_iter().zip(counters) {
        assert!(count > 0, "the kernel spreads by a hash");
        assert_eq!(counters.accepted, count as u64);
        assert_eq!((counters.handed_over, counters.taken_over), (0, 0));
    }
}
