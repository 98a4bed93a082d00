//! CPUs that fit the shards, and the many ways in which they don't.

use super::super::check::Verdict::{Advice, Fatal, Good, Unseen};
use super::super::facts::QuotaFile;
use super::super::made_up::{assert_says, config, facts, of};
use super::*;

fn checks(settings: &[&str], spoil: impl Fn(&mut Facts)) -> Vec<Check> {
    let mut facts = facts();
    spoil(&mut facts);
    judge(&facts, &config(settings))
}

#[test]
fn a_pinned_shard_has_a_cpu() {
    let good = checks(&[], |_| ());
    assert_says(of(&good, "CPUs"), Good, "4 shards on 0-3 of 0-7", None);
    let many = checks(&[], |facts| {
        facts.cpus.placement = Err(StartError::Placement(PlacementError::TooManyShards {
            count: 9,
            available: 8,
            allowed: "CPUs 0-7".to_owned(),
        }));
    });
    let mend = "--set shards.count=8   # or --set shards.pin=false";
    let is = "9 shards to pin, the mask allows CPUs 0-7";
    assert_says(of(&many, "CPUs"), Fatal, is, Some(mend));
    assert_eq!(of(&many, "SMT").verdict, Unseen);
    let foreign = checks(&[], |facts| {
        facts.cpus.placement = Err(StartError::Placement(PlacementError::NoSuchCpu {
            cpu: 8,
            allowed: "CPUs 0-7".to_owned(),
        }));
    });
    let mend = "--set shards.cpus=0-7 --set shards.count=auto";
    let is = "CPU 8 is not in the mask, CPUs 0-7";
    assert_says(of(&foreign, "CPUs"), Fatal, is, Some(mend));
}

#[test]
fn shards_that_float_may_have_to_share() {
    let float = |parallelism| {
        checks(&["shards.pin=false"], move |facts| {
            facts.cpus.placement = Ok(vec![None; 4]);
            facts.cpus.parallelism = parallelism;
        })
    };
    let good = float(4);
    assert_says(of(&good, "CPUs"), Good, "4 shards anywhere on 0-7", None);
    let mend = Some("--set shards.count=3");
    assert_says(
        of(&float(3), "CPUs"),
        Advice,
        "4 shards share 0-7, unpinned",
        mend,
    );
    assert_eq!(of(&good, "SMT").verdict, Unseen);
}

fn limited(
    quota_us: u64,
    unit: Option<&str>,
    outside: Option<&str>,
    version: CgroupVersion,
) -> Check {
    let of_this = Quota::Limited {
        quota_us,
        period_us: 100_000,
        set_in: QuotaFile {
            path: "/sys/fs/cgroup/games/quota".to_owned(),
            version,
            unit: unit.map(str::to_owned),
            outside: outside.map(str::to_owned),
        },
    };
    let checks = checks(&[], |facts| facts.cpus.quota = Some(of_this.clone()));
    of(&checks, "CPU quota").clone()
}

#[test]
fn a_quota_is_raised_where_it_was_set() {
    use CgroupVersion::{V1, V2};
    assert_says(of(&checks(&[], |_| ()), "CPU quota"), Good, "none", None);
    let unseen = checks(&[], |facts| facts.cpus.quota = None);
    assert_eq!(of(&unseen, "CPU quota").verdict, Unseen);

    let enough = "4 CPUs' worth for 4 shards";
    assert_says(&limited(400_000, None, None, V2), Good, enough, None);
    let little = "2.5 CPUs' worth for 4 shards";
    let says = |check: &Check, mend: &str| assert_says(check, Advice, little, Some(mend));
    says(
        &limited(250_000, Some("corelane.service"), None, V2),
        "systemctl set-property corelane.service CPUQuota=400%",
    );
    says(
        &limited(250_000, None, Some("4f2c"), V2),
        "docker update --cpus=4 4f2c   # outside; in Kubernetes resources.limits.cpu",
    );
    says(
        &limited(250_000, None, None, V2),
        "echo '400000 100000' > /sys/fs/cgroup/games/quota",
    );
    says(
        &limited(250_000, None, None, V1),
        "echo 400000 > /sys/fs/cgroup/games/quota",
    );
}

#[test]
fn two_shards_on_one_core_are_parted() {
    let is = "no two shards on one core";
    assert_says(of(&checks(&[], |_| ()), "SMT"), Good, is, None);
    let two_on_one = checks(&[], |facts| {
        facts.cpus.placement = Ok([0, 4, 1].map(Some).to_vec());
    });
    let is = "shards on CPUs 0,4 share cores";
    let mend = "--set shards.cpus=0-2 --set shards.count=3";
    assert_says(of(&two_on_one, "SMT"), Advice, is, Some(mend));
    let on_all = checks(&[], |facts| {
        facts.cpus.placement = Ok((0..8).map(Some).collect());
    });
    let mend = "--set shards.cpus=0-3 --set shards.count=4";
    let is = "shards on CPUs 0-7 share cores";
    assert_says(of(&on_all, "SMT"), Advice, is, Some(mend));
    let unseen = checks(&[], |facts| facts.cpus.siblings.clear());
    assert_eq!(of(&unseen, "SMT").verdict, Unseen);
}

#[test]
fn the_governor_matters_where_shards_run() {
    let is = "performance";
    assert_says(of(&checks(&[], |_| ()), "frequency"), Good, is, None);
    let govern = |cpus: &[usize]| {
        checks(&[], |facts| {
            let slow = cpus.iter().map(|&cpu| (cpu, "powersave".to_owned()));
            facts.cpus.governors.extend(slow);
        })
    };
    assert_says(of(&govern(&[4, 5, 6, 7]), "frequency"), Good, is, None);
    let mend = Some("cpupower -c 1-2 frequency-set -g performance");
    let is = "powersave on CPUs 1-2";
    assert_says(of(&govern(&[1, 2, 7]), "frequency"), Advice, is, mend);
    let unseen = checks(&[], |facts| facts.cpus.governors.clear());
    assert_eq!(of(&unseen, "frequency").verdict, Unseen);
}
