//! The documents of made-up totals.

use serde_json::{Value, json};

use super::*;
use crate::admin::totals::Stuck;
use crate::handler::ConnectionId;
use crate::metrics::CloseCause;
use crate::metrics::latency::{Codes, Latencies as Recorded};
use crate::shard::{ConnectionView, Snapshot};

fn id(slot: u32) -> ConnectionId {
    ConnectionId {
        shard: 0,
        slot,
        generation: 2,
    }
}

fn connection(
    slot: u32,
    queued_bytes: u64,
    frames_received: u64,
    slowest_us: u64,
) -> ConnectionView {
    ConnectionView {
        id: id(slot),
        peer: "127.0.0.1:4711".parse().unwrap(),
        age_us: 1_500_000,
        received_bytes: 1,
        sent_bytes: 2,
        frames_received,
        frames_sent: 4,
        queued_bytes,
        slowest_us,
        ending: Some(CloseCause::Idle),
    }
}

fn totals() -> Totals {
    let mut totals = Totals::new(Codes::new([1]), 1);
    let mut snapshot = Snapshot {
        latencies: Recorded::new(2),
        ..Snapshot::default()
    };
    snapshot.counters.frames_received = 20;
    snapshot.counters.received_bytes = 200;
    snapshot.counters.overloaded = 3;
    snapshot.counters.count_close(CloseCause::Idle);
    snapshot.gauges.connections = 5;
    snapshot.pace.up_us = 2_000_000;
    snapshot.pace.idle_us = 1_000_000;
    snapshot.latencies.record_queued(1, 100, 10);
    snapshot.latencies.record_sent(1, 200, 10);
    snapshot.latencies.count_slow(1);
    totals.add(&snapshot);
    totals.end_round(2_000_000);
    totals.close_interval(2_000_000);
    totals
}

fn status(totals: &Totals, connections: &[ConnectionView]) -> Value {
    let about = About {
        pid: 7,
        uptime_us: 2_500_000,
        life: Life::Serving,
    };
    serde_json::to_value(Status::new(about, totals, connections, 3_000_000)).unwrap()
}

#[test]
fn the_status_has_all_that_is_known() {
    let status = status(&totals(), &[]);
    let same = |us: u64| json!({"p50": us, "p90": us, "p99": us, "p99.9": us, "max": us});
    let expected = json!({
        "version": env!("CARGO_PKG_VERSION"), "pid": 7, "uptime_seconds": 2.5, "state": "serving",
        "shards": [{
            "shard": 0, "connections": 5, "waiting": 0, "handlers": 0, "memory_bytes": 0,
            "timers": 0, "messages_per_second": 10.0, "received_bytes_per_second": 100.0,
            "sent_bytes_per_second": 0.0, "busy": 0.5, "completions_per_turn": 0.0,
            "slow_turns": 0, "stuck": null,
        }],
        "codes": [{
            "code": 1, "messages": 10, "messages_per_second": 5.0, "slow": 1,
            "queued_us": same(100), "sent_us": same(200),
        }],
        "closes": {
            "peer_closed": 0, "reset": 0, "idle": 1, "first_frame": 0, "write_timeout": 0,
            "slow_consumer": 0, "flood": 0, "bad_length": 0, "bad_frames": 0, "handler_panic": 0,
            "handler_failed": 0, "limit": 0, "drain": 0, "stop": 0,
        },
        "bad_frames": {"BAD_LENGTH": 0, "BAD_CHECKSUM": 0, "UNKNOWN_CODE": 0, "BAD_BODY": 0},
        "drops": {
            "overloaded": 3, "late_replies": 0, "stale_completions": 0, "buffers_exhausted": 0,
        },
        "history": {"step_seconds": 5, "points": [{"seconds_ago": 1.0, "codes": [
            {"code": 1, "messages": 10, "p50_us": 200, "p99_us": 200, "max_us": 200},
        ]}]},
        "connections": {"queued": [], "busy": [], "slow": []},
    });
    assert_eq!(status, expected);
}

#[test]
fn a_stuck_shard_is_told_with_whom_it_serves() {
    let mut totals = totals();
    let mut tell = |at| {
        let for_us = 1_234_567;
        totals.set_stuck(0, Some(Stuck { for_us, at }));
        status(&totals, &[])["shards"][0]["stuck"].clone()
    };
    let expected = json!({"for_ms": 1234, "connection": "0-3-2", "code": 1000});
    assert_eq!(tell(Some((id(3), 1000))), expected);
    let expected = json!({"for_ms": 1234, "connection": null, "code": null});
    assert_eq!(tell(None), expected);
}

#[test]
fn connections_come_in_three_orders() {
    let shown: Vec<_> = (0..30)
        .map(|slot| {
            connection(
                slot,
                u64::from(slot),
                u64::from(30 - slot),
                u64::from(slot % 7),
            )
        })
        .collect();
    let status = status(&totals(), &shown);
    let ids = |order: &str| {
        let connections = status["connections"][order].as_array().unwrap();
        assert_eq!(connections.len(), 10);
        connections[..3]
            .iter()
            .map(|connection| connection["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("queued"), ["0-29-2", "0-28-2", "0-27-2"]);
    assert_eq!(ids("busy"), ["0-0-2", "0-1-2", "0-2-2"]);
    assert_eq!(ids("slow"), ["0-6-2", "0-13-2", "0-20-2"]);
    let document = serde_json::to_value(queued(&shown, 1)).unwrap();
    let expected = json!({"connections": [{
        "id": "0-29-2", "peer": "127.0.0.1:4711", "shard": 0, "age_seconds": 1.5,
        "received_bytes": 1, "sent_bytes": 2, "frames_received": 1, "frames_sent": 4,
        "queued_bytes": 29, "slowest_us": 1, "ending": "idle",
    }]});
    assert_eq!(document, expected);
}

#[test]
fn latencies_are_those_since_the_start() {
    let document = serde_json::to_value(Latencies::from(&totals())).unwrap();
    let same = |us: u64| {
        json!({
            "count": 10, "p50": us, "p90": us, "p99": us, "p99.9": us, "p99.99": us, "max": us,
        })
    };
    let expected = json!({"codes": [{"code": 1, "queued_us": same(100), "sent_us": same(200)}]});
    assert_eq!(document, expected);
}
