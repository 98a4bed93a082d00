//! One that pipelines without end, and the others on its core.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use corelane::client::Client;
use corelane::protocol::codes;

use crate::clients::SetOnDrop;
use crate::support::library::{address_of, builder, stopped};
use crate::support::peer::{Peer, frame};
use crate::support::user::{User as _, connect};

#[test]
fn who_pipelines_without_end_leaves_the_others_their_turn() {
    let server = builder().start().unwrap();
    // No client: it never waits for a reply.
    let mut greedy = Peer::connect(address_of(&server));
    let mut sender = greedy.sender();
    let mut others: Vec<Client> = (0..8).map(|_| connect(address_of(&server))).collect();
    let done = AtomicBool::new(false);
    let (sent, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let _ends = SetOnDrop(&done);
        scope.spawn(|| {
            let mut number = 0u32;
            while !done.load(Ordering::Acquire) {
                let many: Vec<u8> = (0..5000)
                    .flat_map(|ahead| frame(codes::ECHO, &(number + ahead).to_be_bytes()))
                    .collect();
                sender.write_all(&many).unwrap();
                number += 5000;
            }
            sent.store(number.into(), Ordering::Relaxed);
            sender.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            let mut number = 0u32;
            while let Some(frame) = greedy.next() {
                assert_eq!(
                    (frame.code, &*frame.body),
                    (codes::ECHO, &number.to_be_bytes()[..])
                );
                number += 1;
                answered.store(number.into(), Ordering::Relaxed);
            }
        });
        for round in 0..100u32 {
            for other in &mut others {
                other.echo(&round.to_be_bytes());
            }
        }
        assert!(
            answered.load(Ordering::Relaxed) > 0,
            "the greedy one starves"
        );
    });
    let (sent, answered) = (sent.into_inner(), answered.into_inner());
    assert_eq!(sent, answered);
    let counters = stopped(server);
    // It did come faster than its share of a turn, and was made to wait.
    assert!(counters.deferrals > 0, "{counters:?}");
}
