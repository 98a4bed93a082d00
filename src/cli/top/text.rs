//! A status as plain text: lines that a screen and a script share.

use super::model::{Connection, Shard, Status, Stuck, Text, Totals};
use super::numbers::{bytes_rate, latency, rate, share, time};
use super::screen::List;
use super::tables::{self, CODES, CONNECTIONS, Column, GAP, SHARDS};

/// All of it.
pub(super) fn snapshot(status: &Status) -> String {
    let mut lines = vec![who(status), totals(status)];
    lines.extend(troubles(status));
    lines.push(String::new());
    lines.extend(table(SHARDS, &status.shards.iter().collect::<Vec<_>>()));
    lines.push(String::new());
    lines.extend(table(
        CODES,
        &tables::sorted(&status.codes, &CODES[0], false),
    ));
    lines.push(String::new());
    lines.extend(counts(status).map(|(title, counts)| format!("{title:<10}  {counts}")));
    for list in List::ALL {
        lines.push(String::new());
        lines.push(format!("connections, {}", list.title()));
        lines.extend(connections(list.of(status)));
    }
    lines.join("\n")
}

fn connections(rows: &[Connection]) -> Vec<String> {
    if rows.is_empty() {
        return vec!["none".to_owned()];
    }
    table(CONNECTIONS, &rows.iter().collect::<Vec<_>>())
}

/// `corelane 0.1.0  process 4711  up 1d1h  serving`
pub(super) fn who(status: &Status) -> String {
    format!(
        "corelane {}  process {}  up {}  {}",
        status.version.as_str(),
        status.pid,
        time(status.uptime_seconds),
        status.state.as_str()
    )
}

/// All shards together.
pub(super) fn totals(status: &Status) -> String {
    format!(
        "{} connections  {} messages/s  {} in  {} out  busiest {}",
        status.connections(),
        rate(status.total_per_second(|shard| shard.messages_per_second)),
        bytes_rate(status.total_per_second(|shard| shard.received_bytes_per_second)),
        bytes_rate(status.total_per_second(|shard| shard.sent_bytes_per_second)),
        share(status.busiest())
    )
}

/// What nobody should miss.
pub(super) fn troubles(status: &Status) -> Vec<String> {
    let stuck = |shard: &Shard| Some(stuck(shard.shard, shard.stuck.as_ref()?));
    status.shards.iter().filter_map(stuck).collect()
}

fn stuck(shard: u32, stuck: &Stuck) -> String {
    let time = latency(stuck.for_ms.saturating_mul(1000));
    match (&stuck.connection, stuck.code) {
        (Some(connection), Some(code)) => format!(
            "shard {shard} is stuck: code {} for connection {} has held it for {time}",
            tables::code_name(Some(code)),
            connection.as_str()
        ),
        _ => format!("shard {shard} is stuck: its turn has taken {time} so far"),
    }
}

/// What ended, was bad and was dropped since the start, with what to call it.
pub(super) fn counts(status: &Status) -> impl Iterator<Item = (&'static str, String)> {
    let named = [
        ("closes", &status.closes),
        ("bad frames", &status.bad_frames),
        ("drops", &status.drops),
    ];
    named
        .map(|(title, totals)| (title, in_a_line(totals)))
        .into_iter()
}

/// `peer_closed 48211  idle 1290`: those that there were, the most first.
fn in_a_line(totals: &Totals) -> String {
    let mut there: Vec<_> = totals.iter().filter(|&(_, &count)| count > 0).collect();
    there.sort_by_key(|&(_, &count)| std::cmp::Reverse(count));
    if there.is_empty() {
        return "none".to_owned();
    }
    let word = |(name, count): &(&Text, &u64)| format!("{} {count}", name.as_str());
    there.iter().map(word).collect::<Vec<String>>().join("  ")
}

/// Titles and rows, each a line.
fn table<R>(columns: &[Column<R>], rows: &[&R]) -> Vec<String> {
    let widths = tables::widths(columns, rows);
    let line = |cell: &dyn Fn(&Column<R>) -> String| {
        let cells: Vec<String> = columns
            .iter()
            .zip(&widths)
            .map(|(column, &width)| aligned(&cell(column), column.is_text, width))
            .collect();
        cells.join(&gap()).trim_end().to_owned()
    };
    let titles = line(&|column| column.title.to_owned());
    let rows = rows.iter().map(|row| line(&|column| (column.show)(row)));
    std::iter::once(titles).chain(rows).collect()
}

pub(super) fn gap() -> String {
    " ".repeat(usize::from(GAP))
}

/// Letters from the left, numbers to the right.
pub(super) fn aligned(cell: &str, is_text: bool, width: u16) -> String {
    let width = usize::from(width);
    if is_text {
        format!("{cell:<width$}")
    } else {
        format!("{cell:>width$}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::sample;
    use super::*;

    #[test]
    fn a_shard_can_be_stuck_without_a_request() {
        let stuck_since = Stuck {
            for_ms: 1500,
            connection: None,
            code: None,
        };
        let sentence = "shard 3 is stuck: its turn has taken 1.50s so far";
        assert_eq!(stuck(3, &stuck_since), sentence);
    }

    #[test]
    fn a_snapshot_has_everything_in_columns() {
        let expected = "\
corelane 0.1.0  process 4711  up 1d1h  serving
503 connections  33800 messages/s  1.35MB/s in  1.37MB/s out  busiest 56%
shard 1 is stuck: code 1000 for connection 1-17-4 has held it for 4.20s

shard   conns  waiting  handlers  messages/s  received      sent  busy  memory  per-turn  slow-turns   stuck
    0     500        3        12       33056  1.32MB/s  1.37MB/s   56%  8.40MB      21.0           0       -
    1       3        0         0         744  29.7kB/s      0B/s   <1%  8.50MB      1.00           2   4.20s

code     messages  messages/s     p50     p90     p99   p99.9     max  queued-p99   slow
1/ECHO    6429678       33800    84us   135us   279us   720us  1.80ms       109us      0
others          2           0     0us     0us     0us     0us     0us         0us      0

closes      peer_closed 48211  idle 1290  reset 611
bad frames  UNKNOWN_CODE 31
drops       none

connections, most queued
connection  peer                        age  queued  received    sent  frames-in  frames-out  slowest         ending
0-1-2       [2001:db8::7]:40037    16min23s  32.5kB    31.1MB   108MB     225000      224990   45.0ms  slow_consumer

connections, busiest
connection  peer                        age  queued  received    sent  frames-in  frames-out  slowest         ending
0-2-2       192.0.2.8:40037?[2J         12s      0B      800B    800B         10          10    310us              -

connections, slowest
none";
        assert_eq!(snapshot(&sample()), expected);
    }
}
