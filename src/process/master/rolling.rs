//! The part of the master's mind that puts one worker, program or log file in another's place.

use super::{
    ADAPT_MS_MIN, ASKERS_MAX, Action, Asker, Cause, Design, Finding, LEAVING_MAX, Master, Message,
    Outcome, State, Wanted, Worker, WorkerId,
};

impl Master {
    /// Begins what is wanted as soon as it can be: an upgrade before a reload, since the new
    /// program may read what the old one can't.
    pub(super) fn roll(&mut self, now_ms: u64) {
        let is_settled = matches!(self.state, State::Serving(_) | State::Pausing { .. });
        if !is_settled || self.examining || self.leaving.len() >= LEAVING_MAX {
            return;
        }
        if self.upgrade.wanted {
            self.rolling = Some(std::mem::take(&mut self.upgrade).askers);
            self.start(Cause::Upgrade, Design::OnDisk, now_ms);
        } else if self.reload.wanted {
            self.rolling = Some(std::mem::take(&mut self.reload).askers);
            self.examining = true;
            self.act(Action::Examine);
        }
    }

    pub(super) fn examined(&mut self, finding: Finding, now_ms: u64) {
        if !std::mem::take(&mut self.examining) {
            return;
        }
        match (self.state, finding) {
            (State::Serving(_) | State::Pausing { .. }, Finding::Wrong) => {
                self.report_rolling(Outcome::Wrong);
            }
            (State::Serving(_), Finding::Same) => self.report_rolling(Outcome::Same),
            (State::Serving(worker), Finding::InPlace) => {
                let late_at_ms = now_ms + self.patience.ready_ms.max(ADAPT_MS_MIN);
                self.state = State::Adapting { worker, late_at_ms };
                self.act(Action::Tell(worker.id, Message::Adapt));
            }
            (State::Pausing { .. }, Finding::Same) => {
                self.start(Cause::Reload, Design::InForce, now_ms);
            }
            // Whoever reloads while nobody serves hopes that the next worker lives: no more pause.
            (State::Serving(_) | State::Pausing { .. }, _) => {
                self.start(Cause::Reload, Design::Candidate, now_ms);
            }
            // The worker died meanwhile.
            _ => self.put_reload_off(),
        }
        self.roll(now_ms);
    }

    /// The reload that is under way is to come later, as if it had not begun.
    pub(super) fn put_reload_off(&mut self) {
        if let Some(askers) = self.rolling.take() {
            self.reload.wanted = true;
            for asker in askers {
                self.reload.add(Some(asker));
            }
        }
    }

    pub(super) fn adapted(&mut self, id: WorkerId, now_ms: u64) {
        let State::Adapting { worker, .. } = self.state else {
            return;
        };
        if worker.id == id {
            self.state = State::Serving(worker);
            self.act(Action::Adopt);
            self.report_rolling(Outcome::InPlace);
            self.roll(now_ms);
        }
    }

    /// A worker that does not take the configuration over is replaced by one that begins with it.
    pub(super) fn not_adapted(&mut self, id: WorkerId, now_ms: u64) {
        let State::Adapting { worker, .. } = self.state else {
            return;
        };
        if worker.id == id {
            self.state = State::Serving(worker);
            self.start(Cause::Reload, Design::Candidate, now_ms);
        }
    }

    pub(super) fn ready(&mut self, id: WorkerId, now_ms: u64) {
        let (old, new) = match self.state {
            State::Starting(new) if new.worker.id == id => (None, new),
            State::Replacing { old, new } if new.worker.id == id => (Some(old), new),
            _ => return,
        };
        self.state = State::Serving(new.worker);
        self.reopen_newcomer(id);
        match new.cause {
            Cause::First => self.act(Action::Announce),
            Cause::Death => {}
            Cause::Reload => self.reloaded(old, new.worker, now_ms),
            Cause::Upgrade => {
                let new = new.worker;
                self.state = State::HandingOver { old, new };
                self.act(Action::HandOver);
                return;
            }
        }
        self.roll(now_ms);
    }

    fn reloaded(&mut self, old: Option<Worker>, new: Worker, now_ms: u64) {
        self.act(Action::Adopt);
        if let Some(old) = old {
            self.see_off(old.id, Message::Drain, now_ms);
        }
        let old = old.map(|old| old.id);
        self.report_rolling(Outcome::Reloaded { old, new: new.id });
    }

    /// The newcomer will not take the place of who serves.
    pub(super) fn replacing_failed(&mut self, old: Worker, outcome: Outcome, now_ms: u64) {
        self.state = State::Serving(old);
        self.report_rolling(outcome);
        self.roll(now_ms);
    }

    pub(super) fn not_handed_over(&mut self, now_ms: u64) {
        let State::HandingOver { old, new } = self.state else {
            return;
        };
        self.report_rolling(Outcome::NotHandedOver);
        match old {
            Some(old) => {
                self.see_off(new.id, Message::Drain, now_ms);
                self.state = State::Serving(old);
            }
            // A server of the new program is better than none.
            None => self.state = State::Serving(new),
        }
        self.roll(now_ms);
    }

    /// Has all ready workers and the master itself reopen their logs. A newcomer is told when it
    /// is ready, since before it might die of the signal.
    pub(super) fn reopen_logs(&mut self, asker: Option<Asker>) {
        let room = self.reopen.len() < ASKERS_MAX;
        self.reopen.extend(asker.filter(|_| room));
        self.act(Action::ReopenLog);
        let (ready, has_newcomer) = match self.state {
            State::Serving(worker) | State::Adapting { worker, .. } => {
                ([Some(worker), None], false)
            }
            State::Replacing { old, .. } => ([Some(old), None], true),
            State::HandingOver { old, new } => ([old, Some(new)], false),
            State::Starting(_) => ([None, None], true),
            State::Pausing { .. } | State::GoingDown { .. } | State::Gone => ([None, None], false),
        };
        self.newcomer_reopens |= has_newcomer;
        for worker in ready.into_iter().flatten() {
            self.tell_to_reopen(worker.id);
        }
        // Those on their way out write as well, but may end before they say anything.
        for at in 0..self.leaving.len() {
            self.act(Action::Tell(self.leaving[at].id, Message::Reopen));
        }
        self.report_reopened();
    }

    fn reopen_newcomer(&mut self, id: WorkerId) {
        if std::mem::take(&mut self.newcomer_reopens) {
            self.tell_to_reopen(id);
        }
    }

    fn tell_to_reopen(&mut self, id: WorkerId) {
        self.act(Action::Tell(id, Message::Reopen));
        if !self.reopening.contains(&id) {
            self.reopening.push(id);
        }
    }

    /// This worker has reopened its log, or has ended.
    pub(super) fn reopened(&mut self, id: WorkerId) {
        let waiting = self.reopening.len();
        self.reopening.retain(|&worker| worker != id);
        if self.reopening.len() < waiting {
            self.report_reopened();
        }
    }

    fn report_reopened(&mut self) {
        if self.reopening.is_empty() {
            let askers = std::mem::take(&mut self.reopen);
            self.act(Action::Report(Outcome::Reopened, askers));
        }
    }

    /// Ends the reload or upgrade that is under way, if one is.
    pub(super) fn report_rolling(&mut self, outcome: Outcome) {
        if let Some(askers) = self.rolling.take() {
            self.act(Action::Report(outcome, askers));
        }
    }

    /// Ends the orders that wait.
    pub(super) fn report_wanted(&mut self, outcome: Outcome) {
        for wanted in [&mut self.reload, &mut self.upgrade] {
            let Wanted { wanted, askers } = std::mem::take(wanted);
            if wanted {
                self.actions.push_back(Action::Report(outcome, askers));
            }
        }
    }
}
