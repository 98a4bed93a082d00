//! How much memory may be locked, and how many files may be open.

use super::check::{Check, Topic};
use super::facts::{Area, Facts, counted};
use crate::config::Config;

pub(super) fn judge(facts: &Facts, config: &Config) -> Vec<Check> {
    vec![memlock(facts), files(facts, config)]
}

fn memlock(facts: &Facts) -> Check {
    let least = facts.limits.memlock_bytes_min;
    let topic = Topic::new("locked memory", format!("{} or more", kib(least)));
    let is = match facts.limits.memlock_bytes {
        u64::MAX => "no limit".to_owned(),
        bytes => kib(bytes),
    };
    if facts.lack(Area::Memlock).is_none() {
        return topic.good(is);
    }
    let mend = format!(
        "ulimit -l {}   # in a unit LimitMEMLOCK={least}, in Docker --ulimit memlock={least}",
        least / 1024
    );
    topic.fatal(is, mend)
}

fn files(facts: &Facts, config: &Config) -> Check {
    let limits = &facts.limits;
    let wanted = limits.files_wanted;
    let connections = config.limits.connections;
    let shards = counted(facts.shards(config), "shard");
    let should = format!("{wanted}: limits.connections = {connections}, {shards}");
    let topic = Topic::new("open files", should);
    let files = match limits.files {
        u64::MAX => "no limit".to_owned(),
        files => files.to_string(),
    };
    let is = format!(
        "{files}, room for {} connections a shard",
        limits.connections
    );
    let set = format!(
        "ulimit -n {wanted}   # in a unit LimitNOFILE={wanted}, in Docker --ulimit nofile={wanted}"
    );
    let mend = match limits.nr_open {
        Some(most) if most < wanted => format!("sysctl -w fs.nr_open={wanted} && {set}"),
        _ => set,
    };
    if facts.lack(Area::Files).is_some() {
        topic.fatal(
            format!("{files}, but {} are the least", limits.files_min),
            mend,
        )
    } else if limits.connections < u64::from(connections) {
        topic.advice(is, mend)
    } else {
        topic.good(is)
    }
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes / 1024)
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict::{Advice, Fatal, Good};
    use super::super::made_up::{assert_says, config, facts, lack, of};
    use super::*;

    fn checks(spoil: impl Fn(&mut Facts)) -> Vec<Check> {
        let mut facts = facts();
        spoil(&mut facts);
        judge(&facts, &config(&[]))
    }

    #[test]
    fn memory_may_be_locked_or_not() {
        assert_says(of(&checks(|_| ()), "locked memory"), Good, "8192 KiB", None);
        let unlimited = checks(|facts| facts.limits.memlock_bytes = u64::MAX);
        assert_says(of(&unlimited, "locked memory"), Good, "no limit", None);
        let little = checks(|facts| {
            facts.limits.memlock_bytes = 64 << 10;
            facts.lacks = vec![lack(Area::Memlock, "too little")];
        });
        let mend =
            "ulimit -l 512   # in a unit LimitMEMLOCK=524288, in Docker --ulimit memlock=524288";
        assert_says(of(&little, "locked memory"), Fatal, "64 KiB", Some(mend));
    }

    #[test]
    fn files_are_enough_for_all_for_some_or_for_none() {
        let good = checks(|_| ());
        let is = "1048576, room for 262109 connections a shard";
        assert_says(of(&good, "open files"), Good, is, None);
        assert_eq!(
            of(&good, "open files").should,
            "400140: limits.connections = 100000, 4 shards"
        );

        let few = checks(|facts| {
            facts.limits.files = 1024;
            facts.limits.connections = 221;
        });
        let mend =
            "ulimit -n 400140   # in a unit LimitNOFILE=400140, in Docker --ulimit nofile=400140";
        let is = "1024, room for 221 connections a shard";
        assert_says(of(&few, "open files"), Advice, is, Some(mend));

        let none = checks(|facts| {
            facts.limits.files = 100;
            facts.limits.connections = 0;
            facts.limits.nr_open = Some(65_536);
            facts.lacks = vec![lack(Area::Files, "too few")];
        });
        let mend = format!("sysctl -w fs.nr_open=400140 && {mend}");
        let is = "100, but 144 are the least";
        assert_says(of(&none, "open files"), Fatal, is, Some(&mend));
    }
}
