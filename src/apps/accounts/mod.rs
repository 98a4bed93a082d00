//! Accounts: REGISTER makes one, LOGIN tells whether somebody has one. For any state.
//!
//! Passwords are hashed on threads of their own, which run when nothing else does, and are wiped
//! from memory before the reply is sent. An account is on disk before its reply is sent. A name has
//! 1 to 55 bytes and is compared as it is, byte by byte; a password has 1 to 39. An empty one does
//! not fit its message: BAD_BODY.
//!
//! ```no_run
//! use corelane::apps::accounts::Accounts;
//! use corelane::{Config, Server};
//!
//! let config = Config::default();
//! let mut server = Server::builder(config.clone());
//! // Nothing with accounts.store = "off".
//! if let Some(accounts) = Accounts::start(&config.accounts, &[])? {
//!     server = server.accounts(&accounts);
//! }
//! server.start()?.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clerk;
mod embedded;
mod figures;
mod hashing;
mod memory;
mod sessions;
mod stack;
mod store;
mod threads;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

pub use self::embedded::FileError;
pub use self::sessions::Sessions;
pub use self::store::{Account, Store, StoreError};
pub use self::threads::ThreadError;

use self::embedded::Embedded;
use self::memory::Memory;
use self::stack::without_trace;
use self::threads::{Outcome, Pool, Wish};
use crate::config::{self, AccountStore};
use crate::handler::{Reply, Request, Router};
use crate::protocol::messages::{LoggedIn, Login, Register, Registered};
use crate::protocol::{BodyError, Message, Reason, codes};

/// Accounts can't be had as they are configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountsError {
    /// The file of the embedded store is not as it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A hash thread did not start.
    #[error(transparent)]
    Thread(#[from] ThreadError),
}

/// The accounts of a server: a store, and the threads that hash for it. It can be cloned and sent
/// to other threads; the last to be dropped ends the threads.
#[derive(Clone)]
pub struct Accounts {
    pool: Arc<Pool>,
}

impl Accounts {
    /// The accounts that are configured, if any are. The file of an embedded store is looked at, and
    /// not changed.
    ///
    /// The hash threads run on these CPUs, if any are named:
    /// [`spare_cpus`](crate::process::worker::spare_cpus) has those that no shard is on.
    ///
    /// # Errors
    ///
    /// [`AccountsError`]; each is a sentence.
    pub fn start(
        config: &config::Accounts,
        cpus: &[usize],
    ) -> Result<Option<Accounts>, AccountsError> {
        let accounts = match config.store {
            AccountStore::Off => return Ok(None),
            AccountStore::Memory => Accounts::with_store(Memory::default(), config, cpus),
            AccountStore::Embedded => {
                Accounts::with_store(Embedded::at(&config.path)?, config, cpus)
            }
        };
        Ok(Some(accounts?))
    }

    /// Accounts in a store of your own.
    ///
    /// # Errors
    ///
    /// [`ThreadError`].
    pub fn with_store(
        store: impl Store,
        config: &config::Accounts,
        cpus: &[usize],
    ) -> Result<Accounts, ThreadError> {
        let store: Arc<dyn Store> = Arc::new(store);
        let pool = Pool::start(&store, (config.hash_threads, config.hash_queue), cpus)?;
        Ok(Accounts {
            pool: Arc::new(pool),
        })
    }

    /// Has REGISTER and LOGIN answered. Gives back which of the two had a handler already, which is
    /// then replaced.
    pub fn serve<S: 'static>(&self, router: &mut Router<S>) -> Option<u16> {
        let pool = Arc::clone(&self.pool);
        let log_in = move |_, request| log_in(Arc::clone(&pool), request);
        self.serve_with(router, log_in)
    }

    /// The same, and has it known in the state of a shard who is logged in on its connections; that
    /// ends with the connection.
    ///
    /// ```
    /// use corelane::Reply;
    /// use corelane::apps::accounts::{Accounts, Sessions};
    /// use corelane::handler::Router;
    ///
    /// struct State {
    ///     sessions: Sessions,
    /// }
    ///
    /// fn routes(accounts: &Accounts) -> Router<State> {
    ///     let mut router = Router::new();
    ///     accounts.serve_with_sessions(&mut router, |state: &State| &state.sessions);
    ///     router.handler(1000, |state: &State, context, _body| {
    ///         match state.sessions.require(context.connection()) {
    ///             Ok(name) => context.reply(name.as_bytes()),
    ///             Err(not_authenticated) => not_authenticated,
    ///         }
    ///     });
    ///     router
    /// }
    /// ```
    pub fn serve_with_sessions<S: 'static>(
        &self,
        router: &mut Router<S>,
        sessions: impl Fn(&S) -> &Sessions + Clone + Send + Sync + 'static,
    ) -> Option<u16> {
        let of_closed = sessions.clone();
        router.on_close(move |state, connection, _cause| of_closed(state).end(connection));
        let pool = Arc::clone(&self.pool);
        let log_in = move |state: Rc<S>, request: Request| {
            let (pool, sessions) = (Arc::clone(&pool), sessions.clone());
            let connection = request.connection();
            // Before there is a future the connection is open for sure: its end comes after it.
            sessions(&state).begin(connection);
            async move {
                let (reply, name) = log_in_as(pool, request).await;
                sessions(&state).settle(connection, name.as_deref());
                reply
            }
        };
        self.serve_with(router, log_in)
    }

    fn serve_with<S: 'static, Fut>(
        &self,
        router: &mut Router<S>,
        log_in: impl Fn(Rc<S>, Request) -> Fut + Send + Sync + 'static,
    ) -> Option<u16>
    where
        Fut: Future<Output = Reply> + 'static,
    {
        figures::show(router, &self.pool);
        for code in [codes::REGISTER, codes::LOGIN] {
            router.secret(code);
            router.patient(code);
        }
        let pool = Arc::clone(&self.pool);
        let register = move |_, request| register(Arc::clone(&pool), request);
        let were_free = [
            (
                codes::REGISTER,
                router.async_handler(codes::REGISTER, register),
            ),
            (codes::LOGIN, router.async_handler(codes::LOGIN, log_in)),
        ];
        let taken = were_free.into_iter().find(|(_, was_free)| !was_free);
        taken.map(|(code, _)| code)
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
}

async fn register(pool: Arc<Pool>, request: Request) -> Reply {
    let checked = without_trace(|| {
        let request = Register::decode(request.body())?;
        check(request.username, request.password.is_empty())?;
        Ok::<_, Unfit>((request.kind, request.username.to_owned()))
    });
    let (kind, username) = match checked {
        Ok(checked) => checked,
        Err(unfit) => return unfit.reply(),
    };
    let username = username.as_str();
    let outcome = ask(&pool, Wish::Register, request.into_body()).await;
    reply(outcome, "the name is taken", || Registered {
        kind,
        username,
        password: (),
    })
}

async fn log_in(pool: Arc<Pool>, request: Request) -> Reply {
    let (reply, _name) = log_in_as(pool, request).await;
    reply
}

/// Also the name, if it is the right one.
async fn log_in_as(pool: Arc<Pool>, request: Request) -> (Reply, Option<String>) {
    let checked = without_trace(|| {
        let request = Login::decode(request.body())?;
        check(request.username, request.password.is_empty())?;
        Ok::<_, Unfit>(request.username.to_owned())
    });
    let name = match checked {
        Ok(checked) => checked,
        Err(unfit) => return (unfit.reply(), None),
    };
    let username = name.as_str();
    let outcome = ask(&pool, Wish::LogIn, request.into_body()).await;
    let reply = reply(outcome, "the name is unknown or the password wrong", || {
        LoggedIn {
            username,
            password: (),
        }
    });
    (reply, (outcome == Outcome::Done).then_some(name))
}

/// A request that does not fit its message.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("a username has 1 to 55 bytes, not 0")]
    NoName,
    #[error("a password has 1 to 39 bytes, not 0")]
    NoPassword,
}

impl Unfit {
    fn reply(&self) -> Reply {
        Reply::error(Reason::BadBody, self.to_string())
    }
}

fn check(username: &str, has_no_password: bool) -> Result<(), Unfit> {
    match (username.is_empty(), has_no_password) {
        (true, _) => Err(Unfit::NoName),
        (false, true) => Err(Unfit::NoPassword),
        (false, false) => Ok(()),
    }
}

/// How it comes out; at once where the queue is full.
async fn ask(pool: &Pool, wish: Wish, body: Bytes) -> Outcome {
    match pool.ask(wish, body) {
        // A hash thread that ends has answered what it took.
        Some(outcome) => outcome.await.unwrap_or(Outcome::Failed),
        None => Outcome::Busy,
    }
}

fn reply<M: Message>(outcome: Outcome, no: &'static str, yes: impl FnOnce() -> M) -> Reply {
    match outcome {
        Outcome::Done => Reply::message(&yes()),
        Outcome::Rejected => Reply::error(Reason::Rejected, no),
        Outcome::Busy => Reply::error(
            Reason::Overloaded,
            "too many wait for accounts, try again later",
        ),
        Outcome::Failed => Reply::error(Reason::Internal, "the accounts can't be reached"),
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::handler::{ConnectionId, Handler};
    use crate::protocol::{HEADER_BYTES, Secret, encode_message};

    fn body_of<M: Message>(message: &M) -> Bytes {
        let mut frame = Vec::new();
        encode_message(&mut frame, message).unwrap();
        Bytes::from(frame.split_off(HEADER_BYTES))
    }

    fn login_of_alice(connection: ConnectionId) -> Request {
        Request {
            connection,
            code: codes::LOGIN,
            body: body_of(&Login {
                username: "alice",
                password: Secret::new("hers").unwrap(),
            }),
        }
    }

    /// LOGIN and the end of its connection met in one turn: the task was polled after both, made a
    /// place for the dead connection, and nobody removed it.
    #[test]
    fn a_connection_that_ends_before_its_login_is_polled_leaves_nothing() {
        let accounts =
            Accounts::with_store(Memory::default(), &config::Accounts::default(), &[]).unwrap();
        let mut router = Router::new();
        accounts.serve_with_sessions(&mut router, |sessions: &Sessions| sessions);
        let connection = ConnectionId {
            shard: 0,
            slot: 1,
            generation: 0,
        };
        let body = body_of(&Register {
            kind: 0,
            username: "alice",
            password: Secret::new("hers").unwrap(),
        });
        let registered = block_on(ask(&accounts.pool, Wish::Register, body));
        assert_eq!(registered, Outcome::Done);

        let sessions = Rc::new(Sessions::default());
        let Some(Handler::Async(log_in)) = router.get(codes::LOGIN) else {
            panic!("LOGIN has no asynchronous handler");
        };
        let answering = log_in(Rc::clone(&sessions), login_of_alice(connection));
        assert_eq!(sessions.len(), 1);
        sessions.end(connection);
        drop(block_on(answering));
        assert!(sessions.is_empty());

        drop(block_on(log_in(
            Rc::clone(&sessions),
            login_of_alice(connection),
        )));
        assert_eq!(sessions.name_of(connection).as_deref(), Some("alice"));
    }
}
