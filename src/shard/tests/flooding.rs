//! More from other shards than a turn may do: a shard's own connections have their part of each turn.

use std::sync::mpsc;

use super::*;

/// Functions of another shard, each of which sends its number on.
fn flood(shard: &mut Shard<Still, ()>, numbers: std::ops::Range<usize>) -> mpsc::Receiver<usize> {
    let (ran, runs) = mpsc::channel();
    for number in numbers {
        let ran = ran.clone();
        let function = move |(): &()| ran.send(number).unwrap();
        let message = Message::Run(Run::new(function, Asker::Nobody));
        shard.io.completions.push(Completion::Told { message });
    }
    runs
}

/// Whatever waited behind a broadcast was once carried out in one turn, however much, and a shard's
/// own connections waited for it.
#[test]
fn a_flood_of_functions_leaves_the_shards_own_connections_their_turn() {
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), context, body| context.reply(body));
    let settings = Settings::from(&Config::default());
    let each = settings.turn_messages_max;
    let flooded = 3 * each + 1;
    let mut shard = with_one_connection(settings, router);
    let runs = flood(&mut shard, 0..flooded);
    let mut ran = Vec::new();
    for turn in 1..=4 {
        let frames_before = shard.counters.frames_sent;
        shard.io.completions.push(Completion::Received {
            id: shard.connections.ids().next().unwrap(),
            result: Ok(echo(b"in between")),
            more: true,
        });
        assert!(shard.turn(turn as u64 + 1).worked);
        assert_eq!(shard.counters.frames_sent - frames_before, 1);
        ran.extend(runs.try_iter());
        assert_eq!(ran.len(), flooded.min(turn * each));
        shard.audit().unwrap();
    }
    assert!(ran.is_sorted(), "in the order in which they were told");
    assert!(!shard.turn(6).worked);
}

#[test]
fn what_waits_behind_a_broadcast_is_not_hurried_when_that_is_over() {
    let mut shard = with_three_connections_swept_one_a_turn();
    let each = shard.settings.turn_messages_max;
    let message = broadcast();
    shard.io.completions.push(Completion::Told { message });
    let runs = flood(&mut shard, 0..3 * each);
    let ran: Vec<usize> = (4..20)
        .map(|now_us| {
            shard.turn(now_us);
            runs.try_iter().count()
        })
        .skip_while(|&count| count == 0)
        .take(4)
        .collect();
    assert_eq!(ran, [each, each, each, 0]);
}

/// As many as the mesh brings in a turn go on coming: what has piled up grows less all the same.
#[test]
fn what_has_piled_up_is_worked_off_while_more_comes() {
    let mut shard = with_three_connections_swept_one_a_turn();
    let mut runs = vec![flood(&mut shard, 0..6000)];
    shard.turn(4);
    let mut now_us = 4;
    while shard.lanes.arrived() > 0 {
        assert!(now_us < 100, "it is never done");
        now_us += 1;
        let was_held = shard.lanes.are_full();
        if !was_held {
            runs.push(flood(&mut shard, 0..COMPLETIONS_PER_TURN));
        }
        shard.turn(now_us);
        assert_eq!(shard.io.holds_messages, was_held);
    }
}
