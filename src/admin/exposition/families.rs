//! The families of metrics and what each is read off.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::Vitals;
use super::histogram::histogram;
use crate::admin::totals::{ShardTotals, Totals, float};
use crate::metrics::latency::Latency;
use crate::metrics::{BAD_FRAMES, CloseCause};

/// A metric of each shard.
struct OfShard {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    read: fn(&ShardTotals) -> f64,
}

const fn counter(name: &'static str, help: &'static str, read: fn(&ShardTotals) -> f64) -> OfShard {
    OfShard {
        name,
        help,
        kind: MetricType::COUNTER,
        read,
    }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&ShardTotals) -> f64) -> OfShard {
    OfShard {
        name,
        help,
        kind: MetricType::GAUGE,
        read,
    }
}

#[rustfmt::skip] // a table, one metric a line or two
const OF_SHARD: [OfShard; 40] = [
    gauge("corelane_connections_open", "Connections that are open, or not quite closed yet.",
        |shard| float(shard.gauges.connections)),
    gauge("corelane_connections_waiting", "Connections that wait for room.",
        |shard| float(shard.gauges.waiting)),
    counter("corelane_connections_accepted_total", "Connections accepted from the shard's listeners.",
        |shard| float(shard.counters.accepted)),
    counter("corelane_connections_handed_over_total", "Connections handed to other shards.",
        |shard| float(shard.counters.handed_over)),
    counter("corelane_connections_taken_over_total", "Connections taken over from other shards.",
        |shard| float(shard.counters.taken_over)),
    counter("corelane_accept_failures_total", "Times that accepting was put off because the host had no room.",
        |shard| float(shard.counters.accept_failures)),
    counter("corelane_received_bytes_total", "Bytes received, headers included.",
        |shard| float(shard.counters.received_bytes)),
    counter("corelane_sent_bytes_total", "Bytes that the kernel took for sending, headers included.",
        |shard| float(shard.counters.sent_bytes)),
    counter("corelane_frames_received_total", "Whole frames received, good and bad.",
        |shard| float(shard.counters.frames_received)),
    counter("corelane_frames_sent_total", "Frames queued for sending.",
        |shard| float(shard.counters.frames_sent)),
    counter("corelane_sends_total", "Sends started.",
        |shard| float(shard.counters.sends)),
    counter("corelane_short_sends_total", "Sends that the kernel took only a part of.",
        |shard| float(shard.counters.short_sends)),
    counter("corelane_receive_pauses_total", "Times that a connection's receiving was paused.",
        |shard| float(shard.counters.receive_pauses)),
    counter("corelane_deferrals_total", "Times that a connection's frames were put off to the next turn, so that others got theirs.",
        |shard| float(shard.counters.deferrals)),
    counter("corelane_memory_pauses_total", "Times that accepting paused because connections held as much memory as they may.",
        |shard| float(shard.counters.memory_pauses)),
    gauge("corelane_memory_charged_bytes", "Memory that the connections are charged for, and handlers for what they keep, as events that wait for other shards.",
        |shard| float(shard.gauges.memory_bytes)),
    gauge("corelane_receive_buffers_in_use_peak", "Receive buffers that held bytes at once at most, in the last minute.",
        |shard| float(shard.buffers_peak())),
    counter("corelane_receive_buffers_exhausted_total", "Times that a receive found no free buffer.",
        |shard| float(shard.counters.buffers_exhausted)),
    counter("corelane_turns_total", "Turns of the event loop.",
        |shard| float(shard.counters.turns)),
    counter("corelane_slow_turns_total", "Turns that took longer than handlers.slow_ms.",
        |shard| float(shard.counters.slow_turns)),
    counter("corelane_completions_total", "Completions handled in the turns.",
        |shard| float(shard.counters.completions)),
    counter("corelane_parks_total", "Times that the shard slept.",
        |shard| float(shard.pace.parks)),
    counter("corelane_up_seconds_total", "Time since the shard started, as of its last answer.",
        |shard| seconds(shard.pace.up_us)),
    counter("corelane_busy_seconds_total", "Time that the shard had something to do.",
        |shard| seconds(shard.pace.up_us.saturating_sub(shard.pace.idle_us))),
    gauge("corelane_timers_armed", "Timers that are armed.",
        |shard| float(shard.gauges.timers)),
    counter("corelane_mesh_messages_sent_total", "Messages sent to other shards.",
        |shard| float(shard.mesh.sent)),
    counter("corelane_mesh_messages_received_total", "Messages received from other shards.",
        |shard| float(shard.mesh.received)),
    counter("corelane_mesh_messages_overflowed_total", "Messages to other shards that found no room in the queue, and waited.",
        |shard| float(shard.mesh.overflowed)),
    counter("corelane_pushes_total", "Frames that were pushed to connections, and queued for them.",
        |shard| float(shard.counters.pushes)),
    counter("corelane_stale_pushes_total", "Frames that were pushed to connections that were gone, or ended.",
        |shard| float(shard.counters.stale_pushes)),
    counter("corelane_errands_refused_total", "Pushes, broadcasts and functions for shards that were refused because too much waited.",
        |shard| float(shard.counters.errands_refused)),
    counter("corelane_functions_run_total", "Functions that the shard ran for handlers and others.",
        |shard| float(shard.counters.runs)),
    counter("corelane_function_panics_total", "Panics of those functions, and of what they held or answered as it was dropped.",
        |shard| float(shard.counters.run_panics)),
    counter("corelane_hook_panics_total", "Panics of hooks.",
        |shard| float(shard.counters.hook_panics)),
    gauge("corelane_handlers_running", "Asynchronous handlers at work.",
        |shard| float(shard.gauges.handlers)),
    counter("corelane_handler_panics_total", "Panics of handlers.",
        |shard| float(shard.counters.handler_panics)),
    counter("corelane_overloaded_requests_total", "Requests that were answered with OVERLOADED.",
        |shard| float(shard.counters.overloaded_total())),
    counter("corelane_late_replies_total", "Replies of asynchronous handlers that were dropped because their connection was gone.",
        |shard| float(shard.counters.late_replies)),
    counter("corelane_stale_completions_total", "Completions that were dropped because their connection was gone.",
        |shard| float(shard.counters.stale_completions)),
    gauge("corelane_shard_stuck_seconds", "For how long the shard has been in one turn without an answer; 0 while it turns.",
        |shard| shard.stuck.map_or(0.0, |stuck| seconds(stuck.for_us))),
];

/// The process, by the names that Prometheus' own libraries give.
pub(super) fn of_process(vitals: &Vitals) -> Vec<MetricFamily> {
    let gauge = MetricType::GAUGE;
    let of = |name, help, kind, value: Option<f64>| {
        let samples = value.map(|value| sample(kind, value, Vec::new()));
        family(name, help, kind, samples.into_iter().collect())
    };
    let version = vec![label("version", &env!("CARGO_PKG_VERSION"))];
    vec![
        family(
            "corelane_build_info",
            "The program that runs; always 1.",
            gauge,
            vec![sample(gauge, 1.0, version)],
        ),
        of(
            "corelane_start_time_seconds",
            "When the server started, since 1970.",
            gauge,
            Some(vitals.started_unix_seconds),
        ),
        of(
            "corelane_ready",
            "1 while the server accepts connections, 0 while it drains.",
            gauge,
            Some(f64::from(u8::from(vitals.is_ready))),
        ),
        of(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            gauge,
            vitals.resident_bytes.map(float),
        ),
        of(
            "process_open_fds",
            "Number of open file descriptors.",
            gauge,
            vitals.open_fds.map(float),
        ),
        of(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            gauge,
            vitals.max_fds.map(float),
        ),
        of(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            MetricType::COUNTER,
            Some(vitals.cpu_seconds),
        ),
    ]
}

/// What each shard has counted.
pub(super) fn of_shards(totals: &Totals) -> Vec<MetricFamily> {
    let shards = || totals.shards().iter().enumerate();
    let of_shard = |metric: &OfShard| {
        let samples = shards().map(|(number, shard)| {
            sample(
                metric.kind,
                (metric.read)(shard),
                vec![label("shard", &number)],
            )
        });
        family(metric.name, metric.help, metric.kind, samples.collect())
    };
    let mut families: Vec<_> = OF_SHARD.iter().map(of_shard).collect();

    let closed = shards().flat_map(|(number, shard)| {
        CloseCause::ALL.map(|cause| {
            let labels = vec![label("shard", &number), label("cause", &cause)];
            sample(
                MetricType::COUNTER,
                float(shard.counters.closed(cause)),
                labels,
            )
        })
    });
    families.push(family(
        "corelane_connections_closed_total",
        "Connections closed, by cause.",
        MetricType::COUNTER,
        closed.collect(),
    ));

    let bad = shards().flat_map(|(number, shard)| {
        BAD_FRAMES.map(|reason| {
            let labels = vec![label("shard", &number), label("reason", &reason.name())];
            sample(
                MetricType::COUNTER,
                float(shard.counters.bad_frames(reason)),
                labels,
            )
        })
    });
    families.push(family(
        "corelane_bad_frames_total",
        "Bad frames received, by reason.",
        MetricType::COUNTER,
        bad.collect(),
    ));
    families
}

/// Requests and how long they took, of all shards together.
pub(super) fn of_codes(totals: &Totals) -> Vec<MetricFamily> {
    let of_codes = |name, help, kind, set: fn(&mut Metric, &Latency)| {
        let samples = totals.series().filter_map(|(series, code)| {
            let code = code.map_or_else(|| "other".to_owned(), |code| code.to_string());
            let mut metric = Metric::from_label(vec![label("code", &code)]);
            set(&mut metric, totals.latency(series)?);
            Some(metric)
        });
        family(name, help, kind, samples.collect())
    };
    vec![
        of_codes(
            "corelane_request_duration_seconds",
            "From a request's arrival until the kernel had taken its reply.",
            MetricType::HISTOGRAM,
            |metric, latency| metric.set_histogram(histogram(&latency.sent)),
        ),
        of_codes(
            "corelane_request_queued_seconds",
            "From a request's arrival until its reply was queued, or it was done with without one.",
            MetricType::HISTOGRAM,
            |metric, latency| metric.set_histogram(histogram(&latency.queued)),
        ),
        of_codes(
            "corelane_slow_requests_total",
            "Requests whose handler took longer than handlers.slow_ms.",
            MetricType::COUNTER,
            |metric, latency| metric.set_counter(counted(float(latency.slow))),
        ),
    ]
}

pub(super) fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    samples: Vec<Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples);
    family
}

pub(super) fn sample(kind: MetricType, value: f64, labels: Vec<LabelPair>) -> Metric {
    let mut metric = Metric::from_label(labels);
    if kind == MetricType::COUNTER {
        metric.set_counter(counted(value));
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn counted(value: f64) -> Counter {
    let mut counter = Counter::default();
    counter.set_value(value);
    counter
}

pub(super) fn label(name: &str, value: &impl ToString) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_string());
    label
}

fn seconds(us: u64) -> f64 {
    float(us) / 1e6
}
