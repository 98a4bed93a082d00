//! What the master decides: events in, actions out.
//!
//! A pure state machine. It holds no descriptor, no process and no clock: the supervisor around it
//! turns signals, ended children, notifications and time into [`Event`]s, carries [`Action`]s out
//! in their order, and comes back at [`Master::deadline_ms`] with [`Event::Tick`].
//!
//! Invariants:
//!
//! - At most one worker serves and at most one is being started; the others were told to go.
//! - A worker that serves is told to go only by a stop, or once its successor is ready. Whatever
//!   is wrong with a successor changes nothing for the one that serves.
//! - Whoever goes is killed at some time, so that a stuck worker holds nothing up for ever.
//! - An order that can't be carried out yet waits, and orders of one kind that wait are one.
//!
#![doc = include_str!("master/transitions.md")]

mod descent;
mod rolling;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::VecDeque;

pub use vocabulary::{
    Action, Asker, Design, Event, Finding, Message, Order, Outcome, Patience, Succession, WorkerId,
};

/// A worker lived long enough if it lived for this time: its death is no sign that the next one
/// will die as well.
pub const YOUNG_MS: u64 = 5_000;

/// The first pause before a start; each further one is twice as long.
pub const FIRST_PAUSE_MS: u64 = 100;

/// How much longer than `drain_ms` and `stop_ms` allow a worker may take to go before it is
/// killed.
pub const GRACE_MS: u64 = 5_000;

/// How long a worker may take at least to take a configuration over: its shards have a second.
pub const ADAPT_MS_MIN: u64 = 3_000;

/// As many workers may be on their way out before a reload or upgrade waits for one to end: each
/// holds memory and descriptors.
pub const LEAVING_MAX: usize = 4;

/// As many who wait for the outcome of one kind of order are told; it bounds the memory.
pub const ASKERS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Worker {
    id: WorkerId,
    started_at_ms: u64,
}

/// Why a worker is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The server starts.
    First,
    /// The worker before it died.
    Death,
    Reload,
    Upgrade,
}

/// A worker that was started and is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Newcomer {
    worker: Worker,
    cause: Cause,
    late_at_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody serves until the newcomer is ready.
    Starting(Newcomer),
    /// Nobody serves; workers keep dying young, and the next is started then.
    Pausing { until_ms: u64 },
    /// One serves.
    Serving(Worker),
    /// One serves, and was told to take another configuration over.
    Adapting { worker: Worker, late_at_ms: u64 },
    /// One serves until the newcomer is ready.
    Replacing { old: Worker, new: Newcomer },
    /// The new program's worker is ready; the new master is to take over.
    HandingOver { old: Option<Worker>, new: Worker },
    /// Nobody is started any more; over when the last worker has ended.
    GoingDown { in_order: bool },
    /// All is over.
    Gone,
}

/// A worker that was told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leaver {
    id: WorkerId,
    /// `None` once it was.
    kill_at_ms: Option<u64>,
}

/// Who waits for an order's outcome; it is wanted even if nobody waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    wanted: bool,
    askers: Vec<Asker>,
}

impl Wanted {
    fn add(&mut self, asker: Option<Asker>) {
        self.wanted = true;
        let room = self.askers.len() < ASKERS_MAX;
        self.askers
            .extend(asker.filter(|asker| room && !self.askers.contains(asker)));
    }
}

/// The master's mind.
#[derive(Clone, Debug)]
pub struct Master {
    patience: Patience,
    state: State,
    leaving: Vec<Leaver>,
    next_id: u32,
    /// Deaths in a row, of which all but perhaps the first were young.
    deaths: u32,
    reload: Wanted,
    upgrade: Wanted,
    /// Who waits for the reload or upgrade that is under way, if one is.
    rolling: Option<Vec<Asker>>,
    /// Whether the configuration is being examined.
    examining: bool,
    /// Who waits for reopened logs, and the workers that have not said that they have.
    reopen: Vec<Asker>,
    reopening: Vec<WorkerId>,
    /// Whether the newcomer may have opened the log before the last reopening.
    newcomer_reopens: bool,
    actions: VecDeque<Action>,
}

impl Master {
    /// A master that starts its first worker.
    pub fn new(patience: Patience, now_ms: u64) -> Master {
        let mut master = Master::idle(patience);
        master.start(Cause::First, Design::InForce, now_ms);
        master
    }

    /// The master of the new program, after [`Action::HandOver`].
    pub fn succeed(succession: Succession, patience: Patience, now_ms: u64) -> Master {
        let mut master = Master::idle(patience);
        let Succession { old, new, .. } = succession;
        let known = succession.leaving.iter().chain(&old).chain([&new]);
        master.next_id = known.map(|id| id.0 + 1).max().unwrap_or(0);
        let kill_at_ms = Some(now_ms + patience.drain_ms + patience.stop_ms + GRACE_MS);
        let leavers = succession.leaving.into_iter();
        master
            .leaving
            .extend(leavers.map(|id| Leaver { id, kill_at_ms }));
        master.state = State::Serving(Worker {
            id: new,
            started_at_ms: now_ms,
        });
        if let Some(old) = old {
            master.see_off(old, Message::Drain, now_ms);
        }
        master.act(Action::Report(
            Outcome::Upgraded { old, new },
            succession.askers,
        ));
        if let Some(askers) = succession.reload {
            master.reload = Wanted {
                wanted: true,
                askers,
            };
        }
        master.roll(now_ms);
        master
    }

    fn idle(patience: Patience) -> Master {
        Master {
            patience,
            state: State::Gone,
            leaving: Vec::new(),
            next_id: 1,
            deaths: 0,
            reload: Wanted::default(),
            upgrade: Wanted::default(),
            rolling: None,
            examining: false,
            reopen: Vec::new(),
            reopening: Vec::new(),
            newcomer_reopens: false,
            actions: VecDeque::new(),
        }
    }

    /// What the new master has to know; `None` unless it is to take over.
    pub fn succession(&self) -> Option<Succession> {
        let State::HandingOver { old, new } = self.state else {
            return None;
        };
        Some(Succession {
            old: old.map(|old| old.id),
            new: new.id,
            leaving: self.leaving.iter().map(|leaver| leaver.id).collect(),
            askers: self.rolling.clone().unwrap_or_default(),
            reload: self.reload.wanted.then(|| self.reload.askers.clone()),
        })
    }

    /// From now on, be so patient: the configuration changed.
    pub fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// The next thing to do, until there is none.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due, if nothing else happens.
    pub fn deadline_ms(&self) -> Option<u64> {
        let of_state = match self.state {
            State::Starting(new) | State::Replacing { new, .. } => Some(new.late_at_ms),
            State::Adapting { late_at_ms, .. } => Some(late_at_ms),
            State::Pausing { until_ms } => Some(until_ms),
            State::Serving(_)
            | State::HandingOver { .. }
            | State::GoingDown { .. }
            | State::Gone => None,
        };
        let kills = self.leaving.iter().filter_map(|leaver| leaver.kill_at_ms);
        kills.chain(of_state).min()
    }

    /// Decides what an event means. `now_ms` counts from anywhere and never goes back.
    pub fn handle(&mut self, event: Event, now_ms: u64) {
        match event {
            Event::Asked(order @ (Order::Stop | Order::Quit), _) => self.go_down(order, now_ms),
            Event::Asked(Order::Reopen, asker) => self.reopen_logs(asker),
            Event::Asked(_, asker) if self.is_going_down() => {
                self.act(Action::Report(
                    Outcome::GoesDown,
                    asker.into_iter().collect(),
                ));
            }
            Event::Asked(Order::Reload, asker) => {
                self.reload.add(asker);
                self.roll(now_ms);
            }
            Event::Asked(Order::Upgrade, asker) => {
                self.upgrade.add(asker);
                self.roll(now_ms);
            }
            Event::Ready(id) => self.ready(id, now_ms),
            Event::Reopened(id) => self.reopened(id),
            Event::Adapted(id) => self.adapted(id, now_ms),
            Event::NotAdapted(id) => self.not_adapted(id, now_ms),
            Event::Ended(id) => self.ended(id, now_ms),
            Event::Examined(finding) => self.examined(finding, now_ms),
            Event::NotHandedOver => self.not_handed_over(now_ms),
            Event::Tick => self.tick(now_ms),
        }
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn is_going_down(&self) -> bool {
        matches!(self.state, State::GoingDown { .. } | State::Gone)
    }

    /// Starts a worker; the newcomer is the state, or is put beside who serves.
    fn start(&mut self, cause: Cause, design: Design, now_ms: u64) {
        let worker = Worker {
            id: WorkerId(self.next_id),
            started_at_ms: now_ms,
        };
        self.next_id += 1;
        self.newcomer_reopens = false;
        let late_at_ms = now_ms + self.patience.ready_ms;
        let new = Newcomer {
            worker,
            cause,
            late_at_ms,
        };
        self.state = match self.state {
            State::Serving(old) => State::Replacing { old, new },
            _ => State::Starting(new),
        };
        self.act(Action::Start(worker.id, design));
    }

    fn ended(&mut self, id: WorkerId, now_ms: u64) {
        self.reopened(id);
        if let Some(at) = self.leaving.iter().position(|leaver| leaver.id == id) {
            self.leaving.remove(at);
            self.exit_if_last();
            self.roll(now_ms);
            return;
        }
        match self.state {
            State::Starting(new) if new.worker.id == id => {
                self.start_failed(new, Outcome::Died(id), now_ms);
            }
            State::Serving(worker) if worker.id == id => self.died(worker, now_ms),
            State::Adapting { worker, .. } if worker.id == id => {
                self.put_reload_off();
                self.died(worker, now_ms);
            }
            State::Replacing { old, new } if new.worker.id == id => {
                self.replacing_failed(old, Outcome::Died(id), now_ms);
            }
            State::Replacing { old, new } if old.id == id => self.state = State::Starting(new),
            State::HandingOver { old, new } if new.id == id => {
                self.report_rolling(Outcome::Died(id));
                match old {
                    Some(old) => self.state = State::Serving(old),
                    None => self.died(new, now_ms),
                }
            }
            State::HandingOver { old, new } if old.is_some_and(|old| old.id == id) => {
                self.state = State::HandingOver { old: None, new };
            }
            _ => {}
        }
    }

    /// A newcomer for whom nobody stands in will not serve.
    fn start_failed(&mut self, new: Newcomer, outcome: Outcome, now_ms: u64) {
        match new.cause {
            Cause::First => {
                self.act(Action::CloseSockets);
                self.report_wanted(Outcome::GoesDown);
                self.state = State::GoingDown { in_order: false };
                self.exit_if_last();
                return;
            }
            Cause::Death => {}
            Cause::Reload | Cause::Upgrade => self.report_rolling(outcome),
        }
        self.died(new.worker, now_ms);
    }

    /// Nobody serves: starts the next one, at once or after a pause.
    fn died(&mut self, worker: Worker, now_ms: u64) {
        if now_ms.saturating_sub(worker.started_at_ms) >= YOUNG_MS {
            self.deaths = 0;
        }
        self.deaths = self.deaths.saturating_add(1);
        let pause_ms = self.pause_ms();
        let until_ms = now_ms + pause_ms;
        self.state = State::Pausing { until_ms };
        if pause_ms == 0 {
            self.start(Cause::Death, Design::InForce, now_ms);
        } else {
            self.act(Action::Pause(pause_ms));
            self.roll(now_ms);
        }
    }

    /// None after the first death in a row, then twice as long each time.
    fn pause_ms(&self) -> u64 {
        let Some(doublings) = self.deaths.checked_sub(2) else {
            return 0;
        };
        let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
        FIRST_PAUSE_MS
            .saturating_mul(factor)
            .min(self.patience.respawn_max_ms)
    }

    fn tick(&mut self, now_ms: u64) {
        for at in 0..self.leaving.len() {
            let leaver = &mut self.leaving[at];
            if leaver.kill_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
                leaver.kill_at_ms = None;
                let id = leaver.id;
                self.act(Action::Tell(id, Message::Kill));
            }
        }
        match self.state {
            State::Starting(new) if new.late_at_ms <= now_ms => {
                let id = new.worker.id;
                self.act(Action::Late(id));
                self.see_off(id, Message::Stop, now_ms);
                self.start_failed(new, Outcome::Late(id), now_ms);
            }
            State::Replacing { old, new } if new.late_at_ms <= now_ms => {
                let id = new.worker.id;
                self.act(Action::Late(id));
                self.see_off(id, Message::Stop, now_ms);
                self.replacing_failed(old, Outcome::Late(id), now_ms);
            }
            State::Adapting { worker, late_at_ms } if late_at_ms <= now_ms => {
                self.not_adapted(worker.id, now_ms);
            }
            State::Pausing { until_ms } if until_ms <= now_ms => {
                self.start(Cause::Death, Design::InForce, now_ms);
            }
            _ => {}
        }
    }
}
