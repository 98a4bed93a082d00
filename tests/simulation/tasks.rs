//! The tasks of topics, which are glommio's: they see to links, and try again what found no room on
//! another shard, a millisecond of real time later. Who waits for room on its own shard is woken by
//! that.
//!
//! All shards of a run are on one executor, which goes on with tasks between two rounds, or not, by the
//! seed. Real time is to mean nothing: while somebody may wait for it, tasks go on only after as long a
//! wait, so whoever waited by then tries again exactly once.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use corelane::glommio::LocalExecutor;
use corelane::glommio::timer::sleep;
use corelane::shard::Shard;
use futures_lite::future::yield_now;

use crate::random::Random;
use crate::run::Run;

/// How long tasks wait before they try again: the topics' own pause.
const PAUSE: Duration = Duration::from_millis(1);

/// Tasks wake one another; so often all of them go on.
const YIELDS: usize = 6;

/// So many times nobody has waited before that is taken for certain: refusals show with a shard's next
/// turn.
const CALM_ROUNDS: u32 = 2;

/// Of a hundred rounds, how many tasks go on after, while some may wait.
const GOES_ON_PERCENT: u64 = 8;

/// How far the tasks of a run are.
#[derive(Debug)]
pub(crate) struct Tasks {
    random: Random,
    /// There were turns since they went on.
    is_behind: bool,
    /// Errands that were refused when they went on last, over all shards.
    refused: u64,
    /// Some may wait for so many rounds more, if nothing new is refused.
    waits_rounds: u32,
}

impl Tasks {
    pub(crate) fn new(random: Random) -> Tasks {
        Tasks {
            random,
            is_behind: false,
            refused: 0,
            waits_rounds: 0,
        }
    }

    pub(crate) fn note_turn(&mut self) {
        self.is_behind = true;
    }

    fn may_wait(&self) -> bool {
        self.waits_rounds > 0
    }
}

type Panic = Box<dyn Any + Send>;

impl Run {
    /// Whether tasks may have something to do, or have left something to do.
    pub(crate) fn has_tasks(&self) -> bool {
        self.has_topics() && (!self.tasks_are_done() || self.has_errands())
    }

    /// Whether no task is to go on.
    pub(crate) fn tasks_are_done(&self) -> bool {
        !self.has_topics() || !self.tasks.is_behind && !self.tasks.may_wait()
    }

    fn has_errands(&self) -> bool {
        self.shards.iter().any(Shard::has_errands)
    }

    /// Runs to the end, with tasks in between.
    pub(crate) fn go_on_with_tasks(&mut self) {
        let executor = LocalExecutor::default();
        if let Err(panic) = executor.run(self.rounds_and_tasks()) {
            // The executor is whole, and has let go of what its tasks hold.
            drop(executor);
            resume_unwind(panic);
        }
    }

    async fn rounds_and_tasks(&mut self) -> Result<(), Panic> {
        while catch_unwind(AssertUnwindSafe(|| self.go_on()))? {
            self.note_waiting();
            if !self.tasks.may_wait() {
                self.let_tasks_go_on().await;
            } else if self.tasks.random.percent(GOES_ON_PERCENT) {
                sleep(PAUSE).await;
                self.tasks.waits_rounds -= 1;
                self.let_tasks_go_on().await;
            }
        }
        Ok(())
    }

    async fn let_tasks_go_on(&mut self) {
        for _ in 0..YIELDS {
            yield_now().await;
        }
        self.tasks.is_behind = false;
    }

    /// Who waits has found no room, or waits for a shard where somebody has not.
    fn note_waiting(&mut self) {
        let counters = self.shards.iter().map(Shard::counters);
        let refused = counters.map(|counters| counters.errands_refused).sum();
        let is_refused = std::mem::replace(&mut self.tasks.refused, refused) < refused;
        let is_congested =
            (0..self.shards.len()).any(|shard| self.network.mesh.is_congested(shard));
        let figures = self.state.forum.figures();
        let is_under_way = figures.iter().any(|figures| figures.unsettled > 0)
            || self.shards.iter().any(|shard| shard.handlers() > 0);
        if is_refused || is_congested || self.tasks.may_wait() && is_under_way {
            self.tasks.waits_rounds = CALM_ROUNDS;
        }
    }
}
