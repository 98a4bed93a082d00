//! Errands of handlers: carried out here, or told to the shards that they are for.
//!
//! What the shard's own handlers want waits at their desk; what other shards and the world outside
//! want comes as messages. Either is a lane: what is in it is done in its order, so much a turn. A
//! broadcast goes over the slots of all connections, a part of them a turn, and what comes behind it
//! waits. So of what one sender sends to one connection, nothing overtakes anything.

use std::any::Any;
use std::collections::VecDeque;

use super::Shard;
use super::connection::{Connection, Phase};
use super::io::{Io, Message};
use super::mailbox::{DELIVERIES_MAX, Room};
use super::outbound::{Outbound, SpareBuffers};
use super::settings::Settings;
use crate::handler::{
    Answer, Asker, ConnectionId, Errand, Outcome, Run, RunError, Shared, contain, take_contained,
};
use crate::metrics::CloseCause;

/// Messages of other shards that wait, behind a broadcast or since a turn had its share of them, from
/// which on no more of them are taken: then they wait with those shards, which are congested by it and
/// refuse what would make more.
const ARRIVED_MAX: usize = 4096;

/// What came from others and is to be done, in order.
#[derive(Debug)]
pub(super) struct Lanes<Socket> {
    own: Lane,
    others: Lane,
    arrived: VecDeque<Arrived<Socket>>,
    /// As many as are in `arrived` from other shards.
    from_shards: usize,
    errands_left: usize,
    messages_left: usize,
    /// Other shards whose calls were ended with them.
    ended: Vec<u16>,
    /// Something was carried out in this turn.
    worked: bool,
}

/// A message that waits.
#[derive(Debug)]
struct Arrived<Socket> {
    message: Message<Socket>,
    /// What it takes up in the mailbox, if it is from outside the shards.
    room: Option<Room>,
}

/// How far a lane is with a broadcast.
#[derive(Debug, Default)]
struct Lane {
    sweep: Option<Sweep>,
    slots_left: usize,
}

/// A broadcast on its way over the slots.
#[derive(Debug)]
struct Sweep {
    frame: Shared,
    next_slot: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    Others,
}

impl<Socket> Lanes<Socket> {
    fn lane(&mut self, whose: Whose) -> &mut Lane {
        match whose {
            Whose::Own => &mut self.own,
            Whose::Others => &mut self.others,
        }
    }

    /// A turn begins.
    #[inline]
    pub(super) fn begin_turn(&mut self, settings: &Settings) {
        self.errands_left = settings.turn_errands_max.max(1);
        self.messages_left = settings.turn_messages_max.max(1);
        let slots_max = settings.turn_slots_max.max(1);
        self.own.slots_left = slots_max;
        self.others.slots_left = slots_max;
        self.worked = false;
    }

    /// Messages of others that wait.
    pub(super) fn arrived(&self) -> usize {
        self.arrived.len()
    }

    /// So many messages of other shards wait that no more of them may be taken.
    #[inline]
    pub(super) fn are_full(&self) -> bool {
        self.from_shards > ARRIVED_MAX
    }

    fn push(&mut self, message: Message<Socket>, room: Option<Room>) {
        self.from_shards += usize::from(room.is_none());
        self.arrived.push_back(Arrived { message, room });
    }

    fn pop(&mut self) -> Option<Arrived<Socket>> {
        let arrived = self.arrived.pop_front()?;
        self.from_shards -= usize::from(arrived.room.is_none());
        Some(arrived)
    }

    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.own.sweep.is_none() && self.others.sweep.is_none() && self.arrived.is_empty()
    }
}

impl<Socket> Default for Lanes<Socket> {
    fn default() -> Self {
        Lanes {
            own: Lane::default(),
            others: Lane::default(),
            arrived: VecDeque::new(),
            from_shards: 0,
            errands_left: 0,
            messages_left: 0,
            ended: Vec::new(),
            worked: false,
        }
    }
}

impl<I: Io, S: 'static> Shard<I, S> {
    /// Whether handlers have left errands that were not carried out.
    #[inline]
    pub fn has_errands(&self) -> bool {
        self.desk.has_errands()
    }

    /// Functions on other shards, or on this one, whose answers are awaited.
    pub fn calls(&self) -> usize {
        self.desk.calls.unanswered()
    }

    /// Goes on with what waits in both lanes.
    #[inline]
    pub(super) fn see_to_errands(&mut self) {
        if self.desk.has_errands() || !self.lanes.is_idle() {
            self.go_on_with_errands();
        }
    }

    #[inline(never)]
    fn go_on_with_errands(&mut self) {
        if !self.lanes.is_idle() {
            self.go_on_with_arrived();
        }
        if self.desk.has_errands() || self.lanes.own.sweep.is_some() {
            self.carry_out_errands();
        }
        self.ledger.charge_shared(self.desk.shared_bytes().get());
    }

    /// Counts what became of errands in this turn, and what handlers left of them there.
    #[inline]
    pub(super) fn count_errands(&mut self) {
        self.counters.errands_refused += self.desk.take_refused();
        self.counters.run_panics += take_contained();
        self.ledger.charge_shared(self.desk.shared_bytes().get());
    }

    /// Whether errands were carried out in this turn, or are left for the next one.
    pub(super) fn is_on_errands(&self) -> bool {
        self.lanes.worked || self.desk.has_errands() || !self.lanes.is_idle()
    }

    /// Whether all that was accepted from handlers and others is done, or with the shards that it is
    /// for.
    pub(super) fn has_nothing_to_pass_on(&self) -> bool {
        !self.desk.has_errands() && self.lanes.is_idle() && !self.io.is_congested()
    }

    /// The shard ends although something is left.
    pub(super) fn tell_what_is_left(&self) {
        tracing::warn!(
            shard = self.number,
            errands = self.desk.errands(),
            messages = self.lanes.arrived(),
            is_congested = self.io.is_congested(),
            "the time to go down was over before all was done that handlers and others had asked for"
        );
    }

    /// Ends the calls of shards that have ended since, behind the answers that they gave before. Once
    /// for each: what is asked of it from then on is answered where it is to be told.
    pub(super) fn end_calls_of_gone(&mut self) {
        if self.desk.calls.unanswered() == 0 {
            return;
        }
        for shard in (0..self.loads.shards()).filter(|&shard| shard != self.number) {
            if self.io.is_gone(shard)
                && self.io.is_silent(shard)
                && !self.lanes.ended.contains(&shard)
            {
                self.lanes.ended.push(shard);
                self.desk.note_gone(shard);
                self.desk.calls.end_of(shard);
            }
        }
    }

    /// Carries out what handlers have left, in order, as far as this turn's share goes.
    #[cold]
    pub(super) fn carry_out_errands(&mut self) {
        loop {
            if !self.sweep_on(Whose::Own) || self.lanes.errands_left == 0 {
                break;
            }
            let Some(errand) = self.desk.take() else {
                break;
            };
            self.lanes.errands_left -= 1;
            self.lanes.worked = true;
            self.carry_out(errand);
        }
        self.desk.set_congested(self.io.is_congested());
    }

    fn carry_out(&mut self, errand: Errand) {
        match errand {
            Errand::Push { to, frame } if to.shard == self.number => self.push(to, &frame),
            Errand::Push { to, frame } => self.tell(to.shard, Message::Push { to, frame }),
            Errand::PushShared { to, frame } if to.shard == self.number => {
                self.push_shared(to, &frame);
            }
            Errand::PushShared { to, frame } => {
                let frame = frame.bytes().to_vec();
                self.tell(to.shard, Message::Push { to, frame });
            }
            Errand::Broadcast { frame } => {
                let own = self.number;
                for shard in (0..self.loads.shards()).filter(|&shard| shard != own) {
                    let frame = frame.clone();
                    self.tell(shard, Message::Broadcast { frame });
                }
                self.begin_sweep(Whose::Own, frame);
            }
            Errand::Run { shard, run } if shard == self.number => self.run(run),
            Errand::Run { shard, run } => self.tell(shard, Message::Run(run)),
        }
    }

    /// Tells another shard something, unless it has ended.
    fn tell(&mut self, shard: u16, message: Message<I::Socket>) {
        if !self.io.is_gone(shard) {
            return self.post(shard, message);
        }
        self.desk.note_gone(shard);
        match message {
            Message::Run(run) => self.answer_call(run.asker(), Err(RunError::Gone)),
            _ => self.counters.stale_pushes += 1,
        }
    }

    /// Another shard wants something done.
    pub(super) fn arrive_at_lane(&mut self, message: Message<I::Socket>) {
        self.lanes.push(message, None);
        self.go_on_with_arrived();
    }

    /// Somebody outside the shards wants this done: as if another shard did. Call it between turns;
    /// the next one goes on with it, and `room` is given back when it is carried out.
    pub(super) fn take_in_from_outside(&mut self, message: Message<I::Socket>, room: Room) {
        self.lanes.push(message, Some(room));
    }

    /// Somebody outside was refused so often, since too much waited.
    pub fn count_refused(&mut self, errands: u64) {
        self.counters.errands_refused += errands;
    }

    /// Carries out what others have told, in order, as far as this turn's share goes: the shard's own
    /// connections wait for no more of it.
    fn go_on_with_arrived(&mut self) {
        loop {
            if !self.sweep_on(Whose::Others) || self.lanes.messages_left == 0 {
                return;
            }
            let Some(Arrived { message, room }) = self.lanes.pop() else {
                return;
            };
            self.lanes.messages_left -= 1;
            self.lanes.worked = true;
            match message {
                Message::Push { to, frame } => self.push(to, &frame),
                Message::Broadcast { frame } => self.begin_sweep(Whose::Others, frame),
                Message::Run(run) => self.run(run),
                other => self.told(other),
            }
            drop(room);
        }
    }

    fn begin_sweep(&mut self, whose: Whose, frame: Vec<u8>) {
        let frame = Shared::new(frame, self.desk.shared_bytes());
        self.lanes.lane(whose).sweep = Some(Sweep {
            frame,
            next_slot: 0,
        });
    }

    /// Goes on with a lane's broadcast, if it has one. Gives back whether it has none any more.
    fn sweep_on(&mut self, whose: Whose) -> bool {
        let lane = self.lanes.lane(whose);
        let Some(mut sweep) = lane.sweep.take() else {
            return true;
        };
        let slots = self.connections.slots();
        let end = sweep.next_slot.saturating_add(lane.slots_left).min(slots);
        lane.slots_left -= end - sweep.next_slot;
        self.lanes.worked = true;
        for slot in sweep.next_slot..end {
            let id = u32::try_from(slot).ok();
            if let Some(id) = id.and_then(|slot| self.connections.id_at(slot))
                && self.takes_pushes(id)
            {
                self.push_shared(id, &sweep.frame);
            }
        }
        sweep.next_slot = end;
        let is_done = end == slots;
        if !is_done {
            self.lanes.lane(whose).sweep = Some(sweep);
        }
        is_done
    }

    /// Whether a connection is open, and its peer has not ended its side.
    fn takes_pushes(&mut self, id: ConnectionId) -> bool {
        let connection = self.connections.get_mut(id);
        connection.is_some_and(|connection| is_taking(connection))
    }

    fn push(&mut self, to: ConnectionId, frame: &[u8]) {
        self.push_with(to, |outbound, spare| {
            let mut queue = outbound.take_queue(spare);
            queue.extend_from_slice(frame);
            outbound.put_queue(queue, spare);
        });
    }

    fn push_shared(&mut self, to: ConnectionId, frame: &Shared) {
        self.push_with(to, |outbound, spare| outbound.push_shared(frame, spare));
    }

    /// Has `queue` queue a frame for a connection, unless that is gone or ends.
    fn push_with(
        &mut self,
        to: ConnectionId,
        queue: impl FnOnce(&mut Outbound, &mut SpareBuffers),
    ) {
        let open = self.connections.get_mut(to);
        let Some(connection) = open.filter(|connection| is_taking(connection)) else {
            self.counters.stale_pushes += 1;
            return;
        };
        connection.note_push();
        queue(&mut connection.outbound, &mut self.spare);
        connection.traffic.frames_sent += 1;
        self.counters.frames_sent += 1;
        self.counters.pushes += 1;
        self.close_beyond_max(to);
        self.close_if_it_takes_too_much(to);
        self.settle(to);
    }

    /// Short of memory, whoever holds more than its part of all there is, and is pushed more, is
    /// closed: so all of them together hold no more than they may, and a frame each.
    fn close_if_it_takes_too_much(&mut self, id: ConnectionId) {
        if self.ledger.has_room(0) {
            return;
        }
        let part_bytes = self.settings.memory_bytes_max / self.connections.len().max(1);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let queued_bytes = connection.outbound.bytes();
        if queued_bytes.max(connection.charge.bytes) > part_bytes {
            self.close(id, CloseCause::SlowConsumer);
        }
    }

    fn run(&mut self, run: Run) {
        let state: &dyn Any = &*self.state;
        let (result, asker) = run.run(state);
        let outcome = result.unwrap_or_else(|panicked| {
            self.counters.run_panics += 1;
            tracing::error!(
                shard = self.number,
                panic = panicked.message,
                backtrace = panicked.backtrace,
                "a function that was to run on this shard panicked"
            );
            Err(RunError::Panicked)
        });
        self.counters.runs += 1;
        self.answer_call(asker, outcome);
    }

    /// Gives an outcome to whoever wants it. That needs no room: it was there for the question.
    fn answer_call(&mut self, asker: Asker, outcome: Outcome) {
        match asker {
            Asker::Nobody => {}
            Asker::Call(shard, call) if shard == self.number => self.desk.calls.end(call, outcome),
            Asker::Call(shard, call) => {
                let message = Message::Answer(Answer::new(call, outcome));
                self.post(shard, message);
            }
            // It drops what nobody waits for any more.
            Asker::Outside(take) => contain(|| take(outcome)),
        }
    }

    /// Another shard answers a call of this one.
    pub(super) fn take_answer(&mut self, answer: Answer) {
        self.lanes.worked = true;
        let (call, outcome) = answer.take();
        self.desk.calls.end(call, outcome);
    }

    /// What does not add up among errands, if anything.
    pub(super) fn audit_errands(&self) -> Result<(), String> {
        self.desk.audit()?;
        // With what a mailbox may bring.
        let most = ARRIVED_MAX + DELIVERIES_MAX + super::COMPLETIONS_PER_TURN;
        if self.lanes.arrived() > most {
            return Err(format!("{} messages of others wait", self.lanes.arrived()));
        }
        Ok(())
    }
}

/// Who has ended its side is closed when it has taken all, which pushes would put off for ever.
fn is_taking<Socket>(connection: &Connection<Socket>) -> bool {
    connection.phase == Phase::Open && !connection.is_served()
}
