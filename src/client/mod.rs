//! Clients: one connection to a server, requests out, replies and pushes in.
//!
//! [`Client`] is blocking and needs no runtime. With the feature `tokio-client`, `AsyncClient` does
//! the same on tokio, for any number of concurrent requests. Both are drivers of one state machine,
//! which knows no socket and no clock.
//!
//! - A reply belongs to the oldest request without one: that is the protocol's promise. What the
//!   server sends on its own (EVENT, GOAWAY and the codes given to [`Options::push_code`]) is a
//!   [`Push`] and never taken for a reply.
//! - ERROR comes back as [`ClientError::Refused`], with reason, answered code and text.
//! - When the connection is lost, what was on its way fails with [`ClientError::Lost`]: it may have
//!   been carried out, so it is never sent again by itself. With [`Options::reconnect`] the next
//!   request goes over a new connection. Subscriptions are gone with the old one.
//! - With [`Options::heartbeat`] a PING goes out when nothing else has for so long. Its reply is
//!   never seen.
//! - Everything that the server can make a client hold has a limit: [`Options::pushes_waiting_max`]
//!   and [`Options::in_flight_max`].
//!
//! ```
//! use std::time::Duration;
//!
//! use corelane::client::{Backoff, Client, ClientError};
//! use corelane::protocol::messages::{Publish, Published};
//! use corelane::protocol::{Reason, codes};
//! use corelane::{Config, Reply, Server, apps};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::default();
//! config.server.listen = vec!["127.0.0.1:0".parse()?];
//! # config.shards.pin = false;
//! let server = Server::builder(config)
//!     .handler(codes::PING, apps::ping)
//!     .handler(codes::ECHO, apps::echo)
//!     .message_handler::<Publish, _>(|_state, context, publish| match publish.topic {
//!         "news" => context.reply_message(&Published { receivers: 1 }),
//!         other => Reply::error(Reason::Rejected, format!("nobody reads {other}")),
//!     })
//!     .start()?;
//!
//! let mut client = Client::options()
//!     .timeout(Duration::from_secs(5))
//!     .heartbeat(Duration::from_secs(20))
//!     .reconnect(Backoff::default())
//!     .connect(server.addresses()[0])?;
//!
//! // A request and its reply.
//! assert_eq!(client.request(codes::ECHO, b"hello")?.body, b"hello");
//!
//! // The same with declared messages.
//! let publish = Publish { topic: "news", payload: b"!" };
//! assert_eq!(client.call(&publish)?.message().receivers, 1);
//!
//! // The server says no.
//! let publish = Publish { topic: "olds", payload: b"!" };
//! match client.call(&publish) {
//!     Err(ClientError::Refused(refusal)) => {
//!         assert_eq!(refusal.reason(), Some(Reason::Rejected));
//!         assert_eq!(refusal.text, "nobody reads olds");
//!     }
//!     other => panic!("{other:?}"),
//! }
//!
//! // Several at once: the replies come in the order of the requests.
//! client.send(codes::ECHO, b"one")?;
//! client.send(codes::ECHO, b"two")?;
//! assert_eq!(client.reply()?.body, b"one");
//! assert_eq!(client.reply()?.body, b"two");
//!
//! client.close()?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "tokio-client")]
mod asynchronous;
mod backoff;
mod blocking;
mod connect;
mod dialogue;
mod error;
mod keeper;
mod link;
mod options;
mod pushes;
mod received;
mod unsent;

#[cfg(feature = "tokio-client")]
pub use asynchronous::AsyncClient;
pub use backoff::Backoff;
pub use blocking::Client;
pub use connect::Destination;
pub use error::{ClientError, Refusal};
pub use options::Options;
pub use received::{Answer, Push, Reply};
