//! How many connections one address may have, on all shards together. No clients: they do not choose
//! the address that they come from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::thread;

use fastrand::Rng;

use crate::clients::{connect_from, is_served, loopback};
use crate::support::peer::Peer;
use crate::support::program::{MODEST, Program, serve, start};
use crate::support::seed;
use crate::support::waiting::until;

/// Connections that an address may have.
const MAX: usize = 5;

/// Connects until one is served: what was closed may still count a moment.
fn connect_until_served(source: IpAddr, address: SocketAddr) -> Peer {
    until(
        "there is room for another connection of the address",
        || Some(connect_from(source, address)).filter(is_served),
    )
}

fn close(mut peer: Peer, rng: &mut Rng) {
    match rng.u8(..3) {
        0 => drop(peer),
        1 => peer.reset(),
        _ => {
            peer.shut();
            peer.expect_end();
        }
    }
}

/// Has one address come and go in any order, again and again; each time exactly as many fit as
/// before.
fn come_and_go(source: IpAddr, address: SocketAddr, rounds: usize, mut rng: Rng) {
    let mut peers = Vec::new();
    for _ in 0..rounds {
        while peers.len() < MAX {
            peers.push(connect_until_served(source, address));
        }
        for _ in 0..2 {
            assert!(
                !is_served(&connect_from(source, address)),
                "{source} has one too many"
            );
        }
        peers.iter_mut().for_each(Peer::ping);
        rng.shuffle(&mut peers);
        for peer in peers.split_off(rng.usize(..MAX)) {
            close(peer, &mut rng);
        }
    }
}

#[test]
fn the_excess_of_an_address_is_closed_and_others_are_not() {
    let server = serve(&[
        "shards.count=2",
        "limits.connections_per_ip=5",
        "log.level=debug",
    ]);
    let address = server.address();
    let mut served: Vec<Peer> = (0..MAX)
        .map(|_| connect_from(loopback(2), address))
        .collect();
    served.iter_mut().for_each(Peer::ping);
    for _ in 0..10 {
        // In good order: it has sent nothing that could be lost.
        connect_from(loopback(2), address).expect_end();
    }
    for source in 3..20 {
        let mut other: Vec<Peer> = (0..MAX)
            .map(|_| connect_from(loopback(source), address))
            .collect();
        other.iter_mut().for_each(Peer::ping);
    }
    served.iter_mut().for_each(Peer::ping);
    let refused = || server.count_logged("cause=limit");
    until("the refusals are in the log", || {
        (refused() == 10).then_some(())
    });
}

#[test]
fn whatever_the_order_of_coming_and_going_as_many_fit_as_before() {
    let server = serve(&["shards.count=2", "limits.connections_per_ip=5"]);
    let address = server.address();
    let mut rng = seed::rng();
    thread::scope(|scope| {
        for source in 2..8 {
            let rng = rng.fork();
            scope.spawn(move || come_and_go(loopback(source), address, 60, rng));
        }
    });
}

fn serve_both_families() -> Program {
    let mut words = vec![
        "--admin",
        "off",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "[::1]:0",
    ];
    for setting in MODEST
        .iter()
        .chain(&["shards.count=2", "limits.connections_per_ip=5"])
    {
        words.extend(["--set", setting]);
    }
    start(&words)
}

#[test]
fn addresses_of_the_other_family_count_as_well() {
    if let Err(error) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        eprintln!("skipped: this host has no IPv6 loopback address: {error}");
        return;
    }
    let server = serve_both_families();
    let (v4, v6) = (server.announcement(0).0, server.announcement(1).0);
    let mut rng = seed::rng();
    thread::scope(|scope| {
        for (source, address) in [(loopback(1), v4), (Ipv6Addr::LOCALHOST.into(), v6)] {
            let rng = rng.fork();
            scope.spawn(move || come_and_go(source, address, 30, rng));
        }
    });
}
