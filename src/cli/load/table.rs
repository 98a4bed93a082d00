//! What a run found, as a table for people.

use std::fmt::Write as _;

use corelane::load::{ErrorKind, Record, Settings};
use corelane::protocol::codes;

/// The whole table, without a line end.
pub(super) fn render(record: &Record) -> String {
    let summary = &record.summary;
    let latency = &summary.latency_us;
    let mut out = describe(&record.settings);
    if summary.interrupted {
        let _ = write!(out, " (ended early, after {:.1} s)", summary.seconds);
    }
    out.push_str("\n\n");
    let mut row = |name: &str, value: String, unit: &str| {
        let _ = writeln!(out, "{name:<13}{value:>14} {unit}");
    };
    row("messages", thousands(summary.messages), "");
    row(
        "throughput",
        grouped(summary.messages_per_second),
        "messages/s",
    );
    row("", format!("{:.2}", summary.bytes_per_second / 1e6), "MB/s");
    let percentiles = [
        ("latency p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p99_9),
        ("p99.99", latency.p99_99),
        ("max", latency.max),
    ];
    for (name, us) in percentiles {
        row(name, microseconds(us), "us");
    }
    row(
        "load CPU",
        format!("{:.3}", summary.load_cpu_us_per_message),
        "us/message",
    );
    if let Some(server) = &summary.server {
        row(
            "server CPU",
            format!("{:.3}", server.cpu_us_per_message),
            "us/message",
        );
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let mib = server.resident_bytes as f64 / f64::from(1 << 20);
        row("server memory", format!("{mib:.1}"), "MiB resident");
    }
    if let Some(in_time) = summary.sent_in_time {
        row("sent in time", format!("{:.2}", in_time * 100.0), "%");
    }
    let total: u64 = summary.errors.values().sum();
    row("errors", thousands(total), "");
    for kind in ErrorKind::ALL {
        match summary.errors.get(kind.name()) {
            Some(&count) if count > 0 => row("", thousands(count), words(kind)),
            _ => {}
        }
    }
    out.lines()
        .map(str::trim_end)
        .collect::<Vec<&str>>()
        .join("\n")
}

/// What was done, in a line.
fn describe(settings: &Settings) -> String {
    let Settings {
        address,
        connections,
        pipeline,
        body_bytes,
        threads,
        ..
    } = settings;
    let pace = match settings.rate {
        Some(rate) => format!("open loop of {} requests/s", grouped(rate)),
        None => "closed loop".to_owned(),
    };
    let code = match codes::name(settings.code) {
        Some(name) => name.to_owned(),
        None => format!("code {}", settings.code),
    };
    let s = |count: usize| if count == 1 { "" } else { "s" };
    format!(
        "{address}: {connections} connection{}, pipeline {pipeline}, {pace}, {code} with {body_bytes} \
         byte{} of body, {threads} thread{}",
        s(*connections),
        s(*body_bytes),
        s(*threads),
    )
}

/// A kind of error in words that fit behind a number.
pub(super) fn words(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ErrorReply => "answered with an ERROR",
        ErrorKind::BadChecksum => "with a wrong checksum",
        ErrorKind::BadLength => "with a wrong length",
        ErrorKind::WrongCode => "with a wrong code",
        ErrorKind::WrongBody => "with a wrong body",
        ErrorKind::OutOfOrder => "out of order",
        ErrorKind::Unexpected => "that nobody asked for",
        ErrorKind::Late => "late",
        ErrorKind::Missing => "missing",
        ErrorKind::Closed => "connections closed",
    }
}

fn microseconds(us: f64) -> String {
    if us < 1000.0 {
        format!("{us:.1}")
    } else {
        grouped(us)
    }
}

/// A number from 1,000 on with commas, and without a fraction.
fn grouped(number: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and far below 2^64"
    )]
    let whole = number.round() as u64;
    if number < 1000.0 && number.fract() != 0.0 {
        format!("{number:.1}")
    } else {
        thousands(whole)
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let cases = [
            (0.0, "0"),
            (12.34, "12.3"),
            (999.0, "999"),
            (1000.4, "1,000"),
            (1_234_567.0, "1,234,567"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
