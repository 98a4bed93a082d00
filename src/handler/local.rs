//! What a handler can do besides answering: push to any connection, and have functions run on any
//! shard.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

use super::call::Call;
use super::charge::Charge;
use super::context::ConnectionId;
use super::desk::Desk;
use super::errand::{Asker, Errand, PushError, Run, RunError};
use super::shared::Shared;
use crate::protocol::{HEADER_BYTES, encode};

/// One shard as its own handlers see it, and their way to the others.
///
/// The factory of [`Server::builder_with_state`](crate::Server::builder_with_state) gets it and puts
/// it into the state, where handlers, hooks and functions that run on the shard find it. It is cheap
/// to clone, and stays on its shard's thread.
///
/// Nothing here waits: what is asked for is done at the end of the shard's turn, and by other shards
/// when they get to it. What would be too much is refused with
/// [`PushError::Overloaded`] or [`RunError::Overloaded`], and counted. Answer it with
/// `error.into()`, which is ERROR OVERLOADED. At once may wait:
///
/// - 131,072 pushes, broadcasts and functions, with 16 MiB of frames;
/// - 16,384 of them for other shards (or one broadcast, if there are more shards), and none while
///   earlier ones have found no room in the queue to another shard;
/// - 16,384 calls that were not answered, whether anybody awaits that or not.
///
/// What one shard pushes to one connection arrives in the order of the pushing, broadcasts included.
/// Pushes and replies have no order among one another. What is pushed to a connection that is gone,
/// or ends, is dropped and counted by its shard; it never reaches another connection.
pub struct Local<S> {
    desk: Rc<Desk>,
    state: PhantomData<fn(&S)>,
}

impl<S> Clone for Local<S> {
    fn clone(&self) -> Self {
        Local {
            desk: Rc::clone(&self.desk),
            state: PhantomData,
        }
    }
}

impl<S> fmt::Debug for Local<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("shard", &self.shard())
            .finish_non_exhaustive()
    }
}

impl<S: 'static> Local<S> {
    pub(crate) fn new(desk: Rc<Desk>) -> Local<S> {
        Local {
            desk,
            state: PhantomData,
        }
    }

    /// Sends a frame to a connection, on whatever shard it is.
    ///
    /// # Errors
    ///
    /// [`PushError`], and then nothing is sent. `Ok` means that it is on its way: the connection may
    /// be gone when it gets there.
    pub fn push(&self, to: ConnectionId, code: u16, body: &[u8]) -> Result<(), PushError> {
        self.desk.check(to)?;
        let frame = self.encoded(code, body)?;
        self.desk.leave(Errand::Push { to, frame })
    }

    /// Waits until there is room again for pushes to connections of this shard, after one was refused
    /// with [`PushError::Overloaded`]. Others who wait may use it up first.
    pub(crate) async fn room(&self) {
        self.desk.room().await;
    }

    /// Encodes a frame for many receivers, once.
    ///
    /// # Errors
    ///
    /// [`PushError::TooLong`].
    pub fn share(&self, code: u16, body: &[u8]) -> Result<Shared, PushError> {
        let frame = self.encoded(code, body)?;
        Ok(Shared::new(frame, self.desk.shared_bytes()))
    }

    /// Sends a shared frame to a connection. On this shard a frame of more than 256 bytes is not copied
    /// (a shorter one is, which costs less than to share it); a connection of another one gets a copy, so for many of those, have a function there share the frame again.
    ///
    /// # Errors
    ///
    /// As [`Local::push`].
    pub fn push_shared(&self, to: ConnectionId, frame: &Shared) -> Result<(), PushError> {
        self.desk.check(to)?;
        let frame = frame.clone();
        self.desk.leave(Errand::PushShared { to, frame })
    }

    /// Sends a frame to every connection that is open when its turn comes, on every shard. It is
    /// encoded once, and each shard has one copy for all of its receivers.
    ///
    /// # Errors
    ///
    /// As [`Local::push`]; it goes to all shards or to none.
    pub fn broadcast(&self, code: u16, body: &[u8]) -> Result<(), PushError> {
        let frame = self.encoded(code, body)?;
        self.desk.leave(Errand::Broadcast { frame })
    }

    /// Has a shard, counted from 0, run a function on its state, and gives back a future of the
    /// answer. It runs once, even if nobody awaits that; on this very shard too, at the end of its
    /// turn.
    ///
    /// A panic in it is caught there, logged and counted. Whatever it captures and answers goes from
    /// thread to thread, so it is `Send`; the state stays where it is.
    pub fn run_on<R>(
        &self,
        shard: usize,
        function: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Call<R>
    where
        R: Send + 'static,
    {
        let Some(shard) = self.reachable(shard) else {
            return Call::refused(RunError::Gone);
        };
        if !self.desk.calls.has_room() {
            self.desk.count_refused();
            return Call::refused(RunError::Overloaded);
        }
        let number = self.desk.calls.begin(shard);
        let call = Call::waiting(Rc::clone(&self.desk), number);
        let run = Run::new(function, Asker::Call(self.desk.number, number));
        if self.desk.leave(Errand::Run { shard, run }).is_err() {
            self.desk.calls.cancel(number);
            return Call::refused(RunError::Overloaded);
        }
        call
    }

    /// Has a shard, counted from 0, run a function on its state, whose answer nobody waits for.
    ///
    /// # Errors
    ///
    /// [`RunError::Overloaded`] and [`RunError::Gone`]; then it does not run.
    pub fn tell(
        &self,
        shard: usize,
        function: impl FnOnce(&S) + Send + 'static,
    ) -> Result<(), RunError> {
        let shard = self.reachable(shard).ok_or(RunError::Gone)?;
        let run = Run::new(function, Asker::Nobody);
        self.desk
            .leave(Errand::Run { shard, run })
            .map_err(|_| RunError::Overloaded)
    }

    /// Charges this shard for memory that handlers keep in its state, as a part of
    /// `limits.memory_bytes` beside what the connections hold, until what is given back is dropped.
    /// Nothing if there is no room for that; answer ERROR OVERLOADED then.
    pub fn charge(&self, bytes: usize) -> Option<Charge> {
        self.desk.charge(bytes)
    }

    fn reachable(&self, shard: usize) -> Option<u16> {
        let shard = u16::try_from(shard).ok()?;
        (!self.desk.is_gone(shard)).then_some(shard)
    }

    fn encoded(&self, code: u16, body: &[u8]) -> Result<Vec<u8>, PushError> {
        let body_bytes = body.len();
        let too_long = PushError::TooLong { body_bytes };
        if HEADER_BYTES + body_bytes > self.desk.frame_bytes_max() {
            return Err(too_long);
        }
        let mut frame = Vec::with_capacity(HEADER_BYTES + body_bytes);
        encode(&mut frame, code, body).map_err(|_| too_long)?;
        Ok(frame)
    }
}

impl<S> Local<S> {
    /// The number of this shard, counted from 0.
    pub fn shard(&self) -> usize {
        usize::from(self.desk.number)
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        usize::from(self.desk.shards)
    }
}
