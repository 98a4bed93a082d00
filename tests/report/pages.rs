//! What is on a page.

use corelane::load::{Record, Run, page};

use crate::sample::{Sample, empty};
use crate::well_formed::text_of;

fn run(name: &str, record: Record) -> Run {
    Run {
        name: name.to_owned(),
        record,
    }
}

/// Makes a page, keeps it to be looked at under `name`, and gives back its markup and its text.
#[track_caller]
fn made(name: &str, runs: &[Run]) -> (String, String) {
    let html = page(runs);
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-pages");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{name}.html")), &html).unwrap();
    let text = text_of(&html);
    (html, text)
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn one_run_has_its_figures_plots_and_settings() {
    let mut record = Sample::default().record();
    record.summary.messages_per_second = 131_204.6;
    record.summary.latency_us.p50 = 84.25;
    record.summary.latency_us.p99_9 = 1204.0;
    let (html, text) = made("single", &[run("evening", record)]);
    has(
        &text,
        &[
            "corelane load: evening",
            "64 connections, pipeline 1, closed loop, ECHO with 32-byte bodies, 10 s against \
             127.0.0.1:8700",
            "2026-03-01 12:30:05 UTC on bench-1, AMD Ryzen 9 7950X 16-Core Processor",
            "messages/s 131,205 p50 84.2 µs",
            "p99.9 1.20 ms",
            "errors 0",
            "Latency by percentile",
            "90% 99% 99.9% 99.99%",
            "Latency over time median p99 max",
            "Throughput over time",
            "Linux 6.12.1 x86_64",
            "Pinned to CPUs 2",
            "Busy polling 100 µs before threads sleep",
            "Server's memory 12.3 MiB",
            "In a closed loop",
        ],
    );
    assert_eq!(
        html.matches("role=\"img\"").count(),
        6,
        "three plots in two sizes"
    );
    assert!(
        !html.contains("class=\"notice"),
        "nothing is to be warned of"
    );
    assert!(
        !html.contains("#C0") && !html.contains("#C1"),
        "a role has no class"
    );
}

#[test]
fn a_percentile_of_too_few_messages_is_not_told() {
    let few = Sample {
        messages_per_second: 500.0,
        seconds: 1.0,
        ..Sample::default()
    };
    let (_, text) = made("short", &[run("short", few.record())]);
    has(&text, &["p99.9 –", "p99.99 –", "–: too few messages"]);
    assert!(!text.contains("99.9%"), "the axis ends before: {text}");
}

#[test]
fn a_stall_in_an_open_loop_shows() {
    let stalled = Sample {
        open_loop: true,
        stall_seconds: Some((6.0, 0.35)),
        ..Sample::default()
    };
    let mut record = stalled.record();
    record.summary.sent_in_time = Some(0.972);
    let (_, text) = made("stall", &[run("stall", record)]);
    has(
        &text,
        &[
            "open loop at 4,000 messages/s",
            "The rate of 4,000 messages/s was not reached: only 97.2% of the requests",
            "The scale of latencies is logarithmic.",
            "so a server that stalls can't hide it",
        ],
    );
}

#[test]
fn errors_and_an_interruption_are_said_first() {
    let mut record = Sample {
        seconds: 3.2,
        ..Sample::default()
    }
    .record();
    record.settings.duration_seconds = 10.0;
    record.summary.interrupted = true;
    record
        .summary
        .errors
        .insert("wrong_order".to_owned(), 12_000);
    record.summary.errors.insert("late".to_owned(), 1);
    record.summary.first_error = Some("connection 7 got the reply to request 9 first".to_owned());
    let (html, text) = made("errors", &[run("errors", record)]);
    has(
        &text,
        &[
            "12,001 errors: 1 late, 12,000 wrong order. The first: connection 7 got the reply to \
             request 9 first.",
            "The run was interrupted after 3.2 s of 10 s.",
            "errors 12,001",
        ],
    );
    let at = |part: &str| html.find(part).unwrap();
    assert!(at("12,001 errors") < at("class=\"headline\""));
}

#[test]
fn a_run_of_nothing_says_so() {
    let (html, text) = made("empty", &[run("empty", empty())]);
    has(
        &text,
        &[
            "Nothing was measured",
            "64 errors: 64 connect. The first: cannot connect to 127.0.0.1:8700: Connection refused.",
            "messages/s 0 p50 – p99 –",
        ],
    );
    assert!(!html.contains("NaN") && !html.contains("inf"), "{text}");
    assert!(!html.contains("<figure>"));

    // As long as others, but nobody answered.
    let mut record = empty();
    record.timeline = Sample::default().record().timeline;
    for interval in &mut record.timeline {
        (interval.messages, interval.max_us) = (0, None);
        (interval.p50_us, interval.p99_us) = (None, None);
    }
    let (html, text) = made("unanswered", &[run("unanswered", record)]);
    has(&text, &["Latency over time There is nothing to draw."]);
    assert_eq!(
        html.matches("<figure>").count(),
        1,
        "throughput is drawn: it is zero"
    );
    text_of(&page(&[]));
}

#[test]
fn a_single_message_is_a_dot() {
    let mut record = Sample {
        seconds: 0.1,
        messages_per_second: 20.0,
        ..Sample::default()
    }
    .record();
    record.timeline.truncate(1);
    let (html, _) = made("dot", &[run("dot", record)]);
    assert!(html.contains("<circle"));
}

#[test]
fn several_runs_lie_over_one_another() {
    let base = Sample::default();
    let slower = Sample {
        seed: 2,
        median_us: 260.0,
        messages_per_second: 3_000.0,
        spread: 0.4,
        ..base.clone()
    };
    let stalled = Sample {
        seed: 3,
        stall_seconds: Some((4.0, 0.05)),
        ..base.clone()
    };
    let mut runs = [
        run("before", base.record()),
        run("after", slower.record()),
        run("stalled", stalled.record()),
    ];
    runs[1].record.summary.messages_per_second = 1.25 * runs[0].record.summary.messages_per_second;
    runs[1].record.settings.connections = 128;
    runs[2].record.summary.errors.insert("late".to_owned(), 3);
    let (html, text) = made("overlay", &runs);
    has(
        &text,
        &[
            "3 runs",
            "before, after, stalled",
            "1.25×",
            "Ratios are to before.",
            "stalled : 3 errors: 3 late.",
            "What differs before after stalled",
            "Connections 64 128 64",
            "What is the same Server 127.0.0.1:8700",
            "Latency over time: median before after stalled",
        ],
    );
    assert!(!text.contains("same machine"));
    assert_eq!(
        html.matches("role=\"img\"").count(),
        10,
        "five plots in two sizes"
    );
    for line in ["line-0", "line-1", "line-2"] {
        // In five plots of two sizes, in their legends, and in the headings of three tables.
        let found = html.matches(&format!("class=\"{line}\"")).count();
        assert_eq!(found, 5 * 2 + 5 + 3, "{line}");
    }
    let figures = html.split("<h2>Figures</h2>").nth(1).unwrap();
    assert_eq!(
        figures
            .split("</table>")
            .next()
            .unwrap()
            .matches("<tr>")
            .count(),
        4
    );
}

#[test]
fn different_machines_are_told() {
    let mut runs = ["a", "b"].map(|name| run(name, Sample::default().record()));
    runs[1].record.host.kernel = "Linux 6.18.0 x86_64".to_owned();
    runs[1].record.host.name = "bench-2".to_owned();
    let (_, text) = made("machines", &runs);
    has(
        &text,
        &[
            "These runs were not made on the same machine: they differ in Host, Kernel.",
            "Kernel Linux 6.12.1 x86_64 Linux 6.18.0 x86_64",
        ],
    );
}

#[test]
fn that_some_looked_for_replies_and_others_slept_is_told() {
    let told = "In some of these runs the load looked for replies";
    let mut runs = ["a", "b"].map(|name| run(name, Sample::default().record()));
    let (_, text) = made("waiting-alike", &runs);
    assert!(!text.contains(told));
    runs[1].record.settings.busy_poll_seconds = 0.0;
    let (_, text) = made("waiting", &runs);
    has(
        &text,
        &[
            told,
            "Busy polling 100 µs before threads sleep none: threads sleep while they wait",
        ],
    );
}

#[test]
fn a_run_of_nothing_lies_beside_others() {
    let runs = [
        run("empty", empty()),
        run("full", Sample::default().record()),
    ];
    let (html, text) = made("overlay-empty", &runs);
    has(&text, &["empty : Nothing was measured"]);
    assert!(!html.contains("NaN") && !html.contains("inf×"));
}

#[test]
fn many_runs_and_long_ones_stay_small() {
    let long = Sample {
        seconds: 3600.0,
        interval_seconds: 12.0,
        messages_per_second: 4.0,
        ..Sample::default()
    };
    let runs: Vec<Run> = (0..20)
        .map(|index| {
            let sample = Sample {
                seed: index,
                median_us: 100.0 + 10.0 * f64::from(u8::try_from(index).unwrap()),
                ..long.clone()
            };
            run(&format!("run {index}"), sample.record())
        })
        .collect();
    let (html, text) = made("many", &runs);
    has(&text, &["run 19", "60 min"]);
    assert!(html.len() < 3_000_000, "{} bytes", html.len());
    // More parts than are drawn.
    let long = Sample {
        interval_seconds: 3.0,
        ..long
    };
    let (html, _) = made("long", &[run("long", long.record())]);
    assert!(html.len() < 200_000, "{} bytes", html.len());
}

#[test]
fn nothing_of_a_record_is_markup() {
    let evil = "<script>alert(\"1\" & '2')</script>".to_owned();
    let mut record = Sample::default().record();
    record.version.clone_from(&evil);
    record.began_at.clone_from(&evil);
    record.settings.address.clone_from(&evil);
    record.host.name.clone_from(&evil);
    record.host.kernel.clone_from(&evil);
    record.host.cpu_model.clone_from(&evil);
    record.summary.first_error = Some(evil.clone());
    record.summary.errors.insert(evil.clone(), 1);
    let mut other = record.clone();
    let escaped = "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;";
    let (html, _) = made("escaped", &[run(&evil, record.clone())]);
    // Title, name, address twice, three of the machine twice, date twice, version, two of errors.
    assert_eq!(html.matches(escaped).count(), 15);

    other.host.name = "another".to_owned();
    other.version = "0.2.0".to_owned();
    let (html, _) = made(
        "escaped-overlay",
        &[run(&evil, record), run("other", other)],
    );
    assert!(html.matches(escaped).count() > 15);
}
