//! A drain of two shards, of which one has nothing left: it stays for the other.

use super::*;

/// Two shards, and what their handlers get. What they tell each other waits until it is carried.
struct Two {
    shards: [Shard<Still, ()>; 2],
    locals: [Local<()>; 2],
    now_us: u64,
}

impl Two {
    /// Both drain and listen no more; shard 1 has so many connections, shard 0 none.
    fn draining(connections: u16) -> Two {
        let Settings { drain_us, .. } = Settings::from(&Config::default());
        Two::draining_for([drain_us; 2], [0, connections])
    }

    /// Both drain and listen no more. How long each may take, and how many connections it has.
    fn draining_for(drains_us: [u64; 2], connections: [u16; 2]) -> Two {
        let loads = Arc::new(Loads::new(2));
        let [(first, one), (second, other)] = [0, 1].map(|number| with_local(number, &loads));
        let mut two = Two {
            shards: [first, second],
            locals: [one, other],
            now_us: 0,
        };
        two.turn(0);
        two.turn(1);
        for (number, shard) in two.shards.iter_mut().enumerate() {
            for port in 0..connections[number] {
                accept(shard, &format!("10.0.0.1:{port}"), 0);
            }
            shard.settings.drain_us = drains_us[number];
            shard.drain(0);
            shard.turn(0);
            accepts(shard, Err(Failure::Cancelled), false);
        }
        two
    }

    fn turn(&mut self, shard: usize) -> bool {
        self.now_us += 1;
        let stopped = self.shards[shard].turn(self.now_us).stopped;
        self.shards[shard].audit().unwrap();
        stopped
    }

    /// Has what a shard told the other one arrive there.
    fn carry_from(&mut self, from: usize) {
        for (to, message) in std::mem::take(&mut self.shards[from].io.told) {
            let io = &mut self.shards[usize::from(to)].io;
            io.completions.push(Completion::Told { message });
        }
    }

    /// The peer of a shard's one connection goes.
    fn lose_the_peer(&mut self, shard: usize) {
        let shard = &mut self.shards[shard];
        let id = shard.connections.ids().next().unwrap();
        shard.io.completions.push(Completion::Received {
            id,
            result: Err(Failure::Broken(std::io::ErrorKind::ConnectionReset.into())),
            more: false,
        });
        // GOAWAY is on its way to it.
        for buffer in std::mem::take(&mut shard.io.sends) {
            let result = Ok(buffer.remaining().len());
            let sent = Completion::Sent { id, buffer, result };
            shard.io.completions.push(sent);
        }
    }
}

/// Once it ended at once, and handlers of the others were told for the rest of a drain that it is
/// gone.
#[test]
fn a_shard_without_connections_answers_the_others_until_they_have_none() {
    let mut two = Two::draining(1);
    assert!(!two.turn(0) && !two.turn(1));
    let mut context = Context::from_waker(Waker::noop());
    let mut call = two.locals[1].run_on(0, |()| 7);
    assert!(!two.turn(1));
    two.carry_from(1);
    assert!(!two.turn(0));
    two.carry_from(0);
    assert!(!two.turn(1));
    assert_eq!(Pin::new(&mut call).poll(&mut context), Poll::Ready(Ok(7)));

    assert!(!two.turn(0), "the other one has a connection");
    two.lose_the_peer(1);
    assert!(two.turn(1));
    two.carry_from(1);
    assert!(two.turn(0));
    assert_eq!(two.shards[0].counters.runs, 1);
}

/// Once it was closed with the queue of a shard that had ended, and never counted.
#[test]
fn a_connection_on_its_way_to_a_shard_at_rest_is_taken_in() {
    let mut two = Two::draining(0);
    // The other shard has placed it before it was to drain, and has nothing left itself.
    two.shards[1].loads.place_at(0);
    let arrival = Arrival::new((), "10.0.0.1:1".parse().unwrap());
    two.shards[1].post(0, Message::Placed(arrival));
    assert!(!two.turn(0) && !two.turn(1) && !two.turn(0));
    two.carry_from(1);
    assert!(!two.turn(0) && !two.turn(1));
    assert_eq!(two.shards[0].counters.taken_over, 1);
    assert_eq!(asked(&two.shards[0], "Send"), 1, "GOAWAY");
    two.lose_the_peer(0);
    assert!(two.turn(0));
    assert_eq!(two.shards[0].counters.closed(CloseCause::Reset), 1);
    two.carry_from(0);
    assert!(two.turn(1));
}

/// With a limit of connections per address, who was accepted by another shard than the one that
/// counts was once closed without a word when a drain had begun, and later let in whatever the limit.
#[test]
fn who_is_on_the_way_is_let_in_and_counted_whichever_shard_counts_the_address() {
    for address in ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"] {
        let mut two = Two::draining(0);
        for shard in &mut two.shards {
            shard.settings.connections_per_address_max = NonZeroU32::new(1);
        }
        let arrival = || Arrival::new((), address.parse().unwrap());
        for more in [true, false] {
            two.shards[0].io.completions.push(Completion::Accepted {
                listener: 0,
                result: Ok(arrival()),
                more,
            });
        }
        assert!(!two.turn(0) && !two.turn(1));
        two.carry_from(0);
        assert!(!two.turn(1), "{address}");
        let sum = |of: &dyn Fn(&Shard<Still, ()>) -> u64| two.shards.iter().map(of).sum::<u64>();
        assert_eq!(sum(&|shard| shard.connections() as u64), 1, "{address}");
        let refused = sum(&|shard| shard.counters.closed(CloseCause::Limit));
        assert_eq!(refused, 1, "{address}");
    }
}

/// The shard that asked for it has nothing left, nor has the one that is to do it; only on the way
/// between them is something, and then on the way back.
#[test]
fn what_is_on_its_way_between_shards_at_rest_is_done() {
    let mut two = Two::draining(0);
    assert!(!two.turn(0));
    let mut context = Context::from_waker(Waker::noop());
    let mut call = two.locals[1].run_on(0, |()| 7);
    for _ in 0..3 {
        assert!(!two.turn(1) && !two.turn(0));
    }
    two.carry_from(1);
    assert!(!two.turn(0) && !two.turn(1) && !two.turn(0));
    two.carry_from(0);
    assert!(two.turn(1));
    assert_eq!(Pin::new(&mut call).poll(&mut context), Poll::Ready(Ok(7)));
    two.carry_from(1);
    assert!(two.turn(0));
    assert_eq!(two.shards[0].counters.runs, 1);
}

#[test]
fn shards_without_anything_end_at_once() {
    let mut two = Two::draining(0);
    assert!(!two.turn(0));
    assert!(two.turn(1));
    two.carry_from(1);
    assert!(two.turn(0));
}

/// One that has failed never rests.
#[test]
fn who_waits_for_the_others_waits_no_longer_than_the_drain() {
    let mut two = Two::draining(1);
    let drain_us = two.shards[0].settings.drain_us;
    assert!(!two.turn(0));
    assert_eq!(two.shards[0].wake_at_us(), Some(drain_us));
    two.now_us = drain_us - 2;
    assert!(!two.turn(0));
    assert!(two.turn(0));
}

/// Its part stayed in what is left, and the other one waited until its own time was over too.
#[test]
fn nobody_waits_for_a_shard_whose_own_time_was_over() {
    // The other shard has nothing left already.
    let mut two = Two::draining_for([1_500_000, 300_000], [0, 1]);
    assert!(!two.turn(0));
    two.now_us = 300_000;
    assert!(!two.turn(1), "GOAWAY is on its way");
    two.lose_the_peer(1);
    assert!(two.turn(1));
    two.carry_from(1);
    assert!(two.turn(0));

    // The other shard has something left, and is told nothing more.
    let mut two = Two::draining_for([1_500_000, 300_000], [1, 0]);
    two.now_us = 300_000;
    assert!(two.turn(1));
    two.carry_from(1);
    assert!(!two.turn(0));
    // A turn of who has ended changes nothing.
    assert!(two.turn(1));
    two.lose_the_peer(0);
    assert!(two.turn(0));
}

#[test]
fn a_stop_ends_who_waits_for_the_others() {
    let mut two = Two::draining(1);
    assert!(!two.turn(0));
    two.shards[0].stop(two.now_us);
    assert!(two.turn(0));
}
