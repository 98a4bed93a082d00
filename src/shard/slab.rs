//! Slots, and ids that know their slot's generation.
//!
//! Invariant: an id that was given out names its value or nothing, never another value. A slot's
//! generation goes up with each reuse, and freed slots queue first-in first-out, so a slot's next
//! use is as far away as can be. A slot whose generations are used up is retired.

use crate::handler::ConnectionId;

/// Beyond so many slots, growing may copy: address space is not free either.
const SLOTS_RESERVED_MAX: usize = 1 << 20;

/// Slots for at most a fixed number of values.
#[derive(Debug)]
pub(super) struct Slab<T> {
    shard: u16,
    slots: Vec<Slot<T>>,
    free: Option<Free>,
    len: usize,
    slots_max: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Occupied(T),
    Free { next: Option<u32> },
}

/// The queue of free slots.
#[derive(Clone, Copy, Debug)]
struct Free {
    first: u32,
    last: u32,
}

impl<T> Slab<T> {
    /// Room for `slots_max` values of this shard.
    ///
    /// Address space is taken at once, so that growing never copies the slots in the middle of a
    /// turn; memory becomes resident only as slots come into use.
    pub(super) fn new(shard: u16, slots_max: usize) -> Slab<T> {
        Slab {
            shard,
            slots: Vec::with_capacity(slots_max.min(SLOTS_RESERVED_MAX)),
            free: None,
            len: 0,
            slots_max,
        }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is room for another one.
    pub(super) fn has_room(&self) -> bool {
        self.len < self.slots_max && (self.free.is_some() || self.slots.len() < self.slots_max)
    }

    /// Makes room for another number of values. Those that are there stay, be they more.
    pub(super) fn set_max(&mut self, slots_max: usize) {
        let reserved = slots_max.min(SLOTS_RESERVED_MAX);
        self.slots
            .reserve_exact(reserved.saturating_sub(self.slots.len()));
        self.slots_max = slots_max;
    }

    /// The slots that are or were in use, free ones included.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Puts a value in; gives it back if there is no room.
    pub(super) fn insert(&mut self, value: T) -> Result<ConnectionId, T> {
        if !self.has_room() {
            return Err(value);
        }
        let slot = if let Some(slot) = self.pop_free() {
            slot
        } else {
            let Ok(slot) = u32::try_from(self.slots.len()) else {
                return Err(value);
            };
            self.slots.push(Slot {
                generation: 0,
                content: Content::Free { next: None },
            });
            slot
        };
        let entry = &mut self.slots[slot as usize];
        entry.content = Content::Occupied(value);
        self.len += 1;
        Ok(ConnectionId {
            shard: self.shard,
            slot,
            generation: entry.generation,
        })
    }

    /// The value with this id, if it is still there.
    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        match &mut slot.content {
            Content::Occupied(value) if slot.generation == id.generation => Some(value),
            _ => None,
        }
    }

    /// The id of the value in this slot, if there is one.
    pub(super) fn id_at(&self, slot: u32) -> Option<ConnectionId> {
        let entry = self.slots.get(slot as usize)?;
        matches!(entry.content, Content::Occupied(_)).then_some(ConnectionId {
            shard: self.shard,
            slot,
            generation: entry.generation,
        })
    }

    /// All values and their ids, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &T)> {
        (0..).zip(&self.slots).filter_map(|(slot, entry)| {
            let Content::Occupied(value) = &entry.content else {
                return None;
            };
            let id = ConnectionId {
                shard: self.shard,
                slot,
                generation: entry.generation,
            };
            Some((id, value))
        })
    }

    /// Takes the value with this id out, if it is still there. The id is void from here on.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        match std::mem::replace(&mut slot.content, Content::Free { next: None }) {
            Content::Occupied(value) => {
                self.len -= 1;
                if let Some(next) = slot.generation.checked_add(1) {
                    slot.generation = next;
                    self.push_free(id.slot);
                }
                Some(value)
            }
            free @ Content::Free { .. } => {
                slot.content = free;
                None
            }
        }
    }

    /// The ids of all values, by slot.
    pub(super) fn ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.iter().map(|(id, _)| id)
    }

    fn pop_free(&mut self) -> Option<u32> {
        let Free { first, last } = self.free?;
        self.free = match self.slots[first as usize].content {
            Content::Free { next: Some(next) } => Some(Free { first: next, last }),
            _ => None,
        };
        Some(first)
    }

    fn push_free(&mut self, slot: u32) {
        self.free = Some(match self.free {
            None => Free {
                first: slot,
                last: slot,
            },
            Some(Free { first, last }) => {
                self.slots[last as usize].content = Content::Free { next: Some(slot) };
                Free { first, last: slot }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Remove(prop::sample::Index),
        SetMax(usize),
        LookUp(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            any::<u64>().prop_map(Step::Insert),
            any::<prop::sample::Index>().prop_map(Step::Remove),
            any::<prop::sample::Index>().prop_map(Step::LookUp),
            (1_usize..20).prop_map(Step::SetMax),
        ];
        prop::collection::vec(step, 0..300)
    }

    proptest! {
        /// Against a map that never forgets an id, and a queue of the free slots.
        #[test]
        fn behaves_like_a_map_with_a_queue_of_free_slots(steps in steps(), slots_max in 1_usize..20) {
            let mut slots_max = slots_max;
            let mut slab = Slab::new(3, slots_max);
            let mut model: HashMap<ConnectionId, Option<u64>> = HashMap::new();
            let mut given: Vec<ConnectionId> = Vec::new();
            let mut free: VecDeque<u32> = VecDeque::new();
            let mut used = 0_u32;
            for step in steps {
                match step {
                    Step::Insert(value) => match slab.insert(value) {
                        Ok(id) => {
                            let slot = free.pop_front().unwrap_or_else(|| {
                                used += 1;
                                used - 1
                            });
                            prop_assert_eq!(id.slot, slot);
                            prop_assert!(model.insert(id, Some(value)).is_none(), "id given twice");
                            given.push(id);
                        }
                        Err(back) => {
                            prop_assert_eq!(back, value);
                            prop_assert!(!slab.has_room());
                            prop_assert!(model.values().flatten().count() >= slots_max);
                        }
                    },
                    Step::Remove(index) if !given.is_empty() => {
                        let id = given[index.index(given.len())];
                        let expected = model.insert(id, None).flatten();
                        prop_assert_eq!(slab.remove(id), expected);
                        if expected.is_some() {
                            free.push_back(id.slot);
                        }
                    }
                    Step::SetMax(max) => {
                        slots_max = max;
                        slab.set_max(max);
                    }
                    Step::LookUp(index) if !given.is_empty() => {
                        let id = given[index.index(given.len())];
                        prop_assert_eq!(slab.get_mut(id).copied(), model[&id]);
                    }
                    _ => {}
                }
                prop_assert_eq!(slab.len(), model.values().flatten().count());
                prop_assert_eq!(slab.has_room(), slab.len() < slots_max);
                let mut live: Vec<_> = model.iter().filter(|(_, v)| v.is_some()).map(|(k, _)| *k).collect();
                live.sort();
                prop_assert_eq!(slab.ids().collect::<Vec<_>>(), live);
            }
        }
    }

    #[test]
    fn a_slot_whose_generations_are_used_up_is_retired() {
        let mut slab = Slab::new(0, 1);
        let mut id = slab.insert(()).unwrap();
        slab.slots[0].generation = u32::MAX;
        id.generation = u32::MAX;
        assert_eq!(slab.remove(id), Some(()));
        assert!(!slab.has_room());
        assert_eq!(slab.insert(()), Err(()));
        assert!(slab.get_mut(id).is_none());
    }
}
