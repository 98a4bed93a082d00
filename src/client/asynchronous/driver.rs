//! The task that holds an asynchronous client's connection and drives its dialogue.
//!
//! Invariant: every request that was handed over is answered once, or its asker has given up; what
//! has gone out over a connection never goes out over another one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::backoff::Backoff;
use super::super::connect::{Destination, random, unless_blocked};
use super::super::dialogue::{Dialogue, Ticket};
use super::super::error::ClientError;
use super::super::options::Options;
use super::super::received::Reply;
use super::connecting::connect;
use super::inbox::Inbox;
use super::{Command, Outgoing};
use closing::Closing;

mod closing;

type Asker = oneshot::Sender<Result<Reply, ClientError>>;

pub(super) struct Driver {
    server: Destination,
    options: Arc<Options>,
    dialogue: Dialogue,
    commands: mpsc::Receiver<Command>,
    breaks_off: mpsc::UnboundedReceiver<()>,
    inbox: Arc<Inbox>,
    /// Frames that no connection has taken yet; at most `in_flight_max`, and at the end
    /// what waited to be taken.
    queued: VecDeque<Outgoing>,
    askers: HashMap<Ticket, Asker>,
    closing: Option<Closing>,
    /// Until when to wait for the end of a connection that drains, once it was told farewell.
    leaves_by: Option<Instant>,
    failed: u32,
    started: Instant,
    /// When to look for askers that have given up.
    sweep_at: Instant,
    buffer: Box<[u8]>,
}

/// Read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// Frames are taken from the queue while less than this waits to be sent, in bytes.
const UNSENT_BYTES_HIGH: usize = 256 * 1024;

impl Driver {
    pub(super) fn new(
        server: Destination,
        options: Arc<Options>,
        commands: mpsc::Receiver<Command>,
        breaks_off: mpsc::UnboundedReceiver<()>,
        inbox: Arc<Inbox>,
    ) -> Driver {
        let started = Instant::now();
        Driver {
            server,
            dialogue: Dialogue::new(&options),
            sweep_at: started + options.timeout,
            options,
            commands,
            breaks_off,
            inbox,
            queued: VecDeque::new(),
            askers: HashMap::new(),
            closing: None,
            leaves_by: None,
            failed: 0,
            started,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Connects, in one attempt.
    pub(super) async fn connect(&mut self) -> Result<TcpStream, ClientError> {
        // Until the server has said something, it counts as one that failed.
        self.failed = self.failed.saturating_add(1);
        let limit = self.options.timeout;
        let (stream, ends) = timeout(limit, connect(&self.server, limit))
            .await
            .unwrap_or(Err(ClientError::TimedOut { timeout: limit }))?;
        self.dialogue.begin(self.started.elapsed());
        self.inbox.connected(ends);
        Ok(stream)
    }

    /// Goes on until the client is closed, or its connection is lost for good.
    pub(super) async fn run(mut self, mut stream: TcpStream) {
        let end = loop {
            let loss = self.converse(&stream).await;
            drop(stream);
            self.inbox.disconnected();
            self.dialogue.lose(&loss);
            self.deliver();
            self.leaves_by = None;
            if let Some(closing) = &self.closing {
                let end = closing.end(loss);
                if !self.goes_back() {
                    break end;
                }
                self.inbox.lost(end);
                match self.connect().await {
                    Ok(another) => stream = another,
                    Err(error) => break error,
                }
                continue;
            }
            let Some(backoff) = self.options.reconnect else {
                break loss;
            };
            self.inbox.lost(loss);
            match self.reconnect(backoff).await {
                Some(another) => stream = another,
                None => break ClientError::Over,
            }
        };
        self.finish(&end).await;
    }

    /// Talks over one connection until it is lost, or left.
    async fn converse(&mut self, stream: &TcpStream) -> ClientError {
        loop {
            self.admit();
            self.deliver();
            let outcome = match self.say_farewell(stream) {
                Ok(()) => self.turn(stream).await,
                Err(error) => Err(ClientError::broken(error)),
            };
            if let Err(loss) = outcome {
                return loss;
            }
        }
    }

    /// Waits for the next thing to happen, and does what it asks for.
    async fn turn(&mut self, stream: &TcpStream) -> Result<(), ClientError> {
        self.dialogue.count_pushes_elsewhere(self.inbox.waiting());
        if self.dialogue.can_go_on() {
            return self.dialogue.handle_bytes(&[], self.started.elapsed());
        }
        let mut interest = Interest::READABLE;
        let has_unsent = !self.dialogue.unsent().is_empty();
        if has_unsent {
            interest |= Interest::WRITABLE;
        }
        let holds_back = self.dialogue.holds_back();
        let timer = self.dialogue.next_timeout().map(|due| self.started + due);
        let deadline = self.closing.as_ref().map(|closing| closing.deadline);
        let wakes = [timer, deadline, self.leaves_by, Some(self.sweep_at)];
        let wakes_at = wakes.into_iter().flatten().min().unwrap_or(self.sweep_at);
        tokio::select! {
            command = self.commands.recv(), if self.takes_commands() => self.take(command),
            broken = self.breaks_off.recv(), if self.closing.is_none() => self.break_off(broken),
            () = self.inbox.taken(), if holds_back => {}
            ready = stream.ready(interest), if has_unsent || !holds_back => {
                self.transfer(stream, ready.map_err(ClientError::broken)?)?;
            }
            () = sleep_until(wakes_at) => self.wake()?,
        }
        Ok(())
    }

    fn transfer(&mut self, stream: &TcpStream, ready: Ready) -> Result<(), ClientError> {
        if !self.dialogue.unsent().is_empty() && !ready.is_writable() {
            // The server may take nothing before it gets rid of what it sends.
            self.dialogue.make_way();
        }
        // First, since a server that closes may have said why, and to send would then fail.
        let is_readable = ready.is_readable() || ready.is_read_closed() || ready.is_error();
        if is_readable && !self.dialogue.holds_back() {
            match unless_blocked(stream.try_read(&mut self.buffer))? {
                Some(0) => return Err(self.dialogue.handle_end()),
                Some(bytes) => {
                    let now = self.started.elapsed();
                    self.dialogue.handle_bytes(&self.buffer[..bytes], now)?;
                }
                None => {}
            }
            if self.dialogue.has_heard() {
                self.failed = 0;
            }
        }
        if ready.is_writable() && !self.dialogue.unsent().is_empty() {
            let sent = unless_blocked(stream.try_write(self.dialogue.unsent()))?;
            self.dialogue.sent(sent.unwrap_or(0));
        }
        Ok(())
    }

    fn wake(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        let deadline = self.closing.as_ref().map(|closing| closing.deadline);
        if [deadline, self.leaves_by]
            .into_iter()
            .flatten()
            .any(|at| at <= now)
        {
            let timeout = self.options.timeout;
            return Err(ClientError::TimedOut { timeout });
        }
        if self.sweep_at <= now {
            self.sweep();
        }
        self.dialogue.handle_timeout(self.started.elapsed())
    }

    /// Forgets the askers that have given up.
    fn sweep(&mut self) {
        self.sweep_at = Instant::now() + self.options.timeout;
        let dialogue = &mut self.dialogue;
        self.askers.retain(|ticket, asker| {
            if asker.is_closed() {
                dialogue.abandon(*ticket);
            }
            !asker.is_closed()
        });
        let has_asker = |asker: &Asker| !asker.is_closed();
        self.queued
            .retain(|outgoing| outgoing.asker.as_ref().is_none_or(has_asker));
    }

    fn takes_commands(&self) -> bool {
        self.closing.is_none() && self.queued.len() < self.options.in_flight_max
    }

    fn take(&mut self, command: Option<Command>) {
        let told = match command {
            Some(Command::Send(outgoing)) => return self.queued.push_back(outgoing),
            Some(Command::Close(told)) => vec![told],
            None => Vec::new(),
        };
        self.closing = Some(Closing::until(Instant::now() + self.options.timeout, told));
    }

    /// Whether new requests wait for another connection, since this one drains.
    fn holds_back(&self) -> bool {
        let leaves = self.options.reconnect.is_some() && self.closing.is_none();
        self.leaves_by.is_some() || leaves && self.dialogue.is_going_away()
    }

    /// Gives frames that wait to the dialogue, as many as may be in flight.
    fn admit(&mut self) {
        while !self.holds_back()
            && self.dialogue.in_flight() < self.options.in_flight_max
            && self.dialogue.unsent().len() < UNSENT_BYTES_HIGH
            && let Some(mut outgoing) = self.queued.pop_front()
        {
            self.put(&mut outgoing);
        }
    }

    fn put(&mut self, outgoing: &mut Outgoing) {
        let now = self.started.elapsed();
        if outgoing.is_secret {
            self.dialogue.keep_secret();
        }
        let frame = |out: &mut Vec<u8>| {
            out.extend_from_slice(&outgoing.frame);
            Ok(())
        };
        match outgoing.asker.take() {
            Some(asker) if asker.is_closed() => {}
            Some(asker) => match self.dialogue.request_with(outgoing.code, now, frame) {
                Ok(ticket) => drop(self.askers.insert(ticket, asker)),
                Err(error) => answer(asker, Err(error)),
            },
            None => self.dialogue.put_encoded(&outgoing.frame, now),
        }
    }

    /// Hands out what has come.
    fn deliver(&mut self) {
        while let Some(answered) = self.dialogue.poll_answer(None) {
            if let Some(asker) = self.askers.remove(&answered.ticket) {
                answer(asker, answered.outcome.and_then(Reply::unless_refused));
            }
        }
        if self.dialogue.is_going_away() {
            self.inbox.goes_away();
        }
        while let Some(push) = self.dialogue.poll_push() {
            self.inbox.add(push);
        }
    }

    /// Tries until there is a connection; gives back none if nobody wants one any more. Those who
    /// wait are told when so many attempts have failed in a row.
    async fn reconnect(&mut self, backoff: Backoff) -> Option<TcpStream> {
        for attempt in 1_u64.. {
            self.pause(backoff.pause(self.failed, random())).await;
            if self.closing.is_some() {
                return None;
            }
            match self.connect().await {
                Ok(stream) => return Some(stream),
                Err(error) if attempt.is_multiple_of(u64::from(backoff.attempts_max.max(1))) => {
                    self.refuse_queued(&error);
                }
                Err(_) => {}
            }
        }
        None
    }

    /// Waits so long, and takes commands meanwhile.
    async fn pause(&mut self, pause: Duration) {
        let mut over = std::pin::pin!(sleep(pause));
        loop {
            tokio::select! {
                () = &mut over => return,
                command = self.commands.recv(), if self.takes_commands() => {
                    self.take(command);
                }
                broken = self.breaks_off.recv() => self.break_off(broken),
            }
            if self.closing.is_some() {
                return;
            }
        }
    }

    fn refuse_queued(&mut self, error: &ClientError) {
        for mut outgoing in std::mem::take(&mut self.queued) {
            if let Some(asker) = outgoing.asker.take() {
                answer(asker, Err(error.clone()));
            }
        }
    }
}

/// Also where its runtime is shut down: whoever waits for a push would wait for ever.
impl Drop for Driver {
    fn drop(&mut self) {
        self.inbox.ended(ClientError::Over);
    }
}

/// An asker that has given up does not want to know.
fn answer(asker: Asker, outcome: Result<Reply, ClientError>) {
    let _ = asker.send(outcome);
}
