//! What handlers do besides answering, and what must come of it: pushes, broadcasts, and functions
//! on other shards.
//!
//! Everything that is asked for has a number, which goes up, and is in what is sent. So it can be
//! judged from outside: where each frame may arrive, once and in which order, and that each function
//! ran once and was answered once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corelane::handler::{ConnectionId, Local, Reply, Router, RunError};
use corelane::metrics::CloseCause;
use corelane::shard::Settings;

use crate::handlers::{AtWork, ON_PURPOSE, code};
use crate::network::Network;
use crate::random::Random;
use crate::state::{State, Violations};
use crate::wire::{HEADER_BYTES, u16_at, u32_at};

/// Number and sender.
const BODY_BYTES_MIN: usize = 6;

/// Something that was sent to one, several or all connections.
#[derive(Debug)]
struct Sending {
    from: usize,
    /// Those that it was taken for; `None` for everybody.
    to: Option<BTreeSet<ConnectionId>>,
    body_bytes: usize,
    at_us: u64,
    arrived: BTreeSet<ConnectionId>,
}

/// A function that was to run on a shard.
#[derive(Debug, Default)]
struct Function {
    ran: u32,
    answers: u32,
    refused: bool,
    is_call: bool,
    panics: bool,
}

/// What was asked for, over all shards.
#[derive(Debug)]
pub(crate) struct Mesh {
    violations: Violations,
    locals: RefCell<Vec<Local<State>>>,
    sendings: RefCell<Vec<Sending>>,
    functions: RefCell<Vec<Function>>,
    /// Connections that were opened, and the cause of their end.
    told: RefCell<BTreeMap<ConnectionId, Option<CloseCause>>>,
    /// By sender and receiver: the number that arrived last.
    latest: RefCell<BTreeMap<(usize, ConnectionId), usize>>,
    random: RefCell<Random>,
    /// Pushes to one connection that were taken.
    pub(crate) pushes: Cell<u64>,
    pub(crate) pushes_arrived: Cell<u64>,
    refused: Cell<u64>,
    /// Bytes of frames that were taken, by receiver, and those for everybody.
    pushed_bytes: RefCell<BTreeMap<ConnectionId, usize>>,
    broadcast_bytes: Cell<usize>,
    /// Events may be pushed besides.
    has_events: Cell<bool>,
    pub(crate) panics: Cell<u64>,
}

impl Mesh {
    pub(crate) fn new(violations: Violations, random: Random) -> Mesh {
        Mesh {
            violations,
            locals: RefCell::default(),
            sendings: RefCell::default(),
            functions: RefCell::default(),
            told: RefCell::default(),
            latest: RefCell::default(),
            random: RefCell::new(random),
            pushes: Cell::new(0),
            pushes_arrived: Cell::new(0),
            refused: Cell::new(0),
            pushed_bytes: RefCell::default(),
            broadcast_bytes: Cell::new(0),
            has_events: Cell::new(false),
            panics: Cell::new(0),
        }
    }

    /// Shards come in their order.
    pub(crate) fn add_shard(&self, local: Local<State>) {
        self.locals.borrow_mut().push(local);
    }

    fn local(&self, shard: usize) -> Local<State> {
        self.locals.borrow()[shard].clone()
    }

    /// Events of so many bytes at most may be pushed to everybody.
    pub(crate) fn expect_events(&self, frame_bytes: usize) {
        self.has_events.set(true);
        self.broadcast_bytes.set(frame_bytes);
    }

    /// Whether anything was asked for so far, or may have been.
    pub(crate) fn is_used(&self) -> bool {
        self.has_events.get() || self.is_asked()
    }

    /// Whether handlers have asked for anything so far.
    fn is_asked(&self) -> bool {
        !self.sendings.borrow().is_empty() || !self.functions.borrow().is_empty()
    }

    /// Bytes of all frames that may have been queued for a connection besides its replies.
    pub(crate) fn bytes_for(&self, id: ConnectionId) -> usize {
        let pushed_bytes = self.pushed_bytes.borrow();
        self.broadcast_bytes.get() + pushed_bytes.get(&id).copied().unwrap_or(0)
    }

    fn opened(&self, id: ConnectionId) {
        if self.told.borrow_mut().insert(id, None).is_some() {
            self.violations.add(format_args!("{id} was opened twice"));
        }
    }

    fn closed(&self, id: ConnectionId, cause: CloseCause) {
        if self.told.borrow_mut().insert(id, Some(cause)) != Some(None) {
            self.violations.add(format_args!("{id} was not open"));
        }
    }

    /// Somebody who is connected, was, or neither: whoever had an id.
    fn anybody(&self) -> Option<ConnectionId> {
        let told = self.told.borrow();
        let mut random = self.random.borrow_mut();
        let open: Vec<_> = told.iter().filter(|(_, end)| end.is_none()).collect();
        if random.percent(70) && !open.is_empty() {
            return Some(*random.one_of(&open).0);
        }
        let all: Vec<_> = told.keys().copied().collect();
        (!all.is_empty()).then(|| random.one_of(&all))
    }

    fn percent(&self, percent: u64) -> bool {
        self.random.borrow_mut().percent(percent)
    }

    fn between(&self, low: usize, high: usize) -> usize {
        self.random.borrow_mut().between(low, high)
    }

    /// A frame's body with the next number.
    fn next_body(&self, state: &State, from: usize, to: Option<BTreeSet<ConnectionId>>) -> Vec<u8> {
        let room = state.frame_bytes_max - HEADER_BYTES;
        let longest = match self.between(0, 19) {
            0..8 => 20,
            8..14 => 400,
            14..19 => 3_000,
            _ => 20_000,
        };
        let bytes = self.between(BODY_BYTES_MIN, longest.min(room).max(BODY_BYTES_MIN));
        let mut sendings = self.sendings.borrow_mut();
        let number = sendings.len();
        let mut body = (number as u32).to_be_bytes().to_vec();
        body.extend_from_slice(&(from as u16).to_be_bytes());
        body.extend((body.len()..bytes).map(|at| filler(number, at)));
        sendings.push(Sending {
            from,
            to,
            body_bytes: bytes,
            at_us: state.now_us.get(),
            arrived: BTreeSet::new(),
        });
        body
    }

    fn take<E>(&self, to: Option<ConnectionId>, result: &Result<(), E>) {
        let mut sendings = self.sendings.borrow_mut();
        let Some(last) = sendings.last_mut() else {
            return;
        };
        let frame_bytes = HEADER_BYTES + last.body_bytes;
        match (result, to, &mut last.to) {
            (Ok(()), Some(id), Some(receivers)) => {
                receivers.insert(id);
                self.pushes.set(self.pushes.get() + 1);
                *self.pushed_bytes.borrow_mut().entry(id).or_default() += frame_bytes;
            }
            (Ok(()), ..) => {
                let bytes = self.broadcast_bytes.get() + frame_bytes;
                self.broadcast_bytes.set(bytes);
            }
            (Err(_), ..) => {
                self.refused.set(self.refused.get() + 1);
                // Nobody gets it, but for those who were before.
                last.to.get_or_insert_with(BTreeSet::new);
            }
        }
    }

    fn push(&self, state: &State, from: usize, to: ConnectionId) {
        let body = self.next_body(state, from, Some(BTreeSet::new()));
        let result = self.local(from).push(to, code::PUSHED, &body);
        self.take(Some(to), &result);
    }

    /// To a connection that is over, so that it must not arrive.
    fn push_too_late(&self, state: &State, to: ConnectionId) {
        let body = self.next_body(state, to.shard(), Some(BTreeSet::new()));
        match self.local(to.shard()).push(to, code::PUSHED, &body) {
            Ok(()) => self.pushes.set(self.pushes.get() + 1),
            Err(_) => self.refused.set(self.refused.get() + 1),
        }
    }

    fn push_to_several(&self, state: &State, from: usize) {
        let body = self.next_body(state, from, Some(BTreeSet::new()));
        let Ok(frame) = self.local(from).share(code::PUSHED, &body) else {
            return;
        };
        let several = (0..self.between(1, 6)).filter_map(|_| self.anybody());
        for to in several.collect::<BTreeSet<_>>() {
            let result = self.local(from).push_shared(to, &frame);
            self.take(Some(to), &result);
        }
    }

    fn broadcast(&self, state: &State, from: usize) {
        let body = self.next_body(state, from, None);
        let result = self.local(from).broadcast(code::PUSHED, &body);
        self.take(None, &result);
    }

    fn next_function(&self, is_call: bool) -> (usize, bool) {
        let mut functions = self.functions.borrow_mut();
        let panics = self.percent(5);
        functions.push(Function {
            is_call,
            panics,
            ..Function::default()
        });
        (functions.len() - 1, panics)
    }

    fn tell(&self, from: usize) {
        let (number, panics) = self.next_function(false);
        let shard = self.between(0, self.locals.borrow().len() - 1);
        let function = move |state: &State| ran(state, shard, number, panics);
        if self.local(from).tell(shard, function).is_err() {
            self.functions.borrow_mut()[number].refused = true;
        }
    }

    async fn call(state: &State, from: usize) {
        let mesh = &state.mesh;
        let (number, panics) = mesh.next_function(true);
        let shard = mesh.between(0, mesh.locals.borrow().len() - 1);
        let function = move |state: &State| {
            ran(state, shard, number, panics);
            number
        };
        let answer = mesh.local(from).run_on(shard, function).await;
        let function = &mut mesh.functions.borrow_mut()[number];
        function.answers += 1;
        match answer {
            Ok(answer) if answer == number && function.ran == 1 && !panics => {}
            Err(RunError::Panicked) if panics && function.ran == 1 => {}
            Err(RunError::Overloaded) if function.ran == 0 => function.refused = true,
            other => mesh
                .violations
                .add(format_args!("call {number} is answered by {other:?}")),
        }
    }

    /// Does a few things at random.
    pub(crate) fn act(&self, state: &State, shard: usize) {
        for _ in 0..self.between(0, 5) {
            match self.between(0, 9) {
                0..5 => {
                    if let Some(to) = self.anybody() {
                        self.push(state, shard, to);
                    }
                }
                5..7 => self.push_to_several(state, shard),
                7 => self.broadcast(state, shard),
                _ => self.tell(shard),
            }
        }
    }

    /// A pushed frame arrived.
    pub(crate) fn arrived(&self, id: ConnectionId, body: &[u8]) -> Result<(), String> {
        if body.len() < BODY_BYTES_MIN {
            return Err(format!("nobody pushed {body:?}"));
        }
        let (number, from) = (u32_at(body, 0) as usize, usize::from(u16_at(body, 4)));
        let mut sendings = self.sendings.borrow_mut();
        let Some(sending) = sendings.get_mut(number) else {
            return Err(format!("nobody pushed number {number}"));
        };
        let is_whole = body.len() == sending.body_bytes
            && from == sending.from
            && (BODY_BYTES_MIN..body.len()).all(|at| body[at] == filler(number, at));
        if !is_whole {
            return Err(format!("push {number} was not like this: {body:?}"));
        }
        if !sending.to.as_ref().is_none_or(|to| to.contains(&id)) {
            return Err(format!("push {number} is not for {id}"));
        }
        if !sending.arrived.insert(id) {
            return Err(format!("push {number} came to {id} twice"));
        }
        if sending.to.is_some() {
            self.pushes_arrived.set(self.pushes_arrived.get() + 1);
        }
        let latest = self.latest.borrow_mut().insert((from, id), number);
        match latest {
            Some(latest) if latest > number => Err(format!(
                "push {number} of shard {from} came to {id} after {latest}"
            )),
            _ => Ok(()),
        }
    }

    /// What is missing for a connection that was there all the time from its admission until the
    /// first shard was told to stop, which is when the rest of them may go on for a while.
    pub(crate) fn missing(&self, id: ConnectionId, admitted_us: u64, stop_us: u64) -> Vec<usize> {
        let sendings = self.sendings.borrow();
        let missing = sendings.iter().enumerate().filter(|(_, sending)| {
            let is_for_it = match &sending.to {
                Some(to) => to.contains(&id),
                None => sending.at_us > admitted_us,
            };
            is_for_it && sending.at_us < stop_us && !sending.arrived.contains(&id)
        });
        missing.map(|(number, _)| number).collect()
    }

    /// When it is all over.
    pub(crate) fn judge_end(&self) {
        for (number, function) in self.functions.borrow().iter().enumerate() {
            let runs = u32::from(!function.refused);
            let answers = u32::from(function.is_call);
            assert_eq!(function.ran, runs, "function {number} ran so often");
            assert_eq!(function.answers, answers, "call {number} was answered");
        }
        for (id, end) in self.told.borrow().iter() {
            assert!(end.is_some(), "{id} was never closed");
        }
    }

    /// Errands that were refused.
    pub(crate) fn refused(&self) -> u64 {
        let functions = self.functions.borrow();
        let functions = functions.iter().filter(|function| function.refused);
        self.refused.get() + functions.count() as u64
    }

    /// Functions that ran, and those of them that panicked.
    pub(crate) fn runs(&self) -> (u64, u64) {
        let functions = self.functions.borrow();
        let ran = functions.iter().filter(|function| function.ran > 0);
        let panicked = ran.clone().filter(|function| function.panics);
        (ran.count() as u64, panicked.count() as u64)
    }

    /// Connections that hooks were told of.
    pub(crate) fn told(&self) -> usize {
        self.told.borrow().len()
    }
}

/// Whether more may have been queued for a peer than may be, with what was pushed to it.
pub(crate) fn may_be_slow(
    (network, state): (&Network, &State),
    settings: &Settings,
    peer: usize,
) -> bool {
    let id = network.links[peer].id;
    let pushed_bytes = id.map_or(0, |id| state.mesh.bytes_for(id));
    let flow = &state.flows.borrow()[peer];
    let most_bytes = pushed_bytes + flow.all_bytes_max();
    let sent_bytes = flow.sent_bytes_before(network.turn);
    // Short of memory, whoever has more than its part of it is closed at the next push.
    let may_be_short = settings.memory_bytes_max < usize::MAX;
    let is_too_much = most_bytes.saturating_sub(sent_bytes) > settings.outbound_bytes_max;
    pushed_bytes > 0 && (is_too_much || may_be_short)
}

/// A function runs on a shard, and may ask for more from there.
fn ran(state: &State, shard: usize, number: usize, panics: bool) {
    let runs = {
        let function = &mut state.mesh.functions.borrow_mut()[number];
        function.ran += 1;
        function.ran
    };
    if runs > 1 {
        let violations = &state.mesh.violations;
        violations.add(format_args!("function {number} runs again"));
    }
    if state.mesh.percent(30) {
        state.mesh.act(state, shard);
    }
    assert!(!panics, "{ON_PURPOSE}, elsewhere");
}

fn filler(number: usize, at: usize) -> u8 {
    (number.wrapping_mul(7) + at) as u8
}

/// Handlers that do more than to answer, and hooks.
pub(crate) fn add_to(router: &mut Router<State>) {
    router.handler(code::MESH, |state: &State, context, body| {
        let id = context.connection();
        state.enter(id, body, false);
        state.mesh.act(state, id.shard());
        context.reply(body)
    });
    router.async_handler(code::ASYNC_MESH, |state: Rc<State>, request| {
        let at_work = AtWork::enter(&state, &request);
        async move {
            let shard = request.connection().shard();
            at_work.nap().await;
            state.mesh.act(&state, shard);
            if state.mesh.percent(70) {
                Mesh::call(&state, shard).await;
                state.mesh.act(&state, shard);
            }
            Reply::new(request.into_body())
        }
    });
    router.on_open(|state: &State, id| {
        state.mesh.opened(id);
        if state.mesh.is_asked() && state.mesh.percent(50) {
            state.mesh.push(state, id.shard(), id);
        }
    });
    router.on_close(|state: &State, id, cause| {
        state.mesh.closed(id, cause);
        if state.mesh.is_asked() && state.mesh.percent(50) {
            state.mesh.push_too_late(state, id);
        }
        if state.mesh.is_asked() && state.mesh.percent(10) {
            state.mesh.panics.set(state.mesh.panics.get() + 1);
            panic!("{ON_PURPOSE}, at the end");
        }
    });
}
