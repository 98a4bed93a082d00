//! The threads that hash, and the queue in front of them.
//!
//! Shards put requests into the queue and never wait for it, nor for a lock that a hash thread
//! might hold: those run when nothing else does, and could hold one for long.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::clerk::{Clerk, Trouble};
use super::figures::{Figures, Timed};
use super::hashing::{HashError, Hasher};
use super::stack::without_trace;
use super::store::{Store, StoreError};
use crate::handler::panic::{caught, keep_reports};
use crate::protocol::messages::{Login, Register};
use crate::protocol::{BodyError, Message as _};
use crate::sys::background;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Register,
    LogIn,
}

/// How it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it was wished.
    Done,
    /// The name is taken, or name or password are wrong.
    Rejected,
    /// Not now.
    Busy,
    /// Not at all; it has been logged.
    Failed,
}

impl Outcome {
    /// Every one, in the order of their counters.
    pub(super) const ALL: [Outcome; 4] = [
        Outcome::Done,
        Outcome::Rejected,
        Outcome::Busy,
        Outcome::Failed,
    ];

    /// Its name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Rejected => "rejected",
            Outcome::Busy => "overloaded",
            Outcome::Failed => "failed",
        }
    }
}

/// A request on its way to a hash thread.
struct Job {
    wish: Wish,
    /// Wiped when it is dropped.
    body: Bytes,
    answer: oneshot::Sender<Outcome>,
}

/// Hash threads at work. Dropping it ends them, after what they have begun.
pub(super) struct Pool {
    /// `None` when it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    queue: Queue,
    threads: Vec<JoinHandle<()>>,
    figures: Arc<Figures>,
}

/// Requests that wait for hash threads, to be looked at; it keeps no thread at work.
#[derive(Clone)]
pub(super) struct Queue {
    jobs: mpsc::WeakSender<Job>,
    limit: usize,
}

impl Queue {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        let jobs = self.jobs.upgrade();
        jobs.map_or(0, |jobs| self.limit - jobs.capacity())
    }

    /// How many may wait.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }
}

/// Why there is no hash thread.
#[derive(Debug, thiserror::Error)]
#[error("accounts.hash_threads is {threads}, but thread {number} did not start: {reason}")]
pub struct ThreadError {
    threads: u32,
    number: u32,
    reason: String,
}

impl Pool {
    /// Starts so many threads, on these CPUs where any are named, with room for so many requests
    /// that wait for them.
    pub(super) fn start(
        store: &Arc<dyn Store>,
        (threads, queue): (u32, u32),
        cpus: &[usize],
    ) -> Result<Pool, ThreadError> {
        keep_reports();
        let (jobs, queued) = mpsc::channel(usize::try_from(queue).unwrap_or(usize::MAX));
        let queued = Arc::new(Mutex::new(queued));
        let mut pool = Pool {
            queue: Queue {
                jobs: jobs.downgrade(),
                limit: jobs.max_capacity(),
            },
            jobs: Some(jobs),
            threads: Vec::new(),
            figures: Arc::default(),
        };
        for number in 0..threads {
            let failed = |reason: String| ThreadError {
                threads,
                number,
                reason,
            };
            let clerk = clerk(store, &pool.figures).map_err(|error| failed(error.to_string()))?;
            let (queued, cpus) = (Arc::clone(&queued), cpus.to_vec());
            let figures = Arc::clone(&pool.figures);
            let thread = std::thread::Builder::new()
                .name(format!("hash-{number}"))
                .spawn(move || run(clerk, &queued, &figures, &cpus))
                .map_err(|error| failed(error.to_string()))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Queues a request; nothing if there is no room for it. The answer comes when the body has
    /// been wiped.
    pub(super) fn ask(&self, wish: Wish, body: Bytes) -> Option<oneshot::Receiver<Outcome>> {
        let (answer, outcome) = oneshot::channel();
        let job = Job { wish, body, answer };
        match self.jobs.as_ref()?.try_send(job) {
            Ok(()) => Some(outcome),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.figures.count(wish, Outcome::Busy);
                None
            }
        }
    }

    pub(super) fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    pub(super) fn queue(&self) -> Queue {
        self.queue.clone()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a hash thread has panicked");
            }
        }
    }
}

fn clerk(store: &Arc<dyn Store>, figures: &Figures) -> Result<Clerk<Timed>, HashError> {
    Clerk::new(Arc::clone(store), figures.timing(Hasher::new()?))
}

fn run(
    mut clerk: Clerk<Timed>,
    queued: &Mutex<mpsc::Receiver<Job>>,
    figures: &Figures,
    cpus: &[usize],
) {
    if let Err(error) = give_way(cpus) {
        tracing::warn!(%error, ?cpus, "a hash thread can't give way to the shards and may disturb them");
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    while let Some(job) = next(queued, &waker) {
        // After a stop, nobody waits any more.
        if !job.answer.is_closed() {
            work(&mut clerk, figures, job);
        }
    }
}

/// On CPUs of its own, a thread need not wait until nobody else wants them.
fn give_way(cpus: &[usize]) -> std::io::Result<()> {
    if cpus.is_empty() {
        background::step_back()
    } else {
        background::keep_to(cpus)?;
        background::be_nice()
    }
}

/// Waits for the next request; nothing when there will be none. The lock is among hash threads.
fn next(queued: &Mutex<mpsc::Receiver<Job>>, waker: &Waker) -> Option<Job> {
    let mut queued = queued.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match queued.poll_recv(&mut Context::from_waker(waker)) {
            Poll::Ready(job) => return job,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Wakes a thread without taking a lock.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn work(clerk: &mut Clerk<Timed>, figures: &Figures, job: Job) {
    let Job { wish, body, answer } = job;
    // A damaged file can make the store panic.
    let outcome = match caught(|| without_trace(|| carry_out(clerk, wish, &body))) {
        Ok(Ok(Ok(true))) => Outcome::Done,
        Ok(Ok(Ok(false))) => Outcome::Rejected,
        Ok(Ok(Err(Trouble::Store(StoreError::Busy)))) => Outcome::Busy,
        Ok(Ok(Err(error))) => failed(wish, &error),
        Ok(Err(error)) => failed(wish, &error),
        Err(panicked) => failed(wish, &panicked.message),
    };
    // Before anybody hears of it.
    drop(body);
    figures.count(wish, outcome);
    // After a stop, nobody does.
    let _ = answer.send(outcome);
}

fn carry_out(
    clerk: &mut Clerk<Timed>,
    wish: Wish,
    body: &[u8],
) -> Result<Result<bool, Trouble>, BodyError> {
    Ok(match wish {
        Wish::Register => {
            let request = Register::decode(body)?;
            let password = request.password.expose().as_bytes();
            clerk.register(request.kind, request.username, password)
        }
        Wish::LogIn => {
            let request = Login::decode(body)?;
            clerk.log_in(request.username, request.password.expose().as_bytes())
        }
    })
}

fn failed(wish: Wish, error: &dyn std::fmt::Display) -> Outcome {
    tracing::error!(?wish, %error, "an account could not be seen to");
    Outcome::Failed
}
