//! Random operations against a map that is searched, and cases told one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const ROTATION_US: u64 = TICK_US * ROTATION_TICKS;
const NONE: [u32; 0] = [];

#[derive(Clone, Debug)]
enum Step {
    Set(u32, Time),
    Cancel(u32),
    Advance(u64),
    Lapsed(usize),
}

/// When a timer is set for.
#[derive(Clone, Debug)]
enum Time {
    At(u64),
    Ahead(u64),
    Ago(u64),
}

impl Time {
    fn at_us(&self, now_us: u64) -> u64 {
        match *self {
            Time::At(at_us) => at_us,
            Time::Ahead(us) => now_us.saturating_add(us),
            Time::Ago(us) => now_us.saturating_sub(us),
        }
    }
}

/// From within a tick to many rotations; about whole ones, too, so that timers meet.
fn spans_us() -> impl Strategy<Value = u64> {
    let about = |unit_us: u64, units: u64| {
        (0..units, 0..3_u64).prop_map(move |(n, more_us)| n * unit_us + more_us)
    };
    prop_oneof![
        3 => 0..3 * TICK_US,
        3 => about(TICK_US, 6),
        3 => about(ROTATION_US, 4),
        2 => 0..3 * ROTATION_US,
        1 => about(ROTATION_US, 1 << 20),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let time = prop_oneof![
        8 => spans_us().prop_map(Time::Ahead),
        1 => spans_us().prop_map(Time::Ago),
        1 => any::<u64>().prop_map(Time::At),
        1 => (0..2 * TICK_US).prop_map(|us| Time::At(u64::MAX - us)),
    ];
    let max = prop_oneof![0..4_usize, Just(usize::MAX)];
    let step = prop_oneof![
        40 => (0..24_u32, time).prop_map(|(slot, time)| Step::Set(slot, time)),
        10 => (0..28_u32).prop_map(Step::Cancel),
        20 => spans_us().prop_map(Step::Advance),
        1 => any::<u64>().prop_map(Step::Advance),
        30 => max.prop_map(Step::Lapsed),
    ];
    prop::collection::vec(step, 0..200)
}

/// The time at which a timer lapses, which may be after the last.
fn lapse_us(at_us: u64) -> u128 {
    u128::from(at_us).next_multiple_of(u128::from(TICK_US))
}

fn is_due(at_us: u64, now_us: u64) -> bool {
    lapse_us(at_us) <= u128::from(now_us)
}

/// Calls and takes what came out of the model: it was due, it was there, and it was not more
/// than asked for. Gives how many came.
fn lapsed(
    wheel: &mut Wheel,
    model: &mut BTreeMap<u32, u64>,
    now_us: u64,
    max: usize,
) -> Result<usize, TestCaseError> {
    let mut slots = vec![99];
    wheel.lapsed(now_us, max, &mut slots);
    prop_assert_eq!(slots[0], 99, "what was in the list is gone");
    let slots = &slots[1..];
    prop_assert!(slots.len() <= max);
    for slot in slots {
        let at_us = model.remove(slot);
        prop_assert!(at_us.is_some(), "slot {} came once too often", slot);
        prop_assert!(is_due(at_us.unwrap(), now_us), "slot {} came early", slot);
    }
    if slots.len() < max {
        let due = model.values().find(|&&at_us| is_due(at_us, now_us));
        prop_assert_eq!(due, None, "a timer is late");
        let next_us = wheel.next_us().unwrap_or(u64::MAX);
        prop_assert!(next_us > now_us || next_us == u64::MAX, "woken for nothing");
    }
    Ok(slots.len())
}

fn check(wheel: &Wheel, model: &BTreeMap<u32, u64>) -> Result<(), TestCaseError> {
    prop_assert_eq!(wheel.len(), model.len());
    prop_assert_eq!(wheel.is_empty(), model.is_empty());
    for slot in 0..30 {
        prop_assert_eq!(wheel.at_us(slot), model.get(&slot).copied());
    }
    let first_us = model.values().map(|&at_us| lapse_us(at_us)).min();
    prop_assert_eq!(wheel.next_us().is_some(), first_us.is_some());
    if let (Some(next_us), Some(first_us)) = (wheel.next_us(), first_us) {
        prop_assert!(u128::from(next_us) <= first_us, "the shard sleeps too long");
    }
    Ok(())
}

/// Every timer stands once, in its bucket's ring, within the bounds.
fn check_rings(wheel: &Wheel) -> Result<(), TestCaseError> {
    let mut count = 0;
    for (index, bucket) in wheel.buckets.iter().enumerate() {
        prop_assert!(wheel.next_tick <= bucket.earliest_tick);
        if bucket.earliest_tick == NEVER {
            continue;
        }
        let mut slot = bucket.first;
        loop {
            let link = wheel.links[slot as usize];
            prop_assert_eq!(wheel.links[link.next as usize].previous, slot);
            prop_assert_eq!(bucket_index(lapse_tick(link.at_us)), index);
            prop_assert!(bucket.earliest_tick <= lapse_tick(link.at_us));
            count += 1;
            prop_assert!(count <= wheel.len());
            slot = link.next;
            if slot == bucket.first {
                break;
            }
        }
    }
    prop_assert_eq!(count, wheel.len());
    Ok(())
}

proptest! {
    /// Against a map from slots to times.
    #[test]
    fn behaves_like_a_map_that_is_searched(steps in steps(), start_us in spans_us()) {
        let mut wheel = Wheel::new();
        let mut model = BTreeMap::new();
        let mut now_us = start_us;
        for step in steps {
            match step {
                Step::Set(slot, time) => {
                    let at_us = time.at_us(now_us);
                    wheel.set(slot, at_us);
                    model.insert(slot, at_us);
                }
                Step::Cancel(slot) => {
                    wheel.cancel(slot);
                    model.remove(&slot);
                }
                Step::Advance(us) => now_us = now_us.saturating_add(us),
                Step::Lapsed(max) => {
                    lapsed(&mut wheel, &mut model, now_us, max)?;
                }
            }
            check(&wheel, &model)?;
        }
        check_rings(&wheel)?;
        while lapsed(&mut wheel, &mut model, now_us, 3)? > 0 {}
        check_rings(&wheel)?;
    }

    /// Timers that stay where they were set wake a shard only when one of them lapses.
    #[test]
    fn a_shard_that_sleeps_until_the_next_time_always_finds_a_timer(
        spans in prop::collection::vec(spans_us(), 1..40),
    ) {
        let mut wheel = Wheel::new();
        let mut model = BTreeMap::new();
        for (slot, at_us) in (0..).zip(spans) {
            wheel.set(slot, at_us);
            model.insert(slot, at_us);
        }
        while let Some(next_us) = wheel.next_us() {
            prop_assert!(lapsed(&mut wheel, &mut model, next_us, usize::MAX)? > 0);
        }
        prop_assert!(model.is_empty());
    }
}

fn all_lapsed(wheel: &mut Wheel, now_us: u64) -> Vec<u32> {
    let mut slots = Vec::new();
    wheel.lapsed(now_us, usize::MAX, &mut slots);
    slots
}

#[test]
fn a_timer_lapses_with_the_tick_that_begins_after_it() {
    let mut wheel = Wheel::new();
    wheel.set(0, 5 * TICK_US);
    wheel.set(1, 5 * TICK_US + 1);
    assert_eq!(all_lapsed(&mut wheel, 5 * TICK_US - 1), NONE);
    assert_eq!(all_lapsed(&mut wheel, 5 * TICK_US), [0]);
    assert_eq!(wheel.next_us(), Some(6 * TICK_US));
    assert_eq!(all_lapsed(&mut wheel, 6 * TICK_US - 1), NONE);
    assert_eq!(all_lapsed(&mut wheel, 6 * TICK_US), [1]);
    assert_eq!(wheel.next_us(), None);
}

#[test]
fn a_timer_outlasts_rotations() {
    let mut wheel = Wheel::new();
    wheel.set(0, 3 * ROTATION_US + TICK_US);
    wheel.set(1, TICK_US);
    assert_eq!(all_lapsed(&mut wheel, TICK_US), [1]);
    assert_eq!(wheel.next_us(), Some(3 * ROTATION_US + TICK_US));
    assert_eq!(all_lapsed(&mut wheel, 3 * ROTATION_US), NONE);
    assert_eq!(all_lapsed(&mut wheel, 3 * ROTATION_US + TICK_US), [0]);
}

#[test]
fn a_jump_of_the_clock_takes_out_everything_by_and_by() {
    let mut wheel = Wheel::new();
    for slot in 0..10_000 {
        wheel.set(slot, u64::from(slot) * 40_000);
    }
    let now_us = u64::MAX / 2;
    let mut slots = Vec::new();
    for calls in 1..=100 {
        wheel.lapsed(now_us, 100, &mut slots);
        assert_eq!(slots.len(), calls * 100);
    }
    slots.sort_unstable();
    assert!(slots.into_iter().eq(0..10_000));
    assert!(wheel.is_empty());
}

/// Where many timers of later rotations stand before the due ones, or are set again behind them, a
/// call goes on where the last one stopped.
#[test]
fn a_full_bucket_is_passed_once_and_not_with_every_call() {
    let mut wheel = Wheel::new();
    for slot in 0..1_000 {
        let rotations = u64::from(slot < 500);
        wheel.set(slot, TICK_US + rotations * ROTATION_US);
    }
    let mut slots = Vec::new();
    for first in (500..1_000).step_by(10) {
        slots.clear();
        wheel.lapsed(TICK_US, 10, &mut slots);
        assert!(slots.iter().copied().eq(first..first + 10));
        let next = wheel.buckets[1].first;
        assert_eq!(next, (first + 10) % 1_000, "the next to be looked at");
        for &slot in &slots {
            wheel.set(slot, TICK_US + ROTATION_US);
        }
    }
    assert_eq!(wheel.len(), 1_000);
    assert_eq!(wheel.next_us(), Some(TICK_US + ROTATION_US));
    assert_eq!(all_lapsed(&mut wheel, TICK_US), NONE);
}

#[test]
fn the_last_times_never_come_and_do_no_harm() {
    let last_tick_us = u64::MAX - (TICK_US - 1);
    let mut wheel = Wheel::new();
    wheel.set(0, last_tick_us);
    wheel.set(1, last_tick_us + 1);
    wheel.set(2, u64::MAX);
    assert_eq!(all_lapsed(&mut wheel, last_tick_us - 1), NONE);
    assert_eq!(all_lapsed(&mut wheel, u64::MAX), [0]);
    assert_eq!(wheel.next_us(), Some(u64::MAX));
    wheel.cancel(1);
    wheel.set(2, 7);
    assert_eq!(all_lapsed(&mut wheel, u64::MAX), [2]);
}

#[test]
fn a_clock_that_goes_back_takes_out_nothing() {
    let mut wheel = Wheel::new();
    wheel.set(0, 20 * TICK_US);
    wheel.set(1, 30 * TICK_US);
    assert_eq!(all_lapsed(&mut wheel, 25 * TICK_US), [0]);
    wheel.set(2, 2 * TICK_US);
    assert_eq!(all_lapsed(&mut wheel, TICK_US), NONE);
    assert_eq!(all_lapsed(&mut wheel, 3 * TICK_US), [2]);
    assert_eq!(all_lapsed(&mut wheel, 30 * TICK_US), [1]);
}

#[test]
fn the_wheel_is_as_large_as_its_highest_slot() {
    let mut wheel = Wheel::with_room(usize::MAX);
    assert_eq!(wheel.links.capacity(), SLOTS_RESERVED_MAX);
    for at_us in 0..10_000 {
        wheel.set(41, at_us);
    }
    wheel.cancel(1_000);
    assert_eq!((wheel.links.len(), wheel.len()), (42, 1));
}

#[test]
#[should_panic(expected = "a slot's number is below u32::MAX")]
fn the_slot_that_stands_for_none_is_refused() {
    Wheel::new().set(u32::MAX, 0);
}
