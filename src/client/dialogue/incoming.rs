//! What the frames that come are: replies, pushes, or not the protocol.

use std::time::Duration;

use super::super::error::{ClientError, Refusal};
use super::super::received::{Push, Reply};
use super::{Answered, Dialogue, Waiting};
use crate::protocol::messages::GoAway;
use crate::protocol::{Decoded, FRAME_BYTES_MAX, Frame, Message, Reason, codes};

impl Dialogue {
    /// Takes in bytes that came.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotTheProtocol`]: the connection is of no use any more.
    pub(in super::super) fn handle_bytes(
        &mut self,
        bytes: &[u8],
        now: Duration,
    ) -> Result<(), ClientError> {
        self.heard_at = now;
        self.pushes.has_held_back = false;
        let mut decoder = std::mem::take(&mut self.decoder);
        let mut frames = decoder.frames(bytes, FRAME_BYTES_MAX);
        let outcome = loop {
            if self.holds_back() {
                self.pushes.has_held_back = true;
                break Ok(());
            }
            let taken = match frames.next() {
                None | Some(Decoded::Incomplete { .. }) => break Ok(()),
                Some(Decoded::Whole(frame)) => self.take(frame),
                Some(Decoded::BadChecksum { .. }) => not_the_protocol("a checksum is wrong"),
                Some(Decoded::BadLength { .. }) => not_the_protocol("a length is out of range"),
            };
            if taken.is_err() {
                break taken;
            }
        };
        drop(frames);
        self.decoder = decoder;
        outcome
    }

    /// Whether nothing is to be read for now: a push would find no room, and nothing that may be
    /// behind it is waited for.
    pub(in super::super) fn holds_back(&self) -> bool {
        self.pushes.are_held_back() && !self.is_ending && !self.is_owed()
    }

    /// Whether what was held back can be taken in now, with no more bytes to
    /// [`Dialogue::handle_bytes`]; before anything else is read.
    pub(in super::super) fn can_go_on(&self) -> bool {
        self.pushes.has_held_back && !self.holds_back()
    }

    /// What is held back has to be read: pushes that find no room are dropped, until one is taken.
    pub(in super::super) fn make_way(&mut self) {
        if self.holds_back() {
            self.pushes.set_drops(true);
        }
    }

    /// So many pushes were taken from here and wait further on.
    #[cfg(feature = "tokio-client")]
    pub(in super::super) fn count_pushes_elsewhere(&mut self, pushes: usize) {
        self.pushes.count_elsewhere(pushes);
    }

    /// Takes in what was held back of a connection that is lost: it is counted, at least.
    pub(super) fn release(&mut self) {
        if self.pushes.has_held_back {
            self.pushes.set_drops(true);
            // That it is not the protocol comes too late to be the loss.
            let _ = self.handle_bytes(&[], self.heard_at);
        }
    }

    /// The server has ended the connection; gives back what that is.
    pub(in super::super) fn handle_end(&mut self) -> ClientError {
        if self.decoder.held_bytes() > 0 {
            return ClientError::NotTheProtocol("it ended within a frame");
        }
        let farewell = self.farewell.take();
        farewell.map_or(ClientError::Closed, ClientError::Dismissed)
    }

    fn take(&mut self, frame: Frame<'_>) -> Result<(), ClientError> {
        self.heard = true;
        self.arrivals += 1;
        if self.push_codes.contains(&frame.code) {
            if frame.code == codes::GOAWAY {
                if GoAway::decode(frame.body).is_err() {
                    return not_the_protocol("the body of a GOAWAY is not one");
                }
                self.going_away = true;
            }
            self.push(frame);
            return Ok(());
        }
        if frame.code == codes::ERROR && self.is_unasked(frame)? {
            self.push(frame);
            return Ok(());
        }
        match self.waiting.pop_front() {
            None => not_the_protocol(
                "a frame came that answers no request; if it is a push, name its code as one",
            ),
            Some(Waiting::Request { ticket, .. }) => {
                self.answers.push_back(Answered {
                    ticket,
                    outcome: Ok(reply(frame)),
                    arrival: self.arrivals,
                });
                Ok(())
            }
            Some(Waiting::Abandoned { .. }) => Ok(()),
            Some(Waiting::Heartbeat { .. }) if frame.code == codes::PING => Ok(()),
            Some(Waiting::Heartbeat { .. }) => {
                not_the_protocol("a PING was answered with something else")
            }
        }
    }

    /// Whether an ERROR answers none of the requests here: it is about the connection, or about a
    /// frame that nobody wanted an answer to.
    fn is_unasked(&mut self, frame: Frame<'_>) -> Result<bool, ClientError> {
        let Ok(refusal) = Refusal::parse(frame.body) else {
            return not_the_protocol("the body of an ERROR is not one").map(|()| false);
        };
        let oldest = self.waiting.front().copied();
        let unasked = match oldest {
            Some(Waiting::Heartbeat { .. }) if refusal.answered == codes::PING => {
                // The user is told that heartbeats don't work here.
                self.waiting.pop_front();
                true
            }
            Some(oldest) => oldest.code() != refusal.answered,
            None => true,
        };
        if unasked && refusal.reason().is_some_and(Reason::closes) {
            self.farewell = Some(refusal);
        }
        Ok(unasked)
    }

    fn push(&mut self, frame: Frame<'_>) {
        let Reply { code, body } = reply(frame);
        let push = Push {
            code,
            body,
            lost_before: 0,
        };
        self.pushes.add(self.arrivals, push);
    }
}

fn reply(frame: Frame<'_>) -> Reply {
    Reply {
        code: frame.code,
        body: frame.body.to_vec(),
    }
}

fn not_the_protocol(what: &'static str) -> Result<(), ClientError> {
    Err(ClientError::NotTheProtocol(what))
}
