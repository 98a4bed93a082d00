//! Other settings while the shards run: what each shard goes by, and how far it can have got with
//! bringing its connections in line.
//!
//! How far is not seen from outside, but bounded: in a turn in which its messages do not pile up, a
//! shard goes on by a known number of slots.

use std::rc::Rc;

use corelane::shard::{Settings, Turn};

use crate::run::Run;

/// What one shard goes by.
#[derive(Debug)]
pub(crate) struct Rules {
    /// What some of its connections may still go by; the last are in force.
    settings: Vec<Rc<Settings>>,
    /// Reloads that it was told.
    told: usize,
    revision: Option<Revision>,
    /// Turns that left something to bring in line.
    pub(crate) unfinished_turns: u64,
}

/// Slots that have been brought in line.
#[derive(Clone, Copy, Debug, Default)]
struct Revision {
    min: usize,
    max: usize,
    /// It came to the end of those that there were. Others may have come since, in the same turn.
    may_be_over: bool,
}

/// A shard as it was before a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    pub(crate) connections: usize,
    pub(crate) handlers: usize,
    slots: usize,
    is_congested: bool,
}

/// Whether something is left to bring in line after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    Something,
    /// It can't be told, but by the turn.
    Maybe,
}

impl Rules {
    pub(crate) fn new(settings: &Rc<Settings>) -> Rules {
        Rules {
            settings: vec![Rc::clone(settings)],
            told: 0,
            revision: None,
            unfinished_turns: 0,
        }
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> &Rc<Settings> {
        &self.settings[self.settings.len() - 1]
    }

    /// Those, and former ones that some connections may still go by.
    pub(crate) fn all_settings(&self) -> &[Rc<Settings>] {
        &self.settings
    }

    fn take_over(&mut self, settings: &Rc<Settings>) {
        self.settings.push(Rc::clone(settings));
        self.revision = Some(Revision::default());
    }

    /// A turn goes on with the connections; its messages pile up before, or after.
    fn go_on(&mut self, before: Before, slots: usize, is_congested: bool) -> Left {
        let slots_max = self.settings().turn_slots_max;
        let Some(revision) = &mut self.revision else {
            return Left::Nothing;
        };
        if before.is_congested {
            return Left::Nothing;
        }
        revision.max += slots_max;
        revision.may_be_over |= revision.max >= before.slots;
        if !is_congested {
            revision.min += slots_max;
        }
        if revision.min >= slots {
            self.end();
            return Left::Nothing;
        }
        if revision.may_be_over || is_congested {
            return Left::Maybe;
        }
        Left::Something
    }

    fn end(&mut self) {
        self.settings.drain(..self.settings.len() - 1);
        self.revision = None;
    }
}

impl Run {
    /// The settings that a shard goes by.
    pub(crate) fn settings(&self, shard: usize) -> &Rc<Settings> {
        self.rules[shard].settings()
    }

    /// Tells a shard the other settings whose time has come.
    pub(crate) fn reload(&mut self, number: usize) {
        while let Some(at_us) = self.next_reload_us(number).filter(|at| *at <= self.now_us) {
            self.network
                .note(|| format!("shard {number} is to reload, due at {at_us}"));
            let rules = &mut self.rules[number];
            let reload = &self.scenario.reloads[rules.told];
            rules.told += 1;
            let settings = Rc::clone(&reload.settings);
            let io = self.shards[number].io_mut();
            if !io.going_down.is_begun() {
                rules.take_over(&settings);
                io.take_over(&settings);
                self.state.reload(number, &settings, reload.rate);
                if settings.connections_per_address_max.is_some() {
                    self.network.count_those_of(number);
                }
            }
            let shard = &mut self.shards[number];
            shard.io_mut().network = std::mem::take(&mut self.network);
            shard.reload((*settings).clone());
            self.network = std::mem::take(&mut shard.io_mut().network);
            self.turns[number].has_more = true;
        }
    }

    /// When a shard is told the next other settings.
    pub(crate) fn next_reload_us(&self, number: usize) -> Option<u64> {
        let reload = self.scenario.reloads.get(self.rules[number].told)?;
        self.told_us(number, Some(reload.at_us))
    }

    /// How a shard is before a turn.
    pub(crate) fn before(&mut self, number: usize) -> Before {
        let shard = &mut self.shards[number];
        Before {
            connections: shard.connections(),
            handlers: shard.handlers(),
            slots: shard.io_mut().slots,
            is_congested: self.network.mesh.is_congested(number),
        }
    }

    /// After a turn: how far can its shard have got?
    pub(crate) fn revise(&mut self, number: usize, before: Before, turn: Turn) -> Left {
        let slots = self.shards[number].io_mut().slots;
        let is_congested = self.network.mesh.is_congested(number);
        let rules = &mut self.rules[number];
        let had_revision = rules.revision.is_some();
        let mut left = rules.go_on(before, slots, is_congested);
        if left == Left::Maybe && !turn.worked && !is_congested {
            rules.end();
            left = Left::Nothing;
        }
        rules.unfinished_turns += u64::from(rules.revision.is_some());
        // Without a limit, those stay as they are that were.
        let has_limit = rules.settings().connections_per_address_max.is_some();
        if had_revision && rules.revision.is_none() && has_limit {
            self.network.has_counted_those_of(number);
        }
        left
    }
}
