//! Which counts of shards are measured, and whose CPUs are whose.
//!
//! Shards come first: one for each core while there are cores, then the cores' other threads. The
//! load has what is left, cores without a shard before other threads of the shards' cores. Where
//! nothing is left, shards and load share all CPUs; so that such a count has something to be
//! compared with, the smaller counts are measured once more with the load on every CPU too. Then
//! the share of the messages that come from another CPU is about the same for all of them.
//!
//! More than one shard is also measured as so many servers of one shard each, on the same CPUs and
//! under the same load. They share nothing for sure; what one server costs beyond them is its own
//! doing, and what they cost beyond a single one is the machine's.

use std::fmt;

/// A CPU that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) id: usize,
    /// CPUs of the same core have the same.
    pub(crate) core: usize,
}

/// Where the load is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadOn {
    /// On CPUs without a shard.
    Others,
    /// On every CPU, those of the shards too.
    Every,
}

impl fmt::Display for LoadOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoadOn::Others => "others",
            LoadOn::Every => "every",
        })
    }
}

/// What runs where while it is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) shards: usize,
    /// One for each shard, in their order; none if there are more shards than CPUs.
    pub(crate) shard_cpus: Option<Vec<usize>>,
    pub(crate) load_on: LoadOn,
    pub(crate) load_cpus: Vec<usize>,
    /// Each shard is a server of its own: what shards cost that cannot share anything.
    pub(crate) separate: bool,
    /// Some core has two shards, or one and load: they slow each other down.
    pub(crate) cores_shared: bool,
}

impl Setup {
    /// Whether each shard has a CPU that no other shard runs on.
    pub(crate) fn pinned(&self) -> bool {
        self.shard_cpus.is_some()
    }
}

/// All setups, by growing count; `past` is the count up to which unpinned ones are asked for.
pub(crate) fn setups(cpus: &[Cpu], past: usize, wanted: &[LoadOn]) -> Vec<Setup> {
    let cpus = spread_over_cores(cpus);
    let pinned = counts(cpus.len())
        .into_iter()
        .flat_map(|count| [(count, LoadOn::Others), (count, LoadOn::Every)]);
    let unpinned = doublings(past).filter(|&count| count > cpus.len());
    pinned
        .filter_map(|(count, load_on)| pinned_setup(&cpus, count, load_on))
        .flat_map(with_separate)
        .chain(unpinned.map(|count| unpinned_setup(&cpus, count)))
        .filter(|setup| wanted.contains(&setup.load_on))
        .collect()
}

/// 1, 2, 4, ... and `most` itself.
fn counts(most: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = doublings(most).collect();
    if counts.last().is_some_and(|&last| last < most) {
        counts.push(most);
    }
    counts
}

fn doublings(most: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1_usize), |count| count.checked_mul(2))
        .take_while(move |&count| count <= most)
}

/// The first thread of each core, then the second of each, and so on.
fn spread_over_cores(cpus: &[Cpu]) -> Vec<Cpu> {
    let rank = |cpu: &Cpu| {
        let siblings = cpus.iter().filter(|other| other.core == cpu.core);
        siblings.filter(|other| other.id < cpu.id).count()
    };
    let mut spread = cpus.to_vec();
    spread.sort_by_key(|cpu| (rank(cpu), cpu.id));
    spread
}

/// Along with as many servers of one shard, if that is something else.
fn with_separate(setup: Setup) -> impl Iterator<Item = Setup> {
    let separate = (setup.shards > 1).then(|| Setup {
        separate: true,
        ..setup.clone()
    });
    std::iter::once(setup).chain(separate)
}

/// `None` if no CPU is left for the load and it was to have some to itself.
fn pinned_setup(cpus: &[Cpu], shards: usize, load_on: LoadOn) -> Option<Setup> {
    let (own, left) = cpus.split_at_checked(shards)?;
    let has_shard = |cpu: &Cpu| own.iter().any(|own| own.core == cpu.core);
    let load: Vec<Cpu> = match load_on {
        LoadOn::Every => cpus.to_vec(),
        LoadOn::Others if left.iter().all(has_shard) => left.to_vec(),
        LoadOn::Others => left.iter().copied().filter(|cpu| !has_shard(cpu)).collect(),
    };
    if load.is_empty() {
        return None;
    }
    let doubled = own
        .iter()
        .enumerate()
        .any(|(index, cpu)| own.iter().take(index).any(|other| other.core == cpu.core));
    // Load on a shard's own CPU takes turns with it, and does not slow it down meanwhile.
    let beside = |cpu: &Cpu| has_shard(cpu) && own.iter().all(|own| own.id != cpu.id);
    Some(Setup {
        shards,
        shard_cpus: Some(ids(own)),
        load_on,
        load_cpus: ids(&load),
        separate: false,
        cores_shared: doubled || load.iter().any(beside),
    })
}

fn unpinned_setup(cpus: &[Cpu], shards: usize) -> Setup {
    let doubled = |(index, cpu): (usize, &Cpu)| cpus.iter().take(index).any(|c| c.core == cpu.core);
    Setup {
        shards,
        shard_cpus: None,
        load_on: LoadOn::Every,
        load_cpus: ids(cpus),
        separate: false,
        cores_shared: cpus.iter().enumerate().any(doubled),
    }
}

fn ids(cpus: &[Cpu]) -> Vec<usize> {
    cpus.iter().map(|cpu| cpu.id).collect()
}

/// As taskset writes it: `0,2,4`.
pub(crate) fn list(cpus: &[usize]) -> String {
    let ids: Vec<String> = cpus.iter().map(usize::to_string).collect();
    ids.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [LoadOn; 2] = [LoadOn::Others, LoadOn::Every];

    /// `count` CPUs in cores of `threads`, numbered as Linux does: all first threads first.
    fn cpus(count: usize, threads: usize) -> Vec<Cpu> {
        let cores = count.div_ceil(threads);
        let cpu = |id| Cpu {
            id,
            core: id % cores,
        };
        (0..count).map(cpu).collect()
    }

    /// `shards@CPUs/load`, `*` where cores are shared, for each setup.
    fn told(cpus: &[Cpu], past: usize, wanted: &[LoadOn]) -> Vec<String> {
        let tell = |setup: &Setup| {
            let own = setup.shard_cpus.as_deref().map_or("any".to_owned(), list);
            let shared = if setup.cores_shared { "*" } else { "" };
            format!("{}@{own}/{}{shared}", setup.shards, list(&setup.load_cpus))
        };
        let setups = setups(cpus, past, wanted);
        setups
            .iter()
            .filter(|setup| !setup.separate)
            .map(tell)
            .collect()
    }

    fn others(cpus: &[Cpu]) -> Vec<String> {
        told(cpus, 0, &[LoadOn::Others])
    }

    fn every(cpus: &[Cpu]) -> Vec<String> {
        told(cpus, 0, &[LoadOn::Every])
    }

    #[test]
    fn one_cpu_is_shared() {
        assert_eq!(told(&cpus(1, 1), 0, &BOTH), ["1@0/0"]);
        assert!(others(&cpus(1, 1)).is_empty());
    }

    #[test]
    fn two_cpus() {
        let two = cpus(2, 1);
        assert_eq!(told(&two, 0, &BOTH), ["1@0/1", "1@0/0,1", "2@0,1/0,1"]);
        let threads = cpus(2, 2);
        assert_eq!(
            told(&threads, 0, &BOTH),
            ["1@0/1*", "1@0/0,1*", "2@0,1/0,1*"]
        );
    }

    #[test]
    fn three_cpus_end_with_three() {
        let three = cpus(3, 1);
        assert_eq!(others(&three), ["1@0/1,2", "2@0,1/2"]);
        assert_eq!(every(&three), ["1@0/0,1,2", "2@0,1/0,1,2", "3@0,1,2/0,1,2"]);
    }

    #[test]
    fn six_cpus_end_with_six() {
        let six = cpus(6, 1);
        assert_eq!(
            others(&six),
            ["1@0/1,2,3,4,5", "2@0,1/2,3,4,5", "4@0,1,2,3/4,5"]
        );
        let counts = |separate: bool| {
            let setups = setups(&six, 0, &[LoadOn::Every]);
            let wanted = setups.iter().filter(|setup| setup.separate == separate);
            wanted.map(|setup| setup.shards).collect::<Vec<_>>()
        };
        assert_eq!(counts(false), [1, 2, 4, 6]);
        assert_eq!(counts(true), [2, 4, 6]);
    }

    #[test]
    fn eight_cpus_of_four_cores_give_cores_first() {
        let eight = cpus(8, 2);
        let right = ["1@0/1,2,3,5,6,7", "2@0,1/2,3,6,7", "4@0,1,2,3/4,5,6,7*"];
        assert_eq!(others(&eight), right);
        let right = "8@0,1,2,3,4,5,6,7/0,1,2,3,4,5,6,7*";
        assert_eq!(every(&eight).last().unwrap(), right);
        // Siblings side by side, as some machines number them: 0 and 1 are one core.
        let beside: Vec<Cpu> = (0..8).map(|id| Cpu { id, core: id / 2 }).collect();
        assert_eq!(others(&beside)[1], "2@0,2/4,6,5,7");
        assert_eq!(others(&beside)[2], "4@0,2,4,6/1,3,5,7*");
        let cores = cpus(8, 1);
        assert_eq!(others(&cores).last().unwrap(), "4@0,1,2,3/4,5,6,7");
        assert_eq!(every(&cores).len(), 4);
    }

    #[test]
    fn what_the_mask_leaves_out_is_not_used() {
        let odd: Vec<Cpu> = [3, 5].map(|id| Cpu { id, core: id }).to_vec();
        assert_eq!(told(&odd, 0, &BOTH)[0], "1@3/5");
    }

    #[test]
    fn past_the_cpus_shards_are_not_pinned() {
        assert_eq!(
            told(&cpus(2, 1), 9, &[LoadOn::Every])[2..],
            ["4@any/0,1", "8@any/0,1"]
        );
        assert_eq!(told(&cpus(3, 1), 3, &[LoadOn::Every]).len(), 3);
        assert!(
            setups(&cpus(2, 1), 4, &[LoadOn::Every])
                .iter()
                .filter(|setup| setup.shards > 2)
                .all(|setup| !setup.pinned())
        );
    }
}
