//! The other sections, in the order in which `config/corelane.toml` shows them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

/// `[server]`: where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// TCP addresses to listen on. Default 127.0.0.1:8700; 1 to 64 of them,
    /// none twice. Port 0 lets the kernel choose, and may come several times.
    pub listen: Vec<SocketAddr>,
    /// Connections that the kernel keeps, per shard and address, until they
    /// are accepted. Default 4096; 1 to 65,535. The kernel caps it at
    /// `net.core.somaxconn`.
    pub backlog: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8700))],
            backlog: 4096,
        }
    }
}

/// `[protocol]`: what clients are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protocol {
    /// Whether clients are told of errors. Default `"reply"`.
    pub errors: ErrorFrames,
}

/// Whether the server sends ERROR frames: `protocol.errors`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorFrames {
    /// It does.
    #[default]
    Reply,
    /// It does not, for old clients that do not know them.
    Silent,
}

/// `[limits]`: what a shard takes on, where not said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open connections per shard; at the limit, new ones wait in the backlog.
    /// Default 100,000; 1 to 16,000,000.
    pub connections: u32,
    /// Open connections from one IP address, on all shards together; further
    /// ones are closed at once. Default 0, which is no limit. An IPv6 address
    /// counts whole, not its /64.
    pub connections_per_ip: u32,
    /// Bytes that the connections of a shard hold: their state, parts of
    /// frames and queued replies; and what handlers charge it for, as events
    /// of topics that wait for other shards. From there on new ones wait in
    /// the backlog, those with queued replies are not read until they took
    /// them, and such events are refused with OVERLOADED.
    /// Default 1 GiB; 1 MiB to 1 TiB.
    pub memory_bytes: u64,
    /// Largest frame, header and body, in bytes. Default 29,000; 8 to 65,535.
    pub max_frame_bytes: u16,
    /// Bad frames per connection; the one that reaches the limit closes it.
    /// Default 3; at least 1.
    pub max_bad_frames: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_per_ip: 0,
            memory_bytes: 1 << 30,
            max_frame_bytes: 29_000,
            max_bad_frames: 3,
        }
    }
}

/// `[timeouts]`: how long to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// How long a new connection may take to send its first whole frame, in
    /// milliseconds, before it is closed. Default 10,000; 0 = off; at most
    /// 86,400,000 (a day).
    pub first_frame_ms: u32,
    /// How long a connection may send no whole frame while nothing is being
    /// sent to it, in milliseconds, before it is closed. PING is the
    /// heartbeat. Default 60,000; 0 = off; at most a day.
    pub idle_ms: u32,
    /// How long a peer may take none of the bytes queued for it, in
    /// milliseconds, before its connection is closed. Default 10,000; 0 = off;
    /// at most a day.
    pub write_ms: u32,
    /// How long a drain waits for connections to finish their requests and go
    /// quiet, in milliseconds; it closes the rest, with half a second for what
    /// is queued. Default 30,000; 0 does not
    /// wait at all; at most 3,600,000 (an hour).
    pub drain_ms: u32,
    /// How long a stop waits for queued replies to leave, in milliseconds.
    /// Default 2000; 0 does not wait at all; at most 3,600,000 (an hour).
    pub stop_ms: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_frame_ms: 10_000,
            idle_ms: 60_000,
            write_ms: 10_000,
            drain_ms: 30_000,
            stop_ms: 2000,
        }
    }
}

/// `[flood]`: how many frames a connection may send, as a token bucket; beyond
/// it the answer is ERROR RATE_LIMITED, and the connection is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flood {
    /// Frames per second that fill the bucket. Default 0, which is off; at
    /// most 10,000,000.
    pub frames_per_second: u32,
    /// Frames that the full bucket holds: so many may come at once. Default 0,
    /// which is as many as `frames_per_second`; at most 10,000,000, and 0
    /// without a rate.
    pub burst: u32,
}

/// `[outbound]`: flow control of each connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outbound {
    /// Queued bytes below which a stopped connection is read again.
    /// Default 65,536; at least 1 and below `high_bytes`.
    pub low_bytes: u32,
    /// Queued bytes from which on a connection is not read any more.
    /// Default 262,144; a largest frame fits between it and `max_bytes`.
    pub high_bytes: u32,
    /// Queued bytes beyond which a connection is closed as a slow consumer.
    /// Default 4,194,304; at least `high_bytes` and `limits.max_frame_bytes`
    /// together, since a reply may come on top; at most 1 GiB.
    pub max_bytes: u32,
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            low_bytes: 64 << 10,
            high_bytes: 256 << 10,
            max_bytes: 4 << 20,
        }
    }
}

/// `[handlers]`: the code that answers messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Handlers {
    /// A handler that takes longer is slow, and so is a turn of a shard: counted by message code, and
    /// logged. Default 10; 0 is off, up to 60,000.
    pub slow_ms: u32,
    /// Asynchronous handlers at work at once, per shard; beyond, the answer is
    /// OVERLOADED. Default 10,000; at least 1.
    pub async_per_shard: u32,
}

impl Default for Handlers {
    fn default() -> Self {
        Self {
            slow_ms: 10,
            async_per_shard: 10_000,
        }
    }
}

/// `[topics]`: who may subscribe to how much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    /// Topics that one connection may have subscribed to at once. Default 100;
    /// 1 to 100,000,000.
    pub per_connection: u32,
    /// Subscriptions that the connections of a shard may have together.
    /// Default 1,000,000; 1 to 100,000,000.
    pub per_shard: u32,
    /// Different topics that the connections of a shard may have subscribed to
    /// at once. Default 100,000; 1 to 100,000,000.
    pub distinct_per_shard: u32,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            per_connection: 100,
            per_shard: 1_000_000,
            distinct_per_shard: 100_000,
        }
    }
}

/// `[process]`: master and worker, and what the operating system sees of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Process {
    /// Whether a master watches over the server. Default `"single"`.
    pub mode: ProcessMode,
    /// Whether the server leaves the terminal that starts it. Default false;
    /// only with a master.
    pub daemon: bool,
    /// Where to write the process id; see [`pid_file`](Self::pid_file).
    /// Default empty.
    #[serde(serialize_with = "as_text")]
    pub pid_file: PathBuf,
    /// The user to be once the sockets are open; see [`user`](Self::user).
    /// Default empty.
    pub user: String,
    /// Longest pause before a worker that keeps dying young is started again,
    /// in milliseconds. Default 30,000; 100 to 3,600,000 (an hour).
    pub respawn_max_ms: u32,
    /// How long a new worker may take until it is ready, in milliseconds.
    /// Default 10,000; 100 to 3,600,000 (an hour).
    pub ready_ms: u32,
}

impl Process {
    /// The pid file, if there is to be one.
    pub fn pid_file(&self) -> Option<&Path> {
        Some(self.pid_file.as_path()).filter(|file| !file.as_os_str().is_empty())
    }

    /// The user to be, or `None` to stay whoever it is.
    pub fn user(&self) -> Option<&str> {
        Some(self.user.as_str()).filter(|user| !user.is_empty())
    }
}

impl Default for Process {
    fn default() -> Self {
        Self {
            mode: ProcessMode::Single,
            daemon: false,
            pid_file: PathBuf::new(),
            user: String::new(),
            respawn_max_ms: 30_000,
            ready_ms: 10_000,
        }
    }
}

/// Whether a master watches over the server: `process.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessMode {
    /// No: the server is one process.
    Single,
    /// Yes: it holds the sockets and starts, watches and replaces the worker.
    Supervised,
}

/// `[admin]`: where operators look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// The HTTP address for metrics, health and the dashboard, or `None`, which
    /// a file writes as `""`. Default 127.0.0.1:8701.
    #[serde(with = "address_or_none")]
    pub listen: Option<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8701))),
        }
    }
}

/// `[accounts]`: REGISTER and LOGIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accounts {
    /// Where accounts are kept. Default `"embedded"`.
    pub store: AccountStore,
    /// The file of the embedded store. Default `corelane-accounts.redb`; not empty.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// Threads that hash passwords, with 19 MiB each. Default 1; 1 to 64.
    pub hash_threads: u32,
    /// REGISTER and LOGIN that may wait for one of them; beyond, the answer is
    /// OVERLOADED. Default 64; 1 to 65,536.
    pub hash_queue: u32,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            store: AccountStore::Embedded,
            path: PathBuf::from("corelane-accounts.redb"),
            hash_threads: 1,
            hash_queue: 64,
        }
    }
}

/// Where accounts are kept: `accounts.store`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountStore {
    /// In a file of this host.
    #[default]
    Embedded,
    /// In memory, for as long as the process lives: for tests.
    Memory,
    /// There are none: REGISTER and LOGIN are unknown codes.
    Off,
}

/// An address as text, and the empty text for none.
mod address_or_none {
    use std::net::SocketAddr;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    #[expect(clippy::ref_option, reason = "serde wants it so")]
    pub(super) fn serialize<S: Serializer>(
        address: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(D::Error::custom)
    }
}

/// `[log]`: what is written down, how and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What to log, as a filter of the crate tracing-subscriber:
    /// `"info,corelane::shard=debug"`. Default `"info"`; not empty.
    pub level: String,
    /// How a line looks. Default `"text"`.
    pub format: LogFormat,
    /// Where to write; see [`file`](Self::file). Default empty.
    #[serde(serialize_with = "as_text")]
    pub file: PathBuf,
    /// Seconds between two lines of figures. Default 10; 0 = none.
    pub stats_seconds: u32,
    /// Lines per second and kind of event, beyond which it is left out and
    /// counted. Default 20; 0 = no limit; at most 1,000,000.
    pub repeats_per_second: u32,
    /// Lines of one kind that may come at once. Default 100; 1 to 1,000,000;
    /// without meaning where there is no limit.
    pub repeats_burst: u32,
}

impl Log {
    /// The log file, or `None` for stderr.
    pub fn file(&self) -> Option<&Path> {
        Some(self.file.as_path()).filter(|file| !file.as_os_str().is_empty())
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
            file: PathBuf::new(),
            stats_seconds: 10,
            repeats_per_second: 20,
            repeats_burst: 100,
        }
    }
}

/// How a log line looks: `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes a path as text even if it is none, so that every [`Log`] can be
/// printed. Paths from a configuration file always are text.
fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_log_file_is_stderr() {
        let mut log = Log::default();
        assert_eq!(log.file(), None);
        log.file = "corelane.log".into();
        assert_eq!(log.file(), Some(Path::new("corelane.log")));
    }

    #[test]
    fn an_empty_pid_file_or_user_is_none() {
        let mut process = Process::default();
        assert_eq!((process.pid_file(), process.user()), (None, None));
        process.pid_file = "corelane.pid".into();
        process.user = "corelane".to_owned();
        assert_eq!(process.pid_file(), Some(Path::new("corelane.pid")));
        assert_eq!(process.user(), Some("corelane"));
    }
}
