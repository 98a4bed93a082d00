//! What is kept of a run: plain data, as `--json` prints it and `latency.json` keeps it.
//!
//! Field names are part of the interface: programs read them. They may be added to, and none
//! changes its meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::latency::{Latency, QuantilePoint};

/// The `format` of a record that this version writes and reads.
pub const FORMAT: &str = "corelane-load/1";

/// A whole run: enough to draw its report again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: String,
    /// The version of corelane whose load generator ran.
    pub version: String,
    /// When the measured time began, as in RFC 3339, in UTC.
    pub began_at: String,
    /// What was asked for.
    pub settings: Settings,
    /// Where the load generator ran.
    pub host: Host,
    /// What came of it.
    #[serde(flatten)]
    pub summary: Summary,
    /// The latencies, from the lowest to the highest.
    pub distribution: Vec<QuantilePoint>,
    /// The measured time in equal parts, in order.
    pub timeline: Vec<Interval>,
}

/// What a run was asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The server's address.
    pub address: String,
    /// The message code of the requests.
    pub code: u16,
    /// Connections, over all threads.
    pub connections: usize,
    /// Requests in flight on a connection, at most.
    pub pipeline: usize,
    /// Requests a second, over all connections; `None` for a closed loop.
    pub rate: Option<f64>,
    /// Bytes of each request's body.
    pub body_bytes: usize,
    /// The measured time that was asked for, in seconds.
    pub duration_seconds: f64,
    /// The time before it that does not count, in seconds.
    pub warmup_seconds: f64,
    /// A reply that takes longer is late, in seconds.
    pub timeout_seconds: f64,
    /// Threads that drive the connections.
    pub threads: usize,
    /// The CPUs that the threads were pinned to, in turn; none if they were not.
    pub cpus: Vec<usize>,
    /// How long a thread looks for something to do before it sleeps, in seconds; 0 in records from
    /// before there was such a thing.
    #[serde(default)]
    pub busy_poll_seconds: f64,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name in the network.
    pub name: String,
    /// The kernel's name, release and architecture, like `Linux 6.12.1 x86_64`.
    pub kernel: String,
    /// The CPU's model.
    pub cpu_model: String,
    /// CPUs that are online.
    pub cpus_online: usize,
    /// CPUs that the load generator might use.
    pub cpus_allowed: usize,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Right replies that came in the measured time.
    pub messages: u64,
    /// The measured time, in seconds: less than asked for if the run was interrupted, or if all
    /// connections ended before.
    pub seconds: f64,
    /// Messages by seconds.
    pub messages_per_second: f64,
    /// Bytes of requests and of replies together, headers too, by seconds.
    pub bytes_per_second: f64,
    /// Of the requests that began in the measured time: from when one was sent, or with a rate
    /// should have been sent, to its right reply; in microseconds.
    pub latency_us: Latency,
    /// What went wrong in all of the run, by kind; see [`super::ErrorKind`]. Every kind is there.
    pub errors: BTreeMap<String, u64>,
    /// The first thing that went wrong, as a sentence.
    pub first_error: Option<String>,
    /// Whether the run was ended before its time.
    pub interrupted: bool,
    /// With a rate: the share of the requests due in the measured time that were sent in it.
    pub sent_in_time: Option<f64>,
    /// CPU time of the load generator's threads for each message, in microseconds, without what they
    /// spent on looking in vain for something to do: too little where others kept them off their CPUs
    /// meanwhile, as `load_waited_seconds` tells.
    pub load_cpu_us_per_message: f64,
    /// How long those threads were ready to run while another had the CPU, in seconds; `None` if
    /// the kernel does not say.
    pub load_waited_seconds: Option<f64>,
    /// What the server's process used, if it was named and lived on to the end of the measured time.
    pub server: Option<ServerUsage>,
}

/// What the server's process used in the measured time, by the kernel's books.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerUsage {
    /// CPU time of all its threads, in seconds.
    pub cpu_seconds: f64,
    /// The same for each message, in microseconds.
    pub cpu_us_per_message: f64,
    /// How long its threads were ready to run while another had the CPU, in seconds; `None` if the
    /// kernel does not say.
    pub waited_seconds: Option<f64>,
    /// Resident memory at the end of the measured time.
    pub resident_bytes: u64,
}

/// A part of the measured time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// When it began, in seconds from the beginning of the measured time.
    pub start_seconds: f64,
    /// How long it was, in seconds; the last may be shorter than the others.
    pub seconds: f64,
    /// Right replies that came in it.
    pub messages: u64,
    /// The median latency of those, in microseconds; `None` if none came.
    pub p50_us: Option<f64>,
    /// The latency that 99% of those were within, in microseconds.
    pub p99_us: Option<f64>,
    /// The highest latency of those, in microseconds.
    pub max_us: Option<f64>,
}
