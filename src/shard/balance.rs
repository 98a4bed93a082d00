//! How many connections each shard has, for the one that has to place another.
//!
//! But for one that only drains touch (`rest`), the counts are the only numbers that several shards
//! write. They are touched when a connection is placed and when it ends, never on the way of a
//! message, and nothing but the balance depends on them: a count that is read a moment too early costs
//! one misplaced connection.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::rest::Remainder;

/// The connections of every shard.
#[derive(Debug)]
pub struct Loads {
    shards: Vec<Load>,
    remainder: Remainder,
}

/// One shard's. On cache lines of its own (two: they are fetched in pairs), so that shards which
/// come and go do not disturb one another.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Load {
    /// Connections that were placed there and have not ended.
    connections: AtomicUsize,
    /// It takes no other one in for now.
    full: AtomicBool,
}

impl Loads {
    /// Those of so many shards, without connections.
    pub fn new(shards: u16) -> Loads {
        let shards = shards.max(1);
        Loads {
            shards: (0..shards).map(|_| Load::default()).collect(),
            remainder: Remainder::new(shards),
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    /// What all shards have left when they drain.
    pub(super) fn remainder(&self) -> &Remainder {
        &self.remainder
    }

    /// How many connections were placed on a shard and have not ended.
    pub fn connections(&self, shard: u16) -> usize {
        self.shards[usize::from(shard)].connections.load(Relaxed)
    }

    /// Chooses a shard for a connection that arrived at `here`: the least loaded one, if `here` has
    /// clearly more, or is full. Counts it there at once, so that the next of a burst sees it.
    pub(super) fn place(&self, here: u16, is_full: bool) -> u16 {
        let chosen = self.choose(here, is_full);
        self.place_at(chosen);
        chosen
    }

    /// Counts a connection on this shard.
    pub(super) fn place_at(&self, shard: u16) {
        self.shards[usize::from(shard)]
            .connections
            .fetch_add(1, Relaxed);
    }

    /// A connection of this shard has ended.
    pub(super) fn leave(&self, shard: u16) {
        self.shards[usize::from(shard)]
            .connections
            .fetch_sub(1, Relaxed);
    }

    /// Whether this shard takes no other connection in for now.
    pub(super) fn set_full(&self, shard: u16, full: bool) {
        self.shards[usize::from(shard)].full.store(full, Relaxed);
    }

    fn choose(&self, here: u16, is_full: bool) -> u16 {
        let own = self.connections(here);
        // From the next one on, so that equals are not all served in the same order.
        let others = (here + 1..self.shards()).chain(0..here);
        let least = others
            .filter(|&shard| !self.shards[usize::from(shard)].full.load(Relaxed))
            .map(|shard| (self.connections(shard), shard))
            .min_by_key(|&(connections, _)| connections);
        match least {
            Some((connections, shard)) if is_full || own > connections + margin(connections) => {
                shard
            }
            _ => here,
        }
    }
}

/// What is clearly more: a connection that is handed over costs some microseconds, and 3% more
/// connections are less than they differ in what they do.
fn margin(connections: usize) -> usize {
    (connections / 32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(loads: &Loads) -> Vec<usize> {
        (0..loads.shards())
            .map(|shard| loads.connections(shard))
            .collect()
    }

    #[test]
    fn a_burst_at_one_shard_is_spread_over_all() {
        for shards in [2_u16, 3, 8] {
            let loads = Loads::new(shards);
            for _ in 0..1_000 {
                loads.place(0, false);
            }
            let even = 1_000 / usize::from(shards);
            for count in counts(&loads) {
                assert!(count.abs_diff(even) * 20 <= even, "{:?}", counts(&loads));
            }
        }
    }

    #[test]
    fn a_small_difference_stays() {
        let loads = Loads::new(2);
        assert_eq!(loads.place(0, false), 0);
        assert_eq!(loads.place(0, false), 0);
        assert_eq!(loads.place(0, false), 1);
        loads.leave(1);
        loads.leave(0);
        assert_eq!(loads.place(0, false), 0);
        assert_eq!(counts(&loads), [2, 0]);
    }

    #[test]
    fn a_full_shard_gets_none() {
        let loads = Loads::new(3);
        loads.set_full(1, true);
        for _ in 0..30 {
            loads.place(0, false);
        }
        assert_eq!(loads.connections(1), 0);
        loads.set_full(1, false);
        assert_eq!(loads.place(0, false), 1);
        loads.set_full(2, true);
        assert_eq!(
            loads.place(2, true),
            1,
            "a full one hands over, however few it has"
        );
    }

    #[test]
    fn one_shard_keeps_all() {
        let loads = Loads::new(1);
        assert_eq!((0..10).map(|_| loads.place(0, false)).max(), Some(0));
    }
}
