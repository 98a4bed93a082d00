//! What the driver of an asynchronous client has for its handles: pushes, and how the connection is.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::super::connect::Ends;
use super::super::error::ClientError;
use super::super::pushes::Pushes;
use super::super::received::Push;

/// Shared by the driver, which fills it, and the handles.
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Notify,
    /// A push was taken.
    taken: Notify,
}

struct State {
    pushes: Pushes,
    /// How many of the pushes came in.
    arrivals: u64,
    /// How the connection was lost first, and after which push, until somebody was told.
    loss: Option<(u64, ClientError)>,
    /// How the client has ended.
    end: Option<ClientError>,
    connects: u64,
    /// Of the connection, as long as there is one.
    ends: Option<Ends>,
    going_away: bool,
}

impl Inbox {
    pub(super) fn new(pushes_waiting_max: usize) -> Inbox {
        Inbox {
            state: Mutex::new(State {
                pushes: Pushes::new(pushes_waiting_max),
                arrivals: 0,
                loss: None,
                end: None,
                connects: 0,
                ends: None,
                going_away: false,
            }),
            changed: Notify::new(),
            taken: Notify::new(),
        }
    }

    pub(super) fn add(&self, push: Push) {
        let mut state = self.state();
        state.arrivals += 1;
        let arrival = state.arrivals;
        state.pushes.add(arrival, push);
        drop(state);
        self.changed.notify_waiters();
    }

    pub(super) fn connected(&self, ends: Ends) {
        let mut state = self.state();
        state.connects += 1;
        state.ends = Some(ends);
        state.going_away = false;
    }

    /// The connection is gone, before anybody is told what that means for them.
    pub(super) fn disconnected(&self) {
        self.state().ends = None;
    }

    pub(super) fn goes_away(&self) {
        self.state().going_away = true;
    }

    pub(super) fn lost(&self, loss: ClientError) {
        let mut state = self.state();
        // The earliest that nobody was told of: what came after it was another connection's.
        let after = state.arrivals;
        state.loss.get_or_insert((after, loss));
        drop(state);
        self.changed.notify_waiters();
    }

    /// The first end that is told counts.
    pub(super) fn ended(&self, end: ClientError) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        state.ends = None;
        drop(state);
        self.changed.notify_waiters();
    }

    /// How the client has ended: if nobody has said so, its runtime is gone, and the driver with it.
    pub(super) fn end(&self) -> ClientError {
        self.state().end.clone().unwrap_or(ClientError::Over)
    }

    pub(super) fn connects(&self) -> u64 {
        self.state().connects
    }

    pub(super) fn ends(&self) -> Option<Ends> {
        self.state().ends
    }

    pub(super) fn is_going_away(&self) -> bool {
        self.state().going_away
    }

    pub(super) fn try_next(&self) -> Option<Push> {
        let push = self.state().pushes.take();
        self.taken.notify_one();
        push
    }

    /// How many pushes wait.
    pub(super) fn waiting(&self) -> usize {
        self.state().pushes.len()
    }

    /// Waits until a push was taken since the last time.
    pub(super) async fn taken(&self) {
        self.taken.notified().await;
    }

    /// Waits for the next push, the loss of the connection or the end.
    pub(super) async fn next(&self) -> Result<Push, ClientError> {
        loop {
            // Enabled before looking, so that nothing can happen unseen in between.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(outcome) = self.state().next() {
                self.taken.notify_one();
                return outcome;
            }
            changed.await;
        }
    }

    /// The state is whole after a panic, too: each method above leaves it so.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> Option<Result<Push, ClientError>> {
        let oldest = self.pushes.oldest().unwrap_or(u64::MAX);
        if let Some((_, loss)) = self.loss.take_if(|(after, _)| oldest > *after) {
            return Some(Err(loss));
        }
        let push = self.pushes.take().map(Ok);
        push.or_else(|| self.end.clone().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(code: u16) -> Push {
        Push {
            code,
            body: Vec::new(),
            lost_before: 0,
        }
    }

    fn next(inbox: &Inbox) -> Result<Push, ClientError> {
        inbox.state().next().expect("a push, a loss or the end")
    }

    /// The pushes of a second connection came before the loss of the first, which nobody was told.
    #[test]
    fn of_two_losses_the_first_is_told_where_it_happened() {
        let inbox = Inbox::new(10);
        inbox.add(push(1));
        inbox.lost(ClientError::Closed);
        inbox.add(push(2));
        inbox.lost(ClientError::NotTheProtocol("a checksum is wrong"));
        assert_eq!(next(&inbox).unwrap(), push(1));
        assert!(matches!(next(&inbox), Err(ClientError::Closed)));
        assert_eq!(next(&inbox).unwrap(), push(2));
        assert!(inbox.state().next().is_none());
    }
}
