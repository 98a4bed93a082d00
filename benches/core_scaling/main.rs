//! Does a message cost more CPU the more shards there are, and what follows for more cores?
//!
//! Shards share nothing, so it must not. For 1, 2, 4, ... shards, as many as there are CPUs, a
//! server is started and driven by `corelane load` from the CPUs that are left, or from all of
//! them where none are; setups take turns within each repeat and the order rotates. The Universal
//! Scalability Law is fitted to the outcome and asked for 8 to 64 cores. README.md, in the folder
//! above, says what the columns mean and what the law can and cannot foretell.

#![allow(clippy::expect_used)] // in support, what cannot fail says so
#![allow(clippy::cast_precision_loss)] // counts and microseconds fit a double
#![allow(dead_code, unused_imports)] // of tests, which tests/benches.rs runs: here they have no harness

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use self::bootstrap::Outcome;
use self::model::{Model, Row, Series, series};
use self::plan::{Cpu, LoadOn, Setup, setups};
use self::support::flags::{Flag, Flags};
use self::support::machine;
use self::support::server::corelane_binary;
use self::support::stats::digits;
use self::support::{Failure, OrFailed as _};
use self::turn::Workload;

mod bootstrap;
mod files;
mod load;
mod model;
mod picture;
mod plan;
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod turn;
mod usl;

const FLAGS: &[Flag] = &[
    Flag {
        name: "--repeats",
        value: "N",
        meaning: "how often each setup takes its turn (5)",
    },
    Flag {
        name: "--seconds",
        value: "S",
        meaning: "how long each turn is measured, after a warm-up (2)",
    },
    Flag {
        name: "--case",
        value: "P",
        meaning: "pipeline depth; may be repeated (1, 32)",
    },
    Flag {
        name: "--connections-per-shard",
        value: "N",
        meaning: "the kernel deals them to shards by a hash (64)",
    },
    Flag {
        name: "--body-size",
        value: "BYTES",
        meaning: "of each request and reply (32)",
    },
    Flag {
        name: "--load-threads",
        value: "N",
        meaning: "of the load (as many as the CPUs it has; shared, up to 4 a shard)",
    },
    Flag {
        name: "--load-on",
        value: "WHERE",
        meaning: "others: CPUs without shards; every: all CPUs; both (both)",
    },
    Flag {
        name: "--past",
        value: "N",
        meaning: "also counts past the CPUs, up to N, with shards.pin=false",
    },
    Flag {
        name: "--busy-poll-us",
        value: "N",
        meaning: "shards.busy_poll_us; polling counts as CPU cost (0)",
    },
    Flag {
        name: "--set",
        value: "KEY=VALUE",
        meaning: "more of the server's configuration; may be repeated",
    },
    Flag {
        name: "--seed",
        value: "N",
        meaning: "of the draws behind the intervals (1)",
    },
    Flag {
        name: "--output",
        value: "DIR",
        meaning: "for CSV and SVG (core_scaling in cargo's target folder)",
    },
    Flag {
        name: "--binary",
        value: "PATH",
        meaning: "another corelane binary (the one just built)",
    },
];

const WARM_UP_MAX: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    support::main("core_scaling", FLAGS, bench)
}

fn bench(flags: &Flags) -> Result<(), Failure> {
    let plan = Plan::from_flags(flags)?;
    machine::raise_open_files()?;
    std::fs::create_dir_all(&plan.output).or_failed(plan.output.display())?;
    println!("{}", machine::describe());
    print!("{}", plan.introduction());
    let (mut turns, mut fits) = (files::turns_head(), files::fits_head());
    for &pipeline in &plan.pipelines {
        let rows = plan.run(pipeline)?;
        let all = series(&rows);
        let models = |one: &Series| one.models(plan.workload.busy_poll_us, plan.seed);
        let models: Vec<Model> = all.iter().flat_map(models).collect();
        plan.print(pipeline, &rows, &all, &models);
        plan.draw(pipeline, &models)?;
        turns += &files::turns(pipeline, &rows, &plan.workload);
        for model in &models {
            fits += &files::fits(pipeline, model);
        }
        // After each case, so that one that fails takes nothing with it.
        write(&plan.output.join("turns.csv"), &turns)?;
        write(&plan.output.join("fits.csv"), &fits)?;
    }
    println!("CSV and SVG are in {}", plan.output.display());
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).or_failed(path.display())
}

/// What was asked for.
struct Plan {
    repeats: usize,
    pipelines: Vec<usize>,
    setups: Vec<Setup>,
    workload: Workload,
    seed: u64,
    output: PathBuf,
}

impl Plan {
    fn from_flags(flags: &Flags) -> Result<Plan, Failure> {
        let measured = flags.last("--seconds", "a number of seconds")?;
        let measured = measured.unwrap_or(2.0);
        let measured = Duration::try_from_secs_f64(measured).unwrap_or_default();
        if measured < Duration::from_millis(1) {
            return Err(Failure::Words(
                "--seconds must be at least 0.001".to_owned(),
            ));
        }
        let load_threads = flags.all("--load-threads").next();
        Ok(Plan {
            repeats: at_least_one(flags, "--repeats", 5)?,
            pipelines: pipelines(flags)?,
            setups: setups_for(flags)?,
            workload: Workload {
                binary: corelane_binary(flags)?,
                connections_per_shard: at_least_one(flags, "--connections-per-shard", 64)?,
                body_bytes: flags
                    .last("--body-size", "a number of bytes")?
                    .unwrap_or(32),
                warm_up: WARM_UP_MAX.min(measured),
                measured,
                load_threads: load_threads
                    .map(|_| at_least_one(flags, "--load-threads", 1))
                    .transpose()?,
                busy_poll_us: flags
                    .last("--busy-poll-us", "a number of microseconds")?
                    .unwrap_or(0),
                settings: flags.all("--set").map(str::to_owned).collect(),
            },
            seed: flags.last("--seed", "a whole number")?.unwrap_or(1),
            output: output(flags)?,
        })
    }

    fn introduction(&self) -> String {
        let workload = &self.workload;
        let mut text = format!(
            "{} repeats of {} s each, {} connections a shard, bodies of {} bytes, every reply \
             checked; shards.busy_poll_us = {}; median [min..max]\n\
             the kernel deals connections to shards by a hash, so some shards have more of them \
             than others\n",
            self.repeats,
            workload.measured.as_secs_f64(),
            workload.connections_per_shard,
            workload.body_bytes,
            workload.busy_poll_us
        );
        if self
            .setups
            .iter()
            .any(|setup| setup.load_on == LoadOn::Every)
        {
            text += "where load and shards SHARE CPUs, messages/s and latencies are those of both \
                     together and say nothing of scaling: there, see the CPU cost of a message, \
                     and what follows from it for shards that have a core each\n";
        }
        text
    }

    fn run(&self, pipeline: usize) -> Result<Vec<Row>, Failure> {
        let row = |setup: &Setup| Row {
            setup: setup.clone(),
            turns: Vec::new(),
        };
        let mut rows: Vec<Row> = self.setups.iter().map(row).collect();
        let count = rows.len();
        for repeat in 0..self.repeats {
            for turn in 0..count {
                let row = &mut rows[(repeat + turn) % count];
                let setup = &row.setup;
                let turn = self
                    .workload
                    .turn(setup, pipeline)
                    .map_err(|failure| in_setup(failure, setup, pipeline))?;
                eprintln!(
                    "  repeat {}/{} pipeline {pipeline}, shards {}, load on {}: {} messages/s, {} us \
                     of server CPU each",
                    repeat + 1,
                    self.repeats,
                    tables::shards(setup),
                    setup.load_on,
                    digits(turn.per_second),
                    digits(turn.server_us),
                );
                row.turns.push(turn);
            }
        }
        Ok(rows)
    }

    fn print(&self, pipeline: usize, rows: &[Row], all: &[Series], models: &[Model]) {
        println!("\n## Pipeline {pipeline}\n");
        println!("{}", tables::measured(rows, &self.workload));
        if let Some(ratios) = tables::ratios(all) {
            println!("{ratios}");
        }
        for model in models {
            println!("{}", tables::model(model, self.seed));
        }
    }

    fn draw(&self, pipeline: usize, models: &[Model]) -> Result<(), Failure> {
        for model in models {
            let path = self
                .output
                .join(format!("pipeline-{pipeline}-{}.svg", model.name()));
            if !matches!(model.outcome, Outcome::Nothing) {
                picture::draw(model, pipeline, &path)?;
            }
        }
        Ok(())
    }
}

fn in_setup(failure: Failure, setup: &Setup, pipeline: usize) -> Failure {
    match failure {
        Failure::Running(sentence) => Failure::Running(format!(
            "shards {}, pipeline {pipeline}, load on {}: {sentence}",
            tables::shards(setup),
            setup.load_on
        )),
        words @ Failure::Words(_) => words,
    }
}

fn at_least_one(flags: &Flags, name: &str, default: usize) -> Result<usize, Failure> {
    match flags.last(name, "a whole number from 1 on")? {
        Some(0) => Err(Failure::Words(format!("{name} must be at least 1"))),
        given => Ok(given.unwrap_or(default)),
    }
}

fn pipelines(flags: &Flags) -> Result<Vec<usize>, Failure> {
    let depth = |text: &str| {
        let depth = text.parse().ok().filter(|&depth| depth > 0);
        depth.ok_or_else(|| {
            Failure::Words(format!(
                "--case takes a pipeline depth from 1 on, and `{text}` is not one"
            ))
        })
    };
    let given: Vec<usize> = flags.all("--case").map(depth).collect::<Result<_, _>>()?;
    Ok(if given.is_empty() { vec![1, 32] } else { given })
}

/// Where the load may be.
struct Places(Vec<LoadOn>);

impl FromStr for Places {
    type Err = ();

    fn from_str(text: &str) -> Result<Places, ()> {
        Ok(Places(match text {
            "others" => vec![LoadOn::Others],
            "every" => vec![LoadOn::Every],
            "both" => vec![LoadOn::Others, LoadOn::Every],
            _ => return Err(()),
        }))
    }
}

fn setups_for(flags: &Flags) -> Result<Vec<Setup>, Failure> {
    let allowed = machine::allowed_cpus()?;
    let core = |cpu: usize| machine::siblings(cpu).into_iter().min().unwrap_or(cpu);
    let cpus: Vec<Cpu> = allowed
        .into_iter()
        .map(|id| Cpu { id, core: core(id) })
        .collect();
    let past = flags.last("--past", "a number of shards")?.unwrap_or(0);
    let places = flags.last("--load-on", "others, every or both")?;
    let Places(places) = places.unwrap_or(Places(vec![LoadOn::Others, LoadOn::Every]));
    if past > 0 && !places.contains(&LoadOn::Every) {
        return Err(Failure::Words(
            "--past leaves no CPU to the load alone: give --load-on every or both with it"
                .to_owned(),
        ));
    }
    let setups = setups(&cpus, past, &places);
    if setups.is_empty() {
        return Err(Failure::Words(
            "--load-on others needs two CPUs, and this process may use one".to_owned(),
        ));
    }
    Ok(setups)
}

/// Made absolute, so that it can be found from anywhere.
fn output(flags: &Flags) -> Result<PathBuf, Failure> {
    let folder = match flags.last::<PathBuf>("--output", "a path")? {
        Some(folder) => folder,
        // Cargo's folder for files of tests is directly inside its target folder.
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("core_scaling"),
    };
    std::path::absolute(&folder).or_failed(folder.display())
}
