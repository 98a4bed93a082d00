//! Several answers that somebody waits for together, and the sum of what they bring.
//!
//! Invariant: whoever waits is woken when the last answer has come, or the first failure.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::handler::RunError;

/// Answers that are awaited, by any number of tasks of one thread.
#[derive(Debug, Default)]
pub(super) struct Tally {
    awaited: Cell<usize>,
    sum: Cell<u32>,
    failed: Cell<Option<RunError>>,
    wakers: RefCell<Vec<Waker>>,
}

impl Tally {
    /// One more answer is to come.
    pub(super) fn expect(&self) {
        self.awaited.set(self.awaited.get() + 1);
    }

    /// An answer has come, with so many receivers.
    pub(super) fn add(&self, receivers: u32) {
        self.sum.set(self.sum.get().saturating_add(receivers));
        self.count_down();
    }

    /// An answer will not come.
    pub(super) fn fail(&self, error: RunError) {
        self.failed.set(Some(error));
        self.count_down();
    }

    /// Whether nothing is awaited any more.
    pub(super) fn is_done(&self) -> bool {
        self.awaited.get() == 0 || self.failed.get().is_some()
    }

    /// What all answers that came bring together.
    pub(super) fn sum(&self) -> u32 {
        self.sum.get()
    }

    fn count_down(&self) {
        self.awaited.set(self.awaited.get().saturating_sub(1));
        if self.is_done() {
            // Waking runs nothing of this thread's, so nobody adds to the list meanwhile.
            for waker in self.wakers.take() {
                waker.wake();
            }
        }
    }

    /// The sum of all answers, once they are there.
    pub(super) async fn wait(self: Rc<Self>) -> Result<u32, RunError> {
        let mut place = None;
        poll_fn(|context| self.poll(context, &mut place)).await
    }

    fn poll(
        &self,
        context: &Context<'_>,
        place: &mut Option<usize>,
    ) -> Poll<Result<u32, RunError>> {
        if let Some(error) = self.failed.get() {
            return Poll::Ready(Err(error));
        }
        if self.is_done() {
            return Poll::Ready(Ok(self.sum()));
        }
        let mut wakers = self.wakers.borrow_mut();
        let at = *place.get_or_insert(wakers.len());
        match wakers.get_mut(at) {
            Some(waker) => waker.clone_from(context.waker()),
            None => wakers.push(context.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[test]
    fn it_is_done_with_the_last_answer() {
        let tally = Rc::new(Tally::default());
        assert!(tally.is_done());
        tally.expect();
        tally.expect();
        let mut context = Context::from_waker(Waker::noop());
        let mut waiters: Vec<_> = (0..3).map(|_| Box::pin(Rc::clone(&tally).wait())).collect();
        for answer in [3, 4] {
            for _ in 0..2 {
                for waiter in &mut waiters {
                    assert!(waiter.as_mut().poll(&mut context).is_pending());
                }
            }
            assert_eq!(tally.wakers.borrow().len(), 3, "one for each who waits");
            tally.add(answer);
        }
        assert!(tally.wakers.borrow().is_empty());
        for mut waiter in waiters {
            assert_eq!(waiter.as_mut().poll(&mut context), Poll::Ready(Ok(7)));
        }
    }

    #[test]
    fn a_failure_ends_the_waiting() {
        let tally = Rc::new(Tally::default());
        tally.expect();
        tally.expect();
        tally.fail(RunError::Panicked);
        let mut context = Context::from_waker(Waker::noop());
        let polled = pin!(tally.wait()).poll(&mut context);
        assert_eq!(polled, Poll::Ready(Err(RunError::Panicked)));
    }
}
