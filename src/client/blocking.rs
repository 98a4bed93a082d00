//! The blocking client.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::connect::Destination;
use super::dialogue::{Dialogue, Ticket};
use super::error::ClientError;
use super::keeper::{Keeper, lock};
use super::link::Link;
use super::options::Options;
use super::received::{Answer, Push, Reply};
use crate::protocol::{Message, Request, encode, encode_message};

/// A blocking client of one server.
///
/// [`request`](Client::request) and [`call`](Client::call) wait for their reply. To have several
/// requests under way, [`send`](Client::send) them and take the replies with
/// [`reply`](Client::reply), in the same order. [`receive`](Client::receive) gives out the frames as
/// they come, whatever they are.
pub struct Client {
    /// Shared with the keeper alone, which takes it for a moment now and then.
    link: Arc<Mutex<Link>>,
    /// Where heartbeats are wanted.
    _keeper: Option<Keeper>,
}

impl Options {
    /// Connects a blocking client. To make it again where that fails is the caller's affair; it
    /// reconnects once it was connected.
    ///
    /// # Errors
    ///
    /// [`ClientError::Resolve`], [`ClientError::Connect`]; [`ClientError::Broken`] if there is no
    /// thread for heartbeats.
    pub fn connect(self, server: impl Into<Destination>) -> Result<Client, ClientError> {
        let heartbeat = self.heartbeat;
        let link = Arc::new(Mutex::new(Link::open(server.into(), self)?));
        let keeper = heartbeat.map(|every| Keeper::start(Arc::clone(&link), every));
        Ok(Client {
            link,
            _keeper: keeper.transpose().map_err(ClientError::broken)?,
        })
    }
}

impl Client {
    /// How a client is to behave, for all that [`Client::connect`] leaves as it is.
    pub fn options() -> Options {
        Options::new()
    }

    /// Connects, with this time-out for everything and otherwise [`Options::new`].
    ///
    /// # Errors
    ///
    /// [`ClientError::Connect`].
    pub fn connect(address: SocketAddr, timeout: Duration) -> Result<Client, ClientError> {
        Client::options().timeout(timeout).connect(address)
    }

    /// Sends a request and waits for its reply. Replies to requests sent before stay where they are,
    /// for [`Client::reply`].
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if the reply is ERROR, [`ClientError::TimedOut`],
    /// [`ClientError::Lost`] if the connection was lost meanwhile. Nothing was sent with
    /// [`ClientError::BodyTooLong`], [`ClientError::TooManyInFlight`], or where there is no
    /// connection.
    pub fn request(&mut self, code: u16, body: &[u8]) -> Result<Reply, ClientError> {
        let mut link = self.link();
        link.ready()?;
        let now = link.now();
        let ticket = link.dialogue().request(code, body, now)?;
        answer_to(&mut link, ticket)
    }

    /// Sends a message and waits for the one that answers it.
    ///
    /// # Errors
    ///
    /// Those of [`Client::request`], [`ClientError::Message`] if the message can't be sent, and
    /// [`ClientError::OtherCode`] or [`ClientError::NotTheMessage`] if the reply is not the message
    /// that it should be.
    pub fn call<M: Request>(&mut self, message: &M) -> Result<Answer<M::Reply>, ClientError> {
        let mut link = self.link();
        let ticket = put(&mut link, message)?;
        Answer::check(answer_to(&mut link, ticket)?)
    }

    /// Sends a request without waiting for its reply.
    ///
    /// # Errors
    ///
    /// As [`Client::request`], but for the loss of the connection while it is sent: that is told by
    /// [`Client::reply`], once, and so is what the server may have said before. After
    /// [`ClientError::TimedOut`] it is on its way still: the rest of it goes out with what is sent
    /// next, and its reply comes.
    pub fn send(&mut self, code: u16, body: &[u8]) -> Result<(), ClientError> {
        let mut link = self.link();
        link.ready()?;
        let now = link.now();
        link.dialogue().request(code, body, now)?;
        send_out(&mut link)
    }

    /// Sends a message without waiting for its reply.
    ///
    /// # Errors
    ///
    /// As [`Client::send`], and [`ClientError::Message`].
    pub fn send_message<M: Message>(&mut self, message: &M) -> Result<(), ClientError> {
        let mut link = self.link();
        put(&mut link, message)?;
        send_out(&mut link)
    }

    /// Sends a frame that the server does not answer. Should it answer with ERROR all the same, that
    /// is a push, unless a request of the same code waits for its reply: so use codes of their own.
    ///
    /// # Errors
    ///
    /// As [`Client::send`], and how the connection was lost if that happened before all of it was
    /// sent. What is sent may be lost all the same, which nothing tells.
    pub fn tell(&mut self, code: u16, body: &[u8]) -> Result<(), ClientError> {
        let mut link = self.link();
        link.ready()?;
        let now = link.now();
        link.dialogue()
            .put(now, |out| Ok(encode(out, code, body)?))?;
        link.flush()
    }

    /// Waits for the reply to the oldest request that was sent.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if it is ERROR; [`ClientError::TimedOut`], and it may be waited for
    /// once more; [`ClientError::Lost`]; [`ClientError::NothingInFlight`].
    pub fn reply(&mut self) -> Result<Reply, ClientError> {
        let mut link = self.link();
        if !link.dialogue().awaits_answer() {
            return Err(ClientError::NothingInFlight);
        }
        let answered = link.wait(|dialogue| dialogue.poll_answer(None))?;
        answered.outcome?.unless_refused()
    }

    /// Waits for the next frame, whatever it is: a reply, an ERROR or a push, in the order of their
    /// arrival. Where the connection is lost, that is told once nothing is left.
    ///
    /// # Errors
    ///
    /// [`ClientError::TimedOut`], or how the connection was lost.
    pub fn receive(&mut self) -> Result<Reply, ClientError> {
        self.link().wait(Dialogue::poll_frame)
    }

    /// Waits for the next push.
    ///
    /// # Errors
    ///
    /// [`ClientError::TimedOut`], or how the connection was lost, once nothing is left. The next
    /// time, it is connected again, if that is wanted.
    pub fn push(&mut self) -> Result<Push, ClientError> {
        let mut link = self.link();
        if let Some(push) = link.dialogue().poll_push() {
            return Ok(push);
        }
        if !link.is_connected() {
            link.ready()?;
        }
        link.wait(Dialogue::poll_push)
    }

    /// The next push, if it has come already.
    pub fn try_push(&mut self) -> Option<Push> {
        let mut link = self.link();
        link.look();
        link.dialogue().poll_push()
    }

    /// Whether the server has said that it will close the connection (GOAWAY). A client that
    /// reconnects does so by itself, once nothing is in flight.
    pub fn is_going_away(&self) -> bool {
        self.link().dialogue().is_going_away()
    }

    /// How many times it has connected. When that changes, what the server knew of the connection is
    /// gone: who was logged in, what was subscribed to.
    pub fn connects(&self) -> u64 {
        self.link().connects()
    }

    /// The address of its connection at this side: the server's log names it by that, where nothing
    /// between them translates addresses. After a reconnect it is another one. There is none while
    /// there is no connection: from when a call has found its end.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.link().ends().map(|ends| ends.local)
    }

    /// The address of its connection at the server's side: of a name with several, the one that was
    /// connected to. There is none while [`Client::local_address`] is none.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.link().ends().map(|ends| ends.peer)
    }

    /// Says farewell: what was sent is carried out, its replies are waited for and dropped, and the
    /// server closes. Dropping a client closes without waiting.
    ///
    /// # Errors
    ///
    /// [`ClientError::TimedOut`] if the server did not close in time; [`ClientError::Lost`] if it
    /// closed with requests unanswered, and how the connection was lost if it was.
    pub fn close(self) -> Result<(), ClientError> {
        self.link().close()
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        lock(&self.link)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut link = self.link();
        f.debug_struct("Client")
            .field("connected", &link.is_connected())
            .field("in_flight", &link.dialogue().in_flight())
            .finish_non_exhaustive()
    }
}

/// Puts a message among what is to be sent.
fn put<M: Message>(link: &mut Link, message: &M) -> Result<Ticket, ClientError> {
    link.ready()?;
    let now = link.now();
    let dialogue = link.dialogue();
    if M::SECRET {
        dialogue.keep_secret();
    }
    dialogue.request_with(M::CODE, now, |out| encode_message(out, message))
}

/// Sends what is to be sent, up to a request whose reply is taken later.
fn send_out(link: &mut Link) -> Result<(), ClientError> {
    match link.flush() {
        Err(error @ ClientError::TimedOut { .. }) => Err(error),
        // A loss is the request's reply, unless the server has given one before it.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Waits for the answer to this request; nobody else will want it.
fn answer_to(link: &mut Link, ticket: Ticket) -> Result<Reply, ClientError> {
    match link.wait(|dialogue| dialogue.poll_answer(Some(ticket))) {
        Ok(answered) => answered.outcome?.unless_refused(),
        Err(error) => {
            link.dialogue().abandon(ticket);
            Err(error)
        }
    }
}
