//! Calls of functions on other shards, from the call to its answer.
//!
//! Invariant: a call has one outcome: the function's answer, or why there is none. It goes to
//! whoever waits for it, or is dropped where nobody does any more.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::desk::Desk;
use super::errand::RunError;
use super::panic::contain;

/// Calls of one shard that wait for their answers at once, awaited or not; a call beyond them is refused. Each can
/// make one message of its answer, so they also bound what a congested shard has to keep for others.
pub(super) const CALLS_MAX: usize = 16 * 1024;

/// What came of a function that ran on a shard: its value, which only its caller knows the type of.
pub(crate) type Outcome = Result<Box<dyn Any + Send>, RunError>;

/// The calls of one shard's handlers that were not answered, or whose answers were not taken. One
/// whose future was dropped stays until it is answered, since its answer is still to come.
#[derive(Default)]
pub(crate) struct Calls {
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, Waiting>>,
    /// Those that were not answered.
    unanswered: Cell<usize>,
}

struct Waiting {
    /// Where the function runs.
    shard: u16,
    waker: Option<Waker>,
    outcome: Option<Outcome>,
    /// Nobody waits for it any more.
    is_abandoned: bool,
}

/// What a function answered may panic when it is dropped, on the shard of whoever called.
impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            contain(|| drop(outcome));
        }
    }
}

impl Calls {
    /// Whether there is room for another one.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.borrow().len() < CALLS_MAX
    }

    /// Begins a call of this shard. Gives back its number.
    pub(super) fn begin(&self, shard: u16) -> u64 {
        let number = self.next.get();
        self.next.set(number + 1);
        self.unanswered.set(self.unanswered.get() + 1);
        let waiting = Waiting {
            shard,
            waker: None,
            outcome: None,
            is_abandoned: false,
        };
        self.waiting.borrow_mut().insert(number, waiting);
        number
    }

    /// How many wait for their answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.get()
    }

    /// A call has come to this, unless it had an outcome before. Where nobody waits for it any more,
    /// it is dropped.
    pub(crate) fn end(&self, number: u64, outcome: Outcome) {
        let mut waiting = self.waiting.borrow_mut();
        let call = waiting.get_mut(&number);
        let Some(call) = call.filter(|call| call.outcome.is_none()) else {
            // What the caller's type does as it is dropped may be another call.
            drop(waiting);
            return contain(|| drop(outcome));
        };
        self.unanswered.set(self.unanswered.get() - 1);
        if call.is_abandoned {
            waiting.remove(&number);
            drop(waiting);
            return contain(|| drop(outcome));
        }
        call.outcome = Some(outcome);
        let waker = call.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the calls of a shard that is gone.
    pub(crate) fn end_of(&self, shard: u16) {
        let of_gone: Vec<u64> = self
            .waiting
            .borrow()
            .iter()
            .filter(|(_, call)| call.outcome.is_none() && call.shard == shard)
            .map(|(number, _)| *number)
            .collect();
        for number in of_gone {
            self.end(number, Err(RunError::Gone));
        }
    }

    fn poll(&self, number: u64, waker: &Waker) -> Poll<Outcome> {
        let mut waiting = self.waiting.borrow_mut();
        let Some(call) = waiting.get_mut(&number) else {
            return Poll::Pending;
        };
        let Some(outcome) = call.outcome.take() else {
            let former = call.waker.replace(waker.clone());
            drop(waiting);
            // The last of a task drops that, and with it maybe other calls.
            drop(former);
            return Poll::Pending;
        };
        waiting.remove(&number);
        Poll::Ready(outcome)
    }

    /// A call has come to nothing before it was under way.
    pub(super) fn cancel(&self, number: u64) {
        if self.waiting.borrow_mut().remove(&number).is_some() {
            self.unanswered.set(self.unanswered.get() - 1);
        }
    }

    fn forget(&self, number: u64) {
        let mut waiting = self.waiting.borrow_mut();
        let Some(call) = waiting.get_mut(&number) else {
            return;
        };
        if call.outcome.is_none() {
            call.is_abandoned = true;
            let waker = call.waker.take();
            drop(waiting);
            return drop(waker);
        }
        let answered = waiting.remove(&number);
        // What it was answered may make another call as it is dropped.
        drop(waiting);
        drop(answered);
    }
}

/// The answer of a function that runs on a shard, to be awaited: see
/// [`Local::run_on`](super::Local::run_on). The function runs whether it is awaited or not.
#[must_use = "the answer comes to whoever awaits it; without one, use Local::tell"]
pub struct Call<R> {
    progress: Progress,
    answer: PhantomData<fn() -> R>,
}

enum Progress {
    Refused(RunError),
    Waiting(Rc<Desk>, u64),
    Done,
}

impl<R> Call<R> {
    pub(super) fn refused(error: RunError) -> Call<R> {
        Call {
            progress: Progress::Refused(error),
            answer: PhantomData,
        }
    }

    pub(super) fn waiting(desk: Rc<Desk>, number: u64) -> Call<R> {
        Call {
            progress: Progress::Waiting(desk, number),
            answer: PhantomData,
        }
    }
}

impl<R: 'static> Future for Call<R> {
    type Output = Result<R, RunError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let outcome = match &this.progress {
            Progress::Refused(error) => Err(*error),
            Progress::Waiting(desk, number) => match desk.calls.poll(*number, context.waker()) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => return Poll::Pending,
            },
            Progress::Done => return Poll::Pending,
        };
        this.progress = Progress::Done;
        Poll::Ready(outcome.and_then(typed))
    }
}

/// The answer, by the type that its call was made with.
pub(crate) fn typed<R: 'static>(answer: Box<dyn Any + Send>) -> Result<R, RunError> {
    match answer.downcast::<R>() {
        Ok(answer) => Ok(*answer),
        Err(_) => Err(RunError::OtherState),
    }
}

impl<R> Drop for Call<R> {
    fn drop(&mut self) {
        if let Progress::Waiting(desk, number) = &self.progress {
            desk.calls.forget(*number);
        }
    }
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
