//! The state machine of both clients: which frame answers which request.
//!
//! Pure: bytes and times come in, bytes and answers go out. A frame is a push if its code says so;
//! every other one answers the oldest request without an answer, which is what the protocol
//! promises. So no frame is ever given to two, and none to the wrong one.
//!
//! Pushes that find no room are held back: nothing is decoded or read until some were taken, and TCP
//! holds the server back. So whoever keeps up loses none, however many come at once. They are dropped
//! and counted only where something has to be read that may be behind them: the answer to a request,
//! or, once it is overdue, to a heartbeat; room for the server, which takes nothing while it can't
//! get rid of what it sends; the end.
//!
//! Times are counted from any one moment on.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::error::{ClientError, Refusal};
use super::options::Options;
use super::pushes::Pushes;
use super::received::{Push, Reply};
use super::unsent::Unsent;
use crate::protocol::{Decoder, EncodeError, codes, encode};

mod incoming;
#[cfg(test)]
mod tests;

/// Names a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// A request that was sent, or is about to be, and has no answer yet.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    /// Somebody wants its answer.
    Request {
        ticket: Ticket,
        code: u16,
        sent_at: Duration,
    },
    /// Nobody does any more.
    Abandoned { code: u16, sent_at: Duration },
    /// A PING of this machine's own.
    Heartbeat { sent_at: Duration },
}

impl Waiting {
    fn code(self) -> u16 {
        match self {
            Waiting::Request { code, .. } | Waiting::Abandoned { code, .. } => code,
            Waiting::Heartbeat { .. } => codes::PING,
        }
    }
}

/// What a request came to. A reply may be an ERROR.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) ticket: Ticket,
    pub(super) outcome: Result<Reply, ClientError>,
    /// Counted in frames.
    arrival: u64,
}

/// One client's side of the conversation, over one connection after the other.
pub(super) struct Dialogue {
    decoder: Decoder,
    out: Unsent,
    waiting: VecDeque<Waiting>,
    answers: VecDeque<Answered>,
    pushes: Pushes,
    tickets: u64,
    arrivals: u64,
    /// Of this connection: whether anything came, and when something last did.
    heard: bool,
    heard_at: Duration,
    sent_at: Duration,
    going_away: bool,
    /// Whether the server was told that nothing more comes.
    is_ending: bool,
    /// The ERROR after which the server closes.
    farewell: Option<Refusal>,
    push_codes: BTreeSet<u16>,
    in_flight_max: usize,
    heartbeat: Option<Duration>,
    patience: Duration,
}

impl Dialogue {
    pub(super) fn new(options: &Options) -> Dialogue {
        Dialogue {
            decoder: Decoder::new(),
            out: Unsent::default(),
            waiting: VecDeque::new(),
            answers: VecDeque::new(),
            pushes: Pushes::new(options.pushes_waiting_max),
            tickets: 0,
            arrivals: 0,
            heard: false,
            heard_at: Duration::ZERO,
            sent_at: Duration::ZERO,
            going_away: false,
            is_ending: false,
            farewell: None,
            push_codes: options.push_codes.clone(),
            in_flight_max: options.in_flight_max,
            heartbeat: options.heartbeat,
            patience: options.timeout,
        }
    }

    /// A connection stands; nothing was said on it yet.
    pub(super) fn begin(&mut self, now: Duration) {
        (self.heard, self.heard_at, self.sent_at) = (false, now, now);
        (self.going_away, self.is_ending) = (false, false);
        self.farewell = None;
        self.pushes.has_held_back = false;
        self.pushes.set_drops(false);
    }

    /// The server was told that nothing more comes over this connection: no heartbeat, either.
    pub(super) fn end(&mut self) {
        self.is_ending = true;
    }

    /// The connection is lost: so are the requests that wait for an answer, and what was to be sent.
    pub(super) fn lose(&mut self, loss: &ClientError) {
        self.release();
        self.decoder.discard();
        self.out.wipe();
        for waiting in std::mem::take(&mut self.waiting) {
            if let Waiting::Request { ticket, .. } = waiting {
                self.answers.push_back(Answered {
                    ticket,
                    outcome: Err(loss.of_in_flight()),
                    arrival: self.arrivals,
                });
            }
        }
    }

    /// Puts a request among what is to be sent.
    pub(super) fn request(
        &mut self,
        code: u16,
        body: &[u8],
        now: Duration,
    ) -> Result<Ticket, ClientError> {
        self.request_with(code, now, |out| Ok(encode(out, code, body)?))
    }

    /// The same with a frame that `write` appends.
    pub(super) fn request_with(
        &mut self,
        code: u16,
        now: Duration,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<Ticket, ClientError> {
        if self.in_flight() >= self.in_flight_max {
            return Err(ClientError::TooManyInFlight {
                in_flight_max: self.in_flight_max,
            });
        }
        self.put(now, write)?;
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let sent_at = now;
        self.waiting.push_back(Waiting::Request {
            ticket,
            code,
            sent_at,
        });
        Ok(ticket)
    }

    /// Puts a frame that is not answered among what is to be sent.
    pub(super) fn put(
        &mut self,
        now: Duration,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), ClientError> {
        write(self.out.end())?;
        self.sent_at = now;
        Ok(())
    }

    /// The same with a frame that was encoded elsewhere.
    #[cfg(feature = "tokio-client")]
    pub(super) fn put_encoded(&mut self, frame: &[u8], now: Duration) {
        self.out.end().extend_from_slice(frame);
        self.sent_at = now;
    }

    /// From now until all is sent, the bytes that are to be sent are secret.
    pub(super) fn keep_secret(&mut self) {
        self.out.keep_secret();
    }

    /// Nobody wants the answer to this request any more: it is dropped when it comes.
    pub(super) fn abandon(&mut self, abandoned: Ticket) {
        self.answers.retain(|answer| answer.ticket != abandoned);
        for waiting in &mut self.waiting {
            match *waiting {
                Waiting::Request {
                    ticket,
                    code,
                    sent_at,
                } if ticket == abandoned => {
                    *waiting = Waiting::Abandoned { code, sent_at };
                }
                _ => {}
            }
        }
    }

    /// The bytes to send next.
    pub(super) fn unsent(&self) -> &[u8] {
        self.out.bytes()
    }

    /// So many of them are sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.out.sent(bytes);
    }

    /// When to call [`Dialogue::handle_timeout`], unless something else happens before.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let every = self.heartbeat.filter(|_| !self.is_ending)?;
        match self.waiting.front() {
            None => Some(self.sent_at + every),
            Some(Waiting::Heartbeat { sent_at }) => {
                Some(self.heard_at.max(*sent_at) + self.patience)
            }
            // A handler may take its time, but not much more than whoever waited for it. What was sent
            // behind it is no sign of the server's life.
            Some(Waiting::Abandoned { sent_at, .. }) => {
                Some(self.heard_at.max(*sent_at) + every + self.patience)
            }
            // The server does not take a client for idle that waits for it, and whoever asked knows
            // how long to wait.
            Some(Waiting::Request { .. }) => None,
        }
    }

    /// Puts a heartbeat among what is to be sent if it is time for one.
    ///
    /// # Errors
    ///
    /// [`ClientError::Silent`]: it is time for the answer to the last one.
    pub(super) fn handle_timeout(&mut self, now: Duration) -> Result<(), ClientError> {
        if self.next_timeout().is_none_or(|due| now < due) {
            return Ok(());
        }
        if !self.waiting.is_empty() && self.holds_back() {
            // Nobody has taken a push for that long, and the answer may be behind them.
            self.make_way();
            self.heard_at = now;
            return Ok(());
        }
        if !self.waiting.is_empty() {
            return Err(ClientError::Silent {
                timeout: self.patience,
            });
        }
        self.put(now, |out| Ok(encode(out, codes::PING, &[])?))?;
        self.waiting.push_back(Waiting::Heartbeat { sent_at: now });
        Ok(())
    }

    /// What the oldest answered request came to, of all or of one.
    pub(super) fn poll_answer(&mut self, of: Option<Ticket>) -> Option<Answered> {
        let wanted = |answer: &Answered| of.is_none_or(|ticket| answer.ticket == ticket);
        let at = self.answers.iter().position(wanted)?;
        self.answers.remove(at)
    }

    /// The oldest push.
    pub(super) fn poll_push(&mut self) -> Option<Push> {
        self.pushes.take()
    }

    /// The oldest frame, whatever it is. What no frame answers any more is left out.
    pub(super) fn poll_frame(&mut self) -> Option<Reply> {
        self.answers.retain(|answer| answer.outcome.is_ok());
        let pushed = self.pushes.oldest().unwrap_or(u64::MAX);
        match self.answers.front() {
            Some(answer) if answer.arrival < pushed => self.answers.pop_front()?.outcome.ok(),
            _ => {
                let Push { code, body, .. } = self.pushes.take()?;
                Some(Reply { code, body })
            }
        }
    }

    /// How many requests are without an answer that was taken.
    pub(super) fn in_flight(&self) -> usize {
        self.waiting.len() + self.answers.len()
    }

    /// Whether the answer to a request is to come, or has come and was not taken.
    pub(super) fn awaits_answer(&self) -> bool {
        let is_wanted = |waiting: &Waiting| matches!(waiting, Waiting::Request { .. });
        !self.answers.is_empty() || self.waiting.iter().any(is_wanted)
    }

    /// Whether the server owes an answer to anything but a heartbeat, wanted still or not.
    pub(super) fn is_owed(&self) -> bool {
        let is_beat = |waiting: &Waiting| matches!(waiting, Waiting::Heartbeat { .. });
        !self.waiting.iter().all(is_beat)
    }

    /// Whether requests were lost, and whoever sent them was not told.
    pub(super) fn has_untold_loss(&self) -> bool {
        self.answers.iter().any(|answer| answer.outcome.is_err())
    }

    /// Whether nothing is to be sent and no answer is to come.
    #[cfg(any(test, feature = "tokio-client"))]
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.unsent().is_empty()
    }

    /// Whether the server has said GOAWAY on this connection.
    pub(super) fn is_going_away(&self) -> bool {
        self.going_away
    }

    /// Whether a frame came over this connection.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }
}

/// Not the bytes: they may be secret.
impl std::fmt::Debug for Dialogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialogue")
            .field("waiting", &self.waiting)
            .field("unsent_bytes", &self.unsent().len())
            .finish_non_exhaustive()
    }
}
