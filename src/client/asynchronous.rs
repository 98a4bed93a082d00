//! The client on tokio: handles that any task can use, and one task that holds the connection.

mod connecting;
mod driver;
mod inbox;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use zeroize::Zeroize;

use super::connect::Destination;
use super::error::ClientError;
use super::options::Options;
use super::received::{Answer, Push, Reply};
use crate::protocol::{Request, encode, encode_message};
use driver::Driver;
use inbox::Inbox;

/// An asynchronous client of one server, on tokio: the feature `tokio-client`.
///
/// Clones share one connection. Any number of requests can be under way at once; they go out in the
/// order in which they were begun, and each gets the reply that is its own. What one clone reads of
/// the pushes, the others don't.
///
/// Unlike the blocking client it reconnects, if that is wanted, as soon as the connection is lost,
/// and goes on trying; requests wait for the new connection within their time-out. A request that is
/// dropped before its reply may have been sent.
///
/// ```
/// use corelane::client::{Backoff, Client};
/// use corelane::protocol::codes;
/// use corelane::protocol::messages::Ping;
/// # use corelane::{Config, Server, apps};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut config = Config::default();
/// # config.server.listen = vec!["127.0.0.1:0".parse()?];
/// # config.shards.pin = false;
/// # let server = Server::builder(config)
/// #     .handler(codes::PING, apps::ping)
/// #     .handler(codes::ECHO, apps::echo)
/// #     .start()?;
/// # let address = server.addresses()[0];
/// let options = Client::options().reconnect(Backoff::default());
/// let client = options.connect_async(address).await?;
/// // Three at once, over one connection.
/// let (one, two, three) = tokio::join!(
///     client.request(codes::ECHO, b"one"),
///     client.request(codes::ECHO, b"two"),
///     client.call(&Ping {}),
/// );
/// assert_eq!((one?.body, two?.body), (b"one".to_vec(), b"two".to_vec()));
/// assert_eq!(three?.message(), Ping {});
/// client.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AsyncClient {
    commands: mpsc::Sender<Command>,
    /// Tells the driver to break off, or by being dropped with the last handle to close: even while
    /// it takes no commands, since too much waits to be sent.
    break_off: mpsc::UnboundedSender<()>,
    inbox: Arc<Inbox>,
    options: Arc<Options>,
}

/// What the handles ask of the driver.
enum Command {
    Send(Outgoing),
    /// Close, and say so when it is done.
    Close(oneshot::Sender<Result<(), ClientError>>),
}

/// A frame to send.
struct Outgoing {
    code: u16,
    frame: Vec<u8>,
    is_secret: bool,
    /// Who waits for the reply, if there is to be one.
    asker: Option<oneshot::Sender<Result<Reply, ClientError>>>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if self.is_secret {
            self.frame.zeroize();
        }
    }
}

/// Commands that wait for the driver to take them into its own queue.
const COMMANDS_MAX: usize = 64;

impl Options {
    /// Connects an asynchronous client, on the runtime of the task that calls. To make it again where
    /// that fails is the caller's affair; it reconnects once it was connected.
    ///
    /// # Errors
    ///
    /// [`ClientError::Resolve`], [`ClientError::Connect`], [`ClientError::TimedOut`].
    pub async fn connect_async(
        self,
        server: impl Into<Destination>,
    ) -> Result<AsyncClient, ClientError> {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (break_off, breaks_off) = mpsc::unbounded_channel();
        let inbox = Arc::new(Inbox::new(self.pushes_waiting_max));
        let options = Arc::new(self);
        let mut driver = Driver::new(
            server.into(),
            Arc::clone(&options),
            receiver,
            breaks_off,
            Arc::clone(&inbox),
        );
        let stream = driver.connect().await?;
        tokio::spawn(driver.run(stream));
        Ok(AsyncClient {
            commands,
            break_off,
            inbox,
            options,
        })
    }
}

impl AsyncClient {
    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    ///
    /// As with [`Client::request`](super::Client::request). Where too many are in flight it waits,
    /// within the time-out.
    pub async fn request(&self, code: u16, body: &[u8]) -> Result<Reply, ClientError> {
        let mut frame = Vec::new();
        encode(&mut frame, code, body)?;
        self.ask(code, frame, false).await
    }

    /// Sends a message and waits for the one that answers it.
    ///
    /// # Errors
    ///
    /// As with [`Client::call`](super::Client::call).
    pub async fn call<M: Request>(&self, message: &M) -> Result<Answer<M::Reply>, ClientError> {
        let mut frame = Vec::new();
        encode_message(&mut frame, message)?;
        Answer::check(self.ask(M::CODE, frame, M::SECRET).await?)
    }

    /// Sends a frame that the server does not answer; see [`Client::tell`](super::Client::tell). It
    /// is on its way when this returns, not sent: what becomes of it is not told.
    ///
    /// # Errors
    ///
    /// [`ClientError::BodyTooLong`], [`ClientError::TimedOut`] if too much waits to be sent, or how
    /// the client has ended.
    pub async fn tell(&self, code: u16, body: &[u8]) -> Result<(), ClientError> {
        let mut frame = Vec::new();
        encode(&mut frame, code, body)?;
        let outgoing = Outgoing {
            code,
            frame,
            is_secret: false,
            asker: None,
        };
        self.in_time(self.hand_over(Command::Send(outgoing))).await
    }

    /// Waits for the next push, however long that takes; nothing is lost if it is dropped.
    ///
    /// # Errors
    ///
    /// How the connection was lost, once for each time, before the pushes of the next one: then the
    /// subscriptions are gone. For good, how the client has ended.
    pub async fn push(&self) -> Result<Push, ClientError> {
        self.inbox.next().await
    }

    /// The next push, if it has come already.
    pub fn try_push(&self) -> Option<Push> {
        self.inbox.try_next()
    }

    /// Whether the server has said that it will close the connection (GOAWAY). A client that
    /// reconnects finishes what is in flight and does so by itself.
    pub fn is_going_away(&self) -> bool {
        self.inbox.is_going_away()
    }

    /// How many times it has connected. When that changes, what the server knew of the connection is
    /// gone: who was logged in, what was subscribed to.
    pub fn connects(&self) -> u64 {
        self.inbox.connects()
    }

    /// The address of its connection at this side: the server's log names it by that, where nothing
    /// between them translates addresses. After a reconnect it is another one. There is none while
    /// there is no connection.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.inbox.ends().map(|ends| ends.local)
    }

    /// The address of its connection at the server's side: of a name with several, the one that was
    /// connected to. There is none while [`AsyncClient::local_address`] is none.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.inbox.ends().map(|ends| ends.peer)
    }

    /// Says farewell, for all clones: what was sent before is carried out and answered, and the
    /// server closes. Dropping the last clone does the same, without waiting.
    ///
    /// # Errors
    ///
    /// [`ClientError::TimedOut`] if that takes too long: the connection is then broken off. How the
    /// client has ended, if it has.
    pub async fn close(&self) -> Result<(), ClientError> {
        let (done, is_done) = oneshot::channel();
        let outcome = self.in_time(async {
            self.hand_over(Command::Close(done)).await?;
            is_done.await.unwrap_or_else(|_| Err(self.inbox.end()))
        });
        let outcome = outcome.await;
        if matches!(outcome, Err(ClientError::TimedOut { .. })) {
            // Where the driver has ended meanwhile, nothing is left to break off.
            let _ = self.break_off.send(());
        }
        outcome
    }

    async fn ask(&self, code: u16, frame: Vec<u8>, is_secret: bool) -> Result<Reply, ClientError> {
        let (asker, answer) = oneshot::channel();
        let outgoing = Outgoing {
            code,
            frame,
            is_secret,
            asker: Some(asker),
        };
        self.in_time(async {
            self.hand_over(Command::Send(outgoing)).await?;
            answer.await.unwrap_or_else(|_| Err(self.inbox.end()))
        })
        .await
    }

    async fn hand_over(&self, command: Command) -> Result<(), ClientError> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| self.inbox.end())
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let limit = self.options.timeout;
        let outcome = timeout(limit, work).await;
        outcome.unwrap_or(Err(ClientError::TimedOut { timeout: limit }))
    }
}

impl std::fmt::Debug for AsyncClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncClient")
            .field("options", &self.options)
            .field("connects", &self.connects())
            .finish_non_exhaustive()
    }
}
