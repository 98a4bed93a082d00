//! Huge pages, and the NUMA nodes that the shards' memory is on.

use super::check::{Check, Topic};
use super::facts::{Facts, counted, list};
use crate::config::Config;

pub(super) fn judge(facts: &Facts, config: &Config) -> Vec<Check> {
    vec![huge_pages(facts), nodes(facts, config)]
}

/// The server asks for no huge pages. With `always` the kernel gives them all the same: it looks
/// for one, and tidies memory up to have one, inside a page fault, while the shard stands still;
/// and the memory of a burst of connections is kept where a page of it is still in use.
fn huge_pages(facts: &Facts) -> Check {
    let topic = Topic::new("huge pages", "madvise or never; always stalls shards");
    match facts.memory.huge_pages.as_deref() {
        None => topic.unseen("no transparent_hugepage"),
        Some("always") => topic.advice(
            "always",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        Some(mode) => topic.good(mode),
    }
}

/// A pinned shard allocates where it runs, so its memory is near; one that floats leaves it behind.
fn nodes(facts: &Facts, config: &Config) -> Check {
    let topic = Topic::new("NUMA", "each shard pinned beside its memory");
    let nodes = &facts.memory.nodes;
    if nodes.is_empty() {
        return topic.unseen("no nodes");
    }
    if nodes.len() == 1 {
        return topic.good("1 node");
    }
    let count = counted(nodes.len(), "node");
    if !config.shards.pin {
        return topic.advice(
            format!("{count}, shards are not pinned"),
            "--set shards.pin=true",
        );
    }
    let pinned = facts.pinned();
    if pinned.is_empty() {
        return topic.open(facts.unpinned());
    }
    let mut used: Vec<usize> = pinned
        .iter()
        .filter_map(|&cpu| facts.node_of(cpu))
        .collect();
    used.sort_unstable();
    used.dedup();
    topic.good(format!("{count}, shards on {}", list(&used)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::check::Verdict::{Advice, Good, Unseen};
    use super::super::made_up::{assert_says, config, facts, of};
    use super::*;

    fn checks(settings: &[&str], spoil: impl Fn(&mut Facts)) -> Vec<Check> {
        let mut facts = facts();
        spoil(&mut facts);
        judge(&facts, &config(settings))
    }

    #[test]
    fn huge_pages_come_on_request_only() {
        let mode = |mode: Option<&str>| {
            checks(&[], |facts| {
                facts.memory.huge_pages = mode.map(str::to_owned);
            })
        };
        for good in ["madvise", "never"] {
            assert_says(of(&mode(Some(good)), "huge pages"), Good, good, None);
        }
        let mend = Some("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
        assert_says(
            of(&mode(Some("always")), "huge pages"),
            Advice,
            "always",
            mend,
        );
        assert_eq!(of(&mode(None), "huge pages").verdict, Unseen);
    }

    #[test]
    fn shards_stay_at_their_memory_if_they_are_pinned() {
        let two = |facts: &mut Facts| {
            facts.memory.nodes = BTreeMap::from([(0, vec![0, 1, 4, 5]), (1, vec![2, 3, 6, 7])]);
        };
        assert_says(of(&checks(&[], |_| ()), "NUMA"), Good, "1 node", None);
        assert_says(
            of(&checks(&[], two), "NUMA"),
            Good,
            "2 nodes, shards on 0-1",
            None,
        );
        let floating = checks(&["shards.pin=false"], two);
        let mend = Some("--set shards.pin=true");
        assert_says(
            of(&floating, "NUMA"),
            Advice,
            "2 nodes, shards are not pinned",
            mend,
        );
        let unseen = checks(&[], |facts| facts.memory.nodes.clear());
        assert_eq!(of(&unseen, "NUMA").verdict, Unseen);
    }
}
