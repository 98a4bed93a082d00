//! How sure a fit is: the bootstrap over repeats.
//!
//! Whole repeats are drawn with replacement, as many as there were, and the law is fitted to the
//! medians of what was drawn (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993). What
//! disturbs the machine meets all counts of a repeat: so a repeat is drawn whole, and costs are
//! compared with that of one shard within their repeat before a median is taken. The
//! percentile interval of few repeats is too narrow; it is widened as T. Hesterberg proposes in
//! "What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015): 95% from
//! five repeats is then about all of the range.
//!
//! The interval is that of the noise in what was measured. Whether the law holds where nothing was
//! measured is not in it.

use super::usl::{Fit, Law, Point, Terms, different_counts, fit};

/// How often repeats are drawn.
pub(crate) const DRAWS: usize = 2000;

/// The share of the draws beyond either end of a 95% interval from 2, 3, ... repeats: the normal
/// distribution at -sqrt(n / (n - 1)) t(0.975, n - 1).
const TAILS: [f64; 31] = [
    0.0, 6.83e-8, 1.19e-4, 9.54e-4, 0.00243, 0.00411, 0.00574, 0.00722, 0.00855, 0.00972, 0.0108,
    0.0117, 0.0125, 0.0132, 0.0139, 0.0144, 0.0150, 0.0154, 0.0159, 0.0163, 0.0166, 0.0170, 0.0173,
    0.0176, 0.0179, 0.0181, 0.0183, 0.0185, 0.0188, 0.0189, 0.0191,
];

/// Costs of some counts of shards, each measured in every repeat.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Costs {
    /// Different ones, each at least 1.
    pub(crate) shards: Vec<usize>,
    /// The first is the one that the others are compared with. For each count the cost in each repeat, in microseconds of a core for each message.
    pub(crate) us: Vec<Vec<f64>>,
}

/// What so many counts allow to say.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Of one count no law follows.
    Nothing,
    /// Two counts: the loss may be all contention, or all coherency, or something between.
    Between {
        contention: Box<Fitted>,
        coherency: Box<Fitted>,
    },
    /// Three counts or more.
    Law(Box<Fitted>),
}

/// A fit, and those to the draws.
#[derive(Clone, Debug)]
pub(crate) struct Fitted {
    pub(crate) fit: Fit,
    drawn: Vec<Law>,
    tail: Option<f64>,
}

/// The ends of a 95% interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Costs {
    pub(crate) fn outcome(&self, seed: u64) -> Outcome {
        let fitted = |terms| self.fitted(terms, seed).map(Box::new);
        if let Some(law) = fitted(Terms::Both) {
            return Outcome::Law(law);
        }
        match (fitted(Terms::Contention), fitted(Terms::Coherency)) {
            (Some(contention), Some(coherency)) => Outcome::Between {
                contention,
                coherency,
            },
            _ => Outcome::Nothing,
        }
    }

    /// How many different counts there are.
    pub(crate) fn counts(&self) -> usize {
        different_counts(&self.medians(|repeat| repeat))
    }

    fn repeats(&self) -> usize {
        self.us.iter().map(Vec::len).min().unwrap_or(0)
    }

    fn fitted(&self, terms: Terms, seed: u64) -> Option<Fitted> {
        let fit_to = |points: &[Point]| fit(points, terms);
        let repeats = self.repeats();
        if repeats == 0 {
            return None;
        }
        let whole = fit_to(&self.medians(|repeat| repeat))?;
        let mut random = fastrand::Rng::with_seed(seed);
        let drawn = (0..DRAWS).filter_map(|_| {
            let draw: Vec<usize> = (0..repeats).map(|_| random.usize(0..repeats)).collect();
            fit_to(&self.medians(|index| draw[index])).map(|fit| fit.law)
        });
        // One repeat says nothing of how far repeats lie apart.
        let tail = (repeats > 1).then(|| TAILS[(repeats - 2).min(TAILS.len() - 1)]);
        Some(Fitted {
            fit: whole,
            drawn: drawn.collect(),
            tail,
        })
    }

    /// The costs without what a repeat as a whole was dearer or cheaper by: the first count's as
    /// they are, the others' as their ratio to the first one's within the repeat, times its median.
    pub(crate) fn levelled(&self) -> Vec<Vec<f64>> {
        self.levelled_of(|repeat| repeat)
    }

    /// The same of the repeats that `choose` puts in each one's place.
    fn levelled_of(&self, choose: impl Fn(usize) -> usize) -> Vec<Vec<f64>> {
        let repeats = self.repeats();
        let Some(first) = self.us.first().filter(|_| repeats > 0) else {
            return Vec::new();
        };
        let drawn = |us: &[f64]| -> Vec<f64> { (0..repeats).map(|at| us[choose(at)]).collect() };
        let first = drawn(first);
        let level = median(first.clone());
        let others = self.us.iter().skip(1).map(|us| {
            let ratios = drawn(us).into_iter().zip(&first);
            ratios.map(|(us, first)| us / first * level).collect()
        });
        std::iter::once(first.clone()).chain(others).collect()
    }

    /// The median of each count.
    fn medians(&self, choose: impl Fn(usize) -> usize) -> Vec<Point> {
        let levelled = self.levelled_of(choose).into_iter().zip(&self.shards);
        levelled
            .map(|(us, &shards)| Point {
                shards: shards as f64,
                us: median(us),
            })
            .collect()
    }
}

/// Of at least one value.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

impl Fitted {
    /// The 95% interval of what `figure` reads off a law; `None` with a single repeat.
    pub(crate) fn interval(&self, figure: impl Fn(&Law) -> f64) -> Option<Interval> {
        let tail = self.tail?;
        let mut figures: Vec<f64> = self.drawn.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        let last = figures.len().checked_sub(1)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share of the draws
        let beyond = (tail * last as f64).floor() as usize;
        Some(Interval {
            low: figures[beyond],
            high: figures[last - beyond],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law(us_alone: f64, contention: f64, coherency: f64) -> Law {
        Law {
            us_alone,
            contention,
            coherency,
        }
    }

    /// Costs by the law, each off by a few percent of normal noise.
    fn noisy(law: Law, shards: &[usize], repeats: usize, random: &mut fastrand::Rng) -> Costs {
        let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let us = shards
            .iter()
            .map(|&count| {
                let exact = law.us(count as f64);
                (0..repeats)
                    .map(|_| exact * (1.0 + 0.02 * normal()))
                    .collect()
            })
            .collect();
        Costs {
            shards: shards.to_vec(),
            us,
        }
    }

    fn whole(costs: &Costs, seed: u64) -> Fitted {
        match costs.outcome(seed) {
            Outcome::Law(fitted) => *fitted,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_truth_is_within_the_interval_nineteen_times_in_twenty() {
        let truth = law(0.16, 0.05, 0.002);
        let mut random = fastrand::Rng::with_seed(7);
        let (mut contention, mut coherency, mut at_64) = (0, 0, 0);
        let tries = 40;
        for seed in 0..tries {
            let fitted = whole(&noisy(truth, &[1, 2, 4, 8, 16], 5, &mut random), seed);
            let holds = |figure: fn(&Law) -> f64| {
                let within = fitted.interval(figure).unwrap();
                let right = figure(&truth);
                u64::from(within.low <= right && right <= within.high)
            };
            contention += holds(|law| law.contention);
            coherency += holds(|law| law.coherency);
            at_64 += holds(|law| law.per_second(64.0));
        }
        for held in [contention, coherency, at_64] {
            // 38 are expected.
            assert!(held >= 34, "{contention}, {coherency}, {at_64} of {tries}");
        }
    }

    #[test]
    fn what_meets_a_whole_repeat_does_not_count_as_loss() {
        let us = |cost: f64| [1.0, 3.0, 0.5].map(|off| cost * off).to_vec();
        let costs = Costs {
            shards: vec![1, 2, 4],
            us: vec![us(10.0), us(11.0), us(13.0)],
        };
        assert_eq!(costs.levelled()[1], [11.0, 11.0, 11.0]);
        let fitted = whole(&costs, 1);
        let within = fitted.interval(|law| law.contention).unwrap();
        assert!((within.low - 0.1).abs() < 1e-9 && (within.high - 0.1).abs() < 1e-9);
        let alone = fitted.interval(|law| law.us_alone).unwrap();
        assert!(alone.low < 6.0 && alone.high > 29.0);
    }

    #[test]
    fn without_noise_the_interval_is_a_point() {
        let truth = law(1.0, 0.1, 0.0);
        let us = |count: usize| vec![truth.us(count as f64); 5];
        let costs = Costs {
            shards: vec![1, 2, 4],
            us: vec![us(1), us(2), us(4)],
        };
        let fitted = whole(&costs, 1);
        let within = fitted.interval(|law| law.contention).unwrap();
        assert!((within.low - 0.1).abs() < 1e-9 && (within.high - 0.1).abs() < 1e-9);
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let mut random = fastrand::Rng::with_seed(3);
        let costs = noisy(law(1.0, 0.1, 0.01), &[1, 2, 4], 7, &mut random);
        let read = |seed| whole(&costs, seed).interval(|law| law.per_second(32.0));
        assert_eq!(read(1), read(1));
        assert!(read(1).is_some());
    }

    #[test]
    fn two_counts_give_a_range_and_one_gives_nothing() {
        let mut random = fastrand::Rng::with_seed(5);
        let costs = noisy(law(1.0, 0.1, 0.0), &[1, 2], 5, &mut random);
        let Outcome::Between {
            contention,
            coherency,
        } = costs.outcome(1)
        else {
            panic!("two counts");
        };
        let at_64 = |law: &Law| law.per_second(64.0);
        assert!(at_64(&coherency.fit.law) < at_64(&contention.fit.law));
        assert_eq!(costs.counts(), 2);
        let one = Costs {
            shards: vec![1],
            us: vec![vec![1.0, 1.1]],
        };
        assert!(matches!(one.outcome(1), Outcome::Nothing));
        let none = Costs {
            shards: vec![],
            us: vec![],
        };
        assert!(matches!(none.outcome(1), Outcome::Nothing));
    }

    #[test]
    fn one_repeat_has_no_interval() {
        let costs = Costs {
            shards: vec![1, 2],
            us: vec![vec![1.0], vec![1.1]],
        };
        let Outcome::Between { contention, .. } = costs.outcome(1) else {
            panic!("two counts");
        };
        assert!((contention.fit.law.contention - 0.1).abs() < 1e-9);
        assert_eq!(contention.interval(|law| law.contention), None);
    }
}
