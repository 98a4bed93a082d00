//! Whole diagnoses.

use std::io;

use super::facts::{Area, Holder, Problem, ProblemKind};
use super::made_up::{config, facts, lack};
use super::*;
use crate::process::identity::IdentityError;
use crate::process::logging::LogError;
use crate::process::pid_file::PidFileError;
use crate::process::placement::PlacementError;
use crate::process::worker::StartError;

#[test]
fn a_host_with_everything_is_good() {
    let mut facts = facts();
    facts.network.cards = Vec::new();
    let diagnosis = judge(&facts, &config(&["server.listen=['127.0.0.1:8700']"]));
    assert!(diagnosis.starts());
    assert_eq!(
        diagnosis.count(Verdict::Good),
        diagnosis.checks.len(),
        "{diagnosis:#?}"
    );
}

fn in_use(is_ours: bool) -> Problem {
    Problem {
        sentence: "cannot listen".to_owned(),
        kind: ProblemKind::InUse(Some(Holder {
            pid: 7,
            name: "corelane".to_owned(),
            is_ours,
        })),
    }
}

/// No refusal without a line that says how to mend it, and no such line without a refusal.
#[test]
fn what_is_fatal_is_what_refuses_to_start() {
    type Spoil = fn(&mut Facts);
    let mut spoils: Vec<Spoil> = vec![
        |facts| facts.network.addresses[0].problem = Some(in_use(false)),
        |facts| {
            facts.process.user = Some(IdentityError::Unknown {
                user: "corelane".to_owned(),
            });
        },
        |facts| {
            facts.process.log_file = Some(LogError::File {
                file: "x.log".into(),
                error: io::ErrorKind::NotFound.into(),
            });
        },
        |facts| {
            facts.process.pid_file = Some(PidFileError::Held {
                file: "x.pid".into(),
                pid: 7,
            });
        },
        |facts| {
            facts.cpus.placement = Err(StartError::Placement(PlacementError::NoSuchCpu {
                cpu: 9,
                allowed: "CPUs 0-7".to_owned(),
            }));
        },
        |facts| {
            let lacks = vec!["its CPUs can't be told: no".to_owned()];
            facts.cpus.placement = Err(StartError::Host { lacks });
        },
    ];
    spoils.extend::<[Spoil; 6]>([
        |facts| facts.lacks = vec![lack(Area::Kernel, "kernel")],
        |facts| facts.lacks = vec![lack(Area::Switch, "switch")],
        |facts| facts.lacks = vec![lack(Area::Seccomp, "seccomp")],
        |facts| facts.lacks = vec![lack(Area::Ring, "ring")],
        |facts| facts.lacks = vec![lack(Area::Memlock, "memlock")],
        |facts| facts.lacks = vec![lack(Area::Files, "files")],
    ]);
    let settings = [
        "process.user=corelane",
        "process.pid_file=x.pid",
        "log.file=x.log",
    ];
    for spoil in spoils {
        let mut facts = facts();
        spoil(&mut facts);
        let diagnosis = judge(&facts, &config(&settings));
        assert!(!diagnosis.starts());
        assert_eq!(diagnosis.refusals.len(), 1, "{diagnosis:#?}");
        assert_eq!(diagnosis.count(Verdict::Fatal), 1, "{diagnosis:#?}");
        let mut mended = diagnosis
            .checks
            .iter()
            .filter(|check| check.verdict == Verdict::Fatal);
        assert!(mended.all(|check| check.mend.is_some()), "{diagnosis:#?}");
    }
}

#[test]
fn a_server_that_runs_does_not_speak_against_itself() {
    let mut facts = facts();
    facts.network.addresses[0].problem = Some(in_use(true));
    assert!(judge(&facts, &config(&[])).starts());
}

#[test]
fn what_is_not_shown_is_never_good() {
    let mut facts = facts();
    facts.kernel.clock = None;
    facts.cpus.quota = None;
    facts.cpus.siblings.clear();
    facts.cpus.governors.clear();
    facts.memory.huge_pages = None;
    facts.memory.nodes.clear();
    facts.network.somaxconn = None;
    facts.network.port_range = None;
    let diagnosis = judge(&facts, &config(&[]));
    assert_eq!(diagnosis.count(Verdict::Unseen), 9, "{diagnosis:#?}");
    assert!(diagnosis.starts());
}
