//! The mesh: against a model on one thread, then on several that park and wake one another.

use std::os::fd::AsFd;
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

fn doorbells(shards: usize) -> Vec<Doorbell> {
    (0..shards).map(|_| Doorbell::new().unwrap()).collect()
}

fn pair<M: Send>(capacity: usize) -> ([Mesh<M>; 2], [Doorbell; 2]) {
    let doorbells = [Doorbell::new().unwrap(), Doorbell::new().unwrap()];
    let ends = with_capacity(&doorbells, capacity).try_into();
    (ends.unwrap_or_else(|_| panic!("not two ends")), doorbells)
}

fn is_woken(doorbell: &Doorbell, seconds: i64) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(doorbell.as_fd(), PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&timeout)).unwrap() == 1
}

/// Parks as a shard does, but not for ever: a wake-up that is lost fails the test.
fn park<M>(mesh: &mut Mesh<M>, doorbell: &Doorbell) {
    if mesh.fall_asleep() {
        assert!(is_woken(doorbell, 20), "a wake-up was lost");
        doorbell.clear();
        mesh.wake_up();
    }
}

fn take<M>(mesh: &mut Mesh<M>, max: usize) -> Vec<(u16, M)> {
    let mut taken = Vec::new();
    let count = mesh.receive(max, |from, message| taken.push((from, message)));
    assert_eq!(count, taken.len());
    taken
}

#[test]
fn queues_hold_1024_messages_and_those_to_one_shard_no_more_than_16384_together() {
    for shards in [2, 3, 17] {
        assert_eq!(queue_capacity(shards), 1024);
    }
    for shards in 1..=1024 {
        let capacity = queue_capacity(shards);
        assert!((16..=1024).contains(&capacity));
        assert!(capacity * (shards - 1) <= 16_384);
    }
    let mut ends = mesh(&doorbells(2));
    for number in 0..1025 {
        assert!(!ends[0].is_congested());
        ends[0].send(1, number);
    }
    assert!(ends[0].is_congested());
}

#[test]
fn flags_of_two_shards_share_no_cache_line() {
    let ends = mesh::<()>(&doorbells(3));
    let mut blocks = Vec::new();
    for shared in &*ends[0].shards {
        blocks.push(&raw const shared.mail as usize / 128);
        assert_eq!(
            blocks.last(),
            Some(&(&raw const shared.asleep as usize / 128))
        );
        blocks.extend(
            shared
                .wants_room
                .iter()
                .map(|flags| &raw const *flags as usize / 128),
        );
    }
    blocks.sort_unstable();
    blocks.dedup();
    assert_eq!(blocks.len(), 3 * 2);
    // A flag of its own for every receiver.
    let shared = Shared::new(&doorbells(1)[0], &doorbells(130));
    shared.wants_room(129).store(true, Ordering::Relaxed);
    let raised = (0..130).filter(|&to| shared.wants_room(to).load(Ordering::Relaxed));
    assert_eq!(raised.collect::<Vec<_>>(), [129]);
}

#[test]
fn a_message_is_announced_by_the_flush_and_wakes_only_who_sleeps() {
    let ([mut one, mut other], [_, doorbell]) = pair(4);
    one.send(1, 'a');
    assert!(!other.has_mail());
    one.flush();
    assert!(other.has_mail());
    assert!(!is_woken(&doorbell, 0), "it was awake");
    assert!(!other.fall_asleep(), "it has mail");
    assert_eq!(take(&mut other, 9), [(0, 'a')]);
    assert!(!other.has_mail());

    assert!(other.fall_asleep());
    one.flush();
    assert!(!is_woken(&doorbell, 0), "there was nothing to tell");
    one.send(1, 'b');
    one.flush();
    assert!(is_woken(&doorbell, 0));
    doorbell.clear();
    other.wake_up();
    one.send(1, 'c');
    one.flush();
    assert!(!is_woken(&doorbell, 0), "it knows that it has mail");
    assert_eq!(take(&mut other, 9), [(0, 'b'), (0, 'c')]);
}

#[test]
fn who_falls_asleep_announces_first() {
    let ([mut one, mut other], [_, doorbell]) = pair(4);
    assert!(other.fall_asleep());
    one.send(1, 'a');
    assert!(one.fall_asleep());
    assert!(is_woken(&doorbell, 0));
    other.wake_up();
    assert_eq!(take(&mut other, 9), [(0, 'a')]);
}

#[test]
fn no_sender_starves() {
    let mut ends = with_capacity(&doorbells(4), 8);
    for sender in &mut ends[1..] {
        for number in 0..20 {
            sender.send(0, number);
        }
    }
    let mut from_each = [0; 4];
    for _ in 0..12 {
        for sender in &mut ends[1..] {
            sender.flush();
        }
        let taken = take(&mut ends[0], 4);
        assert_eq!(taken.len(), 4, "all are full");
        for (from, number) in taken {
            assert_eq!(number, from_each[usize::from(from)]);
            from_each[usize::from(from)] += 1;
        }
    }
    assert_eq!(from_each, [0, 16, 16, 16]);
}

#[test]
fn room_wakes_a_congested_sender() {
    let ([mut one, mut other], [doorbell, _]) = pair(2);
    for number in 0..5 {
        one.send(1, number);
    }
    one.flush();
    assert!(one.is_congested());
    assert!(one.fall_asleep());
    for round in 0..2 {
        assert_eq!(take(&mut other, 1).len(), 1);
        assert!(!is_woken(&doorbell, 0), "nothing is said without a flush");
        other.flush();
        assert!(is_woken(&doorbell, 0), "round {round}");
        doorbell.clear();
        one.wake_up();
        assert!(one.has_mail());
        assert_eq!(take(&mut one, 9), []);
        assert!(one.is_congested());
        assert!(one.fall_asleep());
    }
    assert_eq!(take(&mut other, 9), [(0, 2), (0, 3)]);
    other.flush();
    assert!(is_woken(&doorbell, 0));
    doorbell.clear();
    one.wake_up();
    assert_eq!(take(&mut one, 9), []);
    assert!(!one.fall_asleep(), "it can send again");
    assert!(!one.is_congested());
    assert_eq!(take(&mut other, 9), [(0, 4)]);
    // Nobody waits for room any more.
    assert_eq!(take(&mut one, 9), []);
    other.flush();
    assert!(!one.has_mail());
}

#[test]
fn messages_to_a_shard_that_is_gone_are_dropped() {
    let ([mut one, mut other], [doorbell, _]) = pair(2);
    let message = Arc::new(());
    for _ in 0..5 {
        one.send(1, Arc::clone(&message));
    }
    assert!(one.fall_asleep());
    assert_eq!(take(&mut other, 1).len(), 1);
    drop(other);
    assert!(is_woken(&doorbell, 0), "it waits for room that never comes");
    one.wake_up();
    one.flush();
    assert!(!one.is_congested());
    assert_eq!(Arc::strong_count(&message), 1);
    one.send(1, Arc::clone(&message));
    one.flush();
    assert_eq!(Arc::strong_count(&message), 1);
    assert!(!one.is_congested());
}

#[test]
fn what_was_sent_outlives_the_sender() {
    let ([mut one, mut other], [_, doorbell]) = pair(2);
    assert!(other.fall_asleep());
    for number in 0..3 {
        one.send(1, number);
    }
    drop(one);
    assert!(is_woken(&doorbell, 0));
    other.wake_up();
    // What fits, that is.
    assert_eq!(take(&mut other, 9), [(0, 0), (0, 1)]);
}

#[test]
#[should_panic(expected = "a shard sends to others")]
fn a_shard_does_not_send_to_itself() {
    let ([mut one, _other], _) = pair(2);
    one.send(0, ());
}

/// A shard that sends so many messages to every other one, takes as many from each, and parks
/// whenever it can do neither.
fn exchange(mut mesh: Mesh<u32>, doorbell: &Doorbell, messages: u32) {
    let others: Vec<u16> = (0..=u16::MAX)
        .take(mesh.shards.len())
        .filter(|&other| other != mesh.number)
        .collect();
    let mut taken = vec![0; mesh.shards.len()];
    let mut sent = 0;
    loop {
        mesh.receive(5, |from, number| {
            let next = &mut taken[usize::from(from)];
            assert_eq!(number, *next, "from {from}");
            *next += 1;
        });
        while sent < messages && !mesh.is_congested() {
            for &to in &others {
                mesh.send(to, sent);
            }
            sent += 1;
        }
        mesh.flush();
        let is_done = |&other: &u16| taken[usize::from(other)] == messages;
        if sent == messages && !mesh.is_congested() && others.iter().all(is_done) {
            return;
        }
        if sent == messages || mesh.is_congested() {
            park(&mut mesh, doorbell);
        }
    }
}

#[test]
fn order_is_kept_and_nobody_sleeps_for_ever_while_all_are_congested() {
    for capacity in [1, 3, 64] {
        let doorbells = doorbells(3);
        let ends = with_capacity(&doorbells, capacity);
        thread::scope(|scope| {
            for (end, doorbell) in ends.into_iter().zip(&doorbells) {
                scope.spawn(|| exchange(end, doorbell, 5000));
            }
        });
    }
}

#[test]
fn a_ball_between_two_that_park_is_never_lost() {
    const THROWS: u32 = 5000;
    let ([mut one, other], [doorbell, other_doorbell]) = pair(1);
    let play = |mut mesh: Mesh<u32>, doorbell: Doorbell, to: u16| {
        let mut ball = None;
        while ball.is_none_or(|ball| ball < THROWS) {
            park(&mut mesh, &doorbell);
            let caught = take(&mut mesh, 1).pop();
            if let Some((_, caught)) = caught {
                assert!(ball.is_none_or(|ball| caught == ball + 2));
                ball = Some(caught);
                mesh.send(to, caught + 1);
            }
        }
    };
    one.send(1, 0);
    thread::scope(|scope| {
        scope.spawn(|| play(one, doorbell, 1));
        scope.spawn(|| play(other, other_doorbell, 0));
    });
}

/// Three shards as plain queues.
#[derive(Default)]
struct Model {
    /// By sender and receiver.
    queues: [[VecDeque<u32>; SHARDS]; SHARDS],
    overflow: [[VecDeque<u32>; SHARDS]; SHARDS],
}

const SHARDS: usize = 3;
const CAPACITY: usize = 2;

impl Model {
    fn send(&mut self, from: usize, to: usize, number: u32) {
        self.overflow[from][to].push_back(number);
        if self.overflow[from][to].len() == 1 {
            self.flush_to(from, to);
        }
    }

    fn flush_to(&mut self, from: usize, to: usize) {
        let queue = &mut self.queues[from][to];
        let room = (CAPACITY - queue.len()).min(self.overflow[from][to].len());
        queue.extend(self.overflow[from][to].drain(..room));
    }

    fn flush(&mut self, from: usize) {
        for to in 0..SHARDS {
            self.flush_to(from, to);
        }
    }

    fn is_congested(&self, from: usize) -> bool {
        self.overflow[from]
            .iter()
            .any(|waiting| !waiting.is_empty())
    }

    fn queued(&self, to: usize) -> usize {
        (0..SHARDS).map(|from| self.queues[from][to].len()).sum()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send { from: usize, to: usize },
    Flush { from: usize },
    Receive { to: usize, max: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..SHARDS, 1..SHARDS).prop_map(|(from, distance)| Step::Send {
            from,
            to: (from + distance) % SHARDS,
        }),
        1 => (0..SHARDS).prop_map(|from| Step::Flush { from }),
        2 => (0..SHARDS, 0..5_usize).prop_map(|(to, max)| Step::Receive { to, max }),
    ]
}

/// Receives, and checks that it is what the model has.
fn receive(ends: &mut [Mesh<u32>], model: &mut Model, to: usize, max: usize) {
    let expected = if ends[to].has_mail() {
        model.queued(to).min(max)
    } else {
        0
    };
    let taken = take(&mut ends[to], max);
    assert_eq!(taken.len(), expected);
    for (from, number) in taken {
        let sent = model.queues[usize::from(from)][to].pop_front();
        assert_eq!(sent, Some(number));
    }
}

fn flush(ends: &mut [Mesh<u32>], model: &mut Model, from: usize) {
    ends[from].flush();
    model.flush(from);
    for (queue, end) in model.queues[from].iter().zip(ends) {
        assert!(
            queue.is_empty() || end.has_mail(),
            "what was sent is announced"
        );
    }
}

proptest! {
    #[test]
    fn it_does_what_plain_queues_do(steps in vec(step(), 0..200)) {
        let mut ends = with_capacity::<u32>(&doorbells(SHARDS), CAPACITY);
        let mut model = Model::default();
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Send { from, to } => {
                    ends[from].send(u16::try_from(to).unwrap(), number);
                    model.send(from, to, number);
                }
                Step::Flush { from } => flush(&mut ends, &mut model, from),
                Step::Receive { to, max } => receive(&mut ends, &mut model, to, max),
            }
            for (from, end) in ends.iter().enumerate() {
                prop_assert_eq!(end.is_congested(), model.is_congested(from));
            }
        }
        while (0..SHARDS).any(|shard| ends[shard].is_congested() || model.queued(shard) > 0) {
            for shard in 0..SHARDS {
                flush(&mut ends, &mut model, shard);
                receive(&mut ends, &mut model, shard, CAPACITY);
            }
        }
    }
}

#[test]
fn who_is_gone_is_silent_when_all_that_it_sent_was_received() {
    let ([mut left, mut gone], _doorbells) = pair(2);
    gone.send(0, 1);
    assert!(!left.is_silent(1));
    drop(gone);
    assert!(left.is_gone(1) && !left.is_silent(1));
    assert_eq!(take(&mut left, 10), [(1, 1)]);
    assert!(left.is_silent(1));
}
