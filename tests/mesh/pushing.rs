//! Pushes and broadcasts that arrive, and those that do not.

use corelane::client::ClientError;
use corelane::metrics::CloseCause;
use corelane::protocol::{Reason, codes};

use crate::club::{BROADCAST, Member, NEWS, WHERE, builder, latest, start, stopped, sum};
use crate::support::library::{address_of, config};
use crate::support::peer::Peer;
use crate::support::user::User as _;
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
            receiver.client.expect_push(NEWS, &number.to_be_bytes());
        }
        receiver.ping();
    }
    sender.ping();
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
        member.client.expect_push(NEWS, b"to myself");
        member.client.echo(b"and a reply");
    }
    member.ping();
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
    drop(gone.client);
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
    heirs[0].client.expect_push(NEWS, b"for the heir");
    heirs[0].ping();
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
        all[sender].client.tell(BROADCAST, &[round; 100]).unwrap();
        for member in &mut all {
            member.client.expect_push(NEWS, &[round; 100]);
        }
    }
    all.iter_mut().for_each(Member::ping);
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
        sender.client.tell(BROADCAST, &text(round)).unwrap();
        // Who takes nothing is not listened to any more.
        sender.client.expect_push(NEWS, &text(round));
    }
    for member in &mut all {
        member.client.send(codes::ECHO, b"a reply").unwrap();
    }
    for member in &mut all {
        let (mut round, mut replies) = (0, 0);
        while round < ROUNDS || replies < 1 {
            let frame = member.client.receive().unwrap();
            if frame.code == NEWS {
                assert!(frame.body == text(round), "round {round}");
                round += 1;
            } else {
                assert_eq!(
                    (frame.code, &frame.body[..]),
                    (codes::ECHO, &b"a reply"[..])
                );
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
    // No client: it does not read.
    let mut slow = Peer::connect_small(address_of(&server));
    slow.send(WHERE, b"");
    let slow_shard = usize::from(slow.next().unwrap().body[0]);
    let slow_number = latest(&members);
    // What the kernel takes besides is some megabytes at most.
    let mut pushed = 0_u64;
    until("the slow one is closed", || {
        for _ in 0..20 {
            sender.push(slow_number, &TEXT);
            sender.push(good.number, &TEXT);
            good.client.expect_push(NEWS, &TEXT);
        }
        sender.ping();
        pushed += 20;
        let snapshot = closed_as_slow(&server, slow_shard);
        (snapshot == 1).then_some(())
    });
    good.ping();
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

/// What it is pushed, a client takes without a word of its own.
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
        sender.ping();
        let push = taker.client.push().unwrap();
        (push.code != NEWS).then_some(())
    });
    let end = taker.client.push().unwrap_err();
    let ClientError::Dismissed(refusal) = end else {
        panic!("{end}");
    };
    assert_eq!(refusal.reason(), Some(Reason::TimedOut));
    let counters = stopped(server);
    assert_eq!(counters[1].closed(CloseCause::Idle), 1);
}
