//! What the rest of a program can have the shards do: push to connections and run functions on a
//! shard's state, through the same handle that stops the server.
//!
//! It is put into the shard's mailbox, which is bounded, and the shard is woken. Nobody waits for a
//! shard unless they ask for an answer.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::handle::ServerHandle;
use crate::handler::{Asker, ConnectionId, Outcome, PushError, Run, RunError, typed};
use crate::protocol::{HEADER_BYTES, encode};
use crate::shard::Message;
use crate::shard::run::Refused;

impl ServerHandle {
    /// Sends a frame to a connection, from any thread: see [`Local::push`](crate::Local::push). What
    /// one thread pushes to one connection arrives in the order of the pushing.
    ///
    /// At most 4,096 pushes, broadcasts and functions wait for a shard at once, with 16 MiB of
    /// frames.
    ///
    /// # Errors
    ///
    /// [`PushError`], and then nothing is sent.
    pub fn push(&self, to: ConnectionId, code: u16, body: &[u8]) -> Result<(), PushError> {
        let frame = self.encoded(code, body)?;
        let control = self.controls.get(to.shard()).ok_or(PushError::Gone)?;
        let bytes = frame.len();
        control.deliver(Message::Push { to, frame }, bytes)?;
        Ok(())
    }

    /// Sends a frame to every connection that is open when its turn comes, on every shard that has
    /// not ended.
    ///
    /// # Errors
    ///
    /// As [`ServerHandle::push`]; it goes to all of these shards or to none.
    pub fn broadcast(&self, code: u16, body: &[u8]) -> Result<(), PushError> {
        let frame = self.encoded(code, body)?;
        let mut rooms = Vec::with_capacity(self.controls.len());
        for control in self.controls.iter() {
            // Those taken so far are given back when they are dropped.
            rooms.push((control, control.take_room(frame.len())?));
        }
        let mut arrives = false;
        for (control, room) in rooms {
            let frame = frame.clone();
            arrives |= control
                .deliver_into(room, Message::Broadcast { frame })
                .is_ok();
        }
        if arrives {
            Ok(())
        } else {
            Err(PushError::Gone)
        }
    }

    /// Has a shard, counted from 0, run a function on its state, and gives back its answer to be
    /// waited for. It runs once, even if nobody waits. `S` is the type of the state: say it with the
    /// function's argument, `|state: &State| ...`.
    pub fn run_on<S, R>(
        &self,
        shard: usize,
        function: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Answered<R>
    where
        S: 'static,
        R: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let take = move |outcome| {
            // Who has stopped waiting does not want it.
            let _ = sender.send(outcome);
        };
        let run = Run::new(function, Asker::Outside(Box::new(take)));
        let delivered = match self.controls.get(shard) {
            Some(control) => control.deliver(Message::Run(run), 0),
            None => Err(Refused::Gone),
        };
        Answered {
            answer: delivered.map(|()| receiver).map_err(RunError::from),
            of: PhantomData,
        }
    }

    fn encoded(&self, code: u16, body: &[u8]) -> Result<Vec<u8>, PushError> {
        let body_bytes = body.len();
        let too_long = PushError::TooLong { body_bytes };
        if HEADER_BYTES + body_bytes > self.frame_bytes_max() {
            return Err(too_long);
        }
        let mut frame = Vec::with_capacity(HEADER_BYTES + body_bytes);
        encode(&mut frame, code, body).map_err(|_| too_long)?;
        Ok(frame)
    }
}

impl From<Refused> for PushError {
    fn from(refused: Refused) -> PushError {
        match refused {
            Refused::Full => PushError::Overloaded,
            Refused::Gone => PushError::Gone,
        }
    }
}

impl From<Refused> for RunError {
    fn from(refused: Refused) -> RunError {
        match refused {
            Refused::Full => RunError::Overloaded,
            Refused::Gone => RunError::Gone,
        }
    }
}

/// The answer of a function that runs on a shard: a future, for any executor, or to be waited for
/// with [`Answered::wait`]. The function runs whether anybody waits or not.
pub struct Answered<R> {
    answer: Result<oneshot::Receiver<Outcome>, RunError>,
    of: PhantomData<fn() -> R>,
}

impl<R: 'static> Answered<R> {
    /// Blocks this thread until the answer is there. Not for a thread that runs an executor: await
    /// it there.
    ///
    /// # Errors
    ///
    /// [`RunError`] says why there is none.
    pub fn wait(self) -> Result<R, RunError> {
        self.answer?
            .blocking_recv()
            .unwrap_or(Err(RunError::Gone))
            .and_then(typed)
    }
}

impl<R: 'static> Future for Answered<R> {
    type Output = Result<R, RunError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().answer {
            Ok(receiver) => Pin::new(receiver)
                .poll(context)
                .map(|received| received.unwrap_or(Err(RunError::Gone)).and_then(typed)),
            Err(error) => Poll::Ready(Err(*error)),
        }
    }
}

impl<R> fmt::Debug for Answered<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").finish_non_exhaustive()
    }
}
