//! What a handler can have its shard do besides answering: errands, and why one is not taken.

use std::any::Any;
use std::fmt;
use std::mem;

use super::call::Outcome;
use super::context::ConnectionId;
use super::panic::{Panicked, caught, contain};
use super::reply::Reply;
use super::shared::Shared;
use crate::protocol::Reason;

/// A push or a broadcast was not taken. Nothing of it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// More waits to be done than may, or the other shards do not keep up. It may be tried again
    /// later.
    #[error("too much waits to be sent: try again later")]
    Overloaded,
    /// The body does not fit a frame of `limits.max_frame_bytes`.
    #[error("a body of {body_bytes} bytes does not fit a frame of limits.max_frame_bytes")]
    TooLong {
        /// How long it is, in bytes.
        body_bytes: usize,
    },
    /// The connection's shard has ended.
    #[error("that shard has ended")]
    Gone,
}

/// A function did not run, or gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// More waits to be done than may, or the other shards do not keep up. It did not run, and may
    /// be tried again later.
    #[error("too much waits to be done: try again later")]
    Overloaded,
    /// There is no such shard, or it has ended. If it ended just now, the function may have run.
    #[error("there is no such shard, or it has ended")]
    Gone,
    /// The function panicked, which was logged there.
    #[error("the function panicked")]
    Panicked,
    /// The function is for another type of state than the shards have. It did not run.
    #[error("the shards' state is of another type than the function's")]
    OtherState,
}

/// What could not be passed on is answered with ERROR OVERLOADED, so that the request may be sent
/// again later; a body that is too long is a failure of the handler.
impl From<PushError> for Reply {
    fn from(error: PushError) -> Reply {
        match error {
            PushError::TooLong { body_bytes } => Reply::too_long(body_bytes),
            PushError::Overloaded | PushError::Gone => {
                Reply::error(Reason::Overloaded, error.to_string())
            }
        }
    }
}

/// Where the function is known not to have run, the request may be sent again later; else the handler
/// failed.
impl From<RunError> for Reply {
    fn from(error: RunError) -> Reply {
        let reason = match error {
            RunError::Overloaded => Reason::Overloaded,
            // It may have run before its shard ended.
            RunError::Gone | RunError::Panicked | RunError::OtherState => Reason::Internal,
        };
        Reply::error(reason, error.to_string())
    }
}

/// Something that a handler wants done.
#[derive(Debug)]
pub(crate) enum Errand {
    /// A frame for one connection, of this shard or another.
    Push { to: ConnectionId, frame: Vec<u8> },
    /// The same, of a frame that others get as well.
    PushShared { to: ConnectionId, frame: Shared },
    /// A frame for every connection of every shard.
    Broadcast { frame: Vec<u8> },
    /// A function for a shard.
    Run { shard: u16, run: Run },
}

impl Errand {
    /// Bytes that it holds until it is done, shared ones apart.
    pub(super) fn own_bytes(&self) -> usize {
        match self {
            Errand::Push { frame, .. } | Errand::Broadcast { frame } => frame.len(),
            Errand::PushShared { .. } | Errand::Run { .. } => 0,
        }
    }

    pub(super) fn shared(&self) -> Option<&Shared> {
        match self {
            Errand::PushShared { frame, .. } => Some(frame),
            _ => None,
        }
    }

    /// How many messages to other shards it makes, among so many shards.
    pub(super) fn messages(&self, own: u16, shards: u16) -> usize {
        let is_other = match self {
            Errand::Push { to, .. } | Errand::PushShared { to, .. } => to.shard != own,
            Errand::Run { shard, .. } => *shard != own,
            Errand::Broadcast { .. } => return usize::from(shards) - 1,
        };
        usize::from(is_other)
    }
}

/// A function on its way to the shard that is to run it, and who wants its answer.
pub struct Run {
    /// `None` once it has begun.
    work: Option<Box<Work>>,
    asker: Asker,
}

type Work = dyn FnOnce(&dyn Any) -> Outcome + Send;

/// Who wants an answer.
pub(crate) enum Asker {
    Nobody,
    /// The call with this number, of this shard.
    Call(u16, u64),
    /// Somebody outside the shards. It must not block.
    Outside(Box<dyn FnOnce(Outcome) + Send>),
}

impl Run {
    pub(crate) fn new<S, R>(work: impl FnOnce(&S) -> R + Send + 'static, asker: Asker) -> Run
    where
        S: 'static,
        R: Send + 'static,
    {
        let work = move |state: &dyn Any| -> Outcome {
            match state.downcast_ref::<S>() {
                Some(state) => Ok(Box::new(work(state))),
                None => Err(RunError::OtherState),
            }
        };
        Run {
            work: Some(Box::new(work)),
            asker,
        }
    }

    /// Runs it on this state. Gives back who wants the outcome.
    pub(crate) fn run(mut self, state: &dyn Any) -> (Result<Outcome, Panicked>, Asker) {
        let work = self.work.take();
        let result = caught(|| work.map_or(Err(RunError::Gone), |work| work(state)));
        (result, self.asker())
    }

    pub(crate) fn asker(mut self) -> Asker {
        mem::replace(&mut self.asker, Asker::Nobody)
    }
}

/// What a function holds may panic when it is dropped, on a shard that is not to end by it.
impl Drop for Run {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            contain(|| drop(work));
        }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}

/// What came of a function, on its way back to the shard that wanted it to run.
pub struct Answer {
    call: u64,
    /// `None` once it was taken.
    outcome: Option<Outcome>,
}

impl Answer {
    pub(crate) fn new(call: u64, outcome: Outcome) -> Answer {
        Answer {
            call,
            outcome: Some(outcome),
        }
    }

    /// The call's number and its outcome.
    pub(crate) fn take(mut self) -> (u64, Outcome) {
        let outcome = self.outcome.take();
        (self.call, outcome.unwrap_or(Err(RunError::Gone)))
    }
}

/// What a function answered may panic when it is dropped, too.
impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            contain(|| drop(outcome));
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
