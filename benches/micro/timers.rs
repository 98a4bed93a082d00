//! A wheel with a million timers, and the work of a shard on them.

use std::hint::black_box;

use corelane::shard::timer::{TICK_US, Wheel};

/// How many are armed: a million connections, each with its timer.
pub(crate) const ARMED: u32 = 1_000_000;

/// Far from its neighbours and prime to [`ARMED`], so that slots come in no order that a cache
/// could guess, and each of them once in a round.
const STRIDE: u32 = 618_033;

/// A wheel whose timers are spread evenly over the time that a timer is set for.
pub(crate) struct Timers {
    wheel: Wheel,
    now_us: u64,
    timeout_us: u64,
    slot: u32,
    ahead_us: u64,
    lapsed: Vec<u32>,
}

impl Timers {
    pub(crate) fn start(timeout_us: u64) -> Timers {
        let mut wheel = Wheel::with_room(ARMED as usize);
        let mut slot = 0;
        for nth in 0..ARMED {
            slot = next_slot(slot);
            let at_us = TICK_US + timeout_us * u64::from(nth) / u64::from(ARMED);
            wheel.set(slot, at_us);
        }
        assert_eq!(wheel.len(), ARMED as usize, "every slot has its timer");
        Timers {
            wheel,
            now_us: 0,
            timeout_us,
            slot,
            ahead_us: 0,
            lapsed: Vec::new(),
        }
    }

    /// A connection leaves and another one takes its slot.
    #[inline]
    pub(crate) fn cancel_and_set(&mut self) {
        let slot = self.pick();
        self.wheel.cancel(slot);
        let at_us = self.any_time_us();
        self.wheel.set(slot, at_us);
    }

    /// A timer is set for another time while it runs.
    #[inline]
    pub(crate) fn move_one(&mut self) {
        let slot = self.pick();
        let at_us = self.any_time_us();
        self.wheel.set(slot, at_us);
    }

    /// What a turn pays in which nothing lapses.
    #[inline]
    pub(crate) fn look(&mut self) {
        self.wheel
            .lapsed(black_box(self.now_us), 512, &mut self.lapsed);
        assert!(self.lapsed.is_empty(), "no time has passed");
    }

    /// The clock goes on, tick by tick, until so many timers have lapsed and are set again.
    #[inline]
    pub(crate) fn lapse_and_set_again(&mut self, count: usize) {
        loop {
            let wanted = count - self.lapsed.len();
            self.wheel.lapsed(self.now_us, wanted, &mut self.lapsed);
            if self.lapsed.len() == count {
                break;
            }
            self.now_us += TICK_US;
        }
        for slot in self.lapsed.drain(..) {
            self.wheel.set(slot, self.now_us + self.timeout_us);
        }
    }

    #[inline]
    fn pick(&mut self) -> u32 {
        self.slot = next_slot(self.slot);
        self.slot
    }

    /// Another time than the slot's last one, and in no order either.
    #[inline]
    fn any_time_us(&mut self) -> u64 {
        self.ahead_us = (self.ahead_us + 7_919_003) % self.timeout_us;
        self.now_us + TICK_US + self.ahead_us
    }
}

#[inline]
fn next_slot(slot: u32) -> u32 {
    (slot + STRIDE) % ARMED
}
