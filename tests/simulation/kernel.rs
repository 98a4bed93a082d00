//! What the kernel and the network of one shard do by themselves: accepts, receives and sends that
//! go on, or go wrong.

use std::io::{Error, ErrorKind};
use std::rc::Rc;

use corelane::shard::{Arrival, Completion, Failure, Reception};

use crate::io::{FakeIo, Received, Source};
use crate::network::{Link, Listener, Network, Socket};

impl FakeIo {
    /// The kernel and the network do some of what they could do now.
    pub(crate) fn step(&mut self) {
        for index in 0..self.listeners().len() {
            if accept_is_busy(&self.listeners()[index]) && self.goes_on() {
                self.step_accept(index);
            }
        }
        for link in 0..self.network.links.len() {
            if !self.network.links[link].is_of(self.shard) {
                continue;
            }
            if receive_is_busy(&self.network.links[link]) && self.goes_on() {
                self.step_receive(link);
            }
            if self.send_is_busy(&self.network.links[link]) && self.goes_on() {
                self.step_send(link);
            }
        }
        self.state.wake_sleepers();
        for (id, outcome) in self.executor.step(&mut self.random) {
            self.complete(Source::Handler, Completion::Handled { id, outcome });
        }
    }

    /// Whether something could happen at once.
    pub(crate) fn is_busy(&self, network: &Network) -> bool {
        let now_us = network.now_us;
        network.listeners[self.shard].iter().any(accept_is_busy)
            || network
                .links
                .iter()
                .filter(|link| link.is_of(self.shard))
                .any(|link| receive_is_busy(link) || self.send_is_busy(link))
            || self.executor.is_busy()
            || self.pending.iter().any(|pending| pending.due_us <= now_us)
            || network.mesh.due(self.shard, now_us).next().is_some()
            || network.mesh.relieved[self.shard]
    }

    /// When the next thing happens by itself.
    pub(crate) fn next_us(&self) -> Option<u64> {
        let pending = self.pending.iter().map(|p| p.due_us).min();
        pending.into_iter().chain(self.state.next_wake_us()).min()
    }

    fn goes_on(&mut self) -> bool {
        self.random.percent(self.faults.progress_percent)
    }

    fn send_is_busy(&self, link: &Link) -> bool {
        link.send.as_ref().is_some_and(|send| {
            let could_go_on = send.cancelled || link.broken || self.window_bytes(link) > 0;
            send.buffer.is_some() && could_go_on
        })
    }

    fn window_bytes(&self, link: &Link) -> usize {
        let unread_bytes = link.taken.len() - link.read_bytes;
        self.faults.window_bytes.saturating_sub(unread_bytes)
    }

    fn step_accept(&mut self, index: usize) {
        let fails = self.random.percent(self.faults.accept_fails_percent);
        let ends = self.random.percent(self.faults.ends_percent);
        let races = self.random.percent(self.faults.cancel_races_percent);
        let listener = &mut self.network.listeners[self.shard][index];
        let Some(accept) = &mut listener.accept else {
            return;
        };
        let (result, more) = if accept.cancelled && (!races || listener.backlog.is_empty()) {
            (Err(Failure::Cancelled), false)
        } else if fails && self.random.percent(50) {
            (Err(Failure::NoRoom(Error::from_raw_os_error(24))), false) // EMFILE
        } else if let Some(link) = listener.backlog.pop_front() {
            if fails {
                self.network.links[link].broken = true;
                (Err(broken(ErrorKind::ConnectionAborted)), !ends)
            } else {
                let peer = self.network.links[link].address;
                (Ok(Arrival::new(Socket(link), peer)), !ends)
            }
        } else {
            return;
        };
        accept.ended = !more;
        let completion = Completion::Accepted {
            listener: index,
            result,
            more,
        };
        self.complete(Source::Accept(index), completion);
    }

    fn step_receive(&mut self, index: usize) {
        let faults = &self.faults;
        let breaks = self.random.per_mille(faults.breaks_per_mille);
        let ends = self.random.percent(faults.ends_percent);
        let no_buffer =
            self.lent.get() >= faults.buffers || self.random.percent(faults.no_buffers_percent);
        let races = self.random.percent(faults.cancel_races_percent);
        let link = &mut self.network.links[index];
        let (Some(receive), Some(id)) = (&mut link.receive, link.id) else {
            return;
        };
        link.broken |= breaks;
        // That one is received from when its completion is taken, and after a cancel not at all.
        let races = races && receive.how != Some(Reception::Large);
        // After a reset the kernel may still hand out what had arrived before, or not.
        let has_bytes = !link.inbound.is_empty() && (!link.broken || self.random.percent(50));
        let (result, more) = if receive.cancelled && !races {
            (Err(Failure::Cancelled), false)
        } else if has_bytes && no_buffer {
            (Err(Failure::NoBuffers), false)
        } else if has_bytes {
            let bytes_max = link.inbound.len().min(faults.buffer_bytes);
            let bytes = self.random.between(1, bytes_max);
            self.lent.set(self.lent.get() + 1);
            let received = Received {
                bytes: link.inbound.drain(..bytes).collect(),
                lent: Some(Rc::clone(&self.lent)),
            };
            (Ok(received), !ends)
        } else if link.broken {
            (Err(broken(ErrorKind::ConnectionReset)), false)
        } else if link.inbound_ended && link.inbound.is_empty() {
            let end = Received {
                bytes: Vec::new(),
                lent: None,
            };
            (Ok(end), false)
        } else {
            return;
        };
        let more = more && receive.how != Some(Reception::Once);
        receive.ended = !more;
        let completion = Completion::Received { id, result, more };
        self.complete(Source::Receive(index), completion);
    }

    fn step_send(&mut self, index: usize) {
        let faults = &self.faults;
        let breaks = self.random.per_mille(faults.breaks_per_mille);
        let short = self.random.percent(faults.short_sends_percent);
        let races = self.random.percent(faults.cancel_races_percent);
        let window_bytes = self.window_bytes(&self.network.links[index]);
        let link = &mut self.network.links[index];
        let (Some(send), Some(id)) = (&mut link.send, link.id) else {
            return;
        };
        let Some(buffer) = &send.buffer else {
            return;
        };
        link.broken |= breaks;
        let rest = &buffer.remaining()[send.taken_bytes..];
        let mut bytes = rest.len().min(window_bytes);
        if short && bytes > 1 {
            bytes = self.random.between(1, bytes - 1);
        }
        if link.broken || (send.cancelled && !races) {
            bytes = 0;
        }
        link.taken.extend_from_slice(&rest[..bytes]);
        send.taken_bytes += bytes;
        let is_whole = bytes == rest.len();
        let result = match send.taken_bytes {
            0 if link.broken => {
                Err(broken(self.random.one_of(&[
                    ErrorKind::ConnectionReset,
                    ErrorKind::BrokenPipe,
                ])))
            }
            0 => Err(Failure::Cancelled),
            taken_bytes => Ok(taken_bytes),
        };
        // Inside the kernel it waits for room to go on.
        if faults.sends_wait && !is_whole && !link.broken && !send.cancelled {
            return;
        }
        if let Some(buffer) = send.buffer.take() {
            self.complete(Source::Send(index), Completion::Sent { id, buffer, result });
        }
    }

    /// As much of these bytes as is taken without waiting.
    pub(crate) fn take_now(&mut self, index: usize, bytes: &[u8]) -> usize {
        let short = self.random.percent(self.faults.short_sends_percent);
        let link = &self.network.links[index];
        if link.broken {
            return 0;
        }
        let mut taken_bytes = bytes.len().min(self.window_bytes(link));
        if short && taken_bytes > 0 {
            taken_bytes = self.random.between(0, taken_bytes - 1);
        }
        let link = &mut self.network.links[index];
        link.taken.extend_from_slice(&bytes[..taken_bytes]);
        taken_bytes
    }
}

fn accept_is_busy(listener: &Listener) -> bool {
    listener
        .accept
        .is_some_and(|accept| !accept.ended && (accept.cancelled || !listener.backlog.is_empty()))
}

fn receive_is_busy(link: &Link) -> bool {
    link.receive.is_some_and(|receive| {
        let has_news = link.broken || !link.inbound.is_empty() || link.inbound_ended;
        !receive.ended && (receive.cancelled || has_news)
    })
}

fn broken(kind: ErrorKind) -> Failure {
    Failure::Broken(Error::from(kind))
}
