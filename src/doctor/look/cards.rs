//! The network cards, the NUMA nodes that they are on, and where their interrupts go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::facts::{Card, Interrupt};
use super::tree::Tree;

/// The cards that are up. Virtual ones have no device behind them and are left out.
pub(super) fn cards(tree: &Tree) -> Vec<Card> {
    let interrupts = tree.text("proc/interrupts").unwrap_or_default();
    let names = tree.names("sys/class/net").into_iter();
    names
        .filter_map(|name| card(tree, name, &interrupts))
        .collect()
}

fn card(tree: &Tree, name: String, interrupts: &str) -> Option<Card> {
    let folder = format!("sys/class/net/{name}");
    let device = fs::canonicalize(tree.path(&format!("{folder}/device"))).ok()?;
    if tree.word(&format!("{folder}/operstate")).as_deref() == Some("down") {
        return None;
    }
    let mut numbers: BTreeSet<u32> = message_signalled(&device);
    numbers.extend(named_after(&name, interrupts));
    let come = numbers
        .into_iter()
        .filter(|&number| has_come(number, interrupts));
    Some(Card {
        node: node(&device),
        interrupts: come.map(|number| interrupt(tree, number)).collect(),
        name,
    })
}

/// A device and those that it sits on: a virtio device tells less than the PCI device below it.
fn carriers(device: &Path) -> impl Iterator<Item = PathBuf> {
    device.ancestors().take(2).map(Path::to_path_buf)
}

fn node(device: &Path) -> Option<usize> {
    // -1, which is no number here, is not known.
    carriers(device).find_map(|folder| {
        fs::read_to_string(folder.join("numa_node"))
            .ok()?
            .trim()
            .parse()
            .ok()
    })
}

fn message_signalled(device: &Path) -> BTreeSet<u32> {
    let entries = carriers(device).filter_map(|folder| fs::read_dir(folder.join("msi_irqs")).ok());
    entries
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Interrupts that have the card's name in theirs, as older drivers have it: `eth0-rx-1`.
fn named_after(card: &str, interrupts: &str) -> Vec<u32> {
    let is_named = |line: &&str| {
        line.split_whitespace().skip(1).any(|word| {
            let rest = word.trim_end_matches(',').strip_prefix(card);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '@', ':']))
        })
    };
    let number = |line: &str| line.split_once(':')?.0.trim().parse().ok();
    interrupts
        .lines()
        .filter(is_named)
        .filter_map(number)
        .collect()
}

/// Whether an interrupt was counted on any CPU.
fn has_come(number: u32, interrupts: &str) -> bool {
    let cpus = interrupts
        .lines()
        .next()
        .map_or(0, |heads| heads.split_whitespace().count());
    interrupts
        .lines()
        .filter_map(|line| line.split_once(':'))
        .any(|(name, counts)| {
            name.trim().parse() == Ok(number)
                && counts
                    .split_whitespace()
                    .take(cpus)
                    .any(|count| count.parse::<u64>().is_ok_and(|count| count > 0))
        })
}

fn interrupt(tree: &Tree, number: u32) -> Interrupt {
    let folder = format!("proc/irq/{number}");
    let effective = tree.cpus(&format!("{folder}/effective_affinity_list"));
    let cpus = effective.or_else(|| tree.cpus(&format!("{folder}/smp_affinity_list")));
    Interrupt {
        number,
        cpus: cpus.unwrap_or_default(),
    }
}
