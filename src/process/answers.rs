//! What the master says: sentences for its log, and to whoever sent an order and waits.
//!
//! Who waits has a [mailbox](super::notify::Mailbox) by its process id. The master acknowledges an
//! order with [`TAKEN`], and later tells the outcome: `ok` or `no`, a space and a sentence.

use std::ffi::OsStr;

use rustix::process::WaitStatus;

use super::master::{Asker, Order, Outcome, WorkerId};
use super::notify;

/// The first answer: the order was taken.
pub const TAKEN: &str = "taken";

/// The name of the mailbox of a process that waits.
pub fn mailbox_of(asker: u32) -> String {
    format!("corelane/asker/{asker}")
}

pub(crate) fn acknowledge(asker: Asker) {
    send(asker, TAKEN);
}

pub(crate) fn tell(asker: Asker, is_good: bool, words: &str) {
    let verdict = if is_good { "ok" } else { "no" };
    send(asker, &format!("{verdict} {words}"));
}

fn send(asker: Asker, words: &str) {
    let address = format!("@{}", mailbox_of(asker.0));
    // `kill` has no mailbox, and who has one may have gone.
    let _ = notify::send_at_once(OsStr::new(&address), words);
}

/// An answer, taken apart: whether it is good, and the sentence.
pub fn read(answer: &str) -> Option<(bool, &str)> {
    let (verdict, words) = answer.split_once(' ')?;
    match verdict {
        "ok" => Some((true, words)),
        "no" => Some((false, words)),
        _ => None,
    }
}

pub(crate) fn asked(order: Order) -> &'static str {
    match order {
        Order::Stop => "stopping",
        Order::Quit => "draining",
        Order::Reload => "reloading",
        Order::Reopen => "reopening the log",
        Order::Upgrade => "upgrading",
    }
}

/// Whether an outcome is good, and the sentence about it. `finding` is why a configuration is wrong,
/// or what it changes.
pub(crate) fn outcome(
    outcome: Outcome,
    finding: &str,
    pid_of: impl Fn(WorkerId) -> i32,
) -> (bool, String) {
    let replaced = |old: Option<WorkerId>, new| match old.map(&pid_of) {
        // It may have ended already.
        Some(old) if old > 0 => format!("worker {old} replaced by {}", pid_of(new)),
        _ => format!("worker {} serves", pid_of(new)),
    };
    let unchanged = "nothing has changed";
    match outcome {
        Outcome::Wrong => (false, format!("not reloaded, {unchanged}: {finding}")),
        Outcome::Same => (
            true,
            format!("reloaded: the configuration is the same, {unchanged}"),
        ),
        Outcome::InPlace => (true, format!("reloaded: {finding} changed in place")),
        Outcome::Reloaded { old, new } => (true, format!("reloaded: {}", replaced(old, new))),
        Outcome::Upgraded { old, new } => (true, format!("upgraded: {}", replaced(old, new))),
        Outcome::Died(_) => (
            false,
            format!("the new worker ended before it was ready, {unchanged}; the log says why"),
        ),
        Outcome::Late(_) => (
            false,
            format!("the new worker was not ready within process.ready_ms, {unchanged}"),
        ),
        Outcome::NotHandedOver => (
            false,
            format!("the new program did not take the master's place, {unchanged}"),
        ),
        Outcome::Reopened => (true, "reopened the log".to_owned()),
        Outcome::GoesDown => (false, format!("the server goes down, {unchanged}")),
    }
}

/// How a process has ended, for people.
pub(crate) fn end(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by {}", super::signals::name_of(signal)),
        (None, None) => "in a way that can't be told".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_can_be_read() {
        let (is_good, words) = outcome(Outcome::Wrong, "a.toml:1:2: no", |_| 0);
        let told = format!("{} {words}", if is_good { "ok" } else { "no" });
        let expected = "not reloaded, nothing has changed: a.toml:1:2: no";
        assert_eq!(read(&told), Some((false, expected)));
        assert_eq!(read(TAKEN), None);
    }

    #[test]
    fn workers_are_told_by_their_process_ids() {
        let pid_of = |id: WorkerId| i32::try_from(id.0).unwrap() * 100;
        let new = WorkerId(2);
        let reloaded = |old| outcome(Outcome::Reloaded { old, new }, "", pid_of).1;
        assert_eq!(
            reloaded(Some(WorkerId(1))),
            "reloaded: worker 100 replaced by 200"
        );
        assert_eq!(reloaded(None), "reloaded: worker 200 serves");
    }
}
