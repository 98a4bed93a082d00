//! What a shard may ask of its `Io`, and when: each operation is checked as it is carried out.

use corelane::handler::ConnectionId;
use corelane::metrics::CloseCause;
use corelane::shard::{Message, Operation, Reception, SendBuffer};

use crate::io::FakeIo;
use crate::life::{Word, deadlines, due, quiet_us};
use crate::mesh;
use crate::network::{Armed, Closed, Counted, Link, Place, Send, Socket, is_clearly_more};

/// A GOAWAY frame, in bytes.
const GOAWAY_BYTES: usize = 12;

impl FakeIo {
    pub(crate) fn carry_out(&mut self, operation: Operation<'_, Socket>) {
        match operation {
            Operation::Accept { listener } => self.accept(listener),
            Operation::CancelAccept { listener } => {
                if let Some(accept) = &mut self.network.listeners[self.shard][listener].accept {
                    accept.cancelled = true;
                }
            }
            Operation::StopListening { listener } => self.stop_listening(listener),
            Operation::Receive { id, socket, how } => self.receive(id, socket, how),
            Operation::CancelReceive { id } => {
                self.told.receive_cancels += 1;
                let link = self.network.link_of(id);
                let link = &mut self.network.links[link];
                if link.closed.is_some() {
                    self.violations
                        .add(format_args!("{id}: cancelled after its close"));
                }
                if let Some(receive) = &mut link.receive {
                    receive.cancelled = true;
                }
            }
            Operation::Send { id, socket, buffer } => self.send(id, socket, buffer),
            Operation::CancelSend { id } => self.cancel_send(id),
            Operation::ShutdownSend { socket } => self.shutdown(socket),
            Operation::Close { socket, reset } => self.close(&socket, reset),
            Operation::Tell { shard, message } => self.tell_other(usize::from(shard), message),
            Operation::Handle { id, task } => {
                self.told.handlers_started += 1;
                self.handlers_peak += 1;
                let link = self.network.link_of(id);
                self.network.links[link].life.handling = Some(task.code());
                self.executor.spawn(id, task);
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        let violations = &self.violations;
        if self.going_down.is_begun() {
            violations.add(format_args!("an accept on the way down"));
        }
        if self.network.mesh.is_congested(self.shard) {
            violations.add(format_args!("an accept of a congested shard"));
        }
        let now_us = self.network.now_us;
        let listening = &mut self.network.listeners[self.shard][listener];
        if now_us < listening.full_until_us {
            violations.add(format_args!("an accept although the host is full"));
        }
        if listening.accept.replace(Armed::default()).is_some() {
            violations.add(format_args!("a second accept on listener {listener}"));
        }
    }

    fn stop_listening(&mut self, listener: usize) {
        let violations = &self.violations;
        let listening = &mut self.network.listeners[self.shard][listener];
        if !self.going_down.is_begun() || listening.accept.is_some() {
            violations.add(format_args!("listener {listener} closed too early"));
        }
        if std::mem::replace(&mut listening.closed, true) {
            violations.add(format_args!("listener {listener} closed twice"));
        }
    }

    /// The link of an operation on an open socket of this shard.
    fn open(&mut self, socket: &Socket, operation: &str) -> &mut Link {
        let link = &mut self.network.links[socket.0];
        if link.closed.is_some() || link.place != Place::At(self.shard) {
            self.violations.add(format_args!(
                "{operation} on socket {}, which is not open here",
                socket.0
            ));
        }
        link
    }

    fn receive(&mut self, id: ConnectionId, socket: &Socket, how: Reception) {
        let is_known = self.network.links.iter().any(|link| link.id == Some(id));
        let (violations, turn) = (self.violations.clone(), self.network.turn);
        let now_us = self.network.now_us;
        let link = self.open(socket, "receive");
        if link.id.is_none() && is_known {
            violations.add(format_args!("the id {id} is used again"));
        }
        if link.id.is_some_and(|known| known != id) {
            violations.add(format_args!("the socket of {:?} is now {id}", link.id));
        }
        let is_new = link.id.replace(id).is_none();
        if link
            .receive
            .replace(Armed {
                how: Some(how),
                ..Armed::default()
            })
            .is_some()
        {
            violations.add(format_args!("{id}: a second receive in flight"));
        }
        if link.end_told {
            violations.add(format_args!("{id}: a receive after the end of the stream"));
        }
        if link.broken_told.is_some_and(|told| told < turn) {
            violations.add(format_args!("{id}: a receive on a broken connection"));
        }
        if is_new {
            link.life.admitted_us = now_us;
            self.state.admit(id, socket.0);
            let open = self.network.links.iter();
            let open = open.filter(|link| link.is_of(self.shard) && link.closed.is_none());
            self.slots = self.slots.max(open.count());
            if self.going_down.stop_us.is_some() {
                violations.add(format_args!("{id}: let in while it stops"));
            }
        }
    }

    fn send(&mut self, id: ConnectionId, socket: &Socket, buffer: SendBuffer) {
        self.judge_send(id, socket, buffer.remaining());
        let link = &mut self.network.links[socket.0];
        link.life.progress_us = self.network.now_us;
        link.send = Some(Send {
            buffer: Some(buffer),
            taken_bytes: 0,
            cancelled: false,
        });
    }

    /// A send that is over when this returns, or goes on as another one, of what is left.
    pub(crate) fn send_now(&mut self, socket: &Socket, bytes: &[u8]) -> usize {
        let Some(id) = self.open(socket, "send at once").id else {
            self.violations
                .add(format_args!("a send at once, to nobody"));
            return 0;
        };
        self.judge_send(id, socket, bytes);
        let taken_bytes = self.take_now(socket.0, bytes);
        self.network.sends_at_once += u64::from(taken_bytes > 0);
        self.tell_sent(socket.0, taken_bytes, bytes.len());
        taken_bytes
    }

    /// A send of these bytes begins.
    fn judge_send(&mut self, id: ConnectionId, socket: &Socket, bytes: &[u8]) {
        let (all, bytes) = (bytes, bytes.len());
        let (violations, turn) = (self.violations.clone(), self.network.turn);
        let link = self.open(socket, "send");
        if link.id != Some(id) {
            violations.add(format_args!(
                "a send for {id} on the socket of {:?}",
                link.id
            ));
        }
        if link.shutdown_us.is_some() {
            violations.add(format_args!("{id}: a send after the end of the stream"));
        }
        if link.broken_told.is_some_and(|told| told < turn) {
            violations.add(format_args!("{id}: a send on a broken connection"));
        }
        if bytes == 0 {
            violations.add(format_args!("{id}: a send of nothing"));
        }
        match link.rest_bytes.take() {
            Some(rest_bytes) if rest_bytes != bytes => violations.add(format_args!(
                "{id}: {bytes} bytes are sent where {rest_bytes} are left over"
            )),
            Some(_) => {}
            None => self.judge_words(id, socket, all),
        }
        let link = &mut self.network.links[socket.0];
        if link.send.is_some() {
            violations.add(format_args!("{id}: a second send in flight"));
        }
        let settings = &self.settings;
        let frames_bytes_max = self.high_bytes_widest - 1 + settings.frame_bytes_max;
        let is_drained = link.life.sent_before_drain.is_some();
        let goaway_bytes = if is_drained { GOAWAY_BYTES } else { 0 };
        let is_pushed = self.state.mesh.is_used();
        if bytes > frames_bytes_max + goaway_bytes && !is_pushed {
            violations.add(format_args!("{id}: {bytes} bytes were queued"));
        }
    }

    /// What the server says of its own accord in what it is about to send must be due.
    fn judge_words(&mut self, id: ConnectionId, socket: &Socket, bytes: &[u8]) {
        let words = Word::all_in(bytes);
        let flows = self.state.flows.borrow();
        let (link, flow) = (&mut self.network.links[socket.0], &flows[socket.0]);
        let now_us = self.network.now_us;
        for word in &words {
            match word {
                Word::TimedOut => {
                    let since_us = self.going_down.draining_since_us();
                    let deadlines = deadlines(link, flow, &self.settings, since_us);
                    let mut causes = due(&deadlines, now_us);
                    causes.retain(|cause| *cause != CloseCause::Drain);
                    let waits = flow.has_unhandled(link.received_bytes);
                    if causes.is_empty() || words.len() > 1 || waits {
                        self.violations.add(format_args!(
                            "{id}: timed out at {now_us}, with {words:?} and {deadlines:?}"
                        ));
                    }
                    link.life.ended = Some(causes);
                }
                Word::RateLimited => {
                    // It was refused in this turn, unless it had to wait for the send before.
                    let refused_us = if link.life.progress_us < now_us {
                        now_us
                    } else {
                        flow.frame_us
                    };
                    let is_flood =
                        flow.has_unhandled(link.received_bytes) && flow.is_flood(refused_us);
                    if words.last() != Some(word) || !is_flood {
                        self.violations
                            .add(format_args!("{id}: no flood at {refused_us}, {words:?}"));
                    }
                    link.life.ended = Some(vec![CloseCause::Flood]);
                }
                Word::ShuttingDown(_) | Word::GoAway => {}
            }
        }
    }

    fn cancel_send(&mut self, id: ConnectionId) {
        let link = self.network.link_of(id);
        let (index, now_us) = (link, self.network.now_us);
        let may_be_slow = self.may_be_slow(index);
        let link = &mut self.network.links[index];
        let flow = &self.state.flows.borrow()[index];
        let deadlines = deadlines(link, flow, &self.settings, None);
        link.life.write_timed_out = due(&deadlines, now_us) == [CloseCause::WriteTimeout];
        link.life.may_outgrow |= may_be_slow;
        link.life.cancelled = true;
        // It may have completed, and the shard does not know yet.
        if let Some(send) = &mut link.send {
            send.cancelled = true;
        }
    }

    fn shutdown(&mut self, socket: &Socket) {
        let (violations, now_us) = (self.violations.clone(), self.network.now_us);
        let link = self.open(socket, "shutdown");
        if link.send.is_some() {
            violations.add(format_args!("{:?}: shut during a send", link.id));
        }
        if link.shutdown_us.replace(now_us).is_some() {
            violations.add(format_args!("{:?}: shut twice", link.id));
        }
        let since_us = self.going_down.draining_since_us();
        let (link, flow) = (
            &self.network.links[socket.0],
            &self.state.flows.borrow()[socket.0],
        );
        let mut deadlines = deadlines(link, flow, &self.settings, since_us);
        if let Some(since_us) = since_us.filter(|_| self.state.mesh.is_used()) {
            deadlines.push((quiet_us(link, flow, since_us), CloseCause::Drain));
        }
        let mut causes = due(&deadlines, now_us);
        causes.retain(|cause| *cause == CloseCause::Drain || !self.settings.reply_errors);
        self.network.links[socket.0].life.shut_due = causes;
    }

    fn close(&mut self, socket: &Socket, reset: bool) {
        let violations = self.violations.clone();
        let at_limit = self.is_at_limit(socket.0);
        let may_be_slow = reset && self.may_be_slow(socket.0);
        let closed = Closed {
            at_us: self.network.now_us,
            by: self.shard,
            reset,
            at_limit,
        };
        let link = self.open(socket, "close");
        if link.receive.is_some() || link.send.is_some() {
            violations.add(format_args!("{:?}: closed with work in flight", link.id));
        }
        link.closed = Some(closed);
        link.life.may_outgrow |= may_be_slow;
        link.destroyed = !link.inbound.is_empty();
        let was_let_in = link.id.is_some();
        for listener in &mut self.network.listeners[self.shard] {
            if was_let_in {
                listener.full_until_us = 0;
            }
        }
    }

    /// Whether more may have been queued for a peer than may be, with what was pushed to it.
    pub(crate) fn may_be_slow(&self, peer: usize) -> bool {
        mesh::may_be_slow((&self.network, &self.state), &self.settings, peer)
    }

    /// Whether a peer's address had as many other connections in this turn as it may have.
    fn is_at_limit(&self, peer: usize) -> bool {
        let address = self.network.links[peer].address.ip().to_canonical();
        let counts = self.network.counts();
        let departed = self
            .network
            .mesh
            .departed
            .iter()
            .filter(|gone| **gone == address);
        let counted = counts
            .get(&address)
            .map_or(0, |count| count.max + departed.count().cast_signed() as i64);
        let max = self.settings.connections_per_address_max;
        max.is_some_and(|max| counted > i64::from(max.get()))
    }

    /// A connection goes to another shard than it arrived at only if that one has room, and clearly
    /// fewer or its own has none.
    fn judge_choice(&mut self, arrived_at: usize, chosen: usize) {
        let own = self.loads.connections(arrived_at as u16);
        // The connection is counted there by now.
        let other = self.loads.connections(chosen as u16) - 1;
        // Who waits comes first, and may not know of more room yet.
        let may_be_full = own >= self.settings.connections_max
            || self.settings.memory_bytes_max < usize::MAX
            || self.network.has_waiting(self.shard);
        let is_right = self.settings.balanced
            && (is_clearly_more(own, other) || may_be_full)
            && !self.network.full[chosen];
        if arrived_at != chosen && !is_right {
            self.violations.add(format_args!(
                "shard {arrived_at} with {own} connections hands one to {chosen} with {other}"
            ));
        }
    }

    fn tell_other(&mut self, to: usize, message: Message<Socket>) {
        let violations = self.violations.clone();
        if to == self.shard || to >= usize::from(self.loads.shards()) {
            violations.add(format_args!("shard {} tells {to}", self.shard));
        }
        match &message {
            Message::Arrived { arrival, .. } => {
                self.told.handed_over += 1;
                let link = self.open(&arrival.socket, "count");
                link.place = Place::ToBeCounted;
                link.counted = Counted::No;
            }
            Message::Placed(arrival) => {
                self.told.handed_over += 1;
                let link = self.open(&arrival.socket, "place");
                link.place = Place::ToBeServed(to);
                let arrived_at = link.arrived_at;
                self.judge_choice(arrived_at, to);
            }
            _ => {}
        }
        let due_us = self.due_us();
        self.network.mesh.send(self.shard, to, due_us, message);
    }
}
