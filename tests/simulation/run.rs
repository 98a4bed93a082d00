//! One run: turns and virtual time, until the shard has stopped.

use std::rc::Rc;

use corelane::metrics::{CloseCause, Counters};
use corelane::shard::{Shard, Turn};

use crate::handlers::{Flow, State, router};
use crate::invariants;
use crate::io::FakeIo;
use crate::model;
use crate::peer::{Peer, Reading};
use crate::scenario::{Class, Scenario};

/// More turns than any run needs: it would go on for ever.
const TURNS_MAX: u64 = 50_000;

/// A run in the middle.
pub(crate) struct Run {
    pub(crate) class: Class,
    pub(crate) scenario: Scenario,
    pub(crate) shard: Shard<FakeIo, State>,
    pub(crate) state: Rc<State>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) now_us: u64,
    /// When the shard was told to stop.
    pub(crate) stop_us: Option<u64>,
    /// What the counters said when they were judged last.
    pub(crate) counters: Counters,
    /// Whose close has been judged.
    pub(crate) closes_judged: Vec<bool>,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counters: Counters,
    pub(crate) turns: u64,
    pub(crate) trace: Vec<String>,
}

impl Run {
    pub(crate) fn new(class: Class, seed: u64, traces: bool) -> Run {
        let mut scenario = Scenario::new(class, seed);
        let may_overload = class == Class::Overload;
        let peers: Vec<Peer> = std::mem::take(&mut scenario.scripts)
            .into_iter()
            .enumerate()
            .map(|(number, script)| {
                let expected = model::expect(&script.stream, &scenario.settings, may_overload);
                Peer::new(number, script, expected, scenario.random.fork())
            })
            .collect();
        let flows = peers
            .iter()
            .map(|peer| Flow::new(peer.expected.requests.clone()));
        let state = Rc::new(State::new(
            scenario.random.fork(),
            flows.collect(),
            &scenario.settings,
            scenario.long_naps_percent,
        ));
        let settings = scenario.settings.clone();
        let mut io = FakeIo::new(
            peers.len(),
            scenario.listeners,
            scenario.faults.clone(),
            settings.outbound_high_bytes - 1 + settings.frame_bytes_max,
            scenario.random.fork(),
            Rc::clone(&state),
        );
        io.trace = traces.then(Vec::new);
        let shard = Shard::new(
            io,
            3,
            scenario.listeners,
            settings,
            router(),
            Rc::clone(&state),
        );
        Run {
            class,
            shard,
            state,
            closes_judged: vec![false; peers.len()],
            peers,
            now_us: scenario.start_us,
            stop_us: None,
            counters: Counters::default(),
            scenario,
        }
    }

    /// The trace so far.
    pub(crate) fn take_trace(&mut self) -> Vec<String> {
        self.shard.io_mut().trace.take().unwrap_or_default()
    }

    /// Runs to the end.
    pub(crate) fn finish(&mut self) -> Outcome {
        let mut turns = 0;
        loop {
            turns += 1;
            assert!(turns < TURNS_MAX, "it goes on for ever");
            let turn = self.turn();
            if turn.stopped {
                break;
            }
            self.pass_time(turn);
        }
        // Handlers may outlive their connections.
        while !self.shard.io_mut().is_drained() {
            turns += 1;
            assert!(turns < TURNS_MAX, "it goes on for ever");
            self.now_us += self.scenario.tick_us_max;
            let turn = self.turn();
            assert!(turn.stopped, "it had stopped, and works again");
        }
        invariants::judge_end(self);
        Outcome {
            counters: self.shard.counters().clone(),
            turns,
            trace: self.take_trace(),
        }
    }

    fn turn(&mut self) -> Turn {
        self.state.now_us.set(self.now_us);
        let mut order: Vec<usize> = (0..self.peers.len()).collect();
        self.scenario.random.shuffle(&mut order);
        for peer in order {
            self.peers[peer].act(self.now_us, self.shard.io_mut());
        }
        self.shard.io_mut().step(self.now_us);
        let turn = self.shard.turn(self.now_us);
        invariants::judge_turn(self, turn);
        turn
    }

    fn stop(&mut self) {
        if self.stop_us.is_none() {
            let io = self.shard.io_mut();
            io.note(|| "stop".to_owned());
            io.stopping = true;
            self.stop_us = Some(self.now_us);
            self.shard.stop(self.now_us);
        }
    }

    /// On to the next turn: at once if something could happen, or when something will.
    fn pass_time(&mut self, turn: Turn) {
        let now_us = self.now_us;
        if self.stop_us.is_none() && self.scenario.stop_us.is_some_and(|at_us| at_us <= now_us) {
            return self.stop();
        }
        let peers_us = self.next_of_peers_us();
        let io = self.shard.io_mut();
        if io.is_busy() || peers_us.is_some_and(|at_us| at_us <= now_us) {
            let tick_us_max = self.scenario.tick_us_max;
            self.now_us += self.scenario.random.between_us(0, tick_us_max);
            return;
        }
        let stop_us = self.scenario.stop_us.filter(|_| self.stop_us.is_none());
        let next_us = [peers_us, io.next_us(), turn.wake_at_us, stop_us];
        match next_us.into_iter().flatten().min() {
            Some(at_us) => self.now_us = at_us.max(now_us),
            None => self.end_stillness(),
        }
    }

    fn next_of_peers_us(&mut self) -> Option<u64> {
        let io = self.shard.io_mut();
        self.peers.iter().filter_map(|peer| peer.next_us(io)).min()
    }

    /// Nothing will ever happen by itself: right if everybody who is left would stay for ever.
    fn end_stillness(&mut self) {
        assert!(self.stop_us.is_none(), "the shard is stuck while it stops");
        let connections_max = self.scenario.settings.connections_max;
        let reply_errors = self.scenario.settings.reply_errors;
        let has_room = self.shard.connections() < connections_max;
        let mut eternal = Vec::new();
        for (number, peer) in self.peers.iter().enumerate() {
            let io = self.shard.io_mut();
            let link = &io.links[number];
            if link.id.is_none() {
                let waits =
                    link.accepted || io.listeners.iter().any(|l| l.backlog.contains(&number));
                assert!(
                    !waits || !has_room,
                    "the shard is stuck: peer {number} can't get in"
                );
                continue;
            }
            if link.closed.is_some() {
                continue;
            }
            assert!(
                !link.broken,
                "the shard is stuck: peer {number} is broken, not closed"
            );
            eternal.push(number);
            if peer.script.reading == Reading::Never {
                continue;
            }
            assert!(
                peer.end(link.end_told).is_none(),
                "the shard is stuck: peer {number} is at its end, not closed"
            );
            let missing = peer.missing(reply_errors);
            assert!(
                missing == 0,
                "the shard is stuck: peer {number} misses {missing} replies"
            );
        }
        if self.scenario.resets_the_eternal && !eternal.is_empty() {
            for number in eternal {
                self.peers[number].reset(self.shard.io_mut());
            }
        } else {
            self.stop();
        }
    }

    /// What may have ended this peer's connection.
    pub(crate) fn possible_causes(&mut self, number: usize) -> Vec<CloseCause> {
        let link = &self.shard.io_mut().links[number];
        let (broken, end_told) = (link.broken, link.end_told);
        let mut causes: Vec<CloseCause> = self.peers[number].end(end_told).into_iter().collect();
        if broken {
            causes.push(CloseCause::Reset);
        }
        if self.stop_us.is_some() {
            causes.push(CloseCause::Stop);
        }
        causes
    }
}
