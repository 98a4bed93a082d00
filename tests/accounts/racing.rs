//! One name, wanted on two shards at once.

use crate::support::{Came, Site, clients_on_two_shards, meaning, register, try_login};
use crate::user::connect;

#[test]
fn of_two_shards_that_want_a_name_one_gets_it() {
    let site = Site::new();
    let server = site.serve(&["shards.count=2", "accounts.hash_threads=2"]);
    let mut clients = clients_on_two_shards(server.address());
    for round in 0..3 {
        let name = format!("name {round}");
        for (number, client) in clients.iter_mut().enumerate() {
            let password = format!("password {number}");
            client.send_message(&register(&name, &password)).unwrap();
        }
        let came = clients
            .iter_mut()
            .map(|client| meaning(client.reply(), &name));
        let came: Vec<Came> = came.collect();
        let winners: Vec<_> = (0..came.len())
            .filter(|&at| came[at] == Came::Done)
            .collect();
        let [winner] = winners[..] else {
            panic!("one was to get it: {came:?}");
        };
        let rejected = came.iter().filter(|&&came| came == Came::Rejected);
        assert_eq!(rejected.count(), clients.len() - 1);
        let mut client = connect(server.address());
        let loser = (winner + 1) % clients.len();
        for (number, expected) in [(winner, Came::Done), (loser, Came::Rejected)] {
            let came = try_login(&mut client, &name, &format!("password {number}"));
            assert_eq!(came, expected);
        }
    }
}
