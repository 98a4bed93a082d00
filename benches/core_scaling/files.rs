//! What programs read: every turn, and every fit, as CSV (RFC 4180).

use std::fmt::Write as _;

use super::bootstrap::Outcome;
use super::model::{Basis, CORES, Model, Row};
use super::plan::list;
use super::turn::{Turn, Workload};
use super::usl::Law;

const TURNS: [&str; 25] = [
    "pipeline",
    "repeat",
    "shards",
    "servers",
    "shard_cpus",
    "load_on",
    "load_cpus",
    "cores_shared",
    "load_threads",
    "connections",
    "body_bytes",
    "busy_poll_us",
    "seconds",
    "messages",
    "messages_per_second",
    "messages_per_second_with_a_core_each",
    "p50_us",
    "p99_us",
    "max_us",
    "server_cpu_seconds",
    "server_cpu_us_per_message",
    "server_busy",
    "server_waited_seconds",
    "load_cpu_us_per_message",
    "began_at",
];

/// The head of [`turns`].
pub(crate) fn turns_head() -> String {
    line(&TURNS.map(str::to_owned))
}

/// A line for each turn.
pub(crate) fn turns(pipeline: usize, rows: &[Row], workload: &Workload) -> String {
    let mut text = String::new();
    for row in rows {
        for (repeat, turn) in row.turns.iter().enumerate() {
            text += &line(&cells(pipeline, repeat + 1, row, turn, workload));
        }
    }
    text
}

fn cells(
    pipeline: usize,
    repeat: usize,
    row: &Row,
    turn: &Turn,
    workload: &Workload,
) -> [String; TURNS.len()] {
    let setup = &row.setup;
    let servers = if setup.separate { setup.shards } else { 1 };
    let threads = workload.load_threads_each(setup) * setup.shards;
    [
        pipeline.to_string(),
        repeat.to_string(),
        setup.shards.to_string(),
        servers.to_string(),
        setup.shard_cpus.as_deref().map_or_else(String::new, list),
        setup.load_on.to_string(),
        list(&setup.load_cpus),
        setup.cores_shared.to_string(),
        threads.to_string(),
        workload.connections(setup).to_string(),
        workload.body_bytes.to_string(),
        workload.busy_poll_us.to_string(),
        turn.seconds.to_string(),
        turn.messages.to_string(),
        turn.per_second.to_string(),
        turn.capacity(setup.shards).to_string(),
        turn.p50_us.to_string(),
        turn.p99_us.to_string(),
        turn.max_us.to_string(),
        turn.server_cpu_seconds.to_string(),
        turn.server_us.to_string(),
        turn.server_busy(setup.shards).to_string(),
        turn.server_waited_seconds
            .map_or_else(String::new, |seconds| seconds.to_string()),
        turn.load_us.to_string(),
        turn.began_at.clone(),
    ]
}

/// The head of [`fits`].
pub(crate) fn fits_head() -> String {
    line(
        &[
            "pipeline",
            "series",
            "fitted_to",
            "loss_by",
            "figure",
            "cores",
            "value",
            "low",
            "high",
        ]
        .map(str::to_owned),
    )
}

/// A line for each number of each fit; `low` and `high` are the ends of its 95% interval.
pub(crate) fn fits(pipeline: usize, model: &Model) -> String {
    let mut text = String::new();
    let fitted_to = match model.basis {
        Basis::Throughput => "messages_per_second",
        Basis::Cost(_) => "server_cpu_us_per_message",
        Basis::Own => "server_cpu_us_per_message_against_separate_servers",
    };
    if matches!(model.outcome, Outcome::Nothing) {
        return text;
    }
    for (name, fitted) in model.fits() {
        let mut number = |what: &str, cores: Option<u32>, figure: &dyn Fn(&Law) -> f64| {
            let interval = fitted.interval(figure);
            let end = |end: Option<f64>| end.map_or_else(String::new, |end| end.to_string());
            text += &line(&[
                pipeline.to_string(),
                model.name(),
                fitted_to.to_owned(),
                name.to_owned(),
                what.to_owned(),
                cores.map_or_else(String::new, |cores| cores.to_string()),
                figure(&fitted.fit.law).to_string(),
                end(interval.map(|interval| interval.low)),
                end(interval.map(|interval| interval.high)),
            ]);
        };
        number("us_alone", None, &|law| law.us_alone);
        number("contention", None, &|law| law.contention);
        number("coherency", None, &|law| law.coherency);
        number("peak_shards", None, &Law::peak);
        for cores in CORES {
            number("messages_per_second", Some(cores), &|law| {
                law.per_second(f64::from(cores))
            });
        }
    }
    text
}

fn line(cells: &[String]) -> String {
    let mut text = String::new();
    for (index, cell) in cells.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string does not fail.
        let _ = if cell.contains([',', '"', '\n']) {
            write!(text, "{comma}\"{}\"", cell.replace('"', "\"\""))
        } else {
            write!(text, "{comma}{cell}")
        };
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::super::model::{series, tests::rows};
    use super::*;

    #[test]
    fn every_turn_has_its_line() {
        let workload = Workload {
            binary: PathBuf::new(),
            connections_per_shard: 64,
            body_bytes: 32,
            warm_up: Duration::ZERO,
            measured: Duration::from_secs(2),
            load_threads: None,
            busy_poll_us: 0,
            settings: Vec::new(),
        };
        let text = turns(32, &rows(2, 0, 0.5), &workload);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 12);
        assert!(lines[0].starts_with("32,1,1,1,0,others,1,false,1,64,32,0,2,200000,"));
        assert!(lines[8].starts_with("32,3,2,1,\"0,1\",every,\"0,1\",false,4,128,32,0,2,200000,"));
        assert!(lines[11].starts_with("32,3,2,2,\"0,1\",every,"));
    }

    #[test]
    fn every_number_of_a_fit_has_its_line() {
        let rows = rows(2, 0, 0.5);
        let model = &series(&rows)[1].models(0, 1)[0];
        let text = fits(1, model);
        let figures = 4 + CORES.len();
        assert_eq!(text.lines().count(), 2 * figures);
        let head = "1,every,server_cpu_us_per_message,contention,us_alone,,";
        assert!(text.starts_with(head), "{text}");
        assert!(
            text.contains(",coherency,messages_per_second,64,"),
            "{text}"
        );
    }

    #[test]
    fn cells_with_commas_and_quotes_are_quoted() {
        let cells = ["a", "b,c", "d\"e"].map(str::to_owned);
        assert_eq!(line(&cells), "a,\"b,c\",\"d\"\"e\"\n");
    }
}
