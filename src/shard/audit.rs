//! What must hold after every turn, for tests to ask.

use std::collections::HashSet;

use super::Shard;
use super::connection::{Connection, HELD_BYTES_MAX, Phase, Receiving};
use super::io::Io;
use crate::handler::ConnectionId;

impl<I: Io, S: 'static> Shard<I, S> {
    /// Looks at everything that the shard holds, as it stands between two turns. For tests: the
    /// effort is that of all connections.
    ///
    /// # Errors
    ///
    /// What does not hold, in a sentence: a mistake in the shard.
    pub fn audit(&self) -> Result<(), String> {
        let mut held_bytes = self.desk.shared_bytes().get();
        let mut armed = 0;
        for (id, connection) in self.connections.iter() {
            held_bytes += connection.memory_bytes();
            armed += usize::from(self.timers.at_us(id.slot).is_some());
            self.audit_one(id, connection).map_err(|problem| {
                format!("connection {id} in {:?}: {problem}", connection.phase)
            })?;
        }
        if held_bytes != self.ledger.held_bytes() {
            return Err(format!(
                "{} bytes are charged, {held_bytes} are held",
                self.ledger.held_bytes()
            ));
        }
        if armed != self.timers.len() {
            return Err(format!(
                "{} timers are armed, {armed} of them for connections that there are",
                self.timers.len()
            ));
        }
        if self.connections.len() > self.widest.connections {
            return Err(format!("{} connections at once", self.connections.len()));
        }
        if self.handlers > self.widest.handlers {
            return Err(format!("{} handlers at once", self.handlers));
        }
        let placed = self.loads.connections(self.number);
        if placed < self.connections.len() + self.waiting.len() {
            return Err(format!("only {placed} connections were placed here"));
        }
        self.audit_errands()?;
        self.audit_lists()
    }

    /// How many connections there are of the addresses that this shard counts, on all shards.
    pub fn counted_connections(&self) -> u64 {
        self.addresses.total()
    }

    fn audit_one(
        &self,
        id: ConnectionId,
        connection: &Connection<I::Socket>,
    ) -> Result<(), String> {
        if connection.charge.bytes != connection.memory_bytes() {
            return Err(format!(
                "charged for {} bytes, but holds {}",
                connection.charge.bytes,
                connection.memory_bytes()
            ));
        }
        let queued_bytes = connection.outbound.bytes();
        // Pushes go as far as may be queued, and the last words come on top of that.
        let pushed_bytes_max = match self.counters.pushes {
            0 => 0,
            _ => self.settings.outbound_bytes_max + self.settings.frame_bytes_max,
        };
        let most_bytes = self.settings.queued_bytes_max().max(pushed_bytes_max);
        if queued_bytes > most_bytes.max(self.widest.queued_bytes) {
            return Err(format!("{queued_bytes} bytes are queued"));
        }
        if connection.decoder.held_bytes() >= HELD_BYTES_MAX
            && matches!(connection.receive, Receiving::As(_))
        {
            return Err("more is received although too much waits".to_owned());
        }
        if connection.deferred != self.deferred.contains(&id) {
            return Err("deferred without being listed, or the other way round".to_owned());
        }
        if matches!(connection.phase, Phase::Closing(_)) {
            if !connection.is_in_flight() {
                return Err("closed, but still reachable".to_owned());
            }
            if connection.decoder.held_bytes() > 0 {
                return Err("closed, but holds a partial frame".to_owned());
            }
        }
        self.audit_timer(id, connection)
    }

    /// No deadline without a timer that lapses in time.
    fn audit_timer(
        &self,
        id: ConnectionId,
        connection: &Connection<I::Socket>,
    ) -> Result<(), String> {
        let timer_at_us = self.timers.at_us(id.slot).unwrap_or(u64::MAX);
        if timer_at_us != connection.timer_at_us {
            return Err("its timer is not where it thinks".to_owned());
        }
        let deadline = connection.deadline(&self.settings, self.draining_since_us());
        match deadline {
            // The timers of those that were not revised are of other settings.
            Some((at_us, _)) if at_us < timer_at_us && !self.is_unrevised(id) => Err(format!(
                "its deadline at {at_us} us comes before its timer at {timer_at_us} us"
            )),
            _ => Ok(()),
        }
    }

    /// The lists of connections name each at most once.
    fn audit_lists(&self) -> Result<(), String> {
        for (name, list) in [("sending", &self.sending), ("deferred", &self.deferred)] {
            let distinct: HashSet<_> = list.iter().collect();
            if distinct.len() < list.len() {
                return Err(format!("a connection is listed twice as {name}"));
            }
        }
        Ok(())
    }
}
