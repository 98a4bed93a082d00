//! Addresses, queues and ports of the server, and where the network cards' interrupts go.

use std::net::SocketAddr;

use super::check::{Check, Topic};
use super::facts::{Address, Card, Facts, Holder, Interrupt, Problem, ProblemKind, list, named};
use crate::config::Config;

pub(super) fn judge(facts: &Facts, config: &Config) -> Vec<Check> {
    let mut checks: Vec<Check> = facts.network.addresses.iter().map(address).collect();
    checks.push(backlog(facts, config));
    checks.push(ports(facts, config));
    checks.extend(cards(facts, config));
    checks
}

fn address(address: &Address) -> Check {
    let Address {
        address,
        is_admin,
        problem,
    } = address;
    let what = if *is_admin { " admin" } else { "" };
    let topic = Topic::new(format!("{address}{what}"), "free to listen on");
    match problem {
        None => topic.good("free"),
        Some(Problem { sentence, kind }) => {
            let port = address.port();
            let look =
                format!("ss -ltnp 'sport = :{port}'   # says who; stop it or take another port");
            match kind {
                ProblemKind::InUse(Some(Holder {
                    pid,
                    name,
                    is_ours: true,
                })) => topic.good(format!("{name} listens there already, process {pid}")),
                ProblemKind::InUse(Some(Holder { pid, name, .. })) => {
                    topic.fatal(format!("{name} listens there, process {pid}"), look)
                }
                ProblemKind::InUse(None) => topic.fatal("another program listens there", look),
                ProblemKind::Overlaps(other) => topic.fatal(
                    format!("within {other}, which comes first"),
                    "take one of the two out of server.listen",
                ),
                ProblemKind::NoSuchAddress => topic.fatal(
                    "no address of this host",
                    "ip -brief address   # has those of this host",
                ),
                ProblemKind::Privileged => topic.fatal(
                    "a privileged port",
                    "setcap cap_net_bind_service=+ep corelane   # or let systemd open it: \
                     deploy/corelane.socket",
                ),
                ProblemKind::Other => {
                    topic.fatal(sentence, "ip -brief address   # has those of this host")
                }
            }
        }
    }
}

/// What comes faster than it is accepted waits there, at most so many.
fn backlog(facts: &Facts, config: &Config) -> Check {
    let backlog = config.server.backlog;
    let topic = Topic::new("backlog", format!("{backlog} or more, as server.backlog"));
    match facts.network.somaxconn {
        None => topic.unseen("no somaxconn"),
        Some(most) if most < u64::from(backlog) => topic.advice(
            format!("net.core.somaxconn = {most} cuts it"),
            format!("sysctl -w net.core.somaxconn={backlog}"),
        ),
        Some(most) => topic.good(format!("net.core.somaxconn = {most}")),
    }
}

/// A connection that goes out may be given the server's port while the server is down.
fn ports(facts: &Facts, config: &Config) -> Check {
    let topic = Topic::new("port range", "without the server's ports");
    let Some((first, last)) = facts.network.port_range else {
        return topic.unseen("no port range");
    };
    let reserved = &facts.network.reserved_ports;
    let is_reserved = |port: u16| {
        let ports = reserved.split(',').filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.trim().parse::<u16>().ok()?..=last.trim().parse().ok()?)
        });
        ports.into_iter().any(|range| range.contains(&port))
    };
    let mut taken: Vec<u16> = config
        .server
        .listen
        .iter()
        .map(SocketAddr::port)
        .filter(|&port| (first..=last).contains(&port) && !is_reserved(port))
        .collect();
    taken.sort_unstable();
    taken.dedup();
    let range = format!("{first}-{last}");
    if taken.is_empty() {
        return topic.good(range);
    }
    let taken: Vec<String> = taken.iter().map(ToString::to_string).collect();
    let all: Vec<&str> = Some(reserved.as_str())
        .filter(|text| !text.is_empty())
        .into_iter()
        .chain(taken.iter().map(String::as_str))
        .collect();
    topic.advice(
        format!("{range}, with {} in it", taken.join(", ")),
        format!(
            "sysctl -w net.ipv4.ip_local_reserved_ports={}",
            all.join(",")
        ),
    )
}

fn cards(facts: &Facts, config: &Config) -> Vec<Check> {
    let topic = || Topic::new("network card", "interrupts near the shards");
    if config
        .server
        .listen
        .iter()
        .all(|address| address.ip().is_loopback())
    {
        return vec![topic().good("not used: server.listen is loopback")];
    }
    let cards = &facts.network.cards;
    if cards.is_empty() {
        return vec![topic().unseen("no card")];
    }
    cards
        .iter()
        .flat_map(|card| [node(facts, card), interrupts(facts, card)])
        .collect()
}

/// What a card on another node has received comes over the link between the nodes.
fn node(facts: &Facts, card: &Card) -> Check {
    let topic = Topic::new(format!("{} node", card.name), "shards on the card's node");
    let nodes = &facts.memory.nodes;
    if nodes.len() == 1 {
        return topic.good("there is one node");
    }
    let Some((node, cpus)) = card.node.and_then(|node| nodes.get_key_value(&node)) else {
        return topic.unseen("the card tells no node");
    };
    let pinned = facts.pinned();
    if pinned.is_empty() {
        return topic.open(facts.unpinned());
    }
    let far: Vec<usize> = pinned
        .iter()
        .copied()
        .filter(|&cpu| facts.node_of(cpu) != Some(*node))
        .collect();
    let near: Vec<usize> = cpus
        .iter()
        .copied()
        .filter(|cpu| facts.cpus.allowed.contains(cpu))
        .collect();
    if far.is_empty() {
        return topic.good(format!("card and shards on node {node}"));
    }
    let is = format!("card on node {node}, shards on {} are not", named(&far));
    if near.len() < pinned.len() {
        // More shards than the node has CPUs: some have to be elsewhere.
        return topic.good(format!("{is}; node {node} has too few CPUs for all"));
    }
    let chosen = facts.spread(&near, pinned.len());
    topic.advice(is, format!("--set shards.cpus={}", list(&chosen)))
}

fn interrupts(facts: &Facts, card: &Card) -> Check {
    let topic = Topic::new(
        format!("{} interrupts", card.name),
        "on the shards' CPUs and node",
    );
    let seen: Vec<&Interrupt> = card
        .interrupts
        .iter()
        .filter(|one| !one.cpus.is_empty())
        .collect();
    if seen.is_empty() {
        return topic.unseen("no interrupt of the card");
    }
    let mut cpus: Vec<usize> = seen
        .iter()
        .flat_map(|one| one.cpus.iter().copied())
        .collect();
    cpus.sort_unstable();
    cpus.dedup();
    let is = format!("{} on {}", seen.len(), named(&cpus));
    let busy = facts.busy();
    let near: Vec<usize> = busy
        .iter()
        .copied()
        .filter(|&cpu| card.node.is_none() || facts.node_of(cpu) == card.node)
        .collect();
    let targets = if near.is_empty() { &busy } else { &near };
    if targets.is_empty() {
        return topic.open(is);
    }
    let is_far = |one: &&&Interrupt| {
        one.cpus.iter().all(|&cpu| {
            targets
                .iter()
                .all(|&target| facts.node_of(target) != facts.node_of(cpu))
        })
    };
    let far: Vec<&Interrupt> = seen.iter().filter(is_far).copied().collect();
    if !far.is_empty() {
        let is = format!(
            "{is}: {} of them on another node than the shards",
            far.len()
        );
        return topic.advice(is, moving(facts, &far, targets));
    }
    if seen.len() > 1 && cpus.len() == 1 && targets.len() > 1 {
        return topic.advice(is, moving(facts, &seen, targets));
    }
    topic.good(is)
}

/// Commands that deal interrupts out to CPUs.
fn moving(facts: &Facts, interrupts: &[&Interrupt], targets: &[usize]) -> String {
    // It would move them back.
    let mut commands: Vec<String> = facts
        .network
        .irqbalance
        .then(|| "systemctl disable --now irqbalance".to_owned())
        .into_iter()
        .collect();
    for (at, cpu) in targets.iter().enumerate() {
        let mine: Vec<String> = interrupts
            .iter()
            .skip(at)
            .step_by(targets.len())
            .map(|one| one.number.to_string())
            .collect();
        match &mine[..] {
            [] => {}
            [one] => commands.push(format!("echo {cpu} > /proc/irq/{one}/smp_affinity_list")),
            several => commands.push(format!(
                "for n in {}; do echo {cpu} > /proc/irq/$n/smp_affinity_list; done",
                several.join(" ")
            )),
        }
    }
    commands.join("; ")
}

#[cfg(test)]
mod tests;
