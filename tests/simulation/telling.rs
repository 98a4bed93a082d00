//! What shards are told from outside, and what is known of each connection just before.

use crate::run::Run;

impl Run {
    /// Tells a shard to drain or to stop if it is time.
    pub(crate) fn tell(&mut self, number: usize) {
        let now_us = self.now_us;
        let going_down = self.shards[number].io_mut().going_down;
        let is_time = |at_us: Option<u64>| at_us.is_some_and(|at_us| at_us <= now_us);
        if is_time(self.told_us(number, self.scenario.drain_us)) && !going_down.is_begun() {
            self.network.note(|| format!("shard {number} is to drain"));
            self.remember_drain(number);
            self.state.forum.enter(number);
            let shard = &mut self.shards[number];
            shard.io_mut().going_down.drain_us = Some(now_us);
            shard.io_mut().network = std::mem::take(&mut self.network);
            shard.drain(now_us);
            self.network = std::mem::take(&mut shard.io_mut().network);
            self.turns[number].has_more = true;
        }
        let was_stopped = self.shards[number].io_mut().stop_told_us.is_some();
        if is_time(self.told_us(number, self.scenario.stop_us)) && !was_stopped {
            self.network.note(|| format!("shard {number} is to stop"));
            let had_to_stop = going_down.stop_us.is_some();
            if !had_to_stop {
                self.remember_stop(number);
            }
            self.state.forum.enter(number);
            let shard = &mut self.shards[number];
            shard.io_mut().stop_told_us = Some(now_us);
            shard.io_mut().going_down.stop_us.get_or_insert(now_us);
            shard.io_mut().network = std::mem::take(&mut self.network);
            shard.stop(now_us);
            self.network = std::mem::take(&mut shard.io_mut().network);
            self.turns[number].has_more = true;
        }
    }

    /// When a shard is told what the first is told at this time.
    pub(crate) fn told_us(&self, number: usize, first_us: Option<u64>) -> Option<u64> {
        first_us.map(|at_us| at_us + number as u64 * self.scenario.told_apart_us)
    }

    fn remember_drain(&mut self, number: usize) {
        for (link, peer) in self.network.links.iter_mut().zip(&self.peers) {
            let is_open = link.is_of(number)
                && link.closed.is_none()
                && link.shutdown_us.is_none()
                && link.life.ended.is_none();
            if is_open && !peer.is_at_its_end(link) {
                let sent_bytes = link.received_bytes + link.inbound.len();
                link.life.sent_before_drain = Some(sent_bytes);
            }
        }
    }

    /// From here on, the shard answers no requests.
    fn remember_stop(&mut self, number: usize) {
        for (link, peer) in self.network.links.iter_mut().zip(&self.peers) {
            let is_over =
                link.closed.is_some() || link.broken_told.is_some() || link.life.cancelled;
            if link.is_of(number) && !is_over {
                link.life.cut_off = link.life.handling;
                link.life.open_at_stop = link.shutdown_us.is_none()
                    && link.life.ended.is_none()
                    && !peer.is_at_its_end(link);
            }
        }
    }

    /// A drain's time may be over.
    pub(crate) fn end_drain(&mut self, number: usize) {
        let drain_limit_us = self.settings(number).drain_us;
        let io = self.shards[number].io_mut();
        let since_us = io.going_down.draining_since_us();
        if since_us.is_some_and(|since_us| since_us + drain_limit_us <= self.now_us) {
            io.going_down.stop_us = Some(self.now_us);
            io.drained_out = true;
            self.remember_stop(number);
        }
    }
}
