//! What a run was and where: in a sentence, and as rows of a table.

use super::markup::escape;
use super::numbers::{self, counted};
use crate::load::record::{Record, Settings};
use crate::protocol::codes;

/// What is told of a run, under a label; as text.
pub(super) type Fact = (&'static str, fn(&Record) -> String);

/// What was asked for.
pub(super) const SETTINGS: [Fact; 12] = [
    ("Server", |record| record.settings.address.clone()),
    ("Message", |record| message(&record.settings)),
    ("Body", |record| bytes(record.settings.body_bytes)),
    ("Connections", |record| {
        numbers::count(record.settings.connections as u64)
    }),
    ("Pipeline", |record| {
        let most = numbers::count(record.settings.pipeline as u64);
        format!("{most} in flight on a connection")
    }),
    ("Rate", |record| match record.settings.rate {
        Some(rate) => format!("{} messages/s (open loop)", numbers::rate(rate)),
        None => "as fast as replies come (closed loop)".to_owned(),
    }),
    ("Duration", |record| {
        numbers::seconds(record.settings.duration_seconds)
    }),
    ("Warm-up", |record| {
        numbers::seconds(record.settings.warmup_seconds)
    }),
    ("Timeout", |record| {
        numbers::seconds(record.settings.timeout_seconds)
    }),
    ("Threads", |record| {
        numbers::count(record.settings.threads as u64)
    }),
    ("Pinned to CPUs", |record| pinned(&record.settings)),
    ("Busy polling", |record| busy_poll(&record.settings)),
];

/// Where the load generator ran: what makes figures comparable.
pub(super) const MACHINE: [Fact; 5] = [
    ("Host", |record| record.host.name.clone()),
    ("CPU", |record| record.host.cpu_model.clone()),
    ("CPUs online", |record| {
        numbers::count(record.host.cpus_online as u64)
    }),
    ("CPUs allowed", |record| {
        numbers::count(record.host.cpus_allowed as u64)
    }),
    ("Kernel", |record| record.host.kernel.clone()),
];

/// With what, and when.
pub(super) const OCCASION: [Fact; 2] = [
    ("corelane", |record| record.version.clone()),
    ("Began", |record| began(&record.began_at)),
];

/// `64 connections, pipeline 1, closed loop, ECHO with 32-byte bodies, 10 s against 127.0.0.1:8700`
pub(super) fn sentence(settings: &Settings) -> String {
    let connections = counted(settings.connections, "connection", "connections");
    let pipeline = numbers::count(settings.pipeline as u64);
    let loop_kind = match settings.rate {
        Some(rate) => format!("open loop at {} messages/s", numbers::rate(rate)),
        None => "closed loop".to_owned(),
    };
    let bodies = match settings.body_bytes {
        0 => "empty bodies".to_owned(),
        bytes => format!("{}-byte bodies", numbers::count(bytes as u64)),
    };
    let message = match codes::name(settings.code) {
        Some(name) => name.to_owned(),
        None => format!("code {}", settings.code),
    };
    let duration = numbers::seconds(settings.duration_seconds);
    let text = format!(
        "{connections}, pipeline {pipeline}, {loop_kind}, {message} with {bodies}, \
         {duration} against {}",
        settings.address
    );
    escape(&text)
}

/// `2026-03-01 12:30:05 UTC`; what is no such time, as it is.
pub(super) fn began(began_at: &str) -> String {
    match began_at.strip_suffix('Z').and_then(|at| at.split_once('T')) {
        Some((date, time)) => {
            let seconds = time.split('.').next().unwrap_or(time);
            format!("{date} {seconds} UTC")
        }
        None => began_at.to_owned(),
    }
}

fn message(settings: &Settings) -> String {
    match settings.code {
        codes::PING => "PING (code 0)".to_owned(),
        codes::ECHO => "ECHO (code 1)".to_owned(),
        code => format!("code {code}"),
    }
}

fn bytes(bytes: usize) -> String {
    counted(bytes, "byte", "bytes")
}

fn pinned(settings: &Settings) -> String {
    if settings.cpus.is_empty() {
        return "not pinned".to_owned();
    }
    let cpus: Vec<String> = settings.cpus.iter().map(usize::to_string).collect();
    cpus.join(", ")
}

fn busy_poll(settings: &Settings) -> String {
    if settings.busy_poll_seconds == 0.0 {
        return "none: threads sleep while they wait".to_owned();
    }
    let time = numbers::latency(settings.busy_poll_seconds * 1e6);
    format!("{time} before threads sleep")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_in_a_sentence() {
        let closed = super::super::sample::settings();
        let open = Settings {
            code: 1000,
            connections: 1,
            pipeline: 16,
            rate: Some(20_000.0),
            body_bytes: 0,
            duration_seconds: 0.5,
            ..closed.clone()
        };
        let told = |settings| sentence(settings).replace(numbers::SPACE, " ");
        assert_eq!(
            told(&closed),
            "64 connections, pipeline 1, closed loop, ECHO with 32-byte bodies, \
             10 s against 127.0.0.1:8700"
        );
        assert_eq!(
            told(&open),
            "1 connection, pipeline 16, open loop at 20,000 messages/s, code 1000 with empty bodies, \
             0.5 s against 127.0.0.1:8700"
        );
    }

    #[test]
    fn a_time_is_told_where_it_is_one() {
        assert_eq!(began("2026-03-01T12:30:05Z"), "2026-03-01 12:30:05 UTC");
        assert_eq!(began("2026-03-01T12:30:05.123Z"), "2026-03-01 12:30:05 UTC");
        assert_eq!(began("yesterday"), "yesterday");
    }
}
