//! Pushes and broadcasts that arrive, and those that do not.

use corelane::metrics::CloseCause;

use crate::club::{BROADCAST, Member, NEWS, builder, start, stopped, sum};
use crate::support::library::{address_of, config};
use crate::support::peer::Peer;
use crate::support::waiting::until;

#[test]
fn a_push_reaches_a_connection_of_any_shard_in_order() {
    let (server, members) = start();
    let mut sender = Member::on(0, &server, &members);
    for shard in [0, 1] {
        let mut receiver = Member::on(shard, &server, &members);
        for number in 0..1000_u32 {
            sender.push(receiver.number, &number.to_be_bytes());
        }
        for number in 0..1000_u32 {
            receiver.peer.expect(NEWS, &number.to_be_bytes());
        }
        receiver.peer.ping();
    }
    sender.peer.ping();
    let counters = stopped(server);
    assert_eq!(sum(&counters, |c| c.pushes), 2000);
    assert_eq!(sum(&counters, |c| c.stale_pushes), 0);
}

#[test]
fn a_push_to_oneself_comes_beside_the_replies() {
    let (server, members) = start();
    let mut member = Member::on(0, &server, &members);
    for _ in 0..100 {
        member.push(member.number, b"to myself");
        member.peer.expect(NEWS, b"to myself");
        member.peer.echo(b"and a reply");
    }
}

/// Only its generation tells a new connection from the one before it in its slot.
#[test]
fn nothing_for_a_connection_that_is_gone_reaches_the_next_one() {
    let mut config = config(2);
    // One slot on each shard, so that it is used again at once.
    config.limits.connections = 2;
    let (builder, members) = builder(config);
    let server = builder.start().unwrap();
    let mut sender = Member::on(0, &server, &members);
    let gone = Member::on(1, &server, &members);
    let (number, old) = (
        gone.number,
        members.lock().unwrap()[usize::from(gone.number)],
    );
    drop(gone.peer);
    let mut heirs = Vec::new();
    until("a slot is used again", || {
        heirs.push(Member::on(1, &server, &members));
        let id = members.lock().unwrap()[usize::from(heirs.last()?.number)];
        let slot = |id: &dyn ToString| id.to_string().split('-').nth(1).unwrap().to_owned();
        if heirs.len() > 1 {
            heirs.remove(0);
        }
        (slot(&id) == slot(&old)).then_some(())
    });
    for _ in 0..100 {
        sender.push(number, b"for who is gone");
    }
    sender.push(heirs[0].number, b"for the heir");
    heirs[0].peer.expect(NEWS, b"for the heir");
    heirs[0].peer.ping();
    let counters = stopped(server);
    assert_eq!(counters[1].stale_pushes, 100);
}

#[test]
fn a_broadcast_reaches_everybody_once() {
    let (server, members) = start();
    let mut all: Vec<Member> = (0..40)
        .map(|_| Member::join(address_of(&server), &members))
        .collect();
    let on_first = all.iter().filter(|member| member.shard == 0).count();
    assert!((1..40).contains(&on_first), "both shards have some");
    for round in 0..50_u8 {
        let sender = usize::from(round) % all.len();
        all[sender].peer.send(BROADCAST, &[round; 100]);
        for member in &mut all {
            member.peer.expect(NEWS, &[round; 100]);
        }
    }
    for member in &mut all {
        member.peer.ping();
    }
}

/// What is large is sent from where it is shared, what is small is copied together, and replies
/// come in between: for everybody in the same order.
#[test]
fn frames_of_all_sizes_are_shared_among_many() {
    const SIZES: [usize; 6] = [0, 100, 1_000, 5_000, 20_000, 28_000];
    const ROUNDS: usize = 120;
    let (server, members) = start();
    let mut all: Vec<Member> = (0..20)
        .map(|_| Member::join(address_of(&server), &members))
        .collect();
    let text = |round: usize| vec![u8::try_from(round).unwrap(); SIZES[round % SIZES.len()]];
    let mut sender = Member::join(address_of(&server), &members);
    for round in 0..ROUNDS {
        sender.peer.send(BROADCAST, &text(round));
        // Who takes nothing is not listened to any more.
        sender.peer.expect(NEWS, &text(round));
    }
    for member in &mut all {
        member.peer.send(1, b"a reply");
    }
    for member in &mut all {
        let (mut round, mut replies) = (0, 0);
        while round < ROUNDS || replies < 1 {
            let frame = member.peer.next().unwrap();
            if frame.code == NEWS {
                assert!(frame.body == text(round), "round {round}");
                round += 1;
            } else {
                assert_eq!(frame.body, b"a reply");
                replies += 1;
            }
        }
    }
}

#[test]
fn a_slow_consumer_is_closed_and_the_others_get_everything() {
    const TEXT: [u8; 8000] = [7; 8000];
    let mut config = config(2);
    config.outbound.low_bytes = 20_000;
    config.outbound.high_bytes = 40_000;
    config.outbound.max_bytes = 100_000;
    let (builder, members) = builder(config);
    let server = builder.start().unwrap();
    let mut sender = Member::on(0, &server, &members);
    let mut good = Member::on(1, &server, &members);
    let slow = Member::over(Peer::connect_small(address_of(&server)), &members);
    // What the kernel takes besides is some megabytes at most.
    let mut pushed = 0_u64;
    until("the slow one is closed", || {
        for _ in 0..20 {
            sender.push(slow.number, &TEXT);
            sender.push(good.number, &TEXT);
            good.peer.expect(NEWS, &TEXT);
        }
        sender.peer.ping();
        pushed += 20;
        let snapshot = closed_as_slow(&server, slow.shard);
        (snapshot == 1).then_some(())
    });
    good.peer.ping();
    let counters = stopped(server);
    assert_eq!(sum(&counters, |c| c.closed(CloseCause::SlowConsumer)), 1);
    assert!(sum(&counters, |c| c.pushes) >= pushed);
}

fn closed_as_slow(server: &corelane::Server, shard: usize) -> u64 {
    let (send, receive) = std::sync::mpsc::channel();
    server.handle().show(
        shard,
        corelane::metrics::latency::Latencies::default(),
        0,
        move |snapshot| send.send(snapshot).unwrap(),
    );
    let snapshot = receive.recv().unwrap();
    snapshot.counters.closed(CloseCause::SlowConsumer)
}

/// What it is pushed, a peer takes without a word of its own.
#[test]
fn who_only_takes_what_is_pushed_is_idle() {
    let mut config = config(2);
    config.timeouts.idle_ms = 300;
    let (builder, members) = builder(config);
    let server = builder.start().unwrap();
    let mut sender = Member::on(0, &server, &members);
    let mut taker = Member::on(1, &server, &members);
    until("the taker is timed out", || {
        sender.push(taker.number, b"news");
        sender.peer.ping();
        let frame = taker.peer.next()?;
        (frame.code != NEWS).then_some(())
    });
    taker.peer.expect_end();
    let counters = stopped(server);
    assert_eq!(counters[1].closed(CloseCause::Idle), 1);
}
