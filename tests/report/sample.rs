//! Records as runs have them, made from random latencies by seed.

use std::collections::BTreeMap;

use corelane::load::{
    FORMAT, Host, Interval, Latency, QuantilePoint, Record, ServerUsage, Settings, Summary,
};
use fastrand::Rng;
use hdrhistogram::Histogram;

/// A run to make up.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) seed: u64,
    pub(crate) seconds: f64,
    pub(crate) interval_seconds: f64,
    pub(crate) messages_per_second: f64,
    pub(crate) median_us: f64,
    /// How far latencies spread, of their logarithm.
    pub(crate) spread: f64,
    pub(crate) open_loop: bool,
    /// When the server stalls, and for how long.
    pub(crate) stall_seconds: Option<(f64, f64)>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            seed: 1,
            seconds: 10.0,
            interval_seconds: 0.1,
            messages_per_second: 4_000.0,
            median_us: 180.0,
            spread: 0.25,
            open_loop: false,
            stall_seconds: None,
        }
    }
}

impl Sample {
    pub(crate) fn record(&self) -> Record {
        let mut all = Times::new();
        let mut parts: Vec<Times> = Vec::new();
        for (sent_seconds, latency_us) in self.messages() {
            let came_seconds = sent_seconds + latency_us / 1e6;
            all.add(latency_us);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let part = (came_seconds / self.interval_seconds) as usize;
            if came_seconds < self.seconds {
                parts.resize_with(parts.len().max(part + 1), Times::new);
                parts[part].add(latency_us);
            }
        }
        let messages = all.0.len();
        #[expect(clippy::cast_precision_loss)]
        let rate = messages as f64 / self.seconds;
        Record {
            format: FORMAT.to_owned(),
            version: "0.1.0".to_owned(),
            began_at: "2026-03-01T12:30:05Z".to_owned(),
            settings: self.settings(),
            host: host(),
            summary: Summary {
                messages,
                seconds: self.seconds,
                messages_per_second: rate,
                bytes_per_second: rate * 80.0,
                latency_us: all.latency(),
                errors: ["late", "missing", "wrong"]
                    .map(|kind| (kind.to_owned(), 0))
                    .into(),
                first_error: None,
                interrupted: false,
                sent_in_time: self.open_loop.then_some(1.0),
                load_waited_seconds: None,
                load_cpu_us_per_message: 2.31,
                server: Some(ServerUsage {
                    cpu_seconds: 8.123,
                    cpu_us_per_message: 3.6,
                    waited_seconds: Some(0.052),
                    resident_bytes: 12_897_485,
                }),
            },
            distribution: all.distribution(),
            timeline: self.timeline(&parts),
        }
    }

    /// When each is sent, or should be, in seconds, and its latency in microseconds.
    fn messages(&self) -> Vec<(f64, f64)> {
        let mut rng = Rng::with_seed(self.seed);
        let mut messages = Vec::new();
        let mut at = 0.0;
        while at < self.seconds {
            let mut latency_us = self.median_us * (self.spread * normal(&mut rng)).exp();
            if let Some((start, length)) = self.stall_seconds
                && (start..start + length).contains(&at)
            {
                latency_us += (start + length - at) * 1e6;
                if !self.open_loop {
                    at = start + length;
                }
            }
            messages.push((at, latency_us));
            at += rng.f64() * 2.0 / self.messages_per_second;
        }
        messages
    }

    fn timeline(&self, parts: &[Times]) -> Vec<Interval> {
        let mut start_seconds = 0.0;
        let intervals = parts.iter().map(|part| {
            let replied = (!part.0.is_empty()).then(|| part.latency());
            let interval = Interval {
                start_seconds,
                seconds: self.interval_seconds.min(self.seconds - start_seconds),
                messages: part.0.len(),
                p50_us: replied.map(|latency| latency.p50),
                p99_us: replied.map(|latency| latency.p99),
                max_us: replied.map(|latency| latency.max),
            };
            start_seconds += self.interval_seconds;
            interval
        });
        intervals.collect()
    }

    fn settings(&self) -> Settings {
        Settings {
            address: "127.0.0.1:8700".to_owned(),
            code: 1,
            connections: 64,
            pipeline: 1,
            rate: self.open_loop.then_some(self.messages_per_second),
            body_bytes: 32,
            duration_seconds: self.seconds,
            warmup_seconds: 1.0,
            timeout_seconds: 5.0,
            threads: 1,
            cpus: vec![2],
            busy_poll_seconds: 0.0001,
        }
    }
}

/// A run that was answered by nobody.
pub(crate) fn empty() -> Record {
    let mut record = Sample {
        messages_per_second: 1.0,
        seconds: 0.5,
        ..Sample::default()
    }
    .record();
    record.timeline.clear();
    record.distribution.clear();
    record.summary = Summary {
        messages: 0,
        messages_per_second: 0.0,
        bytes_per_second: 0.0,
        latency_us: Times::new().latency(),
        errors: BTreeMap::from([("connect".to_owned(), 64)]),
        first_error: Some("cannot connect to 127.0.0.1:8700: Connection refused".to_owned()),
        load_cpu_us_per_message: 0.0,
        server: None,
        ..record.summary
    };
    record
}

fn host() -> Host {
    Host {
        name: "bench-1".to_owned(),
        kernel: "Linux 6.12.1 x86_64".to_owned(),
        cpu_model: "AMD Ryzen 9 7950X 16-Core Processor".to_owned(),
        cpus_online: 32,
        cpus_allowed: 4,
    }
}

/// A number of the standard normal distribution, by Box and Muller.
fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

/// Latencies in nanoseconds.
struct Times(Histogram<u64>);

impl Times {
    fn new() -> Times {
        Times(Histogram::new(3).unwrap()) // Grows with what is recorded.
    }

    fn add(&mut self, us: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        self.0.record((us * 1000.0) as u64).unwrap();
    }

    fn latency(&self) -> Latency {
        let at = |quantile| us(self.0.value_at_quantile(quantile));
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: us(self.0.max()),
            mean: self.0.mean() / 1000.0,
            standard_deviation: self.0.stdev() / 1000.0,
        }
    }

    fn distribution(&self) -> Vec<QuantilePoint> {
        let mut count = 0;
        let points = self.0.iter_quantiles(5).map(|step| {
            count += step.count_since_last_iteration();
            QuantilePoint {
                quantile: step.quantile_iterated_to(),
                us: us(step.value_iterated_to()),
                count,
            }
        });
        points.collect()
    }
}

#[expect(clippy::cast_precision_loss)]
fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}
