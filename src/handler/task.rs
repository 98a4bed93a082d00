//! An asynchronous handler at work, from its start to its outcome.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::panic::{Panicked, caught};
use super::reply::Reply;
use super::router::HandlerFuture;

/// An asynchronous handler at work: a future for whatever executor the shard runs on.
pub struct HandlerTask {
    code: u16,
    /// `None` once it has finished: whatever a panicked future still owns is dropped at once.
    future: Option<HandlerFuture>,
}

/// What came out of an asynchronous handler.
#[derive(Debug)]
pub struct HandlerOutcome {
    pub(crate) code: u16,
    pub(crate) result: Result<Reply, Panicked>,
}

impl HandlerTask {
    /// The message code that it answers.
    pub fn code(&self) -> u16 {
        self.code
    }

    pub(crate) fn new(code: u16, future: HandlerFuture) -> HandlerTask {
        HandlerTask {
            code,
            future: Some(future),
        }
    }
}

impl HandlerOutcome {
    /// The outcome of a handler that could not be run.
    pub(crate) fn failed(code: u16, message: String) -> HandlerOutcome {
        HandlerOutcome {
            code,
            result: Err(Panicked {
                message,
                backtrace: String::new(),
            }),
        }
    }
}

/// Whatever the handler still owns may panic when it is dropped, too.
impl Drop for HandlerTask {
    fn drop(&mut self) {
        if let Err(panicked) = caught(|| self.future = None) {
            tracing::error!(
                code = self.code,
                panic = panicked.message,
                "a handler panicked as it was dropped"
            );
        }
    }
}

impl Future for HandlerTask {
    type Output = HandlerOutcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HandlerOutcome> {
        let this = self.get_mut();
        let Some(future) = &mut this.future else {
            return Poll::Pending;
        };
        let outcome = match caught(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(reply)) => Ok(reply),
            Err(panicked) => Err(panicked),
        };
        let dropped = caught(|| this.future = None);
        Poll::Ready(HandlerOutcome {
            code: this.code,
            result: outcome.and_then(|reply| dropped.map(|()| reply)),
        })
    }
}

impl fmt::Debug for HandlerTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerTask")
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::handler::panic::keep_reports;

    fn panic_of(future: HandlerFuture) -> Panicked {
        keep_reports();
        let mut task = HandlerTask::new(7, future);
        match Pin::new(&mut task).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(HandlerOutcome { code: 7, result }) => result.unwrap_err(),
            other => panic!("the future was to panic: {other:?}"),
        }
    }

    #[test]
    fn a_panicking_future_is_caught() {
        let panicked = panic_of(Box::pin(async { panic!("in poll") }));
        assert!(panicked.message.starts_with("in poll"));
    }

    #[test]
    fn a_future_that_panics_when_dropped_is_caught() {
        struct PanicsOnDrop;
        impl Drop for PanicsOnDrop {
            fn drop(&mut self) {
                assert!(std::thread::panicking(), "in drop");
            }
        }
        let held = PanicsOnDrop;
        let panicked = panic_of(Box::pin(std::future::poll_fn(move |_| {
            let _ = &held;
            Poll::Ready(Reply::none())
        })));
        assert!(panicked.message.starts_with("in drop"));
    }
}
