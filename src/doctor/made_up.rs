//! A host that has all a server can want, for tests to spoil.

use std::collections::BTreeMap;

use super::check::{Check, Verdict};
use super::facts::{
    Address, Area, Cpus, Facts, Kernel, Lack, Limits, Memory, Network, Process, Quota,
};
use crate::config::{Config, Override};

/// Four shards on eight CPUs, two to a core: 0 and 4, 1 and 5, and so on.
pub(super) fn facts() -> Facts {
    let core = |cpu: usize| (cpu, vec![cpu % 4, cpu % 4 + 4]);
    Facts {
        kernel: Kernel {
            release: "6.18.1".to_owned(),
            registers: true,
            disabled: Some(0),
            filtered: false,
            clock: Some("tsc".to_owned()),
            clocks: vec!["tsc".to_owned(), "hpet".to_owned()],
        },
        limits: Limits {
            memlock_bytes: 8 << 20,
            memlock_bytes_min: 512 << 10,
            files: 1 << 20,
            files_min: 144,
            files_wanted: 400_140,
            connections: 262_109,
            nr_open: Some(1 << 20),
        },
        cpus: Cpus {
            allowed: (0..8).collect(),
            parallelism: 8,
            placement: Ok((0..4).map(Some).collect()),
            quota: Some(Quota::Unlimited),
            siblings: (0..8).map(core).collect(),
            governors: (0..8).map(|cpu| (cpu, "performance".to_owned())).collect(),
        },
        memory: Memory {
            huge_pages: Some("madvise".to_owned()),
            nodes: BTreeMap::from([(0, (0..8).collect())]),
        },
        network: Network {
            addresses: vec![Address {
                address: ([0, 0, 0, 0], 8700).into(),
                is_admin: false,
                problem: None,
            }],
            somaxconn: Some(4096),
            port_range: Some((32_768, 60_999)),
            reserved_ports: String::new(),
            cards: Vec::new(),
            irqbalance: false,
        },
        lacks: Vec::new(),
        process: Process::default(),
    }
}

/// Four shards on all addresses, and these settings.
pub(super) fn config(settings: &[&str]) -> Config {
    let four = ["shards.count=4", "server.listen=['0.0.0.0:8700']"];
    let overrides: Vec<Override> = four
        .iter()
        .chain(settings)
        .map(|setting| Override::parse(setting).unwrap())
        .collect();
    Config::load(None, &overrides).unwrap()
}

/// That the host lacks something there, in the server's words.
pub(super) fn lack(area: Area, sentence: &str) -> Lack {
    Lack {
        area,
        sentence: sentence.to_owned(),
    }
}

/// The check of a topic.
#[track_caller]
pub(super) fn of<'a>(checks: &'a [Check], topic: &str) -> &'a Check {
    let found = checks.iter().find(|check| check.topic == topic);
    found.unwrap_or_else(|| panic!("nothing about {topic}: {checks:#?}"))
}

/// Asserts verdict, finding and command of a check.
#[track_caller]
pub(super) fn assert_says(check: &Check, verdict: Verdict, is: &str, mend: Option<&str>) {
    let said = (check.verdict, check.is.as_str(), check.mend.as_deref());
    assert_eq!(said, (verdict, is, mend), "{check:?}");
}
