//! What a shard knows, and what follows for it by the rules: the facts that it is judged by.

use std::rc::Rc;

use corelane::shard::{Completion, Failure, Message, Settings};

use crate::io::{FakeIo, Received};
use crate::network::{Counted, Place, Socket};

/// How long accepting pauses when the host is full, in microseconds: the shard's own limit.
const ACCEPT_PAUSE_US: u64 = 100_000;

impl FakeIo {
    /// From here on, the shard knows of this completion.
    pub(crate) fn tell(&mut self, completion: &Completion<Socket, Received>) {
        let now_us = self.network.now_us;
        match completion {
            Completion::Accepted {
                listener,
                result,
                more,
            } => {
                let listener = &mut self.network.listeners[self.shard][*listener];
                if !more {
                    listener.accept = None;
                }
                match result {
                    Ok(arrival) => {
                        self.told.accepted += 1;
                        let link = &mut self.network.links[arrival.socket.0];
                        link.place = Place::At(self.shard);
                        link.arrived_at = self.shard;
                        self.claim(arrival.socket.0);
                    }
                    Err(Failure::NoRoom(_)) => {
                        self.told.accept_failures += 1;
                        listener.full_until_us = now_us + ACCEPT_PAUSE_US;
                    }
                    Err(_) => {}
                }
            }
            Completion::Told { message } => match message {
                Message::Arrived { arrival, .. } => {
                    self.told.taken_over += 1;
                    self.network.links[arrival.socket.0].place = Place::At(self.shard);
                    self.claim(arrival.socket.0);
                }
                Message::Placed(arrival) => {
                    self.told.taken_over += 1;
                    self.network.links[arrival.socket.0].place = Place::At(self.shard);
                    self.count_if_it_is_not(arrival.socket.0);
                }
                _ => {}
            },
            Completion::Received { id, result, more } => {
                let turn = self.network.turn;
                let link = self.network.link_of(*id);
                let link = &mut self.network.links[link];
                if !more {
                    link.receive = None;
                }
                match result {
                    Ok(bytes) if bytes.is_empty() => link.end_told = true,
                    Ok(bytes) => {
                        link.received_bytes += bytes.len();
                        self.told.received_bytes += bytes.len() as u64;
                    }
                    Err(Failure::NoBuffers) => self.told.buffers_exhausted += 1,
                    Err(Failure::Cancelled) => {}
                    Err(_) => link.broken_told = Some(turn),
                }
            }
            Completion::Sent { id, buffer, result } => {
                let turn = self.network.turn;
                let index = self.network.link_of(*id);
                let link = &mut self.network.links[index];
                link.send = None;
                match result {
                    Ok(bytes) => self.tell_sent(index, *bytes, buffer.remaining().len()),
                    Err(Failure::Cancelled) => {}
                    Err(_) => link.broken_told = Some(turn),
                }
            }
            Completion::Handled { id, .. } => {
                self.told.handlers_finished += 1;
                let index = self.network.link_of(*id);
                let may_have_reply = self.state.flows.borrow()[index].may_have_reply();
                let link = &mut self.network.links[index];
                link.life.handling = None;
                link.life.handled_us = now_us;
                let has_less = self.settings.outbound_high_bytes < self.high_bytes_widest;
                link.life.may_outgrow |= has_less && may_have_reply;
                let is_late = self.going_down.stop_us.is_some()
                    || link.closed.is_some()
                    || link.broken_told.is_some()
                    || link.life.cancelled;
                self.told.late_replies += u64::from(is_late);
                if !is_late {
                    self.handled.push(index);
                }
            }
        }
    }

    /// So many bytes of a send of so many were taken.
    pub(crate) fn tell_sent(&mut self, index: usize, taken_bytes: usize, all_bytes: usize) {
        let link = &mut self.network.links[index];
        let rest_bytes = all_bytes - taken_bytes;
        link.rest_bytes = Some(rest_bytes).filter(|rest_bytes| *rest_bytes > 0);
        link.life.progress_us = self.network.now_us;
        self.told.sent_bytes += taken_bytes as u64;
        self.told.short_sends += u64::from(taken_bytes > 0 && rest_bytes > 0);
        let turn = self.network.turn;
        self.state.flows.borrow_mut()[index].sent(turn, taken_bytes);
    }

    /// The shard goes by other settings from now on.
    pub(crate) fn take_over(&mut self, settings: &Rc<Settings>) {
        self.settings = Rc::clone(settings);
        let high_bytes = settings.outbound_high_bytes;
        self.high_bytes_widest = self.high_bytes_widest.max(high_bytes);
    }

    /// A connection came to be let in here, if its address has room, or is yet to go to the shard
    /// that says so.
    fn claim(&mut self, link: usize) {
        if self.settings.connections_per_address_max.is_some() {
            self.network.links[link].counted = Counted::Yes;
            self.claimed.push(link);
        }
    }

    /// A connection came that was let in where there was no limit: it is counted where there is one.
    fn count_if_it_is_not(&mut self, link: usize) {
        let link = &mut self.network.links[link];
        let has_limit = self.settings.connections_per_address_max.is_some();
        if has_limit && link.counted == Counted::No {
            link.counted = Counted::Yes;
            let address = link.address.ip().to_canonical();
            self.network.mesh.presented.push(address);
        }
    }
}
