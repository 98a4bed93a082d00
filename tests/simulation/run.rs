//! One run: turns and virtual time, until all shards have stopped.

use std::rc::Rc;
use std::sync::Arc;

use corelane::metrics::Counters;
use corelane::shard::{Loads, Settings, Shard, Turn};

use crate::handlers::router;
use crate::io::FakeIo;
use crate::limits::connection_bytes;
use crate::model;
use crate::network::Network;
use crate::peer::{Peer, Reading};
use crate::random::Random;
use crate::reload::Rules;
use crate::rest::Ends;
use crate::scenario::{Class, Scenario};
use crate::state::{Flow, State};
use crate::tasks::Tasks;
use crate::topics::Oracle;
use crate::{ends, invariants};

/// More turns than any run needs: it would go on for ever.
const TURNS_MAX: u64 = 100_000;

/// Of a hundred times, how often a shard takes a turn without anything to do.
const IDLE_TURN_PERCENT: u64 = 5;

/// A run in the middle.
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) network: Network,
    pub(crate) shards: Vec<Shard<FakeIo, State>>,
    pub(crate) loads: Arc<Loads>,
    pub(crate) state: Rc<State>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) now_us: u64,
    /// By shard: its last turn.
    pub(crate) turns: Vec<Turn>,
    /// By shard.
    pub(crate) rules: Vec<Rules>,
    /// By shard: what the counters said when they were judged last.
    pub(crate) counters: Vec<Counters>,
    /// By shard: frames were put off in the turn before.
    pub(crate) put_off: Vec<bool>,
    /// Whose close has been judged.
    pub(crate) closes_judged: Vec<bool>,
    pub(crate) ends: Ends,
    pub(crate) topics: Oracle,
    pub(crate) tasks: Tasks,
    rounds: u64,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counters: Vec<Counters>,
    pub(crate) turns: u64,
    /// Sends of which something was taken at once.
    pub(crate) sends_at_once: u64,
    /// Turns after which connections were left to be brought in line with other settings.
    pub(crate) unfinished_turns: u64,
    pub(crate) trace: Vec<String>,
}

impl Run {
    pub(crate) fn new(class: Class, seed: u64, traces: bool) -> Run {
        let mut scenario = Scenario::new(class, seed);
        let may_overload = scenario.kind == Class::Overload;
        let settings = Rc::new(scenario.settings.clone());
        let peers: Vec<Peer> = std::mem::take(&mut scenario.scripts)
            .into_iter()
            .enumerate()
            .map(|(number, script)| {
                let expected = model::expect(&script.stream, &settings, may_overload);
                Peer::new(number, script, expected, scenario.random.fork())
            })
            .collect();
        let flows = peers
            .iter()
            .map(|peer| Flow::new(peer.expected.requests.clone()));
        let state = Rc::new(State::new(
            scenario.random.fork(),
            flows.collect(),
            (&settings, scenario.rate),
            scenario.shards,
            scenario.long_naps_percent,
        ));
        let addresses: Vec<_> = peers.iter().map(|peer| peer.script.address).collect();
        let topics = Oracle::new(&peers);
        if scenario.kind == Class::Topics {
            state.mesh.expect_events(topics.event_bytes());
        }
        let tasks = Tasks::new(match scenario.kind {
            Class::Topics => scenario.random.fork(),
            _ => Random::new(0),
        });
        let mut network = Network::new(&addresses, (scenario.shards, scenario.listeners));
        network.mesh.queue_max = scenario.faults.mesh_queue_max;
        network.trace = traces.then(Vec::new);
        let loads = Arc::new(Loads::new(scenario.shards as u16));
        let shards: Vec<_> = (0..scenario.shards)
            .map(|number| shard((number, &loads), &mut scenario, &settings, &state))
            .collect();
        let first = Turn {
            worked: true,
            has_more: true,
            wake_at_us: None,
            stopped: false,
        };
        Run {
            rules: shards.iter().map(|_| Rules::new(&settings)).collect(),
            network,
            turns: vec![first; shards.len()],
            counters: vec![Counters::default(); shards.len()],
            put_off: vec![false; shards.len()],
            closes_judged: vec![false; peers.len()],
            ends: Ends::new(shards.len()),
            topics,
            tasks,
            rounds: 0,
            shards,
            loads,
            state,
            peers,
            now_us: scenario.start_us,
            scenario,
        }
    }

    /// The trace so far.
    pub(crate) fn take_trace(&mut self) -> Vec<String> {
        let networks = self
            .shards
            .iter_mut()
            .map(|shard| &mut shard.io_mut().network);
        let mut traces = std::iter::once(&mut self.network).chain(networks);
        traces
            .find_map(|network| network.trace.take())
            .unwrap_or_default()
    }

    /// Runs to the end.
    pub(crate) fn finish(&mut self) -> Outcome {
        if self.has_topics() {
            self.go_on_with_tasks();
        } else {
            while self.go_on() {}
        }
        ends::judge_end(self);
        Outcome {
            counters: self
                .shards
                .iter()
                .map(|shard| shard.counters().clone())
                .collect(),
            turns: self.network.turn,
            sends_at_once: self.network.sends_at_once,
            unfinished_turns: self.rules.iter().map(|rules| rules.unfinished_turns).sum(),
            trace: self.take_trace(),
        }
    }

    pub(crate) fn has_topics(&self) -> bool {
        self.scenario.kind == Class::Topics
    }

    /// One more round, unless it is all over.
    pub(crate) fn go_on(&mut self) -> bool {
        if self.is_over() {
            return false;
        }
        self.rounds += 1;
        assert!(self.rounds < TURNS_MAX, "it goes on for ever");
        self.round();
        self.pass_time();
        true
    }

    /// All shards have stopped, and nothing is left that they could be told: handlers may outlive
    /// their connections.
    fn is_over(&mut self) -> bool {
        self.turns.iter().all(|turn| turn.stopped && !turn.has_more)
            && self.shards.iter().all(|shard| !shard.has_errands())
            && self.tasks_are_done()
            && self.network.mesh.next_us().is_none()
            && self
                .shards
                .iter_mut()
                .all(|shard| shard.io_mut().is_drained())
    }

    /// Every peer and most shards do what they can do now.
    fn round(&mut self) {
        self.state.now_us.set(self.now_us);
        self.network.now_us = self.now_us;
        let mut order: Vec<usize> = (0..self.peers.len()).collect();
        self.scenario.random.shuffle(&mut order);
        self.crowd();
        for peer in order {
            self.peers[peer].act(self.now_us, &mut self.network);
        }
        let mut order: Vec<usize> = (0..self.shards.len()).collect();
        self.scenario.random.shuffle(&mut order);
        let sits_out_percent = self.scenario.faults.sits_out_percent;
        for shard in order {
            self.reload(shard);
            self.tell(shard);
            // It may take a turn for nothing, or not take one at once.
            let takes_percent = if self.has_work(shard) {
                100 - sits_out_percent
            } else {
                IDLE_TURN_PERCENT
            };
            if self.shards.len() == 1 || self.scenario.random.percent(takes_percent) {
                self.turn(shard);
            }
        }
    }

    fn has_work(&mut self, number: usize) -> bool {
        let turn = self.turns[number];
        let is_woken = turn.wake_at_us.is_some_and(|at_us| at_us <= self.now_us);
        let has_errands = self.shards[number].has_errands();
        turn.has_more
            || is_woken
            || has_errands
            || self.shards[number].io_mut().is_busy(&self.network)
    }

    fn turn(&mut self, number: usize) {
        let had_stopped = self.turns[number].stopped;
        self.network.turn += 1;
        self.network.mesh.departed.clear();
        self.network.mesh.presented.clear();
        let before = self.before(number);
        self.state.turn.set(self.network.turn);
        self.state.forum.enter(number);
        self.tasks.note_turn();
        self.network.note(|| format!("turn of shard {number}"));
        let shard = &mut self.shards[number];
        shard.io_mut().network = std::mem::take(&mut self.network);
        shard.io_mut().step();
        let turn = shard.turn(self.now_us);
        self.network = std::mem::take(&mut shard.io_mut().network);
        self.turns[number] = turn;
        assert!(
            turn.stopped || !had_stopped,
            "it had stopped, and works again"
        );
        self.network.full[number] = !self.has_room(number)
            || self.network.has_waiting(number)
            || self.network.mesh.is_congested(number)
            || self.shards[number].io_mut().going_down.is_begun();
        self.end_drain(number);
        let left = self.revise(number, before, turn);
        invariants::judge_turn(self, number, (before, turn, left));
    }

    /// On to the next turn: at once if something could happen, or when something will.
    fn pass_time(&mut self) {
        let now_us = self.now_us;
        let network = &self.network;
        let peers_us = self
            .peers
            .iter()
            .filter_map(|peer| peer.next_us(network))
            .min();
        let is_busy = |shard: &mut Shard<FakeIo, State>| shard.io_mut().is_busy(network);
        if self.shards.iter_mut().any(is_busy)
            || self.turns.iter().any(|turn| turn.has_more)
            || self.has_tasks()
            || peers_us.is_some_and(|at_us| at_us <= now_us)
        {
            let tick_us_max = self.scenario.tick_us_max;
            self.now_us += self.scenario.random.between_us(0, tick_us_max);
            return;
        }
        let mut next_us = peers_us.into_iter().collect::<Vec<_>>();
        next_us.extend(network.mesh.next_us());
        for number in 0..self.shards.len() {
            next_us.extend(self.turns[number].wake_at_us);
            next_us.extend(self.next_reload_us(number));
            let (drain_us, stop_us) = (self.scenario.drain_us, self.scenario.stop_us);
            let told_us = [drain_us, stop_us].map(|at_us| self.told_us(number, at_us));
            let io = self.shards[number].io_mut();
            next_us.extend(io.next_us());
            next_us.extend(told_us[0].filter(|_| !io.going_down.is_begun()));
            next_us.extend(told_us[1].filter(|_| io.stop_told_us.is_none()));
        }
        match next_us.into_iter().min() {
            Some(at_us) => self.now_us = at_us.max(now_us),
            None if self.is_over() => {}
            None => self.end_stillness(),
        }
    }

    /// Nothing will ever happen by itself: right if everybody who is left would stay for ever.
    fn end_stillness(&mut self) {
        assert!(
            self.scenario.stop_us.is_none(),
            "a shard is stuck while it stops"
        );
        let mut eternal = Vec::new();
        for number in 0..self.peers.len() {
            if self.is_eternal(number) {
                eternal.push(number);
            }
        }
        if self.scenario.resets_the_eternal && !eternal.is_empty() {
            for number in eternal {
                self.peers[number].reset(&mut self.network);
            }
        } else {
            self.scenario.stop_us = Some(self.now_us);
        }
    }

    /// Whether this peer would stay for ever; it must not if somebody should see to it.
    fn is_eternal(&mut self, number: usize) -> bool {
        let (link, peer) = (&self.network.links[number], &self.peers[number]);
        if link.closed.is_some() || !link.connected || link.broken && !link.is_accepted() {
            return false;
        }
        let Some(id) = link.id else {
            let shard = link.waits_at(peer.script.listener.0);
            assert!(
                !self.has_room(shard),
                "shard {shard} is stuck: peer {number} can't get in"
            );
            return false;
        };
        assert!(
            !link.broken,
            "shard {} is stuck: peer {number} is broken, not closed",
            id.shard()
        );
        if peer.script.reading != Reading::Never {
            assert!(
                peer.end(link.end_told).is_none(),
                "shard {} is stuck: peer {number} is at its end, not closed",
                id.shard()
            );
            let missing = peer.missing(self.scenario.settings.reply_errors);
            assert!(
                missing == 0,
                "shard {} is stuck: peer {number} misses {missing} replies",
                id.shard()
            );
        }
        true
    }

    /// Whether a shard has room for another connection.
    fn has_room(&self, shard: usize) -> bool {
        let settings = self.settings(shard);
        let shard = &self.shards[shard];
        shard.connections() < settings.connections_max
            && shard.memory_bytes().saturating_add(connection_bytes()) <= settings.memory_bytes_max
    }
}

fn shard(
    (number, loads): (usize, &Arc<Loads>),
    scenario: &mut Scenario,
    settings: &Rc<Settings>,
    state: &Rc<State>,
) -> Shard<FakeIo, State> {
    let io = FakeIo::new(
        (number, Arc::clone(loads)),
        scenario.faults.clone(),
        Rc::clone(settings),
        scenario.random.fork(),
        Rc::clone(state),
    );
    Shard::new(
        io,
        (number as u16, Arc::clone(loads)),
        scenario.listeners,
        (**settings).clone(),
        router(scenario.kind),
        |local| {
            let limits = scenario.topics.limits.clone();
            state.forum.add_shard(&local, limits);
            state.mesh.add_shard(local);
            Rc::clone(state)
        },
    )
}
