//! How many instructions does a 32-byte ECHO take in user space: decoding, encoding, and all of a
//! shard's turn?
//!
//! Counted by callgrind, which executes each instruction in a CPU of its own making: the figures
//! are the same on a busy machine and on a quiet one, so unlike all other benches this one fails
//! when its budget is exceeded. Each case runs twice, the second time with twice the messages; the
//! difference is the messages' own, without start, set-up and end, and without names of functions
//! that a compiler could have inlined. README.md, beside this file, says what is in a case.
//!
//! It also tells how many cache lines hold the code of a round, a shard's turn in most cases. The
//! kernel drives those out of the core's first cache between two turns, so while a turn has few
//! messages they cost more than the instructions do.

#![allow(clippy::expect_used)] // what cannot fail here says so
#![allow(clippy::cast_precision_loss)] // counts of some millions fit a double
#![allow(clippy::cast_possible_truncation)] // only the seeds of bodies are cut

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::process::{Command, ExitCode, Output};

use corelane::protocol::Decoder;

use self::support::flags::{Flag, Flags};
use self::support::machine::describe;
use self::support::stats::Table;
use self::support::{Failure, OrFailed as _};
use self::work::EchoShard;

#[path = "micro/peers_io.rs"]
mod peers_io;
mod support;
#[path = "micro/work.rs"]
mod work;

const FLAGS: &[Flag] = &[
    Flag {
        name: "--case",
        value: "NAME",
        meaning: "one of the table's; may be repeated (all)",
    },
    Flag {
        name: "--messages",
        value: "N",
        meaning: "how many are counted, about (65536)",
    },
    Flag {
        name: RUN,
        value: "NAME",
        meaning: "run a case and count nothing: for a profiler",
    },
];

/// Also how the bench starts itself under callgrind.
const RUN: &str = "--run";

/// For decode, checksum, dispatch, encode and checksum of a 32-byte ECHO. Held against the pipelined
/// case, in which each message also carries its share of a turn.
const BUDGET: f64 = 400.0;

const BODY_BYTES: usize = 32;
const CONNECTIONS: usize = 64;
/// Frames that are decoded from one slice, or encoded into one buffer.
const FRAMES: usize = 64;

/// One row of the table.
struct Case {
    name: &'static str,
    /// Does the work for at least so many messages; gives how many they were.
    run: fn(u64) -> u64,
    /// Messages of a round.
    round: u64,
    /// Instructions a message, at most.
    budget: Option<f64>,
}

const CASES: &[Case] = &[
    Case {
        name: "decode",
        run: decode,
        round: FRAMES as u64,
        budget: None,
    },
    Case {
        name: "encode",
        run: encode,
        round: FRAMES as u64,
        budget: None,
    },
    Case {
        name: "echo-64/1",
        run: |messages| echo(messages, 1),
        round: CONNECTIONS as u64,
        // Most of it is what a turn does for a connection, however many messages come on it.
        budget: None,
    },
    Case {
        name: "echo-64/32",
        run: |messages| echo(messages, 32),
        round: 32 * CONNECTIONS as u64,
        budget: Some(BUDGET),
    },
    Case {
        name: "peers-64/1",
        run: |messages| peers(messages, 1),
        round: CONNECTIONS as u64,
        budget: None,
    },
    Case {
        name: "peers-64/32",
        run: |messages| peers(messages, 32),
        round: 32 * CONNECTIONS as u64,
        budget: None,
    },
];

fn main() -> ExitCode {
    support::main("instructions", FLAGS, bench)
}

fn bench(flags: &Flags) -> Result<(), Failure> {
    let messages = flags.last("--messages", "a whole number from 1 on")?;
    let messages: u64 = messages.unwrap_or(1 << 16);
    if messages == 0 {
        return Err(Failure::Words("--messages must be at least 1".to_owned()));
    }
    if let Some(name) = flags.last::<String>(RUN, "the name of a case")? {
        println!("{}", (case(&name)?.run)(messages));
        return Ok(());
    }
    let named: Vec<_> = flags.all("--case").map(case).collect::<Result<_, _>>()?;
    let cases = if named.is_empty() {
        CASES.iter().collect()
    } else {
        named
    };
    println!("{}", describe());
    println!("{}\n", callgrind_version()?);
    let mut table = Table::new(&["case", "instructions/message", "budget", "code lines/round"]);
    let mut exceeded = Ok(());
    for case in cases {
        let (counted, lines) = count(case, messages)?;
        let mut budget_text = "-".to_owned();
        if let Some(budget) = case.budget {
            budget_text = format!("at most {budget}");
            if counted > budget {
                exceeded = Err(Failure::Running(format!(
                    "{} takes {counted:.1} instructions a message, and may take {budget}",
                    case.name
                )));
            }
        }
        table.row(vec![
            case.name.to_owned(),
            format!("{counted:.1}"),
            budget_text,
            lines.to_string(),
        ]);
    }
    println!("{table}");
    exceeded
}

fn case(name: &str) -> Result<&'static Case, Failure> {
    CASES.iter().find(|case| case.name == name).ok_or_else(|| {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        Failure::Words(format!(
            "`{name}` is no case here; the cases are {}",
            names.join(", ")
        ))
    })
}

fn decode(messages: u64) -> u64 {
    let slice = work::requests(FRAMES, BODY_BYTES);
    let mut decoder = Decoder::new();
    until(messages, || work::decode(&mut decoder, &slice))
}

fn encode(messages: u64) -> u64 {
    let bodies = work::bodies(FRAMES, BODY_BYTES);
    let mut out = Vec::new();
    until(messages, || work::encode_all(&mut out, &bodies))
}

fn echo(messages: u64, pipeline: usize) -> u64 {
    let batch = work::requests(pipeline, BODY_BYTES);
    let mut echo = EchoShard::start(&batch, CONNECTIONS);
    let before = echo.answered();
    let per_turn = (CONNECTIONS * pipeline) as u64;
    let messages = until(messages, || {
        echo.turn();
        per_turn
    });
    assert_eq!(echo.answered() - before, messages);
    messages
}

fn peers(messages: u64, pipeline: usize) -> u64 {
    let batch = work::requests(pipeline, BODY_BYTES);
    let mut mirror = EchoShard::start(&batch, CONNECTIONS).into_mirror();
    until(messages, || mirror.turn() * pipeline as u64)
}

/// Repeats a round until at least so many messages are through; gives how many they were.
fn until(messages: u64, mut round: impl FnMut() -> u64) -> u64 {
    let mut done = 0;
    while done < messages {
        done += round();
    }
    done
}

/// The instructions a message, and the cache lines of a round's code.
fn count(case: &Case, messages: u64) -> Result<(f64, usize), Failure> {
    let once = Counted::of(case, messages)?;
    let twice = Counted::of(case, 2 * messages)?;
    let instructions = twice.instructions.checked_sub(once.instructions);
    let instructions = instructions
        .ok_or("twice the messages took fewer instructions")
        .or_failed(case.name)?;
    let messages = twice.messages - once.messages;
    let lines = lines_of_rounds(&once.executed, &twice.executed, messages / case.round)?;
    Ok((instructions as f64 / messages as f64, lines))
}

/// A whole run under callgrind.
struct Counted {
    messages: u64,
    instructions: u64,
    /// How often the instruction at each address was executed.
    executed: HashMap<u64, u64>,
}

impl Counted {
    fn of(case: &Case, messages: u64) -> Result<Counted, Failure> {
        let this = std::env::current_exe().or_failed("the bench does not find its own program")?;
        let folder = tempfile::tempdir().or_failed("a temporary folder cannot be made")?;
        let profile = folder.path().join("callgrind.out");
        let mut command = Command::new(VALGRIND);
        command
            .arg("--tool=callgrind")
            .args(["--dump-instr=yes", "--compress-pos=no"])
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(this)
            .args(["--bench", RUN, case.name])
            .args(["--messages", &messages.to_string()]);
        let said = output_of(&mut command)?;
        let messages: u64 = said
            .trim()
            .parse()
            .or_failed(format_args!("{} said {said:?}", case.name))?;
        let profile = fs::read_to_string(profile).or_failed("callgrind has left no profile")?;
        Ok(Counted {
            messages,
            instructions: total_of(&profile)?,
            executed: executions_of(&profile)?,
        })
    }
}

const VALGRIND: &str = "valgrind";

fn callgrind_version() -> Result<String, Failure> {
    let version = output_of(Command::new(VALGRIND).arg("--version"))?;
    Ok(format!("counted by callgrind of {}", version.trim()))
}

/// What a program wrote, if it ended well.
fn output_of(command: &mut Command) -> Result<String, Failure> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().map_err(|error| {
        Failure::Running(if error.kind() == ErrorKind::NotFound {
            format!("{VALGRIND} is missing: install it, for example the Debian package {VALGRIND}")
        } else {
            format!("{VALGRIND} cannot be started: {error}")
        })
    })?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        return Err(Failure::Running(format!(
            "{command:?} ended with {status} and said:\n{said}"
        )));
    }
    String::from_utf8(stdout).or_failed(format_args!("{VALGRIND} wrote what is no text"))
}

/// The sum over all functions, from the `totals:` line at the end of a profile.
fn total_of(profile: &str) -> Result<u64, Failure> {
    profile
        .lines()
        .find_map(|line| line.strip_prefix("totals:")?.trim().parse().ok())
        .ok_or("no totals in it")
        .or_failed("callgrind's profile is not understood")
}

/// How often the instruction at each address was executed, by the lines `0x<address> <line> <times>`
/// of a profile. The one behind a `calls=` is of what was called.
fn executions_of(profile: &str) -> Result<HashMap<u64, u64>, Failure> {
    let mut executed = HashMap::new();
    let mut is_of_call = false;
    for line in profile.lines() {
        if line.starts_with("calls=") {
            is_of_call = true;
        } else if let Some(position) = line.strip_prefix("0x")
            && !std::mem::take(&mut is_of_call)
        {
            let mut words = position.split(' ');
            let address = words.next().and_then(|it| u64::from_str_radix(it, 16).ok());
            let times = words.nth(1).and_then(|it| it.parse::<u64>().ok());
            let (address, times) = address
                .zip(times)
                .ok_or(line)
                .or_failed("callgrind's profile is not understood")?;
            *executed.entry(address).or_default() += times;
        }
    }
    Ok(executed)
}

/// A cache line, in bytes: that of all x86-64 and of most other CPUs.
const LINE_BYTES: u64 = 64;

/// How many cache lines hold instructions that so many rounds more executed so much more often. The
/// program is at the same addresses in both runs: valgrind sees to that.
fn lines_of_rounds(
    once: &HashMap<u64, u64>,
    twice: &HashMap<u64, u64>,
    rounds: u64,
) -> Result<usize, Failure> {
    let lines: HashSet<_> = twice
        .iter()
        .filter(|&(address, &times)| {
            let times_before = once.get(address).copied().unwrap_or(0);
            times.saturating_sub(times_before) >= rounds
        })
        .map(|(address, _)| address / LINE_BYTES)
        .collect();
    if lines.is_empty() {
        return Err("no instruction in them was executed in every round")
            .or_failed("callgrind's profiles are not understood");
    }
    Ok(lines.len())
}
