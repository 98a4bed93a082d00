//! Where a shard sleeps.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::io::{PollState, PollableFd};
use glommio::timer::Timer;

use crate::handler::{ConnectionId, Desk, HandlerOutcome};
use crate::sys::Wakeup;

/// Where a shard sleeps: on its eventfd, and on the handlers that finish, or leave errands,
/// meanwhile.
pub(super) struct Parking {
    wakeup: PollableFd<Wakeup>,
    /// The poll of the eventfd.
    poll: PollState,
    finished: Rc<Finished>,
    desk: Rc<Desk>,
}

impl Parking {
    pub(super) fn new(
        wakeup: Wakeup,
        finished: Rc<Finished>,
        desk: Rc<Desk>,
    ) -> io::Result<Parking> {
        // By the eventfd, since whoever leaves an errand may be a task that nobody looks after.
        let alarm = wakeup.clone();
        desk.set_alarm(move || alarm.wake());
        Ok(Parking {
            wakeup: PollableFd::new(wakeup).map_err(io::Error::from)?,
            poll: PollState::new(),
            finished,
            desk,
        })
    }

    pub(super) async fn park(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut timer = pin!(async {
            match timeout {
                Some(timeout) => {
                    Timer::new(timeout).await;
                }
                None => std::future::pending().await,
            }
        });
        let Parking {
            wakeup,
            poll,
            finished,
            desk,
        } = self;
        let woken = poll_fn(|cx| {
            if let Poll::Ready(readable) = wakeup.poll_readable(cx, poll) {
                return Poll::Ready(readable.map(|()| true));
            }
            if finished.any() || !desk.arm() || timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(false));
            }
            finished.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
        desk.disarm();
        let woken = woken.map_err(io::Error::from)?;
        if woken {
            wakeup.get_ref().clear();
        } else {
            // glommio keeps a waker of every poll until the eventfd is readable: begin anew.
            *poll = PollState::new();
        }
        Ok(())
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        self.desk.forget_waiting();
    }
}

/// The asynchronous handlers that have finished and were not reaped yet.
#[derive(Default)]
pub(super) struct Finished {
    outcomes: RefCell<Vec<(usize, ConnectionId, HandlerOutcome)>>,
    count: Cell<usize>,
    /// The parked shard.
    waker: RefCell<Option<Waker>>,
}

impl Finished {
    /// Whether there are any.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.count.get() > 0
    }

    /// All of them: their task, the connection that the reply is for, and what came out.
    pub(super) fn take(&self) -> Vec<(usize, ConnectionId, HandlerOutcome)> {
        self.count.set(0);
        self.outcomes.take()
    }

    pub(super) fn add(&self, task: usize, id: ConnectionId, outcome: HandlerOutcome) {
        self.outcomes.borrow_mut().push((task, id, outcome));
        self.count.set(self.count.get() + 1);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
