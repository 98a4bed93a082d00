//! What events that wait for other shards are charged for.

use std::cell::Cell;
use std::rc::Rc;

use super::super::directory::Directory;
use super::super::link::Event;
use super::super::refusal::Full;
use crate::config;
use crate::handler::{Charge, ConnectionId, RunError};

const BODY: &[u8] = b"\x04newshello";

/// Shard 0 of three, both others of which want the topic.
fn wanted_by_both() -> Directory {
    let mut shard = Directory::new(0, 3, config::Topics::default());
    for other in [1, 2] {
        shard.note_wanted(other, &[(Box::from("news"), true)]);
    }
    shard
}

/// Has everything that waits for a shard answered.
fn answer(shard: &mut Directory, other: usize) {
    while let Some((batch, first)) = shard.next_batch(other) {
        shard.answered(other, &vec![1; batch.events.len() - first]);
    }
}

#[test]
fn an_event_is_charged_once_until_its_last_shard_has_answered() {
    let held = Rc::new(Cell::new(0));
    let mut shard = wanted_by_both();
    let one_bytes = Event::memory_bytes("news", BODY, 2);
    for _ in 0..3 {
        let charge = |bytes| Some(Charge::new(bytes, &held));
        assert!(shard.post("news", BODY, charge).is_ok());
    }
    assert_eq!(held.get(), 3 * one_bytes);
    assert_eq!(shard.waiting(), (6, 6 * BODY.len()));
    answer(&mut shard, 1);
    assert_eq!(held.get(), 3 * one_bytes);
    // One that is answered in part is kept whole, as its batch is.
    assert!(shard.next_batch(2).is_some());
    shard.answered(2, &[1, 1]);
    assert_eq!(shard.waiting(), (1, 3 * BODY.len()));
    assert_eq!(held.get(), 3 * one_bytes);
    answer(&mut shard, 2);
    assert_eq!((held.get(), shard.waiting()), (0, (0, 0)));
}

#[test]
fn nothing_stays_charged_for_a_shard_that_fails_or_ends() {
    let held = Rc::new(Cell::new(0));
    let mut shard = wanted_by_both();
    for _ in 0..2 {
        let charge = |bytes| Some(Charge::new(bytes, &held));
        assert!(shard.post("news", BODY, charge).is_ok());
        assert!(shard.next_batch(1).is_some());
    }
    shard.failed(1, RunError::Panicked);
    assert!(held.get() > 0);
    shard.failed(1, RunError::Gone);
    shard.failed(2, RunError::Gone);
    assert_eq!((held.get(), shard.waiting()), (0, (0, 0)));
}

#[test]
fn an_event_without_room_in_memory_is_for_no_shard() {
    let mut shard = wanted_by_both();
    assert_eq!(
        shard.post("news", BODY, |_| None).unwrap_err(),
        Full::Memory
    );
    assert_eq!((shard.waiting(), shard.unsettled()), ((0, 0), 0));
    // Nobody elsewhere wants it, so it takes none.
    assert!(shard.post("weather", BODY, |_| None).unwrap().is_none());
    let id = ConnectionId {
        shard: 0,
        slot: 0,
        generation: 0,
    };
    assert!(shard.subscribe(id, "weather").is_ok());
    assert!(shard.post("weather", BODY, |_| None).unwrap().is_none());
}
