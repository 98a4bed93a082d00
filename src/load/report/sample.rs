//! A record for tests of single files: of given latencies, and of nothing else in particular.

use std::collections::BTreeMap;

use crate::load::latency::Latencies;
use crate::load::record::{FORMAT, Host, Record, Settings, Summary};

pub(super) fn of(latencies: &Latencies) -> Record {
    let messages = latencies.count();
    Record {
        format: FORMAT.to_owned(),
        version: "0.1.0".to_owned(),
        began_at: "2026-03-01T12:30:05Z".to_owned(),
        settings: settings(),
        host: Host {
            name: "here".to_owned(),
            kernel: "Linux 6.12.1 x86_64".to_owned(),
            cpu_model: "A CPU".to_owned(),
            cpus_online: 2,
            cpus_allowed: 2,
        },
        summary: Summary {
            messages,
            seconds: 10.0,
            messages_per_second: super::numbers::float(messages) / 10.0,
            bytes_per_second: 0.0,
            latency_us: latencies.summary(),
            errors: BTreeMap::new(),
            first_error: None,
            interrupted: false,
            sent_in_time: None,
            load_waited_seconds: Some(0.001),
            load_cpu_us_per_message: 0.0,
            server: None,
        },
        distribution: latencies.distribution(),
        timeline: Vec::new(),
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        address: "127.0.0.1:8700".to_owned(),
        code: 1,
        connections: 64,
        pipeline: 1,
        rate: None,
        body_bytes: 32,
        duration_seconds: 10.0,
        warmup_seconds: 1.0,
        timeout_seconds: 5.0,
        threads: 1,
        cpus: Vec::new(),
        busy_poll_seconds: 0.0,
    }
}
