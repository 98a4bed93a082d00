//! The part of the master's mind that sends workers away, one by one and all together.

use super::{Action, GRACE_MS, Leaver, Master, Message, Order, Outcome, State, WorkerId};

impl Master {
    /// Tells a worker to go, for good.
    pub(super) fn see_off(&mut self, id: WorkerId, message: Message, now_ms: u64) {
        self.act(Action::Tell(id, message));
        let kill_at_ms = Some(now_ms + self.time_to_go_ms(message));
        match self.leaving.iter_mut().find(|leaver| leaver.id == id) {
            // Being told again makes more haste, never less; whoever was killed is as good as gone.
            Some(leaver) => leaver.kill_at_ms = leaver.kill_at_ms.min(kill_at_ms),
            None => self.leaving.push(Leaver { id, kill_at_ms }),
        }
    }

    fn time_to_go_ms(&self, message: Message) -> u64 {
        let drain_ms = match message {
            Message::Drain => self.patience.drain_ms,
            _ => 0,
        };
        drain_ms + self.patience.stop_ms + GRACE_MS
    }

    pub(super) fn go_down(&mut self, order: Order, now_ms: u64) {
        let message = match order {
            Order::Quit => Message::Drain,
            _ => Message::Stop,
        };
        let (ready, newcomer) = match self.state {
            State::GoingDown { .. } => return self.hasten(now_ms),
            State::Gone => return,
            State::Pausing { .. } => ([None, None], None),
            State::Starting(new) => ([None, None], Some(new.worker)),
            State::Serving(worker) | State::Adapting { worker, .. } => ([Some(worker), None], None),
            State::Replacing { old, new } => ([Some(old), None], Some(new.worker)),
            State::HandingOver { old, new } => ([old, Some(new)], None),
        };
        self.act(Action::CloseSockets);
        if message == Message::Stop {
            self.hasten(now_ms);
        }
        for worker in ready.into_iter().flatten() {
            self.see_off(worker.id, message, now_ms);
        }
        if let Some(worker) = newcomer {
            // It has nothing to drain, and may not obey yet but die of the signal as well.
            self.see_off(worker.id, Message::Stop, now_ms);
        }
        self.report_rolling(Outcome::GoesDown);
        self.report_wanted(Outcome::GoesDown);
        self.state = State::GoingDown { in_order: true };
        self.exit_if_last();
    }

    /// Tells those who go already to make more haste.
    fn hasten(&mut self, now_ms: u64) {
        for at in 0..self.leaving.len() {
            self.see_off(self.leaving[at].id, Message::Stop, now_ms);
        }
    }

    pub(super) fn exit_if_last(&mut self) {
        if let State::GoingDown { in_order } = self.state
            && self.leaving.is_empty()
        {
            self.state = State::Gone;
            self.act(Action::Exit(in_order));
        }
    }
}
