//! A thread-per-core, shared-nothing TCP message server for Linux.
//!
//! Each CPU core runs one *shard*: a listener, an io_uring, connections, buffers, handlers and
//! state of its own. On the way of a message no lock is taken and no other core's memory is
//! touched. Four guarantees hold on the wire:
//!
//! 1. Replies leave a connection in the order of its requests, whatever the handlers wait for.
//! 2. A frame is sent whole, or the connection is closed.
//! 3. What is meant for a connection that is gone never reaches another one.
//! 4. A client that shuts its sending side still gets every reply to what it had sent.
//!
//! # A complete small server
//!
//! It keeps a sum per shard, answers slowly on another code, and stops when it is told to.
//!
//! ```
//! use std::cell::Cell;
//! use std::time::Duration;
//!
//! use corelane::client::Client;
//! use corelane::config::Override;
//! use corelane::protocol::codes;
//! use corelane::{Config, Reply, Server, apps};
//!
//! const ADD: u16 = 1000;
//! const LATER: u16 = 1001;
//!
//! // Each shard makes a state of its own, on its own thread: no Send, no lock.
//! struct State {
//!     sum: Cell<u64>,
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let config = Config::load(
//!         None,
//!         &[
//!             Override::parse("server.listen=[\"127.0.0.1:0\"]")?,
//!             Override::parse("shards.count=1")?,
//! #           Override::parse("shards.pin=false")?,
//!         ],
//!     )?;
//!     let server = Server::builder_with_state(config, |_local| State { sum: Cell::new(0) })
//!         .handler(codes::PING, apps::ping)
//!         // Synchronous: borrows the body, writes its reply in place, allocates nothing.
//!         .handler(ADD, |state, context, body| {
//!             let Ok(number) = body.try_into().map(u64::from_be_bytes) else {
//!                 return Reply::error(corelane::protocol::Reason::BadBody, "eight bytes, please");
//!             };
//!             state.sum.set(state.sum.get().wrapping_add(number));
//!             context.reply(&state.sum.get().to_be_bytes())
//!         })
//!         // Asynchronous: owns the request; the next frames of its connection wait meanwhile.
//!         .async_handler(LATER, |_state, request| async move {
//!             corelane::glommio::timer::sleep(Duration::from_millis(1)).await;
//!             Reply::new(request.into_body())
//!         })
//!         .start()?;
//!
//!     let mut client = Client::connect(server.addresses()[0], Duration::from_secs(10))?;
//!     client.send(ADD, &40_u64.to_be_bytes())?;
//!     client.send(LATER, b"after a while")?;
//!     client.send(ADD, &2_u64.to_be_bytes())?;
//!     assert_eq!(client.receive()?.body, 40_u64.to_be_bytes());
//!     assert_eq!(client.receive()?.body, b"after a while");
//!     assert_eq!(client.receive()?.body, 42_u64.to_be_bytes());
//!
//!     server.handle().stop(); // from any thread
//!     let counters = server.wait()?;
//!     assert_eq!(counters[0].frames_received, 3);
//!     Ok(())
//! }
//! ```
//!
//! # A push to another connection
//!
//! The state's factory is given a [`Local`]: a handler's way to other connections and other shards.
//!
//! ```
//! use std::cell::Cell;
//!
//! use corelane::client::Client;
//! # use corelane::config::Override;
//! use corelane::{Config, ConnectionId, Local, Reply, Server, apps};
//!
//! struct State {
//!     local: Local<State>,
//!     guest: Cell<Option<ConnectionId>>,
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #   let config = Config::load(
//! #       None,
//! #       &[
//! #           Override::parse("server.listen=[\"127.0.0.1:0\"]")?,
//! #           Override::parse("shards.count=1")?,
//! #           Override::parse("shards.pin=false")?,
//! #       ],
//! #   )?;
//!     let state = |local| State { local, guest: Cell::new(None) };
//!     let server = Server::builder_with_state(config, state)
//!         .on_open(|state, id| state.guest.set(Some(id)))
//!         .handler(0, apps::ping)
//!         .handler(1000, |state, _context, body| match state.guest.get() {
//!             Some(id) => state.local.push(id, 2000, body).map_or_else(Reply::from, |()| Reply::none()),
//!             None => Reply::none(),
//!         })
//!         .start()?;
//!     let connect = || Client::options().push_code(2000).connect(server.addresses()[0]);
//!     let (mut first, mut latest) = (connect()?, connect()?);
//!     latest.request(0, b"")?; // It has come in when that is answered.
//!     first.tell(1000, b"for the latest guest")?; // No reply will come.
//!     assert_eq!(latest.push()?.body, b"for the latest guest");
//!     Ok(())
//! }
//! ```
//!
//! What belongs to which thread:
//!
//! | what | where | how it gets elsewhere |
//! |---|---|---|
//! | the state, `Local`, [`Shared`](handler::Shared) frames, asynchronous handlers | the shard's thread, on which the factory has made the state; neither is `Send` | not at all |
//! | handlers and hooks | one copy for all shards: `Send + Sync`, called with the shard's own state | |
//! | a pushed frame | moved to the connection's shard | a queue between two shards, bounded, without a lock |
//! | a function of [`Local::run_on`] and [`Local::tell`], and its answer | moved to the shard and back: `Send` | the same queues |
//! | [`ServerHandle`] | every thread | a bounded mailbox a shard |
//!
//! None of it waits for another shard, and what would be too much is refused at once. A function that
//! runs on a shard holds that shard's core, as a synchronous handler does: keep it short.
//!
//! # Where things are
//!
//! - [`Server`] builds, starts and stops a server; [`Config`] says how it is to run.
//! - [`Context`], [`Request`] and [`Reply`] are what handlers see; [`apps`] has some that ship.
//! - [`protocol`] is the wire, [`message!`] declares what a body holds; [`client`] has a blocking
//!   client, and one on tokio.
//! - [`admin`] shows a running server to people and programs over HTTP.
//! - [`doctor`] looks at the host and says what is wrong with it for a server.
//! - [`load`] drives a server and measures its latencies.
//! - [`shard`] is the event loop body over a seam to the world, for those who want to simulate a
//!   server with their own handlers.
//!
//! Asynchronous handlers run on [`glommio`], which is here again so that a program uses the same one.

pub mod admin;
pub mod apps;
pub mod client;
pub mod config;
pub mod doctor;
pub mod handler;
pub mod load;
pub mod metrics;
pub mod process;
pub mod protocol;
pub mod shard;
mod sys;

pub use glommio;

pub use config::Config;
pub use handler::{ConnectionId, Context, Local, PushError, Reply, Request, RunError};
pub use process::handle::{ReloadError, ServerHandle};
pub use process::outside::Answered;
pub use process::worker::{ServeError, Server, ServerBuilder, StartError};

/// The README's programs are tested like this crate's own examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
