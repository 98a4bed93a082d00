//! The blocking driver of a dialogue: a socket that does not block, and `poll` to wait for it.
//!
//! Invariant: whenever a method returns, either the connection stands or the dialogue knows that it
//! is lost.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connect::{Destination, Ends, connect, random, unless_blocked};
use super::dialogue::Dialogue;
use super::error::ClientError;
use super::options::Options;

/// One client's connection, or the lack of it.
pub(super) struct Link {
    server: Destination,
    options: Options,
    dialogue: Dialogue,
    stream: Option<TcpStream>,
    /// Of the latest connection.
    ends: Option<Ends>,
    /// Why there is no connection.
    loss: ClientError,
    /// Whether the server owed an answer when the connection was lost.
    was_owed: bool,
    connects: u64,
    failed: u32,
    started: Instant,
    buffer: Box<[u8]>,
}

/// Read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

impl Link {
    /// Connects, in one attempt.
    pub(super) fn open(server: Destination, options: Options) -> Result<Link, ClientError> {
        let mut link = Link {
            dialogue: Dialogue::new(&options),
            server,
            options,
            stream: None,
            ends: None,
            loss: ClientError::Closed,
            was_owed: false,
            connects: 0,
            failed: 0,
            started: Instant::now(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        };
        link.connect()?;
        Ok(link)
    }

    pub(super) fn dialogue(&mut self) -> &mut Dialogue {
        &mut self.dialogue
    }

    /// How many connections there were.
    pub(super) fn connects(&self) -> u64 {
        self.connects
    }

    /// The addresses of the connection, as long as there is one.
    pub(super) fn ends(&self) -> Option<Ends> {
        self.ends.filter(|_| self.is_connected())
    }

    pub(super) fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// The time as the dialogue counts it.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Sees to it that there is a connection to send something over.
    pub(super) fn ready(&mut self) -> Result<(), ClientError> {
        // What has come meanwhile may be the end of it.
        self.look();
        let reconnects = self.options.reconnect.is_some();
        if reconnects && self.dialogue.is_going_away() && self.dialogue.in_flight() == 0 {
            // Nothing is lost with it, and nobody waits for its end but the next request.
            if let Err(loss) = self.close() {
                self.lose(loss);
            }
        }
        if self.is_connected() {
            return Ok(());
        }
        self.reconnect()
    }

    fn reconnect(&mut self) -> Result<(), ClientError> {
        let Some(backoff) = self.options.reconnect else {
            return Err(self.loss.clone());
        };
        for attempt in 1.. {
            std::thread::sleep(backoff.pause(self.failed, random()));
            match self.connect() {
                Err(_) if attempt < backoff.attempts_max => {}
                outcome => return outcome,
            }
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), ClientError> {
        // Until the server has said something, it counts as one that failed.
        self.failed = self.failed.saturating_add(1);
        let (stream, ends) = connect(&self.server, self.options.timeout)?;
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_nonblocking(true));
        prepared.map_err(ClientError::broken)?;
        self.stream = Some(stream);
        self.ends = Some(ends);
        self.connects += 1;
        self.dialogue.begin(self.now());
        Ok(())
    }

    /// Sends what is to be sent, and reads meanwhile: a server that can't get rid of its replies
    /// takes no more requests.
    ///
    /// # Errors
    ///
    /// [`ClientError::TimedOut`], and the rest goes out with what is sent next; or the loss of the
    /// connection, and of the rest with it.
    pub(super) fn flush(&mut self) -> Result<(), ClientError> {
        self.wait(|dialogue| dialogue.unsent().is_empty().then_some(()))?;
        // With a connection, what was not sent is lost, and nothing is left to be sent, either.
        if self.is_connected() {
            Ok(())
        } else {
            Err(self.loss.clone())
        }
    }

    /// Waits until `found` finds something.
    pub(super) fn wait<T>(
        &mut self,
        mut found: impl FnMut(&mut Dialogue) -> Option<T>,
    ) -> Result<T, ClientError> {
        let timeout = self.options.timeout;
        let deadline = Instant::now() + timeout;
        loop {
            // Before the loss of the connection is told: what came before it counts.
            if let Some(found) = found(&mut self.dialogue) {
                return Ok(found);
            }
            if !self.is_connected() {
                return Err(self.loss.clone());
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(ClientError::TimedOut { timeout });
            }
            self.turn(deadline - now);
        }
    }

    /// Takes what has come already, and sees to heartbeats.
    pub(super) fn look(&mut self) {
        if self.is_connected() {
            self.turn(Duration::ZERO);
        }
    }

    /// How long until [`Link::look`] is needed for a heartbeat.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let due = self.dialogue.next_timeout().filter(|_| self.is_connected());
        due.map(|due| due.saturating_sub(self.now()))
    }

    /// Waits at most so long for the socket, reads and writes once each.
    fn turn(&mut self, patience: Duration) {
        if let Err(loss) = self.try_turn(patience) {
            self.lose(loss);
        }
    }

    fn try_turn(&mut self, patience: Duration) -> Result<(), ClientError> {
        let patience = self.next_look().map_or(patience, |due| due.min(patience));
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        if self.dialogue.can_go_on() {
            return self.dialogue.handle_bytes(&[], self.started.elapsed());
        }
        let has_unsent = !self.dialogue.unsent().is_empty();
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, has_unsent || !self.dialogue.holds_back());
        wanted.set(PollFlags::OUT, has_unsent);
        let ready = wait_for(stream, wanted, patience).map_err(ClientError::broken)?;
        if has_unsent && !ready.is_empty() && !ready.contains(PollFlags::OUT) {
            // The server may take nothing before it gets rid of what it sends.
            self.dialogue.make_way();
        }
        // First, since a server that closes may have said why, and to send would then fail. Errors
        // and hang-ups are told by reading.
        if !(ready - PollFlags::OUT).is_empty() && !self.dialogue.holds_back() {
            match unless_blocked(stream.read(&mut self.buffer))? {
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
        if ready.contains(PollFlags::OUT) {
            let sent = unless_blocked(stream.write(self.dialogue.unsent()))?;
            self.dialogue.sent(sent.unwrap_or(0));
        }
        self.dialogue.handle_timeout(self.started.elapsed())
    }

    fn lose(&mut self, loss: ClientError) {
        self.stream = None;
        self.was_owed = self.dialogue.is_owed();
        self.dialogue.lose(&loss);
        self.loss = loss;
    }

    /// Sends what is to be sent, tells the server that nothing more comes, and waits until it has
    /// closed its side, too.
    ///
    /// # Errors
    ///
    /// [`ClientError::TimedOut`]; the loss of the connection, unless that is the end that was waited
    /// for: the server has closed and owed nothing.
    pub(super) fn close(&mut self) -> Result<(), ClientError> {
        if !self.is_connected() {
            // Its requests were told of its loss, but for those that nobody asked about.
            return if self.dialogue.has_untold_loss() {
                Err(self.loss.of_in_flight())
            } else {
                Ok(())
            };
        }
        self.flush()?;
        let Some(stream) = &self.stream else {
            return Err(self.loss.clone());
        };
        stream
            .shutdown(Shutdown::Write)
            .map_err(ClientError::broken)?;
        self.dialogue.end();
        let deadline = Instant::now() + self.options.timeout;
        while self.is_connected() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::TimedOut {
                    timeout: self.options.timeout,
                });
            }
            self.turn(left);
        }
        match &self.loss {
            loss if self.was_owed => Err(loss.of_in_flight()),
            ClientError::Closed | ClientError::Dismissed(_) => Ok(()),
            loss => Err(loss.clone()),
        }
    }
}

/// Waits until there is something to read or room to write, as wanted.
fn wait_for(stream: &TcpStream, wanted: PollFlags, patience: Duration) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(stream, wanted)];
    // Longer than the system can count is as good as no end.
    let patience = Timespec::try_from(patience).ok();
    match poll(&mut fds, patience.as_ref()) {
        Ok(_) => Ok(fds[0].revents()),
        Err(rustix::io::Errno::INTR) => Ok(PollFlags::empty()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::protocol::{BODY_BYTES_MAX, encode};

    /// A link with more to send than the system takes in for a server that reads nothing.
    fn stuck(listener: &TcpListener) -> Link {
        let options = Options::new().timeout(Duration::from_secs(30));
        let address = listener.local_addr().unwrap();
        let mut link = Link::open(address.into(), options).unwrap();
        for _ in 0..1000 {
            let body = vec![0; BODY_BYTES_MAX];
            let frame = |out: &mut Vec<u8>| Ok(encode(out, 1000, &body)?);
            link.dialogue().put(Duration::ZERO, frame).unwrap();
        }
        link
    }

    /// The server goes when it has seen that something came.
    fn leaves(listener: TcpListener) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            stream.peek(&mut [0]).unwrap();
        })
    }

    /// The loss of a connection empties what is to be sent, which was taken for having sent it.
    #[test]
    fn what_was_thrown_away_was_not_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut link = stuck(&listener);
        let server = leaves(listener);
        let error = link.flush().unwrap_err();
        assert!(matches!(error, ClientError::Broken(_)), "{error}");
        server.join().unwrap();
    }

    #[test]
    fn a_close_tells_what_could_not_be_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut link = stuck(&listener);
        let server = leaves(listener);
        let error = link.close().unwrap_err();
        assert!(matches!(error, ClientError::Broken(_)), "{error}");
        server.join().unwrap();
    }
}
