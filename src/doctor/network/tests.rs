//! Addresses that are free or not, ports, the backlog, and cards near and far.

use std::collections::BTreeMap;

use super::super::check::Verdict::{self, Advice, Fatal, Good, Unseen};
use super::super::made_up::{assert_says, config, facts, of};
use super::*;

fn checks(settings: &[&str], spoil: impl FnOnce(&mut Facts)) -> Vec<Check> {
    let mut facts = facts();
    spoil(&mut facts);
    judge(&facts, &config(settings))
}

fn with_problem(kind: ProblemKind) -> Check {
    let checks = checks(&[], |facts| {
        facts.network.addresses[0].problem = Some(Problem {
            sentence: "cannot listen".to_owned(),
            kind,
        });
    });
    of(&checks, "0.0.0.0:8700").clone()
}

fn holder(name: &str, is_ours: bool) -> ProblemKind {
    ProblemKind::InUse(Some(Holder {
        pid: 7,
        name: name.to_owned(),
        is_ours,
    }))
}

#[test]
fn an_address_is_free_or_ours_or_taken() {
    assert_says(of(&checks(&[], |_| ()), "0.0.0.0:8700"), Good, "free", None);
    let ours = "corelane listens there already, process 7";
    assert_says(&with_problem(holder("corelane", true)), Good, ours, None);
    let mend = Some("ss -ltnp 'sport = :8700'   # says who; stop it or take another port");
    let theirs = "nginx listens there, process 7";
    assert_says(&with_problem(holder("nginx", false)), Fatal, theirs, mend);
    let unknown = "another program listens there";
    assert_says(
        &with_problem(ProblemKind::InUse(None)),
        Fatal,
        unknown,
        mend,
    );
}

#[test]
fn an_address_may_be_wrong_in_other_ways() {
    let mend = Some(
        "setcap cap_net_bind_service=+ep corelane   # or let systemd open it: \
         deploy/corelane.socket",
    );
    assert_says(
        &with_problem(ProblemKind::Privileged),
        Fatal,
        "a privileged port",
        mend,
    );
    let foreign = with_problem(ProblemKind::NoSuchAddress);
    assert_eq!(
        (foreign.verdict, foreign.is.as_str()),
        (Fatal, "no address of this host")
    );
    let own = with_problem(ProblemKind::Overlaps(([127, 0, 0, 1], 8700).into()));
    let is = "within 127.0.0.1:8700, which comes first";
    let mend = Some("take one of the two out of server.listen");
    assert_says(&own, Fatal, is, mend);
    let other = with_problem(ProblemKind::Other);
    assert_eq!((other.verdict, other.is.as_str()), (Fatal, "cannot listen"));
}

#[test]
fn the_kernel_must_not_cut_the_backlog() {
    let is = "net.core.somaxconn = 4096";
    assert_says(of(&checks(&[], |_| ()), "backlog"), Good, is, None);
    let cut = checks(&["server.backlog=5000"], |_| ());
    let mend = Some("sysctl -w net.core.somaxconn=5000");
    assert_says(
        of(&cut, "backlog"),
        Advice,
        "net.core.somaxconn = 4096 cuts it",
        mend,
    );
    let unseen = checks(&[], |facts| facts.network.somaxconn = None);
    assert_eq!(of(&unseen, "backlog").verdict, Unseen);
}

#[test]
fn ports_that_the_kernel_gives_away_are_reserved() {
    assert_says(
        of(&checks(&[], |_| ()), "port range"),
        Good,
        "32768-60999",
        None,
    );
    let high = ["server.listen=['0.0.0.0:40000', '[::]:40000', '0.0.0.0:50000']"];
    let reserve = |reserved: &str| {
        let reserved = reserved.to_owned();
        checks(&high, |facts| facts.network.reserved_ports = reserved)
    };
    let mend = Some("sysctl -w net.ipv4.ip_local_reserved_ports=40000,50000");
    let is = "32768-60999, with 40000, 50000 in it";
    assert_says(of(&reserve(""), "port range"), Advice, is, mend);
    // What is reserved already stays so.
    let mend = Some("sysctl -w net.ipv4.ip_local_reserved_ports=39000-41000,50000");
    let is = "32768-60999, with 50000 in it";
    assert_says(of(&reserve("39000-41000"), "port range"), Advice, is, mend);
    let is = "32768-60999";
    assert_says(
        of(&reserve("40000,50000-50001"), "port range"),
        Good,
        is,
        None,
    );
    let unseen = checks(&[], |facts| facts.network.port_range = None);
    assert_eq!(of(&unseen, "port range").verdict, Unseen);
}

/// A card with interrupts 40 and so on, each on one of these CPUs.
fn card(node: Option<usize>, cpus: &[usize]) -> Card {
    let interrupt = |(number, cpu): (u32, &usize)| Interrupt {
        number,
        cpus: vec![*cpu],
    };
    Card {
        name: "eth0".to_owned(),
        node,
        interrupts: (40..).zip(cpus).map(interrupt).collect(),
    }
}

fn two_nodes(facts: &mut Facts) {
    facts.memory.nodes = BTreeMap::from([(0, vec![0, 1, 4, 5]), (1, vec![2, 3, 6, 7])]);
}

fn pin(facts: &mut Facts, cpus: &[usize]) {
    facts.cpus.placement = Ok(cpus.iter().copied().map(Some).collect());
}

#[track_caller]
fn assert_card(
    topic: &str,
    spoil: impl FnOnce(&mut Facts),
    verdict: Verdict,
    is: &str,
    mend: Option<&str>,
) {
    assert_says(of(&checks(&[], spoil), topic), verdict, is, mend);
}

#[test]
fn a_card_matters_if_somebody_comes_by_it() {
    let local = checks(&["server.listen=['127.0.0.1:1', '[::1]:1']"], |facts| {
        facts.network.cards = vec![card(Some(0), &[0])];
    });
    assert_says(
        of(&local, "network card"),
        Good,
        "not used: server.listen is loopback",
        None,
    );
    let is = "can't be seen here: no card";
    assert_card("network card", |_| (), Unseen, is, None);
}

#[test]
fn shards_are_on_the_node_of_the_card() {
    let topic = "eth0 node";
    let on = |node, cpus: &'static [usize]| {
        move |facts: &mut Facts| {
            two_nodes(facts);
            pin(facts, cpus);
            facts.network.cards = vec![card(node, &[2, 3])];
        }
    };
    assert_card(
        topic,
        on(Some(1), &[2, 3]),
        Good,
        "card and shards on node 1",
        None,
    );
    let is = "card on node 1, shards on CPUs 0-1 are not";
    let mend = Some("--set shards.cpus=2-3");
    assert_card(topic, on(Some(1), &[0, 1]), Advice, is, mend);
    let is = "card on node 1, shards on CPUs 0-1 are not; node 1 has too few CPUs for all";
    assert_card(topic, on(Some(1), &[0, 1, 2, 3, 6]), Good, is, None);
    let is = "can't be seen here: the card tells no node";
    assert_card(topic, on(None, &[0]), Unseen, is, None);
    let one = |facts: &mut Facts| facts.network.cards = vec![card(None, &[0])];
    assert_card(topic, one, Good, "there is one node", None);
}

#[test]
fn interrupts_are_spread_over_the_shards() {
    let topic = "eth0 interrupts";
    let with = |card: Card| move |facts: &mut Facts| facts.network.cards = vec![card];
    assert_card(
        topic,
        with(card(None, &[0, 1])),
        Good,
        "2 on CPUs 0-1",
        None,
    );
    // With one there is nothing to spread.
    assert_card(topic, with(card(None, &[0])), Good, "1 on CPU 0", None);
    let mend = "echo 0 > /proc/irq/40/smp_affinity_list; echo 1 > /proc/irq/41/smp_affinity_list";
    assert_card(
        topic,
        with(card(None, &[0, 0])),
        Advice,
        "2 on CPU 0",
        Some(mend),
    );
    let many = |facts: &mut Facts| {
        pin(facts, &[0, 1]);
        facts.network.irqbalance = true;
        facts.network.cards = vec![card(None, &[3; 3])];
    };
    let mend = "systemctl disable --now irqbalance; for n in 40 42; do echo 0 > \
                /proc/irq/$n/smp_affinity_list; done; echo 1 > /proc/irq/41/smp_affinity_list";
    assert_card(topic, many, Advice, "3 on CPU 3", Some(mend));
    let is = "can't be seen here: no interrupt of the card";
    assert_card(topic, with(card(None, &[])), Unseen, is, None);
}

#[test]
fn interrupts_stay_on_the_node_of_the_shards() {
    let far = |facts: &mut Facts| {
        two_nodes(facts);
        pin(facts, &[0, 1]);
        facts.network.cards = vec![card(Some(0), &[0, 6])];
    };
    let is = "2 on CPUs 0,6: 1 of them on another node than the shards";
    let mend = "echo 0 > /proc/irq/41/smp_affinity_list";
    assert_card("eth0 interrupts", far, Advice, is, Some(mend));
}
