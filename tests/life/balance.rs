//! How connections spread over the shards.

use std::net::SocketAddr;
use std::thread;

use corelane::config::Accept;
use corelane::metrics::Counters;
use corelane::protocol::codes;
use corelane::{Config, Server};

use crate::clients::raise_file_limit;
use crate::support::library::{address_of, builder_with, config};
use crate::support::peer::Peer;

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
fn shard_of(peer: &mut Peer) -> usize {
    peer.send(SHARD, b"");
    let reply = peer.next().unwrap();
    u16::from_be_bytes(reply.body.try_into().unwrap()).into()
}

fn per_shard(peers: &mut [Peer]) -> [usize; 2] {
    let mut count = [0; 2];
    for peer in peers {
        count[shard_of(peer)] += 1;
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
    let connect = |_| Peer::connect(address);
    let mut peers: Vec<Peer> = (0..CONNECTIONS).map(connect).collect();
    assert_even(per_shard(&mut peers));

    let lost: Vec<Peer> = peers.extract_if(.., |peer| shard_of(peer) == 0).collect();
    let replaced = lost.len();
    for mut peer in lost {
        peer.shut();
        peer.expect_end();
    }
    peers.extend((0..replaced).map(connect));
    assert_even(per_shard(&mut peers));
    drop(peers);
    let counters = stopped(server);
    let sum = |of: fn(&Counters) -> u64| counters.iter().map(of).sum::<u64>();
    assert_eq!(sum(|each| each.accepted), (CONNECTIONS + replaced) as u64);
    assert_eq!(sum(|each| each.accepted), sum(Counters::closed_total));
    assert_eq!(sum(|each| each.handed_over), sum(|each| each.taken_over));
}

#[test]
fn a_burst_spreads_evenly() {
    const THREADS: usize = 8;
    fn connect(address: SocketAddr) -> Vec<Peer> {
        (0..CONNECTIONS / THREADS)
            .map(|_| Peer::connect(address))
            .collect()
    }
    let server = serve(config(2));
    let address = address_of(&server);
    let mut peers: Vec<Peer> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(move || connect(address)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_even(per_shard(&mut peers));
}

#[test]
fn local_connections_stay_where_the_kernel_put_them() {
    let mut config = config(2);
    config.shards.accept = Accept::Local;
    let server = serve(config);
    let mut peers: Vec<Peer> = (0..CONNECTIONS)
        .map(|_| Peer::connect(address_of(&server)))
        .collect();
    let count = per_shard(&mut peers);
    let counters = stopped(server);
    for (count, counters) in count.into_iter().zip(counters) {
        assert!(count > 0, "the kernel spreads by a hash");
        assert_eq!(counters.accepted, count as u64);
        assert_eq!((counters.handed_over, counters.taken_over), (0, 0));
    }
}
