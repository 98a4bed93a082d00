//! Handlers and the table that finds them by message code.
//!
//! A handler is synchronous or asynchronous. A **synchronous** one borrows the request's body and
//! writes its reply straight into the connection's outbound buffer: the fast path, which allocates
//! nothing. An **asynchronous** one owns the body and may await whatever its shard's executor
//! offers (timers, files, work offloaded to other threads); meanwhile the next frames of its
//! connection wait, and everybody else on the core goes on.
//!
//! Both get the state of their shard, which a factory makes on the shard's own thread: it needs
//! neither `Send` nor a lock. What they want of other connections and other shards they say to
//! [`Local`], which the factory gets for the state.
//!
//! Both come in a second kind, for messages that are declared with [`message!`](crate::message):
//! they get the message itself, and a body that is none is answered before it comes to them.
//!
//! Pure: this module knows bytes and futures, no socket, clock or executor.

mod call;
mod charge;
mod context;
mod desk;
mod errand;
mod local;
pub(crate) mod panic;
mod reply;
mod router;
mod shared;
mod task;
mod typed;

pub use call::Call;
pub(crate) use call::{Outcome, typed};
pub use charge::Charge;
pub(crate) use context::Exchange;
pub use context::{ConnectionId, Context, Request};
pub(crate) use desk::Desk;
pub use errand::{Answer, PushError, Run, RunError};
pub(crate) use errand::{Asker, Errand};
pub use local::Local;
pub(crate) use panic::{contain, take_contained};
pub(crate) use reply::Content;
pub use reply::Reply;
pub use router::Router;
pub(crate) use router::{Handler, SyncHandler, read_figures};
pub use shared::Shared;
pub use task::{HandlerOutcome, HandlerTask};
