//! The CPUs against the shards: mask, quota, threads of one core, frequency.

use super::check::{Check, Topic};
use super::facts::{CgroupVersion, Facts, Quota, QuotaFile, counted, list, named};
use crate::config::Config;
use crate::process::placement::PlacementError;
use crate::process::worker::StartError;

pub(super) fn judge(facts: &Facts, config: &Config) -> Vec<Check> {
    vec![
        mask(facts, config),
        quota(facts, config),
        smt(facts),
        frequency(facts),
    ]
}

fn mask(facts: &Facts, config: &Config) -> Check {
    let topic = Topic::new("CPUs", "one for each shard");
    let allowed = &facts.cpus.allowed;
    let shards = facts.shards(config);
    let count = counted(shards, "shard");
    match &facts.cpus.placement {
        Err(StartError::Placement(error)) => topic.fatal(misplaced(error), fitting(facts, error)),
        Err(error) => topic.fatal(
            error.to_string(),
            "taskset -p $$   # says what the kernel says",
        ),
        Ok(_) if config.shards.pin => {
            let pinned = list(&facts.pinned());
            topic.good(format!("{count} on {pinned} of {}", list(allowed)))
        }
        Ok(_) if shards > facts.cpus.parallelism => topic.advice(
            format!("{count} share {}, unpinned", list(allowed)),
            format!("--set shards.count={}", facts.cpus.parallelism),
        ),
        Ok(_) => topic.good(format!("{count} anywhere on {}", list(allowed))),
    }
}

fn misplaced(error: &PlacementError) -> String {
    match error {
        PlacementError::NoSuchCpu { cpu, allowed } => {
            format!("CPU {cpu} is not in the mask, {allowed}")
        }
        PlacementError::TooManyShards { count, allowed, .. } => {
            format!(
                "{} to pin, the mask allows {allowed}",
                counted(*count, "shard")
            )
        }
    }
}

/// Settings with which the shards do fit.
fn fitting(facts: &Facts, error: &PlacementError) -> String {
    match error {
        PlacementError::NoSuchCpu { .. } => {
            let allowed = list(&facts.cpus.allowed);
            format!("--set shards.cpus={allowed} --set shards.count=auto")
        }
        PlacementError::TooManyShards { available, .. } => {
            format!("--set shards.count={available}   # or --set shards.pin=false")
        }
    }
}

/// A pinned shard without quota stands still until the next period, and its connections with it.
fn quota(facts: &Facts, config: &Config) -> Check {
    let shards = facts.shards(config);
    let topic = Topic::new("CPU quota", "none, or a CPU for each shard");
    let (quota_us, period_us, set_in) = match &facts.cpus.quota {
        None => return topic.unseen("no cgroup"),
        Some(Quota::Unlimited) => return topic.good("none"),
        Some(Quota::Limited {
            quota_us,
            period_us,
            set_in,
        }) => (*quota_us, *period_us, set_in),
    };
    let is = format!(
        "{} CPUs' worth for {}",
        worth(quota_us, period_us),
        counted(shards, "shard")
    );
    let needed_us = period_us.saturating_mul(shards as u64);
    if quota_us >= needed_us {
        topic.good(is)
    } else {
        topic.advice(is, raising(set_in, needed_us, period_us, shards))
    }
}

fn raising(set_in: &QuotaFile, needed_us: u64, period_us: u64, shards: usize) -> String {
    if let Some(unit) = &set_in.unit {
        return format!("systemctl set-property {unit} CPUQuota={}%", 100 * shards);
    }
    if let Some(container) = &set_in.outside {
        return format!(
            "docker update --cpus={shards} {container}   # outside; in Kubernetes resources.limits.cpu"
        );
    }
    match set_in.version {
        CgroupVersion::V1 => format!("echo {needed_us} > {}", set_in.path),
        CgroupVersion::V2 => format!("echo '{needed_us} {period_us}' > {}", set_in.path),
    }
}

/// Hundredths are enough, and fewer where they are zero.
fn worth(quota_us: u64, period_us: u64) -> String {
    let hundredths = quota_us.saturating_mul(100) / period_us.max(1);
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Two threads of one core share its units and its caches: each is slowed by the other.
fn smt(facts: &Facts) -> Check {
    let topic = Topic::new("SMT", "a core for each shard");
    let pinned = facts.pinned();
    let siblings = &facts.cpus.siblings;
    if siblings.is_empty() {
        return topic.unseen("no cores");
    }
    if pinned.is_empty() {
        return topic.open(facts.unpinned());
    }
    let shares = |cpu: &usize| {
        let others = siblings.get(cpu).into_iter().flatten();
        others
            .filter(|other| *other != cpu)
            .any(|other| pinned.contains(other))
    };
    let sharing: Vec<usize> = pinned.iter().copied().filter(shares).collect();
    if sharing.is_empty() {
        return topic.good("no two shards on one core");
    }
    let cores = cores(facts);
    let count = cores.len().min(pinned.len());
    let chosen = facts.spread(&cores, count);
    let mend = format!(
        "--set shards.cpus={} --set shards.count={count}",
        list(&chosen)
    );
    let is = format!("shards on {} share cores", named(&sharing));
    topic.advice(is, mend)
}

/// The first allowed CPU of each core.
fn cores(facts: &Facts) -> Vec<usize> {
    let allowed = &facts.cpus.allowed;
    let is_first = |cpu: &&usize| {
        let siblings = facts.cpus.siblings.get(cpu).into_iter().flatten();
        siblings
            .filter(|other| allowed.contains(other))
            .all(|other| other >= *cpu)
    };
    allowed.iter().filter(is_first).copied().collect()
}

/// A core that has slept answers at a low frequency first: that is in the tail of the latencies.
fn frequency(facts: &Facts) -> Check {
    let topic = Topic::new("frequency", "governor performance");
    let busy = facts.busy();
    let governed: Vec<(usize, &str)> = busy
        .iter()
        .filter_map(|cpu| Some((*cpu, facts.cpus.governors.get(cpu)?.as_str())))
        .collect();
    if governed.is_empty() {
        return topic.unseen("no cpufreq");
    }
    let slow: Vec<(usize, &str)> = governed
        .into_iter()
        .filter(|(_, governor)| *governor != "performance")
        .collect();
    let Some((_, governor)) = slow.first() else {
        return topic.good("performance");
    };
    let cpus: Vec<usize> = slow.iter().map(|(cpu, _)| *cpu).collect();
    topic.advice(
        format!("{governor} on {}", named(&cpus)),
        format!("cpupower -c {} frequency-set -g performance", list(&cpus)),
    )
}

#[cfg(test)]
mod tests;
