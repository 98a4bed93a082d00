//! The timers of a shard: at most one for each slot of its connections.
//!
//! No timer lapses early, and none is more than a tick late once [`Wheel::lapsed`] is called. While
//! none can have lapsed, that call is one comparison, however many are armed; to set, move or
//! cancel one takes the same few steps, however many there are.
//!
//! It is the hashed wheel of Varghese and Lauck, "Hashed and hierarchical timing wheels" (1987),
//! scheme 6: time is cut into ticks, tick by tick goes to the next of 4096 lists, and timers
//! that are further away than one rotation stay in their list for more. Unlike theirs, the wheel
//! does not turn with every tick: it knows the earliest tick of each list, so that it passes over
//! those in which nothing is due, and a clock that jumps costs one look at each list at most.
//!
//! Invariants: `next_tick` is not after any bucket's `earliest_tick`, nor that after any timer in
//! the bucket. Both may be too early, after a timer was moved or cancelled, and are put right when
//! their time comes. A bucket is empty if and only if its `earliest_tick` is `NEVER`.

/// The length of a tick, in microseconds: 16.4 ms, which the timeouts of connections, seconds and
/// more, do not miss.
pub const TICK_US: u64 = 1 << 14;

/// Lists of timers, one for each tick of a rotation, which takes 67 s: most timeouts are shorter.
const BUCKETS: usize = 4096;
const _: () = assert!(BUCKETS.is_power_of_two(), "the remainder has to be cheap");

const ROTATION_TICKS: u64 = BUCKETS as u64;

/// Later than the tick of any time.
const NEVER: u64 = u64::MAX;

/// In place of a slot, in the link of one that is not armed. So this slot can't be.
const UNARMED: u32 = u32::MAX;

/// Beyond so many slots, growing may copy: address space is not free either.
const SLOTS_RESERVED_MAX: usize = 1 << 20;

/// Timers by slot, on a clock of microseconds that the caller reads.
///
/// It suits timers that are mostly put off: leave the timer alone and only note the new time; when
/// the timer lapses, compare with what was noted, and set it again if that is still to come.
///
/// ```
/// use corelane::shard::timer::{TICK_US, Wheel};
///
/// let mut wheel = Wheel::new();
/// wheel.set(3, 1_000_000);
/// wheel.set(8, 60_000_000);
/// wheel.set(8, 70_000_000); // moved
///
/// let mut slots = Vec::new();
/// wheel.lapsed(999_999, usize::MAX, &mut slots);
/// assert!(slots.is_empty());
/// wheel.lapsed(1_000_000 + TICK_US, usize::MAX, &mut slots);
/// assert_eq!(slots, [3]);
/// assert_eq!(wheel.at_us(8), Some(70_000_000));
/// ```
pub struct Wheel {
    /// No timer lapses before this tick.
    next_tick: u64,
    buckets: Vec<Bucket>,
    /// By slot.
    links: Vec<Link>,
    len: usize,
}

/// The timers whose ticks leave the same remainder, as a ring of links.
#[derive(Clone, Copy)]
struct Bucket {
    /// No timer in here lapses before this tick.
    earliest_tick: u64,
    /// Where to begin; of no meaning where the bucket is empty.
    first: u32,
}

/// A slot's place in the ring of its bucket.
#[derive(Clone, Copy)]
struct Link {
    at_us: u64,
    previous: u32,
    next: u32,
}

/// What a slot's timer takes, in bytes.
pub const TIMER_BYTES: usize = size_of::<Link>();
const _: () = assert!(TIMER_BYTES == 16, "four to a line of cache");

impl Bucket {
    const EMPTY: Bucket = Bucket {
        earliest_tick: NEVER,
        first: 0,
    };
}

impl Link {
    const UNARMED: Link = Link {
        at_us: 0,
        previous: UNARMED,
        next: UNARMED,
    };
}

impl Wheel {
    /// A wheel without timers. It grows as slots come, to 16 bytes for each up to the highest.
    pub fn new() -> Wheel {
        Wheel::with_room(0)
    }

    /// The same with room for so many slots.
    ///
    /// Address space is taken at once, so that growing never copies in the middle of a turn;
    /// memory becomes resident only as slots come into use.
    pub fn with_room(slots: usize) -> Wheel {
        Wheel {
            next_tick: NEVER,
            buckets: vec![Bucket::EMPTY; BUCKETS],
            links: Vec::with_capacity(slots.min(SLOTS_RESERVED_MAX)),
            len: 0,
        }
    }

    /// Makes room for so many slots, as [`Wheel::with_room`] does.
    pub fn reserve(&mut self, slots: usize) {
        let reserved = slots.min(SLOTS_RESERVED_MAX);
        self.links
            .reserve_exact(reserved.saturating_sub(self.links.len()));
    }

    /// How many timers are armed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// When the slot's timer was set for, in microseconds and not rounded, if it is armed.
    #[inline]
    pub fn at_us(&self, slot: u32) -> Option<u64> {
        let link = self.links.get(slot as usize)?;
        (link.previous != UNARMED).then_some(link.at_us)
    }

    /// Arms the slot's timer, or moves it, for a time that may also have passed.
    ///
    /// A time within a tick of `u64::MAX` never comes: the clock ends before.
    ///
    /// # Panics
    ///
    /// If the slot is `u32::MAX`, which stands for no slot here.
    #[inline]
    pub fn set(&mut self, slot: u32, at_us: u64) {
        if self.at_us(slot).is_some() {
            self.unlink(slot);
        } else if self.links.len() <= slot as usize {
            self.grow(slot);
        }
        self.link(slot, at_us);
    }

    /// Disarms the slot's timer, if it is armed.
    #[inline]
    pub fn cancel(&mut self, slot: u32) {
        if self.at_us(slot).is_some() {
            self.unlink(slot);
        }
    }

    /// Disarms the timers whose time has come by `now_us`, rounded up to a whole tick, and appends
    /// their slots in about the order of their times; at most `max` of them, and the others with
    /// the next calls.
    #[inline]
    pub fn lapsed(&mut self, now_us: u64, max: usize, slots: &mut Vec<u32>) {
        if self.is_due(now_us) {
            self.take_lapsed(now_us / TICK_US, max, slots);
        }
    }

    /// Whether [`Wheel::lapsed`] has anything to do at this time.
    #[inline]
    pub fn is_due(&self, now_us: u64) -> bool {
        self.next_tick <= now_us / TICK_US
    }

    /// When to call [`Wheel::lapsed`] next, in microseconds: not after the first timer lapses, and
    /// sooner only if timers were moved or cancelled meanwhile. Nothing if no timer is armed.
    #[inline]
    pub fn next_us(&self) -> Option<u64> {
        (self.len > 0).then(|| self.next_tick.saturating_mul(TICK_US))
    }

    /// Every due timer is in the bucket of one of the ticks from `next_tick` to now.
    #[cold]
    fn take_lapsed(&mut self, now_tick: u64, max: usize, slots: &mut Vec<u32>) {
        let full = slots.len().saturating_add(max);
        let first_tick = self.next_tick;
        let rotation_ends = first_tick + (ROTATION_TICKS - 1);
        for tick in first_tick..=now_tick.min(rotation_ends) {
            let bucket = bucket_index(tick);
            let may_be_due = self.buckets[bucket].earliest_tick <= now_tick;
            if may_be_due && !self.take_lapsed_of(bucket, now_tick, full, slots) {
                self.next_tick = tick;
                return;
            }
        }
        self.next_tick = self.find_next_tick(now_tick);
    }

    /// Gives false if there are more of them than there is room for.
    fn take_lapsed_of(
        &mut self,
        bucket: usize,
        now_tick: u64,
        full: usize,
        slots: &mut Vec<u32>,
    ) -> bool {
        let mut earliest_tick = NEVER;
        let mut slot = self.buckets[bucket].first;
        let last = self.links[slot as usize].previous;
        loop {
            let link = self.links[slot as usize];
            let tick = lapse_tick(link.at_us);
            if tick > now_tick {
                earliest_tick = earliest_tick.min(tick);
            } else if slots.len() == full {
                // The next call goes on from here, so that it does not pass all the others again.
                self.buckets[bucket].first = slot;
                return false;
            } else {
                self.unlink(slot);
                slots.push(slot);
            }
            if slot == last {
                self.buckets[bucket].earliest_tick = earliest_tick;
                return true;
            }
            slot = link.next;
        }
    }

    /// The earliest of all buckets, once none of them is due.
    fn find_next_tick(&self, now_tick: u64) -> u64 {
        let mut next_tick = NEVER;
        for tick in now_tick + 1..=now_tick + ROTATION_TICKS {
            next_tick = next_tick.min(self.buckets[bucket_index(tick)].earliest_tick);
            // What is in the buckets that follow comes later, as does what is in these in later
            // rotations.
            if next_tick <= tick {
                break;
            }
        }
        next_tick
    }

    /// Puts a slot that is not armed at the end of its bucket.
    #[inline]
    fn link(&mut self, slot: u32, at_us: u64) {
        let tick = lapse_tick(at_us);
        let bucket = &mut self.buckets[bucket_index(tick)];
        let (previous, next) = if bucket.earliest_tick == NEVER {
            bucket.first = slot;
            (slot, slot)
        } else {
            let first = bucket.first;
            (self.links[first as usize].previous, first)
        };
        bucket.earliest_tick = bucket.earliest_tick.min(tick);
        self.next_tick = self.next_tick.min(tick);
        self.links[slot as usize] = Link {
            at_us,
            previous,
            next,
        };
        self.links[previous as usize].next = slot;
        self.links[next as usize].previous = slot;
        self.len += 1;
    }

    /// Takes an armed slot out of its bucket.
    #[inline]
    fn unlink(&mut self, slot: u32) {
        let link = std::mem::replace(&mut self.links[slot as usize], Link::UNARMED);
        let bucket = &mut self.buckets[bucket_index(lapse_tick(link.at_us))];
        if link.next == slot {
            *bucket = Bucket::EMPTY;
        } else {
            self.links[link.previous as usize].next = link.next;
            self.links[link.next as usize].previous = link.previous;
            if bucket.first == slot {
                bucket.first = link.next;
            }
        }
        self.len -= 1;
        if self.len == 0 {
            self.next_tick = NEVER;
        }
    }

    #[cold]
    fn grow(&mut self, slot: u32) {
        assert_ne!(slot, UNARMED, "a slot's number is below u32::MAX");
        self.links.resize(slot as usize + 1, Link::UNARMED);
    }
}

impl Default for Wheel {
    fn default() -> Wheel {
        Wheel::new()
    }
}

/// The first tick that begins at this time or after it.
#[inline]
fn lapse_tick(at_us: u64) -> u64 {
    at_us.div_ceil(TICK_US)
}

#[inline]
fn bucket_index(tick: u64) -> usize {
    (tick % ROTATION_TICKS) as usize
}

#[cfg(test)]
mod tests;
