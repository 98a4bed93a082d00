//! From turns to what they say of more cores: which figure the law is fitted to, and why.
//!
//! Only like is compared with like: a series has the load in one place, so that what differs
//! between its rows is the number of shards.

use std::fmt;

use super::bootstrap::{Costs, Fitted, Interval, Outcome};
use super::plan::{LoadOn, Setup};
use super::support::stats::Spread;
use super::turn::Turn;
use super::usl::Law;

/// For so many cores it is foretold.
pub(crate) const CORES: [u32; 4] = [8, 16, 32, 64];

/// From this share on, a shard counts as busy all the time.
const BUSY: f64 = 0.95;

/// A setup and its turn in each repeat.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) setup: Setup,
    pub(crate) turns: Vec<Turn>,
}

impl Row {
    pub(crate) fn spread(&self, figure: impl Fn(&Turn) -> f64) -> Spread {
        Spread::of(self.turns.iter().map(figure))
    }

    pub(crate) fn busy(&self) -> Spread {
        self.spread(|turn| turn.server_busy(self.setup.shards))
    }

    pub(crate) fn capacity(&self) -> Spread {
        self.spread(|turn| turn.capacity(self.setup.shards))
    }

    /// CPU cost of a message against that of another row, within each repeat.
    pub(crate) fn cost_ratio(&self, base: &Row) -> Spread {
        let pairs = self.turns.iter().zip(&base.turns);
        Spread::of(pairs.map(|(ours, base)| ours.server_us / base.server_us))
    }
}

/// The rows with the load in one place, by growing count.
pub(crate) struct Series<'a> {
    pub(crate) load_on: LoadOn,
    /// One server each.
    pub(crate) rows: Vec<&'a Row>,
    /// As many servers as shards.
    pub(crate) separate: Vec<&'a Row>,
}

/// Those that have rows.
pub(crate) fn series(rows: &[Row]) -> Vec<Series<'_>> {
    [LoadOn::Others, LoadOn::Every]
        .map(|load_on| {
            let (separate, rows) = rows
                .iter()
                .filter(|row| row.setup.load_on == load_on)
                .partition(|row| row.setup.separate);
            Series {
                load_on,
                rows,
                separate,
            }
        })
        .into_iter()
        .filter(|series| !series.rows.is_empty())
        .collect()
}

/// What the law is fitted to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Basis {
    /// Messages a second as they were measured.
    Throughput,
    /// Shards divided by the CPU time of a message, for one of these reasons.
    Cost(Reason),
    /// What a message costs more than with as many servers of one shard.
    Own,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reason {
    Shared,
    Idle { busy: f64, shards: usize },
    Polling,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self {
            Basis::Throughput => {
                return f.write_str(
                    "messages/s as measured, as the load has CPUs of its own and the shards are \
                     busy all the time",
                );
            }
            Basis::Own => {
                return f.write_str(
                    "CPU time of a message against that with as many servers of one shard: what \
                     the machine loses drops out, and left is what shards of one server do to each \
                     other",
                );
            }
            Basis::Cost(Reason::Shared) => {
                "shards and load share CPUs, so messages/s as measured are those of both together"
                    .to_owned()
            }
            Basis::Cost(Reason::Idle { busy, shards }) => format!(
                "with {shards} shard{} the load keeps them busy for only {:.0}% of the time, so \
                 messages/s as measured are the load's limit",
                if *shards == 1 { "" } else { "s" },
                busy * 100.0
            ),
            Basis::Cost(Reason::Polling) => {
                "the shards poll before they sleep, so they look busy whatever they do; for the \
                 same reason the cost counts waiting as work, and the fit is to be mistrusted"
                    .to_owned()
            }
        };
        write!(f, "shards / CPU time of a message, as {reason}")
    }
}

/// A law, or all that can be said of one.
pub(crate) struct Model {
    pub(crate) load_on: LoadOn,
    /// Counts past the CPUs are in it.
    pub(crate) past: bool,
    /// Some of its cores are shared by their threads.
    pub(crate) cores_shared: bool,
    pub(crate) basis: Basis,
    pub(crate) costs: Costs,
    pub(crate) outcome: Outcome,
}

impl Model {
    /// Of a word each, for names of files and rows.
    pub(crate) fn name(&self) -> String {
        let which = match self.basis {
            Basis::Own => "-own",
            _ if self.past => "-past",
            _ => "",
        };
        format!("{}{which}", self.load_on)
    }

    /// The fits that there are, each with what it calls itself.
    pub(crate) fn fits(&self) -> Vec<(&'static str, &Fitted)> {
        match &self.outcome {
            Outcome::Nothing => Vec::new(),
            Outcome::Between {
                contention,
                coherency,
            } => vec![("contention", contention), ("coherency", coherency)],
            Outcome::Law(fitted) => vec![("contention and coherency", fitted)],
        }
    }

    /// Between what the figure lies, over all fits: their own values if there are no intervals.
    pub(crate) fn hull(&self, figure: impl Fn(&Law) -> f64) -> Option<Interval> {
        let ends = self.fits().into_iter().map(|(_, fitted)| {
            let value = figure(&fitted.fit.law);
            let within = fitted.interval(&figure);
            within.unwrap_or(Interval {
                low: value,
                high: value,
            })
        });
        ends.reduce(|a, b| Interval {
            low: a.low.min(b.low),
            high: a.high.max(b.high),
        })
    }
}

impl Series<'_> {
    /// The row of one shard, which the others are compared with.
    pub(crate) fn base(&self) -> Option<&Row> {
        let mut rows = self.rows.iter().copied();
        rows.find(|row| row.setup.shards == 1 && row.setup.pinned())
    }

    /// Of the counts that have a CPU each; and one with all counts, if some have not.
    pub(crate) fn models(&self, busy_poll_us: u32, seed: u64) -> Vec<Model> {
        let pinned = self.rows.iter().all(|row| row.setup.pinned());
        let mut models = vec![self.model(false, busy_poll_us, seed)];
        if !pinned {
            models.push(self.model(true, busy_poll_us, seed));
        }
        models.extend(self.own_model(seed));
        models
    }

    /// The row of as many servers as another one has shards.
    pub(crate) fn separate_of(&self, row: &Row) -> Option<&Row> {
        let mut separate = self.separate.iter().copied();
        separate.find(|separate| row.setup.pinned() && separate.setup.shards == row.setup.shards)
    }

    /// Of what one server costs beyond servers of one shard; a single shard costs nothing beyond.
    fn own_model(&self, seed: u64) -> Option<Model> {
        let base = self.base()?;
        let alone: Vec<f64> = base.turns.iter().map(|turn| turn.server_us).collect();
        let (mut shards, mut us) = (vec![base.setup.shards], vec![alone.clone()]);
        for row in &self.rows {
            let Some(separate) = self.separate_of(row) else {
                continue;
            };
            let turns = alone.iter().zip(&row.turns).zip(&separate.turns);
            let own = |((alone, ours), theirs): ((&f64, &Turn), &Turn)| {
                alone * ours.server_us / theirs.server_us
            };
            shards.push(row.setup.shards);
            us.push(turns.map(own).collect());
        }
        let costs = Costs { shards, us };
        (!self.separate.is_empty()).then(|| Model {
            load_on: self.load_on,
            past: false,
            cores_shared: false,
            outcome: costs.outcome(seed),
            basis: Basis::Own,
            costs,
        })
    }

    fn model(&self, past: bool, busy_poll_us: u32, seed: u64) -> Model {
        let rows: Vec<&Row> = self
            .rows
            .iter()
            .copied()
            .filter(|row| past || row.setup.pinned())
            .collect();
        let basis = basis(&rows, self.load_on, busy_poll_us);
        let us = |row: &Row| {
            let shards = row.setup.shards as f64;
            let us = |turn: &Turn| match basis {
                Basis::Throughput => shards * 1e6 / turn.per_second,
                Basis::Cost(_) | Basis::Own => turn.server_us,
            };
            row.turns.iter().map(us).collect()
        };
        let costs = Costs {
            shards: rows.iter().map(|row| row.setup.shards).collect(),
            us: rows.iter().map(|row| us(row)).collect(),
        };
        Model {
            load_on: self.load_on,
            past,
            cores_shared: rows.iter().any(|row| row.setup.cores_shared),
            outcome: costs.outcome(seed),
            basis,
            costs,
        }
    }
}

fn basis(rows: &[&Row], load_on: LoadOn, busy_poll_us: u32) -> Basis {
    let least = rows
        .iter()
        .map(|row| (row.busy().median, row.setup.shards))
        .min_by(|a, b| a.0.total_cmp(&b.0));
    match least {
        _ if busy_poll_us > 0 => Basis::Cost(Reason::Polling),
        _ if load_on == LoadOn::Every => Basis::Cost(Reason::Shared),
        Some((busy, shards)) if busy < BUSY => Basis::Cost(Reason::Idle { busy, shards }),
        _ => Basis::Throughput,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::plan::{Cpu, setups};
    use super::super::turn::tests::turn;
    use super::*;

    /// Rows on so many CPUs whose messages cost 10 us, and 1 us more for each other shard.
    pub(crate) fn rows(cpus: usize, past: usize, busy: f64) -> Vec<Row> {
        let cpus: Vec<Cpu> = (0..cpus).map(|id| Cpu { id, core: id }).collect();
        let row = |setup: Setup| {
            let us = if setup.separate {
                10.0
            } else {
                9.0 + setup.shards as f64
            };
            let noisy = |off: f64| turn(setup.shards, us * off, busy);
            Row {
                turns: [0.99, 1.0, 1.01].map(noisy).to_vec(),
                setup,
            }
        };
        let wanted = [LoadOn::Others, LoadOn::Every];
        setups(&cpus, past, &wanted).into_iter().map(row).collect()
    }

    fn models(rows: &[Row], busy_poll_us: u32) -> Vec<Model> {
        let models = |series: &Series| series.models(busy_poll_us, 1);
        series(rows).iter().flat_map(models).collect()
    }

    #[test]
    fn measured_throughput_is_fitted_only_where_it_is_the_shards_limit() {
        let told = |rows: &[Row], busy_poll_us| {
            let models = models(rows, busy_poll_us);
            models
                .into_iter()
                .map(|model| model.basis)
                .collect::<Vec<_>>()
        };
        let shared = Basis::Cost(Reason::Shared);
        let right = [Basis::Throughput, Basis::Own, shared.clone(), Basis::Own];
        assert_eq!(told(&rows(8, 0, 0.96), 0), right);
        let idle = told(&rows(8, 0, 0.9), 0);
        assert!(matches!(idle[0], Basis::Cost(Reason::Idle { .. })));
        assert_eq!(idle[2], shared);
        let polling = Basis::Cost(Reason::Polling);
        assert_eq!(
            told(&rows(8, 0, 1.0), 50),
            [polling.clone(), Basis::Own, polling, Basis::Own]
        );
    }

    #[test]
    fn the_counts_decide_what_is_said() {
        let rows = rows(2, 4, 0.5);
        let models = models(&rows, 0);
        let names: Vec<String> = models.iter().map(Model::name).collect();
        assert_eq!(names, ["others", "every", "every-past", "every-own"]);
        assert!(matches!(models[0].outcome, Outcome::Nothing));
        assert!(matches!(models[1].outcome, Outcome::Between { .. }));
        assert!(matches!(models[2].outcome, Outcome::Law(_)));
        assert!(matches!(models[3].outcome, Outcome::Between { .. }));
    }

    #[test]
    fn both_bases_see_the_same_law_when_shards_are_all_that_limits() {
        let models = models(&rows(8, 0, 1.0), 0);
        for model in &models {
            let Outcome::Law(fitted) = &model.outcome else {
                panic!("three counts or more");
            };
            assert!((fitted.fit.law.contention - 0.1).abs() < 1e-6);
            let hull = model.hull(|law| law.contention).unwrap();
            assert!(hull.low <= 0.1 && hull.high >= 0.1 - 1e-9);
        }
    }

    #[test]
    fn costs_are_compared_within_a_repeat() {
        let rows = rows(2, 0, 0.5);
        let every = &series(&rows)[1];
        let ratio = every.rows[1].cost_ratio(every.base().unwrap());
        assert!((ratio.min - 1.1).abs() < 1e-9 && (ratio.max - 1.1).abs() < 1e-9);
    }
}
