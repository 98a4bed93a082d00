//! One connection: what waits to leave it, and what the kernel still does for it.

use corelane::protocol::Decoder;
use corelane_peers::{Stream, answer};

/// More than so many bytes queued, and a connection is not received from until they have left.
const QUEUED_BYTES_MAX: usize = 256 * 1024;

#[derive(Default)]
pub(crate) struct Connection {
    decoder: Decoder,
    /// What the kernel sends now: not touched until its completion.
    sending: Vec<u8>,
    sent_bytes: usize,
    /// What leaves next.
    queued: Vec<u8>,
    pub(crate) receive: Receive,
    pub(crate) send_in_flight: bool,
    end: End,
    /// In the list of those to look at when all completions have been seen.
    pub(crate) due: bool,
}

/// The multishot receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Receive {
    #[default]
    Off,
    On,
    /// Cancelled, and its last completion has not come yet.
    Stopping,
}

/// How the stream ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    #[default]
    NotYet,
    /// Nothing more comes in; close once what is queued has left.
    Flush,
    /// The connection is broken: close at once.
    Now,
}

/// What there is to do for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Receive,
    StopReceiving,
    Close,
    Wait,
}

impl Connection {
    #[inline]
    pub(crate) fn received(&mut self, slice: &[u8]) {
        if self.end == End::NotYet
            && answer(&mut self.decoder, slice, &mut self.queued) == Stream::Broken
        {
            self.end = End::Flush;
        }
    }

    pub(crate) fn ended(&mut self) {
        self.end = self.end.max(End::Flush);
    }

    pub(crate) fn broken(&mut self) {
        self.end = End::Now;
    }

    /// Bytes to send now, if there are any and no send is in flight. `spare` takes the place of
    /// the buffer that they are in.
    #[inline]
    pub(crate) fn next_to_send(&mut self, spare: impl FnOnce() -> Vec<u8>) -> Option<&[u8]> {
        if self.send_in_flight || self.end == End::Now {
            return None;
        }
        if self.sent_bytes == self.sending.len() {
            if self.queued.is_empty() {
                return None;
            }
            self.sending = std::mem::replace(&mut self.queued, spare());
            self.sent_bytes = 0;
        }
        Some(&self.sending[self.sent_bytes..])
    }

    /// So many bytes were sent. Returns the buffer once it is done with.
    #[inline]
    pub(crate) fn sent(&mut self, bytes: usize) -> Option<Vec<u8>> {
        self.sent_bytes += bytes;
        if self.sent_bytes < self.sending.len() {
            return None;
        }
        self.sent_bytes = 0;
        let mut done = std::mem::take(&mut self.sending);
        done.clear();
        Some(done)
    }

    /// What is to be done, once [`Connection::next_to_send`] was asked.
    #[inline]
    pub(crate) fn next(&self) -> Next {
        let full = self.queued.len() > QUEUED_BYTES_MAX;
        match (self.receive, self.end) {
            (Receive::On, End::NotYet) if !full => Next::Wait,
            (Receive::On, _) => Next::StopReceiving,
            (Receive::Off, End::NotYet) if !full => Next::Receive,
            (Receive::Off, End::Flush | End::Now) if !self.send_in_flight => Next::Close,
            _ => Next::Wait,
        }
    }
}
