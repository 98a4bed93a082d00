//! What does it cost to deliver one PUBLISH to ten thousand subscribers, against an ECHO on as many
//! connections, and how long does the last of them wait?
//!
//! One publisher sends a PUBLISH of 64 bytes, and the next one when all subscribers have their EVENT
//! and the reply has come; every byte of every EVENT is compared. A bystander asks for one PING after
//! the other meanwhile. In turn with that, the same server
//! answers ECHOs of 64 bytes over as many connections, each with one request in flight, to clients
//! that read in the same way, without ever sleeping. The server is a process of its own on one CPU,
//! all of its shards there together; everybody else is one thread on another. A delivery takes half
//! the system calls of an ECHO, and all of them share one encoding: so it is expected to cost at most
//! 0.7 of its CPU. README.md, one folder up, says how CPU time is accounted for.

#![allow(clippy::expect_used)] // what cannot fail here says so
#![allow(clippy::cast_precision_loss)] // counts and nanoseconds of a few seconds fit a double

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use corelane::load::CpuTime;

use self::crowd::Crowd;
use self::support::flags::{Flag, Flags};
use self::support::machine::{self, Cpus, caveat, describe};
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
        meaning: "how often PUBLISH and ECHO take turns (5)",
    },
    Flag {
        name: "--seconds",
        value: "S",
        meaning: "how long each turn is measured, after a warm-up (3)",
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
/// CPU of a delivery, as a part of that of an ECHO.
const EXPECTED: f64 = 0.7;

fn main() -> ExitCode {
    support::main("fanout", FLAGS, bench)
}

fn bench(flags: &Flags) -> Result<(), Failure> {
    let plan = Plan::from_flags(flags)?;
    println!("{}", describe());
    println!("{}", plan.cpus);
    if let Some(caveat) = caveat() {
        println!("{caveat}");
    }
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

/// PUBLISH and ECHO, one after the other.
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

    /// Which of the two comes first, changes from one turn to the next.
    fn turn(&self, shards: usize, repeat: usize) -> Result<Turn, Failure> {
        let echo_first = repeat % 2 == 1;
        let before = echo_first.then(|| self.echo(shards)).transpose()?;
        let fanout = self.fanout(shards)?;
        let echo = before.map_or_else(|| self.echo(shards), Ok)?;
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

    fn fanout(&self, shards: usize) -> Result<Fanout, Failure> {
        let server = self.server(shards)?;
        let mut crowd = Crowd::of_subscribers(server.address(), self.subscribers, PAYLOAD_BYTES)?;
        crowd.publish_for(self.warm_up())?;
        let (published, used) = server_seconds(&server, || crowd.publish_for(self.measured))?;
        let deliveries = (published.last_us.len() * self.subscribers) as f64;
        let seconds = published.took.as_secs_f64();
        Ok(Fanout {
            deliveries: Work::of(deliveries, seconds, used),
            p99_us: percentile(&published.last_us, 0.99),
            ping_p99_us: percentile(&published.pings_us, 0.99),
            last_us: Spread::of(published.last_us),
        })
    }

    fn echo(&self, shards: usize) -> Result<Work, Failure> {
        let server = self.server(shards)?;
        let mut crowd = Crowd::of_askers(server.address(), self.subscribers, PAYLOAD_BYTES)?;
        crowd.echo_for(self.warm_up())?;
        let (echoed, used) = server_seconds(&server, || crowd.echo_for(self.measured))?;
        let seconds = echoed.took.as_secs_f64();
        Ok(Work::of(echoed.replies as f64, seconds, used))
    }

    fn warm_up(&self) -> Duration {
        WARM_UP_MAX.min(self.measured)
    }
}

/// What something that is done takes of the server's CPU time, in seconds.
fn server_seconds<T>(
    server: &Server,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<(T, f64), Failure> {
    let used = || CpuTime::of_process(server.pid()).or_failed("the server's process is not seen");
    let before = used()?;
    let outcome = work()?;
    Ok((outcome, used()?.since(before).ran.as_secs_f64()))
}

impl Work {
    fn of(times: f64, seconds: f64, server_seconds: f64) -> Work {
        Work {
            per_second: times / seconds,
            server_us: server_seconds * 1e6 / times,
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
