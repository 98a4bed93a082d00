//! How does one corelane shard compare with a hand-written epoll loop and with plain glommio
//! sockets, when all three do the same work on the same frames?
//!
//! Each server is a process of its own on one CPU; the load generator, a closed loop in this
//! process, checks every reply on another. The servers take turns within each repeat and the order rotates, so that what
//! disturbs the machine meets all of them; ratios are taken within a repeat, then their median.
//! Then: what does busy polling buy a single connection? README.md, beside this file, says what
//! the columns mean and how CPU time is accounted for.

#![allow(clippy::expect_used)] // what cannot fail here says so
#![allow(clippy::cast_precision_loss)] // counts and nanoseconds of a few seconds fit a double

use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use corelane::load::{self, ServerUsage, Summary};

use self::support::flags::{Flag, Flags};
use self::support::machine::{Cpus, describe};
use self::support::server::{Kind, Server, corelane_binary, selected};
use self::support::stats::{Spread, Table, digits};
use self::support::{Failure, machine};

mod support;

const FLAGS: &[Flag] = &[
    Flag {
        name: "--repeats",
        value: "N",
        meaning: "how often each server takes its turn (5)",
    },
    Flag {
        name: "--seconds",
        value: "S",
        meaning: "how long each turn is measured, after a warm-up (2)",
    },
    Flag {
        name: "--only",
        value: "NAME",
        meaning: "corelane, epoll or glommio; may be repeated (all)",
    },
    Flag {
        name: "--case",
        value: "N/P",
        meaning: "connections and pipeline depth; may be repeated (64/1, 64/32, 1/1)",
    },
    Flag {
        name: "--server-cpu",
        value: "N",
        meaning: "where the servers run (the first allowed)",
    },
    Flag {
        name: "--client-cpu",
        value: "N",
        meaning: "where the client runs (another one)",
    },
    Flag {
        name: "--binary",
        value: "PATH",
        meaning: "another corelane binary (the one just built)",
    },
    Flag {
        name: "--busy-poll-us",
        value: "N",
        meaning: "shards.busy_poll_us of corelane in the cases (50)",
    },
];

const WARM_UP_MAX: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    support::main("echo", FLAGS, bench)
}

fn bench(flags: &Flags) -> Result<(), Failure> {
    let plan = Plan::from_flags(flags)?;
    println!("{}", describe());
    println!("{}", plan.cpus);
    println!(
        "{} repeats of {} s each, bodies of 32 bytes, every reply checked; \
         median [min..max]",
        plan.repeats,
        plan.measured.as_secs_f64()
    );
    machine::raise_open_files()?;
    for case in &plan.cases {
        let turns = plan.run(case, &plan.servers)?;
        print_case(case, plan.cpus, &plan.servers, &turns);
    }
    if let Some(corelane) = plan.corelane_alone() {
        busy_poll(&plan, corelane)?;
    }
    Ok(())
}

/// What was asked for.
struct Plan {
    repeats: usize,
    measured: Duration,
    cases: Vec<Case>,
    servers: Vec<Kind>,
    cpus: Cpus,
}

impl Plan {
    fn from_flags(flags: &Flags) -> Result<Plan, Failure> {
        let (repeats, measured) = flags.turns(5, 2.0)?;
        let busy_poll_us = flags.last("--busy-poll-us", "a number of microseconds")?;
        let kinds = Kind::all(corelane_binary(flags)?, busy_poll_us.unwrap_or(50));
        let cpu = |name| flags.last(name, "the number of a CPU");
        Ok(Plan {
            repeats,
            measured,
            cases: cases(flags)?,
            servers: selected(kinds, flags.all("--only"))?,
            cpus: Cpus::choose(cpu("--server-cpu")?, cpu("--client-cpu")?)?,
        })
    }

    /// The binary to look at busy polling with, if that was asked for.
    fn corelane_alone(&self) -> Option<&Path> {
        self.servers.iter().find_map(|kind| match kind {
            Kind::Corelane { binary, .. } if self.cases.contains(&ALONE) => Some(binary.as_path()),
            _ => None,
        })
    }

    /// For each server what each repeat gave, in the order of `servers`.
    fn run(&self, case: &Case, servers: &[Kind]) -> Result<Vec<Vec<Measured>>, Failure> {
        let mut turns: Vec<Vec<Measured>> = servers.iter().map(|_| Vec::new()).collect();
        for repeat in 0..self.repeats {
            for turn in 0..servers.len() {
                let index = (repeat + turn) % servers.len();
                let measured = self.measure(case, &servers[index])?;
                eprintln!(
                    "  repeat {}/{} {}/{} {}: {} messages/s",
                    repeat + 1,
                    self.repeats,
                    case.connections,
                    case.pipeline,
                    servers[index],
                    digits(per_second(&measured)),
                );
                turns[index].push(measured);
            }
        }
        Ok(turns)
    }

    fn measure(&self, case: &Case, kind: &Kind) -> Result<Measured, Failure> {
        let server = Server::start(kind, self.cpus.server)?;
        let mut load = load::Plan::new(server.address());
        load.connections = case.connections;
        load.pipeline = case.pipeline;
        load.warmup = WARM_UP_MAX.min(self.measured);
        load.duration = self.measured;
        load.cpus = vec![self.cpus.client];
        load.server_pid = Some(server.pid());
        let failed = |how| Failure::Running(format!("with {kind}, {how}"));
        let record = load::run(&load, &AtomicBool::new(false), |_| {})
            .map_err(|error| failed(error.to_string()))?;
        if let Some(first) = record.summary.first_error {
            return Err(failed(first));
        }
        Measured::of(record.summary).ok_or_else(|| failed("its process is not seen".to_owned()))
    }
}

/// One turn of one server.
struct Measured {
    load: Summary,
    server: ServerUsage,
}

impl Measured {
    fn of(load: Summary) -> Option<Measured> {
        let server = load.server.clone()?;
        Some(Measured { load, server })
    }

    fn server_busy(&self) -> f64 {
        self.server.cpu_seconds / self.load.seconds
    }

    fn load_busy(&self) -> f64 {
        self.load.load_cpu_us_per_message * self.load.messages_per_second / 1e6
    }
}

/// So many connections, each with so many requests under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    connections: usize,
    pipeline: usize,
}

const ALONE: Case = Case {
    connections: 1,
    pipeline: 1,
};

impl FromStr for Case {
    type Err = ();

    fn from_str(text: &str) -> Result<Case, ()> {
        let (connections, pipeline) = text.split_once('/').ok_or(())?;
        let at_least_one = |text: &str| text.parse().ok().filter(|&n| n > 0).ok_or(());
        Ok(Case {
            connections: at_least_one(connections)?,
            pipeline: at_least_one(pipeline)?,
        })
    }
}

fn cases(flags: &Flags) -> Result<Vec<Case>, Failure> {
    let given: Vec<Case> = flags
        .all("--case")
        .map(|text| {
            text.parse().map_err(|()| {
                Failure::Words(format!(
                    "--case takes connections/pipeline like 64/32, and `{text}` is not that"
                ))
            })
        })
        .collect::<Result<_, _>>()?;
    if !given.is_empty() {
        return Ok(given);
    }
    let case = |connections, pipeline| Case {
        connections,
        pipeline,
    };
    Ok(vec![case(64, 1), case(64, 32), ALONE])
}

fn print_case(case: &Case, cpus: Cpus, servers: &[Kind], turns: &[Vec<Measured>]) {
    println!(
        "\n{} connection{}, pipeline {}\n",
        case.connections,
        if case.connections == 1 { "" } else { "s" },
        case.pipeline
    );
    let mut table = Table::new(&[
        "server",
        "messages/s",
        "server CPU us/message",
        "messages/server CPU s",
        "p50 us",
        "p99 us",
        "server busy",
        "load CPU us/message",
        "load busy",
    ]);
    for (kind, turns) in servers.iter().zip(turns) {
        let spread = |value: fn(&Measured) -> f64| Spread::of(turns.iter().map(value));
        table.row(vec![
            kind.name().to_owned(),
            spread(per_second).text(),
            spread(server_us).text(),
            spread(per_server_second).text(),
            spread(|turn| turn.load.latency_us.p50).text(),
            spread(|turn| turn.load.latency_us.p99).text(),
            spread(Measured::server_busy).percent(),
            spread(|turn| turn.load.load_cpu_us_per_message).text(),
            spread(Measured::load_busy).percent(),
        ]);
    }
    println!("{table}");
    if cpus.server != cpus.client {
        for (kind, turns) in servers.iter().zip(turns) {
            print_disturbance(kind, turns);
        }
    }
    print_ratios(case, servers, turns);
}

/// Says so where somebody else had the CPUs for more than one part in a hundred.
fn print_disturbance(kind: &Kind, turns: &[Measured]) {
    let waited_at_most = |of: fn(&Measured) -> Option<f64>| {
        let shares = turns
            .iter()
            .map(|turn| of(turn).unwrap_or_default() / turn.load.seconds);
        Spread::of(shares).max
    };
    let server = waited_at_most(|turn| turn.server.waited_seconds);
    let load = waited_at_most(|turn| turn.load.load_waited_seconds);
    if server.max(load) > 0.01 {
        println!(
            "disturbed: with {kind}, other programs kept the server off its CPU for up to {:.1}% \
             of a repeat, the load for up to {:.1}%\n",
            server * 100.0,
            load * 100.0,
        );
    }
}

/// The first server against each of the others, repeat by repeat.
fn print_ratios(case: &Case, servers: &[Kind], turns: &[Vec<Measured>]) {
    let (Some((first, others)), Some((base, peers))) = (servers.split_first(), turns.split_first())
    else {
        return;
    };
    if others.is_empty() {
        return;
    }
    let mut table = Table::new(&["ratio", "messages/server CPU s", "messages/s", "expected"]);
    for (kind, peer) in others.iter().zip(peers) {
        let ratio = |value: fn(&Measured) -> f64| {
            Spread::of(
                base.iter()
                    .zip(peer)
                    .map(|(ours, theirs)| value(ours) / value(theirs)),
            )
        };
        table.row(vec![
            format!("{first} / {kind}"),
            ratio(per_server_second).text(),
            ratio(per_second).text(),
            expected(case, first, kind).to_owned(),
        ]);
    }
    println!("{table}");
}

/// What the ratio should be; a fact to print, nothing fails by it.
fn expected(case: &Case, first: &Kind, other: &Kind) -> &'static str {
    match (first, other) {
        (Kind::Corelane { .. }, _) if *case == ALONE => "-",
        (Kind::Corelane { .. }, Kind::Epoll) => "at least 1.0",
        (Kind::Corelane { .. }, Kind::Glommio) => "at least 1.2",
        _ => "-",
    }
}

/// One connection that polls before it sleeps, against one that sleeps at once.
fn busy_poll(plan: &Plan, binary: &Path) -> Result<(), Failure> {
    let servers = [50, 0].map(|busy_poll_us| Kind::Corelane {
        binary: binary.to_owned(),
        busy_poll_us,
    });
    let turns = plan.run(&ALONE, &servers)?;
    println!("\nbusy polling: 1 connection, pipeline 1\n");
    let mut table = Table::new(&["shards.busy_poll_us", "p50 us", "p99 us", "server busy"]);
    for (busy_poll_us, turns) in ["50", "0"].into_iter().zip(&turns) {
        let spread = |value: fn(&Measured) -> f64| Spread::of(turns.iter().map(value));
        table.row(vec![
            busy_poll_us.to_owned(),
            spread(|turn| turn.load.latency_us.p50).text(),
            spread(|turn| turn.load.latency_us.p99).text(),
            spread(Measured::server_busy).percent(),
        ]);
    }
    println!("{table}");
    let ratios = turns[0].iter().zip(&turns[1]);
    let ratio = Spread::of(
        ratios.map(|(polls, sleeps)| polls.load.latency_us.p50 / sleeps.load.latency_us.p50),
    );
    println!(
        "p50 with 50 / p50 with 0: {} (expected: at most 0.5)",
        ratio.text()
    );
    Ok(())
}

fn per_second(turn: &Measured) -> f64 {
    turn.load.messages_per_second
}

fn server_us(turn: &Measured) -> f64 {
    turn.server.cpu_us_per_message
}

fn per_server_second(turn: &Measured) -> f64 {
    1e6 / turn.server.cpu_us_per_message
}
