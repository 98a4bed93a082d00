//! Runs asynchronous handlers; the seed decides when each of them goes on.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use corelane::handler::{ConnectionId, HandlerOutcome, HandlerTask};

use crate::random::Random;

/// The handlers at work.
#[derive(Debug, Default)]
pub(crate) struct Executor(Vec<Task>);

#[derive(Debug)]
struct Task {
    id: ConnectionId,
    handler: HandlerTask,
    woken: Arc<Woken>,
}

#[derive(Debug)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Executor {
    pub(crate) fn spawn(&mut self, id: ConnectionId, task: HandlerTask) {
        self.0.push(Task {
            id,
            handler: task,
            woken: Arc::new(Woken(AtomicBool::new(true))),
        });
    }

    /// Polls some of those that were woken. Gives out what finished.
    pub(crate) fn step(&mut self, random: &mut Random) -> Vec<(ConnectionId, HandlerOutcome)> {
        let mut finished = Vec::new();
        let mut at = 0;
        while let Some(task) = self.0.get_mut(at) {
            at += 1;
            if !task.woken.0.load(Ordering::Relaxed) || random.percent(40) {
                continue;
            }
            task.woken.0.store(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(&task.woken));
            let polled = Pin::new(&mut task.handler).poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(outcome) = polled {
                at -= 1;
                finished.push((self.0.remove(at).id, outcome));
            }
        }
        finished
    }

    /// Whether one of them could go on at once.
    pub(crate) fn is_busy(&self) -> bool {
        self.0
            .iter()
            .any(|task| task.woken.0.load(Ordering::Relaxed))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
