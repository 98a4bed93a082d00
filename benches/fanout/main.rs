//! What does it cost to deliver one PUBLISH to ten thousand subscribers, against an ECHO on as many
//! connections, and how long does the last of them wait?
//!
//! One publisher sends a PUBLISH of 64 bytes, and the next one when all subscribers have their EVENT
//! and the reply has come; every byte of every EVENT is compared. A bystander asks for one PING after
//! the other meanwhile. In turn with that, the same server answers the same connections' ECHOs of 64
//! bytes, each with one request in flight, and the same clients read in the same way, without ever
//! sleeping. The server is a process of its own on one CPU, all of its shards there together;
//! everybody else is one thread on another. A delivery takes half the system calls of an ECHO, and
//! all of them share one encoding: so it is expected to cost at most 0.7 of its CPU. README.md, one
//! folder up, says how CPU time is accounted for.

#![allow(clippy::expect_used)] // what cannot fail here says so
#![allow(clippy::cast_precision_loss)] // counts and nanoseconds of a few seconds fit a double

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use corelane::load::CpuTime;

use self::crowd::Crowd;
use self::support::flags::{Flag, Flags};
use self::support::machine::{self, Cpus, describe};
use self::support::server::{Corelane, Server, corelane_binary};
use self::support::stats::{Spread, Table, digits};
use self::support::{Failure, OrFailed as _};

mod crowd;
#[path = "../support/mod.rs"]
mod support;

const FLAGS: &[Flag] = &[
    Flag {
        name: "--repeats",
        value: "N",
        meaning: "how many servers are tried, one after the other (5)",
    },
    Flag {
        name: "--seconds",
        value: "S",
        meaning: "how long PUBLISH and ECHO are measured with each, in slices in turn (3)",
    },
    Flag {
        name: "--subscribers",
        value: "N",
        meaning: "how many connections there are (10000)",
    },
    Flag {
        name: "--shards",
        value: "N",
        meaning: "shards of the server, all on its CPU; may be repeated (1, 2)",
    },
    Flag {
        name: "--server-cpu",
        value: "N",
        meaning: "where the server runs (the first allowed)",
    },
    Flag {
        name: "--client-cpu",
        value: "N",
        meaning: "where publisher, subscribers and load run (another one)",
    },
    Flag {
        name: "--binary",
        value: "PATH",
        meaning: "another corelane binary (the one just built)",
    },
];

/// Descriptors that client and server need beside the connections.
const OTHER_FILES: u64 = 100;
const PAYLOAD_BYTES: usize = 64;
const WARM_UP_MAX: Duration = Duration::from_millis(500);
/// How long PUBLISH and ECHO have before it is the other's turn. The machine's mood lasts longer.
const SLICE_MAX: Duration = Duration::from_millis(250);
/// CPU of a delivery, as a part of that of an ECHO.
const EXPECTED: f64 = 0.7;

fn main() -> ExitCode {
    support::main("fanout", FLAGS, bench)
}

fn bench(flags: &Flags) -> Result<(), Failure> {
    let plan = Plan::from_flags(flags)?;
    println!("{}", describe());
    println!("{}", plan.cpus);
    println!(
        "{} repeats of {} s each, {} connections, payloads of {PAYLOAD_BYTES} bytes, every one \
         compared; median [min..max]",
        plan.repeats,
        plan.measured.as_secs_f64(),
        plan.subscribers,
    );
    let mut turns: Vec<Vec<Turn>> = plan.shards.iter().map(|_| Vec::new()).collect();
    for repeat in 0..plan.repeats {
        // In turn, too: the machine's mood lasts longer than a repeat.
        for (&shards, turns) in plan.shards.iter().zip(&mut turns) {
            turns.push(plan.turn(shards, repeat)?);
        }
    }
    for (&shards, turns) in plan.shards.iter().zip(&turns) {
        print_turns(shards, turns);
    }
    Ok(())
}

/// What was asked for.
struct Plan {
    repeats: usize,
    measured: Duration,
    subscribers: usize,
    shards: Vec<usize>,
    cpus: Cpus,
    binary: PathBuf,
}

/// PUBLISH and ECHO with one server.
struct Turn {
    fanout: Fanout,
    echo: Work,
}

struct Fanout {
    deliveries: Work,
    /// From PUBLISH to the last EVENT, in microseconds.
    last_us: Spread,
    p99_us: f64,
    /// The 99th percentile of the bystander's PINGs.
    ping_p99_us: f64,
}

/// The same thing done many times, and what it took.
struct Work {
    per_second: f64,
    /// CPU time of the server each time, in microseconds.
    server_us: f64,
    server_busy: f64,
}

/// The slices of one of the two so far.
#[derive(Default)]
struct Slices {
    times: f64,
    took: Duration,
    server_used: Duration,
}

impl Plan {
    fn from_flags(flags: &Flags) -> Result<Plan, Failure> {
        let (repeats, measured) = flags.turns(5, 3.0)?;
        let cpu = |name| flags.last(name, "the number of a CPU");
        Ok(Plan {
            repeats,
            measured,
            subscribers: subscribers(flags)?,
            shards: shards(flags)?,
            cpus: Cpus::choose(cpu("--server-cpu")?, cpu("--client-cpu")?)?,
            binary: corelane_binary(flags)?,
        })
    }

    /// Which of the two comes first, changes from one slice to the next.
    fn turn(&self, shards: usize, repeat: usize) -> Result<Turn, Failure> {
        let server = self.server(shards)?;
        let mut crowd = Crowd::connect(server.address(), self.subscribers, PAYLOAD_BYTES)?;
        let warm_up = WARM_UP_MAX.min(self.measured);
        crowd.publish_for(warm_up)?;
        crowd.echo_for(warm_up)?;
        let slices = self.measured.div_duration_f64(SLICE_MAX).ceil().max(1.0);
        let slice = self.measured.div_f64(slices);
        let (mut deliveries, mut echoes) = (Slices::default(), Slices::default());
        let (mut last_us, mut pings_us) = (Vec::new(), Vec::new());
        let mut publish_first = repeat.is_multiple_of(2);
        while deliveries.took < self.measured || echoes.took < self.measured {
            for publishes in [publish_first, !publish_first] {
                if publishes {
                    let (published, used) = server_used(&server, || crowd.publish_for(slice))?;
                    let times = (published.last_us.len() * self.subscribers) as f64;
                    deliveries.add(times, published.took, used);
                    last_us.extend(published.last_us);
                    pings_us.extend(published.pings_us);
                } else {
                    let (echoed, used) = server_used(&server, || crowd.echo_for(slice))?;
                    echoes.add(echoed.replies as f64, echoed.took, used);
                }
            }
            publish_first = !publish_first;
        }
        let fanout = Fanout {
            deliveries: deliveries.sum(),
            p99_us: percentile(&last_us, 0.99),
            ping_p99_us: percentile(&pings_us, 0.99),
            last_us: Spread::of(last_us),
        };
        let echo = echoes.sum();
        eprintln!(
            "  repeat {}/{}, {}: {} deliveries/s, {} us each; an ECHO {} us",
            repeat + 1,
            self.repeats,
            named(shards),
            digits(fanout.deliveries.per_second),
            digits(fanout.deliveries.server_us),
            digits(echo.server_us),
        );
        Ok(Turn { fanout, echo })
    }

    /// A fresh server, with all shards on its CPU.
    fn server(&self, shards: usize) -> Result<Server, Failure> {
        let corelane = Corelane {
            binary: &self.binary,
            shards,
            cpus: None,
            // What it spends on looking for work would be in the CPU of each delivery.
            busy_poll_us: 0,
            // A shard that shares its CPU with another is slow by design.
            settings: &["timeouts.idle_ms=0", "handlers.slow_ms=0"].map(str::to_owned),
        };
        // A child inherits where its parent may run.
        machine::pin_this_thread(self.cpus.server)?;
        let server = Server::spawn("corelane", corelane.command());
        machine::pin_this_thread(self.cpus.client)?;
        server
    }
}

/// What something that is done takes of the server's CPU time.
fn server_used<T>(
    server: &Server,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<(T, Duration), Failure> {
    let used = || CpuTime::of_process(server.pid()).or_failed("the server's process is not seen");
    let before = used()?;
    let outcome = work()?;
    Ok((outcome, used()?.since(before).ran))
}

impl Slices {
    fn add(&mut self, times: f64, took: Duration, server_used: Duration) {
        self.times += times;
        self.took += took;
        self.server_used += server_used;
    }

    fn sum(&self) -> Work {
        let (seconds, server_seconds) = (self.took.as_secs_f64(), self.server_used.as_secs_f64());
        Work {
            per_second: self.times / seconds,
            server_us: server_seconds * 1e6 / self.times,
            server_busy: server_seconds / seconds,
        }
    }
}

/// As many as asked for, or as fit under the limit of open files.
fn subscribers(flags: &Flags) -> Result<usize, Failure> {
    let asked = flags.last("--subscribers", "a whole number from 1 on")?;
    let asked: u64 = asked.unwrap_or(10_000);
    if asked == 0 {
        return Err(Failure::Words(
            "--subscribers must be at least 1".to_owned(),
        ));
    }
    let limit = machine::raise_open_files()?;
    let fitting = asked.min(limit.saturating_sub(OTHER_FILES));
    if fitting < asked {
        println!(
            "{asked} subscribers were asked for, but a process may have only {limit} open files \
             here (`ulimit -Hn`): {fitting} it is"
        );
    }
    usize::try_from(fitting).or_failed("--subscribers")
}

fn shards(flags: &Flags) -> Result<Vec<usize>, Failure> {
    let given = flags.all("--shards").map(|text| {
        let number = text.parse().ok().filter(|&shards| shards > 0);
        number.ok_or_else(|| {
            Failure::Words(format!(
                "--shards takes a whole number from 1 on, and `{text}` is not one"
            ))
        })
    });
    let given: Vec<usize> = given.collect::<Result<_, _>>()?;
    Ok(if given.is_empty() { vec![1, 2] } else { given })
}

/// The value that this share of all is not above.
fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let wanted = (1..=sorted.len()).find(|&count| count as f64 >= share * sorted.len() as f64);
    wanted.map_or(f64::NAN, |count| sorted[count - 1])
}

fn named(shards: usize) -> String {
    match shards {
        1 => "1 shard".to_owned(),
        _ => format!("{shards} shards"),
    }
}

fn print_turns(shards: usize, turns: &[Turn]) {
    let spread = |value: fn(&Turn) -> f64| Spread::of(turns.iter().map(value));
    println!("\n{}\n", named(shards));
    let mut table = Table::new(&[
        "what",
        "per second",
        "server CPU us each",
        "server busy",
        "PUBLISH to last EVENT p50 us",
        "p99 us",
        "PING meanwhile p99 us",
    ]);
    let row = |name: &str, work: fn(&Turn) -> &Work, last: [String; 3]| {
        let spread =
            |value: fn(&Work) -> f64| Spread::of(turns.iter().map(|turn| value(work(turn))));
        let mut row = vec![
            name.to_owned(),
            spread(|work| work.per_second).text(),
            spread(|work| work.server_us).text(),
            spread(|work| work.server_busy).percent(),
        ];
        row.extend(last);
        row
    };
    let last_us = [
        spread(|turn| turn.fanout.last_us.median).text(),
        spread(|turn| turn.fanout.p99_us).text(),
        spread(|turn| turn.fanout.ping_p99_us).text(),
    ];
    table.row(row("delivery", |turn| &turn.fanout.deliveries, last_us));
    table.row(row(
        "ECHO",
        |turn| &turn.echo,
        ["-", "-", "-"].map(str::to_owned),
    ));
    println!("{table}");
    let ratio = spread(|turn| turn.fanout.deliveries.server_us / turn.echo.server_us);
    let verdict = if ratio.median <= EXPECTED {
        "it is"
    } else {
        "it is NOT"
    };
    println!(
        "server CPU of a delivery / of an ECHO: {} (expected: at most {EXPECTED}; {verdict})",
        ratio.text()
    );
}
