//! `corelane load`: put load on a server, check every reply, and tell how long they took.

mod progress;
mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use corelane::config::CpuList;
use corelane::load::{self, ErrorKind, LoadError, Plan, Record};
use corelane::protocol::codes;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::{Failure, no_address, parse_time, resolve};

/// Below this share of requests that were sent in time, a rate was not reached ...
const IN_TIME_MIN: f64 = 0.99;

/// ... unless the load was behind its schedule by no more than this at the end: in a short run, one
/// hiccup of the host is more than a hundredth.
const BEHIND_SECONDS_MAX: f64 = 0.1;
/// Nor was it if the load was behind by more than this, in a run of any length: so much is sent
/// after the end, and the rest never.
const CATCH_UP_SECONDS: f64 = 1.0;

/// How long a thread with a CPU of its own looks before it sleeps: longer than a reply takes in a local
/// network, and than waking takes on most hosts. Measured on a virtual machine, at 1,000 requests a
/// second from 64 connections: a median of 176 us without, 108 us with 100 us, 55 us with this.
const BUSY_POLL: Duration = Duration::from_micros(200);

#[derive(Args)]
pub(super) struct Arguments {
    /// Server's address: host and port
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:8700")]
    address: String,
    /// Connections, over all threads
    #[arg(long, value_name = "N", default_value_t = 64)]
    connections: usize,
    /// Requests in flight on a connection, at most
    #[arg(long, value_name = "N", default_value_t = 1)]
    pipeline: usize,
    /// Requests a second over all connections, at fixed times (an open loop); latency then runs
    /// from when a request should have been sent. Without it, each reply lets the next one go (a
    /// closed loop)
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    rate: Option<f64>,
    /// Bytes of each request's body [default: 32, with PING 0]
    #[arg(long, value_name = "BYTES")]
    body_size: Option<usize>,
    /// Message code of the requests: 0 is PING, 1 is ECHO. The reply must have the same; the bodies
    /// of replies to other codes than these two are not judged
    #[arg(long, value_name = "N", default_value_t = codes::ECHO)]
    code: u16,
    /// How long to measure, like 30s or 5m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    duration: Duration,
    /// How long to run before measuring
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    warmup: Duration,
    /// How long a reply may take before it is late, and how long connecting may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    timeout: Duration,
    /// Threads that drive the connections
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// CPUs to pin the threads to, in turn, like 1 or 0-3,8
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuList>,
    /// How long a thread looks for replies before it sleeps, like 50us; it is also awake as long
    /// before a request is due. So waking is no part of the latencies, nor of the server's work
    /// [default: 200us if each thread has a CPU of its own by --cpus, else 0s]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    busy_poll: Option<Duration>,
    /// Process of the server, if it is on this host: its CPU time and memory are measured, too
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Folder for a report: a page with plots, the percentiles as HdrHistogram text, JSON and CSV
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print one JSON document and nothing else
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let stop = stop_by_signal().map_err(Failure::run)?;
    let record = arguments.measure(&stop)?;
    if arguments.json {
        let document = serde_json::to_string_pretty(&record).map_err(Failure::run)?;
        super::print(&document)?;
    } else {
        super::print(&table::render(&record))?;
    }
    if let Some(folder) = &arguments.report {
        load::save(folder, &record).map_err(Failure::run)?;
    }
    judge(&record)?;
    arguments.judge_server(&record)
}

impl Arguments {
    /// Loads the first of the host's addresses where somebody listens.
    fn measure(&self, stop: &AtomicBool) -> Result<Record, Failure> {
        let addresses = resolve(&self.address)?.into_iter();
        let plans: Vec<Plan> = addresses.map(|address| self.plan(address)).collect();
        for plan in &plans {
            plan.check().map_err(Failure::usage)?;
        }
        // Wrong words leave no folder behind, and no run is in vain.
        if let Some(folder) = &self.report {
            load::prepare(folder).map_err(Failure::run)?;
        }
        let mut failed = None;
        for plan in &plans {
            let mut bar = progress::Bar::new(plan);
            match load::run(plan, stop, |progress| bar.show(progress)) {
                Err(error @ LoadError::Connect { .. }) => failed = Some(Failure::run(error)),
                Err(error @ (LoadError::Plan(_) | LoadError::NoSuchCpu { .. })) => {
                    return Err(Failure::usage(error));
                }
                outcome => return outcome.map_err(Failure::run),
            }
        }
        Err(failed.unwrap_or_else(|| no_address(&self.address)))
    }

    fn plan(&self, address: SocketAddr) -> Plan {
        let default_body_bytes = if self.code == codes::PING { 0 } else { 32 };
        let cpus = self.cpus.iter().flat_map(CpuList::ids);
        let cpus: Vec<usize> = cpus.map(|&cpu| usize::from(cpu)).collect();
        let threads_used = self.threads.min(self.connections);
        let default_busy_poll = if threads_used <= cpus.len() {
            BUSY_POLL
        } else {
            Duration::ZERO
        };
        Plan {
            address,
            connections: self.connections,
            pipeline: self.pipeline,
            rate: self.rate,
            body_bytes: self.body_size.unwrap_or(default_body_bytes),
            code: self.code,
            duration: self.duration,
            warmup: self.warmup,
            timeout: self.timeout,
            threads: self.threads,
            cpus,
            busy_poll: self.busy_poll.unwrap_or(default_busy_poll),
            server_pid: self.server_pid,
        }
    }

    /// Whether the server's process, if it was named, could be measured to the end.
    fn judge_server(&self, record: &Record) -> Result<(), Failure> {
        match self.server_pid {
            Some(pid) if record.summary.server.is_none() && record.summary.seconds > 0.0 => {
                Err(Failure::Run(format!(
                    "process {pid} ended before the run did, so what it used is not known; give \
                     the process that serves"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// INT and TERM end the run early; the second one ends the process.
fn stop_by_signal() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Whether the server did what it was asked to.
fn judge(record: &Record) -> Result<(), Failure> {
    let summary = &record.summary;
    if let Some(first) = &summary.first_error {
        let kinds: Vec<String> = ErrorKind::ALL
            .into_iter()
            .map(|kind| (kind, summary.errors.get(kind.name()).copied().unwrap_or(0)))
            .filter(|&(_, count)| count > 0)
            .map(|(kind, count)| format!("{count} {}", table::words(kind)))
            .collect();
        return Err(Failure::Run(format!(
            "{}; the first: {first}",
            kinds.join(", ")
        )));
    }
    let (Some(rate), Some(in_time)) = (record.settings.rate, summary.sent_in_time) else {
        return Ok(());
    };
    let behind_seconds = (1.0 - in_time) * summary.seconds;
    let behind = in_time < IN_TIME_MIN && behind_seconds > BEHIND_SECONDS_MAX;
    if behind || behind_seconds > CATCH_UP_SECONDS {
        return Err(Failure::Run(format!(
            "a rate of {rate} requests a second was not reached: only {:.1}% of them were sent in \
             time; lower --rate, or raise --connections, --pipeline or --threads",
            in_time * 100.0
        )));
    }
    Ok(())
}
