//! Does hashing passwords disturb the messages of others: what is ECHO's p99 without and with
//! clients that keep the hash queue full?
//!
//! The server is one shard on one CPU. Unless `--hash-cpu` says otherwise it is confined to that
//! CPU, so that its hash thread has to share it: the worst case. ECHO is driven from another CPU,
//! once as fast as it goes (a closed loop) and once at half that rate (an open loop), which leaves
//! the CPU time to hash in. 64 connections log in meanwhile, each again as soon as it is answered.
//! Turns without and with them alternate, and the first of a repeat is now one, now the other;
//! ratios are taken within a repeat, then their median. README.md, beside this file, says more.

#![allow(clippy::expect_used)] // what cannot fail here says so
#![allow(clippy::cast_precision_loss)] // counts of a few seconds fit a double

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corelane::load::{self, Summary};
use corelane::protocol::messages::Login;
use corelane::protocol::{Decoded, ErrorBody, FRAME_BYTES_MAX, Reason, Secret, codes};
use corelane::protocol::{decode, encode_message};

use self::support::flags::{Flag, Flags};
use self::support::machine::{Cpus, allowed_cpus, describe, keep_this_thread};
use self::support::server::{Corelane, Server, corelane_binary};
use self::support::stats::{Spread, Table};
use self::support::{Failure, OrFailed as _};

mod support;

const FLAGS: &[Flag] = &[
    Flag {
        name: "--repeats",
        value: "N",
        meaning: "how often each turn is taken (7)",
    },
    Flag {
        name: "--seconds",
        value: "S",
        meaning: "how long each turn is measured, after a warm-up (3)",
    },
    Flag {
        name: "--server-cpu",
        value: "N",
        meaning: "where the shard runs (the first allowed)",
    },
    Flag {
        name: "--client-cpu",
        value: "N",
        meaning: "where the load runs (another one)",
    },
    Flag {
        name: "--hash-cpu",
        value: "N",
        meaning: "where the hash thread runs (the shard's)",
    },
    Flag {
        name: "--binary",
        value: "PATH",
        meaning: "another corelane binary (the one just built)",
    },
];

/// Connections that send ECHO.
const ECHOES: usize = 64;
/// Connections that log in: as many as are hashed and wait at once.
const LOGINS: usize = 64;
const QUEUE: usize = LOGINS - 1;

/// More than this share of ECHO's p99 must not come on top.
const GROWTH_MAX: f64 = 0.20;

const WARM_UP_MAX: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    support::main("hashing", FLAGS, bench)
}

fn bench(flags: &Flags) -> Result<(), Failure> {
    let plan = Plan::from_flags(flags)?;
    println!("{}", describe());
    println!("{}", plan.cpus);
    println!("hash thread on CPU {}", plan.hash_cpu);
    println!(
        "{} repeats of {} s each, {ECHOES} connections with ECHO of 32 bytes, {LOGINS} that log in; \
         median [min..max]\n",
        plan.repeats,
        plan.measured.as_secs_f64()
    );
    let closed = plan.run("as fast as it goes", None)?;
    let half = Spread::of(closed.iter().map(|pair| pair.alone.messages_per_second)).median / 2.0;
    let open = plan.run("half that rate", Some(half.round()))?;
    let cases = [("as fast as it goes", &closed), ("half that rate", &open)];
    let mut table = Table::new(&[
        "ECHO",
        "logins",
        "messages/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "logins/s",
    ]);
    for (name, pairs) in cases {
        add_rows(&mut table, name, pairs);
    }
    println!("{table}");
    for (name, pairs) in cases {
        println!("{}", verdict(name, pairs));
    }
    Ok(())
}

/// What one repeat gave.
struct Pair {
    alone: Summary,
    with: Summary,
    logins_per_second: f64,
}

fn add_rows(table: &mut Table, name: &str, pairs: &[Pair]) {
    type Side = fn(&Pair) -> &Summary;
    let sides: [(&str, Side); 2] = [("none", |pair| &pair.alone), ("64", |pair| &pair.with)];
    for (logins, side) in sides {
        let spread = |value: fn(&Summary) -> f64| {
            Spread::of(pairs.iter().map(|pair| value(side(pair)))).text()
        };
        let rate = if logins == "none" {
            "-".to_owned()
        } else {
            Spread::of(pairs.iter().map(|pair| pair.logins_per_second)).text()
        };
        table.row(vec![
            name.to_owned(),
            logins.to_owned(),
            spread(|summary| summary.messages_per_second),
            spread(|summary| summary.latency_us.p50),
            spread(|summary| summary.latency_us.p99),
            spread(|summary| summary.latency_us.p99_9),
            rate,
        ]);
    }
}

fn verdict(name: &str, pairs: &[Pair]) -> String {
    let ratios = pairs
        .iter()
        .map(|pair| pair.with.latency_us.p99 / pair.alone.latency_us.p99);
    let ratio = Spread::of(ratios);
    let holds = if ratio.median <= 1.0 + GROWTH_MAX {
        "holds"
    } else {
        "DOES NOT HOLD"
    };
    format!(
        "ECHO {name}: p99 with logins / without = {}; at most {:.2} is promised, which {holds}",
        ratio.text(),
        1.0 + GROWTH_MAX
    )
}

/// What was asked for.
struct Plan {
    repeats: usize,
    measured: Duration,
    binary: PathBuf,
    cpus: Cpus,
    hash_cpu: usize,
}

impl Plan {
    fn from_flags(flags: &Flags) -> Result<Plan, Failure> {
        let (repeats, measured) = flags.turns(7, 3.0)?;
        let cpu = |name| flags.last(name, "the number of a CPU");
        let cpus = Cpus::choose(cpu("--server-cpu")?, cpu("--client-cpu")?)?;
        let hash_cpu = cpu("--hash-cpu")?.unwrap_or(cpus.server);
        if !allowed_cpus()?.contains(&hash_cpu) {
            return Err(Failure::Words(format!(
                "CPU {hash_cpu} is not among those that this process may use"
            )));
        }
        Ok(Plan {
            repeats,
            measured,
            binary: corelane_binary(flags)?,
            cpus,
            hash_cpu,
        })
    }

    fn run(&self, name: &str, rate: Option<f64>) -> Result<Vec<Pair>, Failure> {
        let mut pairs = Vec::new();
        for repeat in 0..self.repeats {
            // Whatever goes on growing meets now the one first and now the other.
            let (alone, (with, logins_per_second)) = if repeat % 2 == 0 {
                let alone = self.echo_alone(rate)?;
                (alone, self.echo_with_logins(rate)?)
            } else {
                let with = self.echo_with_logins(rate)?;
                (self.echo_alone(rate)?, with)
            };
            eprintln!(
                "  repeat {}/{} {name}: p99 {:.1} us without logins, {:.1} us with {logins_per_second:.1}/s",
                repeat + 1,
                self.repeats,
                alone.latency_us.p99,
                with.latency_us.p99,
            );
            pairs.push(Pair {
                alone,
                with,
                logins_per_second,
            });
        }
        Ok(pairs)
    }

    fn echo_alone(&self, rate: Option<f64>) -> Result<Summary, Failure> {
        self.echo(&self.start()?, rate)
    }

    /// Also how many logged in a second.
    fn echo_with_logins(&self, rate: Option<f64>) -> Result<(Summary, f64), Failure> {
        let server = self.start()?;
        let (stop, address) = (AtomicBool::new(false), server.address());
        std::thread::scope(|scope| {
            let stop = &stop;
            let logins = scope.spawn(move || {
                // Beside the load, and not where the shard and the hash thread are measured.
                keep_this_thread(&[self.cpus.client])?;
                log_in_until(stop, address)
            });
            let summary = self.echo(&server, rate);
            stop.store(true, Ordering::Relaxed);
            // Its last replies may take long to come, and nobody waits for them.
            drop(server);
            let logins = logins.join().expect("it panics for no reason of its own")?;
            Ok((summary?, logins))
        })
    }

    /// With no more CPUs than the shard and the hash thread are to have.
    fn start(&self) -> Result<Server, Failure> {
        let mut confined = vec![self.cpus.server, self.hash_cpu];
        confined.dedup();
        let settings = [
            "accounts.store=memory".to_owned(),
            format!("accounts.hash_queue={QUEUE}"),
        ];
        let corelane = Corelane {
            binary: &self.binary,
            shards: 1,
            cpus: Some(&[self.cpus.server]),
            busy_poll_us: 50,
            settings: &settings,
        };
        // A child has the affinity of the thread that starts it.
        let start = || {
            keep_this_thread(&confined)?;
            Server::spawn("corelane", corelane.command())
        };
        std::thread::scope(|scope| {
            let started = scope.spawn(start).join();
            started.expect("it panics for no reason of its own")
        })
    }

    fn echo(&self, server: &Server, rate: Option<f64>) -> Result<Summary, Failure> {
        let mut load = load::Plan::new(server.address());
        load.connections = ECHOES;
        load.rate = rate;
        load.warmup = WARM_UP_MAX.min(self.measured);
        load.duration = self.measured;
        load.cpus = vec![self.cpus.client];
        let record =
            load::run(&load, &AtomicBool::new(false), |_| {}).or_failed("the load does not run")?;
        match record.summary.first_error {
            Some(error) => Err(Failure::Running(error)),
            None => Ok(record.summary),
        }
    }
}

/// Keeps the hash queue full; gives back how many were answered a second. The queue is one, so the
/// answers come in the order of the requests.
fn log_in_until(stop: &AtomicBool, address: SocketAddr) -> Result<f64, Failure> {
    let mut request = Vec::new();
    let login = Login {
        username: "nobody",
        password: Secret::new("correct horse").or_failed("the password")?,
    };
    encode_message(&mut request, &login).or_failed("the request")?;
    let connect = |_| TcpStream::connect(address).or_failed("a login does not connect");
    let mut streams = (0..LOGINS).map(connect).collect::<Result<Vec<_>, _>>()?;
    for stream in &mut streams {
        stream
            .set_read_timeout(Some(PATIENCE))
            .or_failed("a socket")?;
        stream.write_all(&request).or_failed("a login")?;
    }
    let (start, mut answered) = (Instant::now(), 0_u32);
    'all: loop {
        for stream in &mut streams {
            match reply(stream) {
                Err(_) if stop.load(Ordering::Relaxed) => break 'all,
                outcome => outcome?,
            }
            answered += 1;
            stream.write_all(&request).or_failed("a login")?;
        }
    }
    Ok(f64::from(answered) / start.elapsed().as_secs_f64())
}

/// Takes the reply of one who is unknown: that costs a whole hash as well.
fn reply(stream: &mut TcpStream) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    loop {
        match decode(&bytes, FRAME_BYTES_MAX) {
            Decoded::Incomplete { missing } => {
                let start = bytes.len();
                bytes.resize(start + missing, 0);
                stream
                    .read_exact(&mut bytes[start..])
                    .or_failed("no answer to a login")?;
            }
            Decoded::Whole(frame) if frame.code == codes::ERROR => {
                let error = ErrorBody::parse(frame.body).or_failed("an ERROR that is none")?;
                if error.reason == Reason::Rejected.number() {
                    return Ok(());
                }
                return Err(Failure::Running(format!(
                    "a login was answered {}: {}",
                    error.reason_name(),
                    error.text
                )));
            }
            other => {
                return Err(Failure::Running(format!(
                    "a login was answered by {other:?}"
                )));
            }
        }
    }
}
