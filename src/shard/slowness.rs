//! How long things take: requests, and turns; and who holds a shard up.

use std::sync::Arc;

use super::Shard;
use super::connection::Connection;
use super::io::Io;
use super::outbound::SpareBuffers;
use super::pulse::Pulse;
use super::recorder::Recorder;
use crate::handler::ConnectionId;

impl<Socket> Connection<Socket> {
    /// What waited on the connection has been handled as far as may be: so many frames, received and
    /// sent, since when they had been here, and the time. Its queue comes back, which was
    /// `queue_start` bytes long before.
    #[inline]
    pub(super) fn note_served(
        &mut self,
        (recorder, spare): (&mut Recorder, &mut SpareBuffers),
        (queue, queue_start): (Vec<u8>, usize),
        (frames_received, frames_sent): (u64, u64),
        (since_us, now_us): (u64, u64),
    ) {
        let has_queued = queue.len() > queue_start;
        self.outbound.put_queue(queue, spare);
        recorder.queued(since_us, |mark| {
            if has_queued {
                self.outbound.mark(mark, spare);
            }
        });
        self.traffic.frames_sent += frames_sent;
        self.took_frames(frames_received, now_us);
    }
}

impl<I: Io, S: 'static> Shard<I, S> {
    /// An asynchronous handler has finished its request, of this code: since when that has been here,
    /// how long the handler took, and whether it queued a reply.
    pub(super) fn note_handled(
        &mut self,
        id: ConnectionId,
        code: u16,
        (since_us, took_us): (u64, u64),
        has_queued: bool,
    ) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        self.recorder.begin(code);
        self.recorder.handled(1);
        self.recorder.queued(since_us, |mark| {
            if has_queued {
                connection.outbound.mark(mark, &mut self.spare);
            }
        });
        if self.settings.is_slow(took_us) && !self.router.is_patient(code) {
            self.recorder.count_slow(code);
            let peer = connection.peer;
            tracing::warn!(connection = %id, %peer, code, took_us, "a handler was slow");
        }
    }

    /// The turn has ended, and it is so late now. The next one assumes so if nobody says it.
    #[inline]
    pub fn end_turn(&mut self, now_us: u64) {
        self.recorder.end_turn(now_us);
        if !self.sent_at_once.is_empty() {
            self.record_sent_at_once(now_us);
        }
        let took_us = now_us.saturating_sub(self.now_us);
        if self.settings.is_slow(took_us) {
            self.note_slow_turn(took_us);
        }
        self.pulse.end_turn();
    }

    #[cold]
    fn note_slow_turn(&mut self, took_us: u64) {
        self.counters.slow_turns += 1;
        let shard = self.number;
        let Some(suspect) = self.pulse.suspect(shard) else {
            tracing::warn!(
                shard,
                took_us,
                "a turn was slow, and nobody saw what held it"
            );
            return;
        };
        self.recorder.count_slow(suspect.code);
        let peer = self.connections.get_mut(suspect.connection);
        let peer = peer.map(|connection| connection.peer.to_string());
        tracing::warn!(
            shard,
            connection = %suspect.connection,
            peer = peer.as_deref().unwrap_or("gone"),
            code = suspect.code,
            took_us,
            "a turn was slow; this request was at work when it was looked at"
        );
    }

    /// Has others see what the shard is at.
    pub fn show_pulse(&mut self, pulse: Arc<Pulse>) {
        self.pulse = pulse;
    }
}
