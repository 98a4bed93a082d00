//! How an asynchronous client comes to its end, or leaves a connection in good order.

use std::io;
use std::net::Shutdown;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::super::error::ClientError;
use super::super::Command;
use super::{Driver, answer};

/// The way to a clean end.
pub(super) struct Closing {
    /// Who wants to know; nobody if the last handle was dropped.
    pub(super) told: Vec<oneshot::Sender<Result<(), ClientError>>>,
    pub(super) deadline: Instant,
    /// Whether the server knows that nothing more comes.
    pub(super) is_shut: bool,
    /// Whether it was connected once more for what was not sent.
    pub(super) has_gone_back: bool,
}

impl Closing {
    pub(super) fn until(
        deadline: Instant,
        told: Vec<oneshot::Sender<Result<(), ClientError>>>,
    ) -> Closing {
        Closing {
            told,
            deadline,
            is_shut: false,
            has_gone_back: false,
        }
    }

    /// What the client comes to when its connection ends like this.
    pub(super) fn end(&self, loss: ClientError) -> ClientError {
        match loss {
            ClientError::Closed | ClientError::Dismissed(_) if self.is_shut => ClientError::Over,
            loss => loss,
        }
    }
}

impl Driver {
    /// A close took too long, or no handle is left.
    pub(super) fn break_off(&mut self, broken: Option<()>) {
        if broken.is_some() {
            self.closing = Some(Closing::until(Instant::now(), Vec::new()));
            return;
        }
        // What was handed over before is carried out still; it is no more than the channel holds.
        while let Ok(command) = self.commands.try_recv() {
            self.take(Some(command));
        }
        self.take(None);
    }

    /// Whether to connect once more before the end, for what was handed over before the close and no
    /// connection has taken: this one drained, and was being left.
    pub(super) fn goes_back(&mut self) -> bool {
        let has_cause = self.options.reconnect.is_some() && !self.queued.is_empty();
        self.closing.as_mut().is_some_and(|closing| {
            has_cause
                && Instant::now() < closing.deadline
                && !std::mem::replace(&mut closing.has_gone_back, true)
        })
    }

    /// Tells the server that nothing more comes over this connection, once nothing is in flight and
    /// the client is to be closed, or the server drains.
    pub(super) fn say_farewell(&mut self, stream: &TcpStream) -> io::Result<()> {
        if !self.dialogue.is_quiet() {
            return Ok(());
        }
        let drains = self.holds_back();
        let is_new = match &mut self.closing {
            Some(closing) if self.queued.is_empty() => {
                !std::mem::replace(&mut closing.is_shut, true) && self.leaves_by.is_none()
            }
            None if drains && self.leaves_by.is_none() => {
                self.leaves_by = Some(Instant::now() + self.options.timeout);
                true
            }
            _ => false,
        };
        if is_new {
            SockRef::from(stream).shutdown(Shutdown::Write)?;
            self.dialogue.end();
        }
        Ok(())
    }

    /// Tells everybody that this is the end.
    pub(super) async fn finish(mut self, end: &ClientError) {
        self.inbox.ended(end.clone());
        self.refuse_queued(end);
        let closing = self.closing.take();
        for told in closing.into_iter().flat_map(|closing| closing.told) {
            told_of_end(told, end);
        }
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            match command {
                Command::Send(mut outgoing) => {
                    if let Some(asker) = outgoing.asker.take() {
                        answer(asker, Err(end.clone()));
                    }
                }
                Command::Close(told) => told_of_end(told, end),
            }
        }
    }
}

/// To whoever asked for it, the end is none of what can go wrong.
fn told_of_end(told: oneshot::Sender<Result<(), ClientError>>, end: &ClientError) {
    let outcome = match end {
        ClientError::Over => Ok(()),
        end => Err(end.clone()),
    };
    let _ = told.send(outcome);
}
