//! Totals from made-up snapshots.

use super::*;
use crate::metrics::CloseCause;

const OF_7: usize = 1;

fn totals() -> Totals {
    Totals::new(Codes::new([7, 9]), 2)
}

fn snapshot(shard: u16, up_us: u64, frames: u64) -> Snapshot {
    let mut snapshot = Snapshot {
        shard,
        ..Snapshot::default()
    };
    snapshot.pace.up_us = up_us;
    snapshot.counters.frames_received = frames;
    snapshot.counters.received_bytes = frames * 10;
    snapshot.counters.sent_bytes = frames * 20;
    snapshot.counters.turns = frames / 4;
    snapshot.counters.completions = frames / 2;
    snapshot
}

fn with_latency(mut snapshot: Snapshot, series: usize, us: u64, count: u32) -> Snapshot {
    let mut latencies = Latencies::new(3);
    latencies.record_queued(series, us / 2, count);
    latencies.record_sent(series, us, count);
    snapshot.latencies = latencies;
    snapshot
}

#[test]
fn nothing_is_known_at_first() {
    let totals = totals();
    assert_eq!(totals.shards().len(), 2);
    assert_eq!(totals.shards()[1].rates(), Rates::default());
    assert_eq!(totals.series().count(), 0);
    assert_eq!(totals.history(0).count(), 0);
    assert_eq!(totals.requests_per_second(OF_7).to_bits(), 0);
    assert_eq!(totals.latency_of_minute(OF_7).sent.len(), 0);
}

#[test]
fn a_shards_rates_are_by_its_own_clock() {
    let mut totals = totals();
    let mut first = snapshot(1, 2_000_000, 1000);
    first.pace.idle_us = 1_500_000;
    totals.add(&first);
    let since_start = totals.shards()[1].rates();
    assert!((since_start.messages_per_second - 500.0).abs() < 1e-9);
    assert!((since_start.busy - 0.25).abs() < 1e-9);

    let mut second = snapshot(1, 2_500_000, 5000);
    second.pace.idle_us = 1_500_000;
    second.counters.count_close(CloseCause::Idle);
    totals.add(&second);
    // Too close to tell, but the counters are the latest.
    totals.add(&snapshot(1, 2_600_000, 5004));
    let rates = totals.shards()[1].rates();
    let near = |rate: f64, expected: f64| assert!((rate - expected).abs() < 1e-6, "{rates:?}");
    near(rates.messages_per_second, 8000.0);
    near(rates.received_bytes_per_second, 80_000.0);
    near(rates.sent_bytes_per_second, 160_000.0);
    near(rates.busy, 1.0);
    near(rates.completions_per_turn, 2.0);
    assert_eq!(totals.shards()[1].counters.frames_received, 5004);
    assert_eq!(totals.shards()[0].rates(), Rates::default());
    // A shard that there is not.
    totals.add(&snapshot(2, 1, 1));
}

#[test]
fn latencies_of_all_shards_add_up_and_the_open_interval_is_closed() {
    let mut totals = totals();
    totals.add(&with_latency(snapshot(0, 0, 0), OF_7, 100, 3));
    totals.add(&with_latency(snapshot(1, 0, 0), OF_7, 1000, 1));
    totals.add(&with_latency(snapshot(1, 0, 0), Codes::OTHER, 50, 2));
    totals.end_round(2_000_000);
    let series: Vec<_> = totals.series().collect();
    assert_eq!(series, [(OF_7, Some(7)), (Codes::OTHER, None)]);
    assert_eq!(totals.latency(OF_7).unwrap().sent.len(), 4);
    assert!((totals.requests_per_second(OF_7) - 2.0).abs() < 1e-9);

    totals.close_interval(5_000_000);
    totals.add(&with_latency(snapshot(0, 0, 0), OF_7, 2000, 4));
    let minute = totals.latency_of_minute(OF_7);
    assert_eq!((minute.sent.len(), minute.queued.len()), (8, 8));
    assert_eq!(minute.sent.max(), totals.latency(OF_7).unwrap().sent.max());
    assert_eq!(minute.sent.value_at_quantile(0.3), 100);

    let history: Vec<_> = totals.history(6_000_000).collect();
    let [(age_us, points)] = history[..] else {
        panic!("{history:?}");
    };
    assert_eq!(age_us, 1_000_000);
    assert_eq!(points.len(), 2);
    let point = points.iter().find(|point| point.series == OF_7).unwrap();
    let expected = Point {
        series: OF_7,
        requests: 4,
        p50_us: 100,
        p99_us: 1000,
        max_us: 1000,
    };
    assert_eq!(*point, expected);
}

#[test]
fn history_forgets_and_the_minute_sooner() {
    let mut totals = totals();
    for interval in 1..=100 {
        totals.add(&with_latency(snapshot(0, 0, 0), OF_7, 100, 1));
        totals.close_interval(interval * STEP_US);
    }
    assert_eq!(totals.history(0).count(), 60);
    let ages: Vec<_> = totals
        .history(100 * STEP_US)
        .map(|(age_us, _)| age_us)
        .collect();
    assert_eq!((ages[0], ages[59]), (0, 59 * STEP_US));
    assert_eq!(totals.latency_of_minute(OF_7).sent.len(), 12);
    assert_eq!(totals.latency(OF_7).unwrap().sent.len(), 100);
    totals.close_interval(101 * STEP_US);
    let (_, quiet) = totals.history(0).next().unwrap();
    assert_eq!(quiet, []);
}

#[test]
fn the_most_buffers_in_use_are_those_of_the_last_minute() {
    let mut totals = totals();
    let mut busy = snapshot(0, 0, 0);
    busy.gauges.buffers_peak = 40;
    totals.add(&busy);
    totals.add(&snapshot(0, 0, 0));
    for interval in 0..MINUTE_INTERVALS {
        assert_eq!(totals.shards()[0].buffers_peak(), 40, "{interval}");
        totals.close_interval(0);
    }
    assert_eq!(totals.shards()[0].buffers_peak(), 40);
    totals.close_interval(0);
    assert_eq!(totals.shards()[0].buffers_peak(), 0);
}
