//! The Universal Scalability Law, and its fit to measured costs.
//!
//! The law (N. J. Gunther, "Guerrilla Capacity Planning", Springer 2007, chapter 5; and "A General
//! Theory of Computational Scalability Based on Rational Functions", arXiv:0808.1431) says that N
//! cores give
//!
//! ```text
//! X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1))
//! ```
//!
//! messages a second: lambda is what one gives, sigma the contention (what they queue for), kappa
//! the coherency (what each has to agree on with each other). With N / X(N), the core's time that a
//! message costs, the same law is a polynomial: cost(N) = (1 + sigma (N-1) + kappa N (N-1)) /
//! lambda. So the least squares of the relative deviations of the cost are a linear problem of
//! three coefficients, with no starting point to choose and no iteration that might not end.
//!
//! Neither term may be negative: the law knows no gain from other cores. A linear least squares
//! problem with such bounds is convex, and its solution is the best of those faces' unbounded
//! solutions that keep the bounds (Lawson and Hanson, "Solving Least Squares Problems", 1974,
//! chapter 23). There are four faces, so all are tried.

/// What a message costs with so many shards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) shards: f64,
    /// Core's time for each message, in microseconds; above 0.
    pub(crate) us: f64,
}

/// The terms that a fit may use beside the cost of one shard alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// Needs three different counts.
    Both,
    /// All loss is contention. Needs two different counts.
    Contention,
    /// All loss is coherency. Needs two different counts.
    Coherency,
}

impl Terms {
    fn counts_needed(self) -> usize {
        match self {
            Terms::Both => 3,
            Terms::Contention | Terms::Coherency => 2,
        }
    }

    /// Which coefficients it may use: alone, contention, coherency.
    fn free(self) -> [bool; 3] {
        match self {
            Terms::Both => [true; 3],
            Terms::Contention => [true, true, false],
            Terms::Coherency => [true, false, true],
        }
    }
}

/// The law with its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Law {
    /// What a message costs with one shard, in microseconds: 1 / lambda.
    pub(crate) us_alone: f64,
    /// sigma
    pub(crate) contention: f64,
    /// kappa
    pub(crate) coherency: f64,
}

impl Law {
    /// Core's time for each message, in microseconds.
    pub(crate) fn us(&self, shards: f64) -> f64 {
        let others = shards - 1.0;
        self.us_alone * (1.0 + self.contention * others + self.coherency * shards * others)
    }

    /// Messages a second of so many shards.
    pub(crate) fn per_second(&self, shards: f64) -> f64 {
        shards * 1e6 / self.us(shards)
    }

    /// The number of shards beyond which more give less; infinite if there is none.
    pub(crate) fn peak(&self) -> f64 {
        if self.coherency > 0.0 {
            ((1.0 - self.contention).max(0.0) / self.coherency)
                .sqrt()
                .max(1.0)
        } else {
            f64::INFINITY
        }
    }
}

/// A law, and what had to be held back to get it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fit {
    pub(crate) law: Law,
    /// Without the bounds, contention would be below 0.
    pub(crate) contention_held: bool,
    /// Without the bounds, coherency would be below 0.
    pub(crate) coherency_held: bool,
}

/// The law that comes closest to the points; `None` if they are of too few different counts.
pub(crate) fn fit(points: &[Point], terms: Terms) -> Option<Fit> {
    if different_counts(points) < terms.counts_needed() {
        return None;
    }
    let free = terms.free();
    let unbounded = solve(points, free)?;
    let [_, contention, coherency] = unbounded;
    let best = faces(free)
        .filter_map(|face| solve(points, face))
        .filter(|&[alone, contention, coherency]| {
            alone > 0.0 && contention >= 0.0 && coherency >= 0.0
        })
        .min_by(|a, b| deviation(points, a).total_cmp(&deviation(points, b)))?;
    let [us_alone, ..] = best;
    Some(Fit {
        law: Law {
            us_alone,
            contention: best[1] / us_alone,
            coherency: best[2] / us_alone,
        },
        contention_held: contention < 0.0,
        coherency_held: coherency < 0.0,
    })
}

pub(crate) fn different_counts(points: &[Point]) -> usize {
    let mut counts: Vec<f64> = points.iter().map(|point| point.shards).collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    counts.len()
}

/// All ways to leave out terms of those that are free.
fn faces(free: [bool; 3]) -> impl Iterator<Item = [bool; 3]> {
    [(true, true), (true, false), (false, true), (false, false)]
        .into_iter()
        .map(|(contention, coherency)| [true, contention, coherency])
        .filter(move |face| !face.iter().zip(free).any(|(&used, free)| used && !free))
}

/// What a point's cost is made of: its row of the linear problem.
fn row(point: &Point) -> [f64; 3] {
    let others = point.shards - 1.0;
    [1.0, others, point.shards * others]
}

/// Sum of the squared relative deviations.
fn deviation(points: &[Point], coefficients: &[f64; 3]) -> f64 {
    let relative = |point: &Point| 1.0 - dot(&row(point), coefficients) / point.us;
    points.iter().map(|point| relative(point).powi(2)).sum()
}

fn dot(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Least squares without bounds, by the normal equations; coefficients that are not used are 0.
fn solve(points: &[Point], used: [bool; 3]) -> Option<[f64; 3]> {
    // Columns of like size, so that the elimination loses no digits to their scale.
    let most = points
        .iter()
        .map(|point| point.shards)
        .fold(1.0_f64, f64::max);
    let scale = [1.0, most, most * most];
    let mut matrix = [[0.0; 4]; 3];
    for point in points {
        let row = row(point);
        let scaled: [f64; 3] = std::array::from_fn(|i| row[i] / scale[i] / point.us);
        for i in 0..3 {
            for j in 0..3 {
                matrix[i][j] += scaled[i] * scaled[j];
            }
            matrix[i][3] += scaled[i];
        }
    }
    for i in (0..3).filter(|&i| !used[i]) {
        for row in &mut matrix {
            row[i] = 0.0;
        }
        matrix[i] = [0.0; 4];
        matrix[i][i] = 1.0;
    }
    let solution = eliminate(matrix)?;
    Some(std::array::from_fn(|i| solution[i] / scale[i]))
}

/// Gauss's elimination with pivots; `None` if the equations do not determine all unknowns.
fn eliminate(mut matrix: [[f64; 4]; 3]) -> Option<[f64; 3]> {
    const NOTHING_LEFT: f64 = 1e-13;
    let largest = matrix.iter().flatten().fold(0.0_f64, |a, b| a.max(b.abs()));
    for column in 0..3 {
        let pivot = (column..3)
            .max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))?;
        matrix.swap(column, pivot);
        if matrix[column][column].abs() <= NOTHING_LEFT * largest {
            return None;
        }
        let pivot = matrix[column];
        for row in matrix.iter_mut().skip(column + 1) {
            let factor = row[column] / pivot[column];
            for (cell, above) in row.iter_mut().zip(pivot) {
                *cell -= factor * above;
            }
        }
    }
    let mut solution = [0.0; 3];
    for i in (0..3).rev() {
        let known: f64 = (i + 1..3).map(|j| matrix[i][j] * solution[j]).sum();
        solution[i] = (matrix[i][3] - known) / matrix[i][i];
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(seen: f64, right: f64) {
        assert!(
            (seen - right).abs() <= 1e-9 * right.abs().max(1.0),
            "{seen} for {right}"
        );
    }

    fn points(law: Law, counts: &[f64]) -> Vec<Point> {
        let point = |&shards| Point {
            shards,
            us: law.us(shards),
        };
        counts.iter().map(point).collect()
    }

    fn law(us_alone: f64, contention: f64, coherency: f64) -> Law {
        Law {
            us_alone,
            contention,
            coherency,
        }
    }

    #[test]
    fn the_law_is_gunthers() {
        let law = law(2.0, 0.05, 0.001);
        let n: f64 = 16.0;
        let lambda = 1e6 / 2.0;
        let right = lambda * n / (1.0 + 0.05 * (n - 1.0) + 0.001 * n * (n - 1.0));
        near(law.per_second(n), right);
        near(law.peak(), (0.95_f64 / 0.001).sqrt());
    }

    #[test]
    fn without_noise_the_numbers_come_back() {
        for (contention, coherency) in [
            (0.02, 3e-4),
            (0.3, 0.01),
            (0.0, 1e-4),
            (0.01, 0.0),
            (0.0, 0.0),
        ] {
            for counts in [
                &[1.0, 2.0, 4.0][..],
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
                &[1.0, 2.0, 3.0],
            ] {
                let right = law(0.157, contention, coherency);
                let fit = fit(&points(right, counts), Terms::Both).unwrap();
                near(fit.law.us_alone, right.us_alone);
                near(fit.law.contention, contention);
                near(fit.law.coherency, coherency);
            }
        }
    }

    #[test]
    fn two_counts_tell_one_term_and_not_two() {
        let contended = points(law(1.0, 0.1, 0.0), &[1.0, 2.0]);
        assert_eq!(fit(&contended, Terms::Both), None);
        let contention = fit(&contended, Terms::Contention).unwrap().law;
        near(contention.contention, 0.1);
        near(contention.coherency, 0.0);
        // The same point, blamed on the other term.
        let coherency = fit(&contended, Terms::Coherency).unwrap().law;
        near(coherency.contention, 0.0);
        near(coherency.coherency, 0.05);
        assert!(coherency.per_second(64.0) < contention.per_second(64.0));
    }

    #[test]
    fn one_count_tells_nothing_however_often() {
        let points = [1.0, 1.1].map(|us| Point { shards: 2.0, us });
        for terms in [Terms::Both, Terms::Contention, Terms::Coherency] {
            assert_eq!(fit(&points, terms), None);
        }
        assert_eq!(fit(&[], Terms::Contention), None);
    }

    #[test]
    fn a_gain_is_held_at_none_and_said() {
        let faster = [(1.0, 1.0), (2.0, 0.95), (4.0, 0.9)].map(|(shards, us)| Point { shards, us });
        let both = fit(&faster, Terms::Both).unwrap();
        assert_eq!((both.law.contention, both.law.coherency), (0.0, 0.0));
        assert!(both.contention_held);
        assert!(both.law.peak().is_infinite());
        let alone = fit(&faster[..2], Terms::Contention).unwrap();
        assert!(alone.contention_held && alone.law.contention == 0.0);
    }

    #[test]
    fn bounds_are_kept_on_the_best_face() {
        // Concave costs: without bounds, coherency is negative; contention alone is best then.
        let concave = [(1.0, 1.0), (2.0, 1.4), (4.0, 1.6)].map(|(shards, us)| Point { shards, us });
        let fit = fit(&concave, Terms::Both).unwrap();
        assert!(fit.coherency_held && !fit.contention_held);
        assert!(fit.law.contention > 0.0 && fit.law.coherency == 0.0);
        let best = [fit.law.us_alone, fit.law.us_alone * fit.law.contention, 0.0];
        for (alone, contention) in [(1e-3, 0.0), (-1e-3, 0.0), (0.0, 1e-3), (0.0, -1e-3)] {
            let other = [best[0] + alone, best[1] + contention, 0.0];
            assert!(deviation(&concave, &best) < deviation(&concave, &other));
        }
    }

    #[test]
    fn the_peak_is_where_the_law_turns() {
        let turns = law(1.0, 0.1, 0.002);
        let peak = turns.peak();
        let most = turns.per_second(peak);
        assert!(most > turns.per_second(peak * 0.99) && most > turns.per_second(peak * 1.01));
        near(law(1.0, 2.0, 0.1).peak(), 1.0);
    }
}
