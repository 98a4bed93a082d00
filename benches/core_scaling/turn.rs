//! One turn: fresh servers, the load from processes of its own, and what came of it.
//!
//! Every shard has a load generator of its own, whether the shards are one server's or each a
//! server for itself: so the load is the same, and only the servers differ.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::Failure;
use super::load::{Program, Run};
use super::plan::{LoadOn, Setup, list};
use super::support::server::{Corelane, Server};

/// What is the same in all turns.
pub(crate) struct Workload {
    pub(crate) binary: PathBuf,
    pub(crate) connections_per_shard: usize,
    pub(crate) body_bytes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// Of all load generators together.
    pub(crate) load_threads: Option<usize>,
    pub(crate) busy_poll_us: u32,
    /// `KEY=VALUE` of the server's configuration.
    pub(crate) settings: Vec<String>,
}

/// What came of a turn, over all servers and load generators.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turn {
    pub(crate) began_at: String,
    pub(crate) seconds: f64,
    pub(crate) messages: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    pub(crate) server_cpu_seconds: f64,
    /// CPU time of the servers for each message, in microseconds.
    pub(crate) server_us: f64,
    /// Ready to run while another had the CPU, in seconds; `None` if the kernel does not say.
    pub(crate) server_waited_seconds: Option<f64>,
    /// CPU time of the load generators for each message, in microseconds.
    pub(crate) load_us: f64,
}

impl Turn {
    /// CPU time by time and shards.
    pub(crate) fn server_busy(&self, shards: usize) -> f64 {
        self.server_cpu_seconds / self.seconds / shards as f64
    }

    /// Messages a second if each shard had a core for itself.
    pub(crate) fn capacity(&self, shards: usize) -> f64 {
        shards as f64 * 1e6 / self.server_us
    }
}

/// On every CPU, each load generator has so many threads at most: enough that most of the messages
/// come from another CPU than the shard's.
const THREADS_ON_EVERY_CPU: usize = 4;

/// What connecting, the last replies and an end of a load may take beside the time asked for.
const OTHER_TIME: Duration = Duration::from_mins(1);

impl Workload {
    pub(crate) fn connections(&self, setup: &Setup) -> usize {
        self.connections_per_shard * setup.shards
    }

    /// Of each load generator; there is one for each shard.
    pub(crate) fn load_threads_each(&self, setup: &Setup) -> usize {
        let cpus = setup.load_cpus.len();
        let threads = match (self.load_threads, setup.load_on) {
            (Some(threads), _) => threads / setup.shards,
            (None, LoadOn::Others) => cpus / setup.shards,
            (None, LoadOn::Every) => cpus.min(THREADS_ON_EVERY_CPU),
        };
        threads.clamp(1, self.connections_per_shard)
    }

    pub(crate) fn turn(&self, setup: &Setup, pipeline: usize) -> Result<Turn, Failure> {
        let servers = self.servers(setup)?;
        let loads = (0..setup.shards).map(|index| {
            let server = &servers[index % servers.len()];
            Program::start(self.load(setup, pipeline, index, server))
        });
        let loads: Vec<Program> = loads.collect::<Result<_, _>>()?;
        let mut runs: Vec<Vec<Run>> = servers.iter().map(|_| Vec::new()).collect();
        for (index, load) in loads.into_iter().enumerate() {
            let run = load.wait(self.warm_up + self.measured + OTHER_TIME)?;
            runs[index % servers.len()].push(run);
        }
        Ok(together(&runs))
    }

    /// One with all shards, or one for each shard.
    fn servers(&self, setup: &Setup) -> Result<Vec<Server>, Failure> {
        let start = |shards: usize, cpus: Option<&[usize]>| {
            let corelane = Corelane {
                binary: &self.binary,
                shards,
                cpus,
                busy_poll_us: self.busy_poll_us,
                settings: &self.settings,
            };
            Server::spawn("corelane", corelane.command())
        };
        match &setup.shard_cpus {
            Some(cpus) if setup.separate => {
                cpus.iter().map(|&cpu| start(1, Some(&[cpu]))).collect()
            }
            cpus => Ok(vec![start(setup.shards, cpus.as_deref())?]),
        }
    }

    fn load(&self, setup: &Setup, pipeline: usize, index: usize, server: &Server) -> Command {
        let threads = self.load_threads_each(setup);
        let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
        let mut command = Command::new(&self.binary);
        command
            .args(["load", &server.address().to_string(), "--json"])
            .args(["--connections", &self.connections_per_shard.to_string()])
            .args(["--pipeline", &pipeline.to_string()])
            .args(["--body-size", &self.body_bytes.to_string()])
            .args(["--warmup", &milliseconds(self.warm_up)])
            .args(["--duration", &milliseconds(self.measured)])
            .args(["--threads", &threads.to_string()])
            .args(["--cpus", &list(&turned(&setup.load_cpus, index * threads))])
            // Beside shards it must not look for replies, and one place of the load is measured as another.
            .args(["--busy-poll", "0s"])
            .args(["--server-pid", &server.pid().to_string()]);
        command
    }
}

/// The CPUs from the one on that the threads before have come to.
fn turned(cpus: &[usize], by: usize) -> Vec<usize> {
    let mut cpus = cpus.to_vec();
    let by = by % cpus.len().max(1);
    cpus.rotate_left(by);
    cpus
}

/// For each server the runs against it, of which there is one at least; they took place at the
/// same time, so what each of them saw the server use is the same but for when it looked.
fn together(runs: &[Vec<Run>]) -> Turn {
    let all = || runs.iter().flatten();
    let mean = |runs: &[Run], figure: &dyn Fn(&Run) -> f64| {
        runs.iter().map(figure).sum::<f64>() / runs.len() as f64
    };
    let of_servers =
        |figure: &dyn Fn(&Run) -> f64| -> f64 { runs.iter().map(|runs| mean(runs, figure)).sum() };
    let summaries = || all().map(|run| &run.record.summary);
    let count = all().count() as f64;
    let seconds = summaries().map(|summary| summary.seconds).sum::<f64>() / count;
    let messages: u64 = summaries().map(|summary| summary.messages).sum();
    let per_second: f64 = summaries().map(|summary| summary.messages_per_second).sum();
    let cores = of_servers(&|run| run.server.cpu_seconds / run.record.summary.seconds);
    let waited = |run: &Run| run.server.waited_seconds;
    let load_us = |summary: &corelane::load::Summary| {
        summary.load_cpu_us_per_message * summary.messages as f64
    };
    Turn {
        began_at: all()
            .map(|run| run.record.began_at.clone())
            .min()
            .unwrap_or_default(),
        seconds,
        messages,
        per_second,
        p50_us: quantile_us(runs, 0.5),
        p99_us: quantile_us(runs, 0.99),
        max_us: quantile_us(runs, 1.0),
        server_cpu_seconds: cores * seconds,
        server_us: cores * 1e6 / per_second,
        server_waited_seconds: all()
            .all(|run| waited(run).is_some())
            .then(|| of_servers(&|run| waited(run).unwrap_or_default())),
        load_us: summaries().map(load_us).sum::<f64>() / messages as f64,
    }
}

/// Over all runs together. One run has its own figure; of several, the distributions are added, and
/// the figure is the next higher of their points.
fn quantile_us(runs: &[Vec<Run>], quantile: f64) -> f64 {
    if let [runs] = runs
        && let [run] = runs.as_slice()
    {
        let latency = &run.record.summary.latency_us;
        return match quantile {
            0.5 => latency.p50,
            0.99 => latency.p99,
            _ => latency.max,
        };
    }
    let mut points: Vec<(f64, u64)> = Vec::new();
    for run in runs.iter().flatten() {
        let mut before = 0;
        for point in &run.record.distribution {
            points.push((point.us, point.count.saturating_sub(before)));
            before = point.count;
        }
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let due = quantile * points.iter().map(|(_, count)| count).sum::<u64>() as f64;
    let mut within = 0;
    let reached = points.iter().find(|(_, count)| {
        within += count;
        within as f64 >= due
    });
    reached.map_or(0.0, |(us, _)| *us)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::load::tests::{SERVER, document, read};
    use super::*;

    /// Of so many shards, each so busy, with messages that cost this much.
    pub(crate) fn turn(shards: usize, server_us: f64, busy: f64) -> Turn {
        let mut turn = together(&[vec![run()]]);
        turn.server_us = server_us;
        turn.server_cpu_seconds = busy * turn.seconds * shards as f64;
        turn.per_second = turn.server_cpu_seconds / turn.seconds / server_us * 1e6;
        turn
    }

    fn run() -> Run {
        read(true, &document(200_000, SERVER), "").unwrap()
    }

    fn near(seen: f64, right: f64) {
        assert!((seen - right).abs() < 1e-6 * right, "{seen} for {right}");
    }

    #[test]
    fn one_run_is_what_it_says() {
        let turn = together(&[vec![run()]]);
        assert_eq!(turn.messages, 200_000);
        near(turn.per_second, 100_000.0);
        near(turn.server_us, 9.0);
        near(turn.server_busy(2), 0.45);
        near(turn.capacity(2), 2e6 / 9.0);
        near(turn.p99_us, 322.0);
        near(turn.load_us, 5.0);
        assert_eq!(turn.server_waited_seconds, None);
    }

    #[test]
    fn runs_against_one_server_share_its_cost_and_servers_add_theirs() {
        let one = together(&[vec![run(), run()]]);
        assert_eq!(one.messages, 400_000);
        near(one.per_second, 200_000.0);
        near(one.server_us, 4.5);
        near(one.server_cpu_seconds, 1.8);
        let two = together(&[vec![run()], vec![run()]]);
        near(two.per_second, 200_000.0);
        near(two.server_us, 9.0);
        near(two.server_cpu_seconds, 3.6);
        near(two.p50_us, 150.5);
        near(two.p99_us, 500.25);
    }

    #[test]
    fn load_threads_take_the_cpus_in_turn() {
        assert_eq!(turned(&[4, 5, 6], 0), [4, 5, 6]);
        assert_eq!(turned(&[4, 5, 6], 4), [5, 6, 4]);
        assert_eq!(turned(&[1], 3), [1]);
    }
}
