//! The text of made-up totals.

use super::*;
use crate::admin::totals::Stuck;
use crate::handler::ConnectionId;
use crate::metrics::CloseCause;
use crate::metrics::latency::{Codes, Latencies};
use crate::shard::Snapshot;

fn totals() -> Totals {
    let mut totals = Totals::new(Codes::new([1, 1000]), 2);
    let mut snapshot = Snapshot {
        shard: 1,
        latencies: Latencies::new(3),
        ..Snapshot::default()
    };
    snapshot.counters.frames_received = 1 << 40;
    snapshot.counters.count_close(CloseCause::SlowConsumer);
    snapshot.gauges.connections = 3;
    snapshot.pace.up_us = 2_500_000;
    snapshot.pace.idle_us = 1_000_000;
    snapshot.latencies.record_sent(2, 700, 5);
    snapshot.latencies.record_queued(2, 600, 6);
    snapshot.latencies.record_queued(0, 10, 1);
    totals.add(&snapshot);
    totals
}

#[track_caller]
fn assert_line(text: &str, line: &str) {
    assert!(text.lines().any(|other| other == line), "{line}\n{text}");
}

#[test]
fn each_figure_has_its_line() {
    let mut totals = totals();
    let id = ConnectionId {
        shard: 1,
        slot: 0,
        generation: 1,
    };
    let stuck = Stuck {
        for_us: 1_500_000,
        at: Some((id, 1000)),
    };
    totals.set_stuck(1, Some(stuck));
    let vitals = Vitals {
        started_unix_seconds: 1_700_000_000.25,
        is_ready: true,
        resident_bytes: Some(4096),
        open_fds: None,
        ..Vitals::default()
    };
    let text = text(&totals, &Catalogue::default(), &vitals).unwrap();
    for line in [
        "# HELP corelane_connections_open Connections that are open, or not quite closed yet.",
        "# TYPE corelane_connections_open gauge",
        "corelane_connections_open{shard=\"0\"} 0",
        "corelane_connections_open{shard=\"1\"} 3",
        "# TYPE corelane_connections_closed_total counter",
        "corelane_connections_closed_total{shard=\"1\",cause=\"slow_consumer\"} 1",
        "corelane_connections_closed_total{shard=\"1\",cause=\"idle\"} 0",
        "corelane_frames_received_total{shard=\"1\"} 1099511627776",
        "corelane_bad_frames_total{shard=\"0\",reason=\"UNKNOWN_CODE\"} 0",
        "corelane_busy_seconds_total{shard=\"1\"} 1.5",
        "corelane_shard_stuck_seconds{shard=\"0\"} 0",
        "corelane_shard_stuck_seconds{shard=\"1\"} 1.5",
        "# TYPE corelane_request_duration_seconds histogram",
        "corelane_request_duration_seconds_bucket{code=\"1000\",le=\"0.0005\"} 0",
        "corelane_request_duration_seconds_bucket{code=\"1000\",le=\"0.001\"} 5",
        "corelane_request_duration_seconds_bucket{code=\"1000\",le=\"+Inf\"} 5",
        "corelane_request_duration_seconds_sum{code=\"1000\"} 0.0035",
        "corelane_request_duration_seconds_count{code=\"1000\"} 5",
        "corelane_request_queued_seconds_count{code=\"1000\"} 6",
        "corelane_request_queued_seconds_bucket{code=\"other\",le=\"0.00001\"} 1",
        "corelane_slow_requests_total{code=\"1000\"} 0",
        concat!(
            "corelane_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1"
        ),
        "corelane_start_time_seconds 1700000000.25",
        "corelane_ready 1",
        "process_resident_memory_bytes 4096",
    ] {
        assert_line(&text, line);
    }
    assert!(!text.contains("process_open_fds"), "{text}");
    // A code without a request is not there.
    assert!(!text.contains("code=\"1\""), "{text}");
}

#[test]
fn a_server_without_requests_has_no_latencies() {
    let totals = Totals::new(Codes::new([1]), 1);
    let text = text(&totals, &Catalogue::default(), &Vitals::default()).unwrap();
    assert!(!text.contains("corelane_request"), "{text}");
    assert_line(&text, "corelane_turns_total{shard=\"0\"} 0");
}

#[test]
fn every_metric_is_told_once_and_by_the_conventions() {
    let text = text(&totals(), &Catalogue::default(), &Vitals::default()).unwrap();
    let kinds: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let mut names: Vec<_> = kinds.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), kinds.len());
    for (name, kind) in kinds {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
}
