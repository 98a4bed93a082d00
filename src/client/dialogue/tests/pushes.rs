//! Pushes that find no room: held back, and dropped only where something behind them is waited for.

use super::*;

/// One read brings more than may wait; the rest of it was lost to whoever takes each in turn.
#[test]
fn whoever_takes_pushes_gets_all_of_them_however_many_come_at_once() {
    let mut dialogue = begun(&options().pushes_waiting_max(3));
    let events: Vec<u8> = (0..10).flat_map(|n| frame(codes::EVENT, &[n])).collect();
    comes(&mut dialogue, &events[..events.len() - 4]);
    assert!(dialogue.holds_back() && !dialogue.can_go_on());
    for number in 0..9 {
        if dialogue.can_go_on() {
            comes(&mut dialogue, b"");
        }
        let push = dialogue.poll_push().unwrap();
        assert_eq!((push.body, push.lost_before), (vec![number], 0));
    }
    comes(&mut dialogue, &events[events.len() - 4..]);
    assert_eq!(dialogue.poll_push().unwrap().body, [9]);
}

#[test]
fn a_reply_is_not_held_back_by_pushes_that_nobody_takes() {
    let mut dialogue = begun(&options().pushes_waiting_max(2));
    let events: Vec<u8> = (0..5).flat_map(|n| frame(codes::EVENT, &[n])).collect();
    comes(&mut dialogue, &events);
    let ticket = dialogue.request(1000, b"", NOW).unwrap();
    assert!(dialogue.can_go_on());
    comes(&mut dialogue, b"");
    comes(&mut dialogue, &frame(1000, b""));
    assert_eq!(answer(&mut dialogue).0, ticket);
    assert!(dialogue.holds_back());
    for _ in 0..2 {
        assert_eq!(dialogue.poll_push().unwrap().lost_before, 0);
    }
    comes(&mut dialogue, &frame(codes::EVENT, b"later"));
    assert_eq!(dialogue.poll_push().unwrap().lost_before, 3);
}

#[test]
fn pushes_that_nobody_takes_make_way_for_an_overdue_heartbeat() {
    let mut dialogue = begun(&options().pushes_waiting_max(1).heartbeat(20 * SECOND));
    let sent_at = NOW + 20 * SECOND;
    dialogue.handle_timeout(sent_at).unwrap();
    let events = frame(codes::EVENT, b"").repeat(2);
    let all = [events, frame(codes::PING, b"")].concat();
    dialogue.handle_bytes(&all, sent_at).unwrap();
    assert!(dialogue.holds_back());
    dialogue.handle_timeout(sent_at + 5 * SECOND).unwrap();
    assert!(dialogue.can_go_on());
    comes(&mut dialogue, b"");
    assert_eq!(dialogue.in_flight(), 0);

    // Whoever takes one is waited for again.
    dialogue.poll_push().unwrap();
    comes(&mut dialogue, &frame(codes::EVENT, b"").repeat(2));
    assert!(dialogue.holds_back());
    // The end of the connection does not hide that one was lost.
    dialogue.lose(&ClientError::Closed);
    dialogue.begin(NOW);
    assert_eq!(dialogue.poll_push().unwrap().lost_before, 1);
    comes(&mut dialogue, &frame(codes::EVENT, b""));
    assert_eq!(dialogue.poll_push().unwrap().lost_before, 1);
}
