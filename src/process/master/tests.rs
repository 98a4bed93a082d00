//! The table of transitions is walked completely, and what no table shows is told as stories.

use std::collections::HashSet;

use super::*;

const TABLE: &str = include_str!("transitions.md");

const PATIENCE: Patience = Patience {
    respawn_max_ms: 300,
    ready_ms: 1000,
    drain_ms: 3000,
    stop_ms: 200,
};

/// Long after the last start, and what all events of the table come at.
const LATER_MS: u64 = 100_000;

fn master() -> Master {
    Master::new(PATIENCE, 0)
}

fn asked(order: Order) -> Event {
    Event::Asked(order, None)
}

const FIRST: WorkerId = WorkerId(1);
const SECOND: WorkerId = WorkerId(2);

/// The master after these events, all at one moment; its actions so far are done.
fn after(events: &[Event], now_ms: u64) -> Master {
    let mut master = master();
    for &event in events {
        master.handle(event, now_ms);
    }
    while master.next_action().is_some() {}
    master
}

/// The states of the table, by the names that it gives them. Worker 1 was the first.
fn states() -> Vec<(&'static str, Master)> {
    let ready = Event::Ready(FIRST);
    let new = Event::Examined(Finding::NewWorker);
    let replacing = [ready, asked(Order::Reload), new];
    let upgrading = [ready, asked(Order::Upgrade)];
    let dead = [ready, Event::Ended(FIRST)];
    let at = LATER_MS - 10;
    vec![
        ("first start", after(&[], 0)),
        ("restarting", after(&dead, at)),
        (
            "pausing",
            after(&[dead[0], dead[1], Event::Ended(SECOND)], at),
        ),
        (
            "examining while pausing",
            after(
                &[dead[0], dead[1], Event::Ended(SECOND), asked(Order::Reload)],
                at,
            ),
        ),
        ("serving", after(&[ready], at)),
        ("examining", after(&replacing[..2], at)),
        (
            "adapting",
            after(
                &[
                    ready,
                    asked(Order::Reload),
                    Event::Examined(Finding::InPlace),
                ],
                at,
            ),
        ),
        ("reloading", after(&replacing, at)),
        ("upgrading", after(&upgrading, at)),
        (
            "handing over",
            after(&[upgrading[0], upgrading[1], Event::Ready(SECOND)], at),
        ),
        ("draining", after(&[ready, asked(Order::Quit)], at)),
        (
            "gone",
            after(&[asked(Order::Stop), Event::Ended(FIRST)], at),
        ),
    ]
}

/// The events of the table, by name.
fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("stop", asked(Order::Stop)),
        ("quit", asked(Order::Quit)),
        ("reload", asked(Order::Reload)),
        ("reopen", asked(Order::Reopen)),
        ("upgrade", asked(Order::Upgrade)),
        ("1 ready", Event::Ready(FIRST)),
        ("2 ready", Event::Ready(SECOND)),
        ("1 reopened", Event::Reopened(FIRST)),
        ("1 adapted", Event::Adapted(FIRST)),
        ("2 adapted", Event::Adapted(SECOND)),
        ("1 not adapted", Event::NotAdapted(FIRST)),
        ("1 ended", Event::Ended(FIRST)),
        ("2 ended", Event::Ended(SECOND)),
        ("wrong", Event::Examined(Finding::Wrong)),
        ("same", Event::Examined(Finding::Same)),
        ("in place", Event::Examined(Finding::InPlace)),
        ("new worker", Event::Examined(Finding::NewWorker)),
        ("not handed over", Event::NotHandedOver),
        ("tick", Event::Tick),
    ]
}

fn state_name(state: State) -> String {
    match state {
        State::Starting(Newcomer { worker, .. }) => format!("starting {}", worker.id.0),
        State::Pausing { .. } => "pausing".to_owned(),
        State::Serving(worker) => format!("serving {}", worker.id.0),
        State::Adapting { worker, .. } => format!("adapting {}", worker.id.0),
        State::Replacing { old, new } => format!("replacing {} by {}", old.id.0, new.worker.id.0),
        State::HandingOver { old, new } => {
            let old = old.map_or_else(|| "nobody".to_owned(), |old| old.id.0.to_string());
            format!("handing over {old} and {}", new.id.0)
        }
        State::GoingDown { .. } => "going down".to_owned(),
        State::Gone => "gone".to_owned(),
    }
}

fn action_name(action: &Action) -> String {
    match action {
        Action::Start(id, design) => format!("start {} {design:?}", id.0).to_lowercase(),
        Action::Tell(id, message) => format!("tell {} {message:?}", id.0).to_lowercase(),
        Action::Announce => "announce".to_owned(),
        Action::CloseSockets => "close sockets".to_owned(),
        Action::Examine => "examine".to_owned(),
        Action::Adopt => "adopt".to_owned(),
        Action::HandOver => "hand over".to_owned(),
        Action::ReopenLog => "reopen log".to_owned(),
        Action::Report(outcome, _) => {
            let outcome = format!("{outcome:?}");
            let name = outcome.split([' ', '(']).next().unwrap();
            format!("report {name}").to_lowercase()
        }
        Action::Late(id) => format!("log {} late", id.0),
        Action::Pause(pause_ms) => format!("pause {pause_ms}"),
        Action::Exit(in_order) => format!("exit {}", u8::from(!in_order)),
    }
}

fn actions(master: &mut Master) -> String {
    let actions: Vec<String> = std::iter::from_fn(|| master.next_action())
        .map(|action| action_name(&action))
        .collect();
    if actions.is_empty() {
        "-".to_owned()
    } else {
        actions.join(", ")
    }
}

/// What each state makes of each event, as rows of the table; events with one effect share a row.
fn walked() -> Vec<String> {
    let mut rows = Vec::new();
    for (name, before) in states() {
        let mut effects: Vec<(String, Vec<&str>)> = Vec::new();
        for (event_name, event) in events() {
            let mut master = before.clone();
            let now_ms = match event {
                Event::Tick => master.deadline_ms().unwrap_or(LATER_MS),
                _ => LATER_MS,
            };
            master.handle(event, now_ms);
            let done = actions(&mut master);
            let then = state_name(master.state);
            let is_remembered = format!("{master:?}") != format!("{before:?}");
            let effect = match (done.as_str(), master.state == before.state) {
                ("-", true) if is_remembered => "- | remembers it".to_owned(),
                ("-", true) => "- | stays".to_owned(),
                _ => format!("{done} | {then}"),
            };
            match effects.iter_mut().find(|(known, _)| *known == effect) {
                Some((_, names)) => names.push(event_name),
                None => effects.push((effect, vec![event_name])),
            }
        }
        for (effect, names) in effects {
            rows.push(format!("| {name} | {} | {effect} |", names.join("; ")));
        }
    }
    rows
}

#[test]
fn every_transition_is_that_of_the_table() {
    let rows: Vec<&str> = TABLE
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .collect();
    let walked = walked();
    assert_eq!(
        rows.join("\n"),
        walked.join("\n"),
        "\n{}",
        walked.join("\n")
    );
    // No state is missing that the machine has.
    let kinds: HashSet<_> = states()
        .iter()
        .map(|(_, master)| std::mem::discriminant(&master.state))
        .collect();
    assert_eq!(kinds.len(), 8);
}

/// Has its serving worker die so long after its start; gives back the pause, and ends with the next
/// one serving.
fn die_and_come_back(master: &mut Master, now_ms: &mut u64, lived_ms: u64) -> u64 {
    let State::Serving(worker) = master.state else {
        panic!("{master:?}");
    };
    *now_ms += lived_ms;
    master.handle(Event::Ended(worker.id), *now_ms);
    let mut pause_ms = 0;
    if let State::Pausing { until_ms } = master.state {
        pause_ms = until_ms - *now_ms;
        assert_eq!(master.deadline_ms(), Some(until_ms));
        master.handle(Event::Tick, until_ms - 1);
        assert!(matches!(master.state, State::Pausing { .. }));
        master.handle(Event::Tick, until_ms);
        *now_ms = until_ms;
    }
    let State::Starting(new) = master.state else {
        panic!("{master:?}");
    };
    master.handle(Event::Ready(new.worker.id), *now_ms);
    pause_ms
}

#[test]
fn pauses_grow_while_workers_die_young_and_start_over_when_one_lived() {
    let mut master = after(&[Event::Ready(FIRST)], 0);
    let mut now_ms = 0;
    let mut pauses = |lived_ms: [u64; 5]| {
        lived_ms.map(|lived_ms| die_and_come_back(&mut master, &mut now_ms, lived_ms))
    };
    assert_eq!(pauses([YOUNG_MS - 1, 0, 0, 0, 0]), [0, 100, 200, 300, 300]);
    assert_eq!(pauses([YOUNG_MS, 0, 0, YOUNG_MS, 0]), [0, 100, 200, 0, 100]);
}

#[test]
fn no_number_of_deaths_overflows() {
    let mut master = master();
    for deaths in [2, 3, 65, 66, 67, u32::MAX] {
        master.deaths = deaths;
        assert!((100..=300).contains(&master.pause_ms()), "{deaths}");
    }
}

#[test]
fn a_worker_that_stays_too_long_is_killed_once() {
    let mut master = after(&[Event::Ready(FIRST), asked(Order::Quit)], 0);
    let kill_at_ms = PATIENCE.drain_ms + PATIENCE.stop_ms + GRACE_MS;
    assert_eq!(master.deadline_ms(), Some(kill_at_ms));
    master.handle(Event::Tick, kill_at_ms);
    assert_eq!(actions(&mut master), "tell 1 kill");
    assert_eq!(master.deadline_ms(), None);
    master.handle(Event::Ended(FIRST), kill_at_ms);
    assert_eq!(actions(&mut master), "exit 0");
}

#[test]
fn a_second_signal_shortens_the_time_to_go() {
    let mut master = after(&[Event::Ready(FIRST), asked(Order::Quit)], 0);
    master.handle(asked(Order::Stop), 1);
    assert_eq!(actions(&mut master), "tell 1 stop");
    let soon_ms = 1 + PATIENCE.stop_ms + GRACE_MS;
    assert_eq!(master.deadline_ms(), Some(soon_ms));
    master.handle(asked(Order::Quit), 2);
    assert_eq!(actions(&mut master), "tell 1 stop");
    assert_eq!(master.deadline_ms(), Some(soon_ms));
}

#[test]
fn reloads_that_wait_are_one_and_all_who_asked_are_told() {
    let reload = |asker| Event::Asked(Order::Reload, Some(Asker(asker)));
    let new = Event::Examined(Finding::NewWorker);
    let mut master = after(&[Event::Ready(FIRST), reload(10), new], 0);
    for asker in [11, 12, 11] {
        master.handle(reload(asker), 0);
    }
    assert_eq!(master.next_action(), None);
    master.handle(Event::Ready(SECOND), 0);
    let told: Vec<Action> = std::iter::from_fn(|| master.next_action()).collect();
    let (old, new) = (Some(FIRST), SECOND);
    let reloaded = Outcome::Reloaded { old, new };
    let expected = [
        Action::Adopt,
        Action::Tell(FIRST, Message::Drain),
        Action::Report(reloaded, vec![Asker(10)]),
        Action::Examine,
    ];
    assert_eq!(told, expected);
    master.handle(Event::Examined(Finding::Same), 0);
    let both = vec![Asker(11), Asker(12)];
    assert_eq!(
        master.next_action(),
        Some(Action::Report(Outcome::Same, both))
    );
    assert_eq!(master.next_action(), None);
}

#[test]
fn a_reload_waits_while_too_many_are_on_their_way_out() {
    let mut master = after(&[Event::Ready(FIRST)], 0);
    for number in 1..=u32::try_from(LEAVING_MAX).unwrap() {
        master.handle(asked(Order::Reload), 0);
        master.handle(Event::Examined(Finding::NewWorker), 0);
        master.handle(Event::Ready(WorkerId(number + 1)), 0);
    }
    while master.next_action().is_some() {}
    master.handle(asked(Order::Reload), 0);
    assert_eq!(actions(&mut master), "-");
    master.handle(Event::Ended(FIRST), 0);
    assert_eq!(actions(&mut master), "examine");
}

#[test]
fn a_late_newcomer_goes_and_the_old_one_stays() {
    let new = Event::Examined(Finding::NewWorker);
    let mut master = after(&[Event::Ready(FIRST), asked(Order::Reload), new], 0);
    assert_eq!(master.deadline_ms(), Some(PATIENCE.ready_ms));
    master.handle(Event::Tick, PATIENCE.ready_ms);
    assert_eq!(actions(&mut master), "log 2 late, tell 2 stop, report late");
    assert_eq!(state_name(master.state), "serving 1");
    // Being ready after all does not help.
    master.handle(Event::Ready(SECOND), PATIENCE.ready_ms);
    assert_eq!(actions(&mut master), "-");
}

#[test]
fn a_newcomer_that_follows_a_dead_one_ends_its_reload_as_well() {
    let new = Event::Examined(Finding::NewWorker);
    let mut master = after(&[Event::Ready(FIRST), asked(Order::Reload), new], 0);
    master.handle(Event::Ended(FIRST), 0);
    master.handle(Event::Ready(SECOND), 0);
    assert_eq!(actions(&mut master), "adopt, report reloaded");

    let mut master = after(&[Event::Ready(FIRST), asked(Order::Reload), new], 0);
    master.handle(Event::Ended(FIRST), 0);
    master.handle(Event::Ended(SECOND), 0);
    assert_eq!(actions(&mut master), "report died, start 3 inforce");
}

#[test]
fn logs_are_reopened_when_all_have_said_so() {
    let new = Event::Examined(Finding::NewWorker);
    let mut master = after(&[Event::Ready(FIRST), asked(Order::Reload), new], 0);
    master.handle(Event::Asked(Order::Reopen, Some(Asker(9))), 0);
    assert_eq!(actions(&mut master), "reopen log, tell 1 reopen");
    // The newcomer may have opened the old file.
    master.handle(Event::Ready(SECOND), 0);
    assert_eq!(
        actions(&mut master),
        "tell 2 reopen, adopt, tell 1 drain, report reloaded"
    );
    master.handle(Event::Reopened(SECOND), 0);
    assert_eq!(actions(&mut master), "-");
    // Who is gone writes no more.
    master.handle(Event::Ended(FIRST), 0);
    let told = Action::Report(Outcome::Reopened, vec![Asker(9)]);
    assert_eq!(master.next_action(), Some(told));
}

#[test]
fn a_master_knows_what_its_predecessor_knew() {
    let new = Event::Examined(Finding::NewWorker);
    let upgrade = Event::Asked(Order::Upgrade, Some(Asker(7)));
    let reload = Event::Asked(Order::Reload, Some(Asker(8)));
    let third = WorkerId(3);
    let events = [Event::Ready(FIRST), asked(Order::Reload), new];
    let mut master = after(&events, 0);
    for event in [Event::Ready(SECOND), upgrade, reload, Event::Ready(third)] {
        assert_eq!(master.succession(), None);
        master.handle(event, 0);
    }
    let succession = master.succession().unwrap();
    let expected = Succession {
        old: Some(SECOND),
        new: third,
        leaving: vec![FIRST],
        askers: vec![Asker(7)],
        reload: Some(vec![Asker(8)]),
    };
    assert_eq!(succession, expected);

    let mut successor = Master::succeed(succession, PATIENCE, 0);
    assert_eq!(
        actions(&mut successor),
        "tell 2 drain, report upgraded, examine"
    );
    successor.handle(new, 0);
    assert_eq!(actions(&mut successor), "start 4 candidate");
}

#[test]
fn a_program_that_does_not_take_over_leaves_the_old_worker_serving() {
    let upgrade = Event::Asked(Order::Upgrade, Some(Asker(7)));
    let mut master = after(&[Event::Ready(FIRST), upgrade, Event::Ready(SECOND)], 0);
    master.handle(Event::NotHandedOver, 0);
    let told = Action::Report(Outcome::NotHandedOver, vec![Asker(7)]);
    assert_eq!(master.next_action(), Some(told));
    assert_eq!(actions(&mut master), "tell 2 drain");
    assert_eq!(state_name(master.state), "serving 1");
}
