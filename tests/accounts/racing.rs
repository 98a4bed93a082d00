//! One name, wanted on two shards at once.

use corelane::protocol::codes;

use crate::peer::Peer;
use crate::support::{Came, Site, meaning, peers_on_two_shards, register, try_login};

#[test]
fn of_two_shards_that_want_a_name_one_gets_it() {
    let site = Site::new();
    let server = site.serve(&["shards.count=2", "accounts.hash_threads=2"]);
    let mut peers = peers_on_two_shards(server.address());
    for round in 0..3 {
        let name = format!("name {round}");
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.send(
                codes::REGISTER,
                &register(&name, &format!("password {number}")),
            );
        }
        let came = peers
            .iter_mut()
            .map(|peer| meaning(&peer.next().unwrap(), &name));
        let came: Vec<Came> = came.collect();
        let winners: Vec<_> = (0..came.len())
            .filter(|&at| came[at] == Came::Done)
            .collect();
        let [winner] = winners[..] else {
            panic!("one was to get it: {came:?}");
        };
        let rejected = came.iter().filter(|&&came| came == Came::Rejected);
        assert_eq!(rejected.count(), peers.len() - 1);
        let mut peer = Peer::connect(server.address());
        let loser = (winner + 1) % peers.len();
        for (number, expected) in [(winner, Came::Done), (loser, Came::Rejected)] {
            let came = try_login(&mut peer, &name, &format!("password {number}"));
            assert_eq!(came, expected);
        }
    }
}
