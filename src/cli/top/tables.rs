//! The tables: which columns there are, what stands in them, and which of them fit.

use std::cmp::Ordering;

use corelane::protocol::codes;

use super::model::{Code, Connection, Shard};
use super::numbers::{NONE, bytes, bytes_rate, latency, rate, share, time};

/// Between two columns.
pub(super) const GAP: u16 = 2;

pub(super) struct Column<R> {
    pub title: &'static str,
    /// Letters begin at the left, numbers end at the right.
    pub is_text: bool,
    /// Where there is too little room, columns with the highest go first; those with 0 stay.
    pub dispensable: u8,
    /// At least so wide, so that it stays where it is while its numbers change.
    pub width: u16,
    pub show: fn(&R) -> String,
    /// What it is sorted by.
    pub weigh: fn(&R) -> f64,
}

const fn number<R>(
    title: &'static str,
    dispensable: u8,
    width: u16,
    show: fn(&R) -> String,
    weigh: fn(&R) -> f64,
) -> Column<R> {
    Column {
        title,
        is_text: false,
        dispensable,
        width,
        show,
        weigh,
    }
}

#[rustfmt::skip] // a table, one line of code a column
pub(super) const SHARDS: &[Column<Shard>] = &[
    number("shard", 0, 5, |shard| shard.shard.to_string(), |shard| f64::from(shard.shard)),
    number("conns", 0, 6, |shard| shard.connections.to_string(), |shard| float(shard.connections)),
    number("waiting", 5, 7, |shard| shard.waiting.to_string(), |shard| float(shard.waiting)),
    number("handlers", 4, 8, |shard| shard.handlers.to_string(), |shard| float(shard.handlers)),
    number("messages/s", 0, 10, |shard| rate(shard.messages_per_second), |shard| shard.messages_per_second),
    number("received", 1, 8, |shard| bytes_rate(shard.received_bytes_per_second), |shard| shard.received_bytes_per_second),
    number("sent", 1, 8, |shard| bytes_rate(shard.sent_bytes_per_second), |shard| shard.sent_bytes_per_second),
    number("busy", 0, 4, |shard| share(shard.busy), |shard| shard.busy),
    number("memory", 2, 6, |shard| bytes(shard.memory_bytes), |shard| float(shard.memory_bytes)),
    number("per-turn", 6, 8, |shard| rate(shard.completions_per_turn), |shard| shard.completions_per_turn),
    number("slow-turns", 3, 10, |shard| shard.slow_turns.to_string(), |shard| float(shard.slow_turns)),
    number("stuck", 0, 6, stuck, |shard| float(shard.stuck.as_ref().map_or(0, |stuck| stuck.for_ms))),
];

#[rustfmt::skip]
pub(super) const CODES: &[Column<Code>] = &[
    Column { title: "code", is_text: true, dispensable: 0, width: 6, show: |code| code_name(code.code), weigh: |code| code.code.map_or(f64::MAX, f64::from) },
    number("messages", 2, 9, |code| code.messages.to_string(), |code| float(code.messages)),
    number("messages/s", 0, 10, |code| rate(code.messages_per_second), |code| code.messages_per_second),
    number("p50", 0, 6, |code| latency(code.sent_us.p50), |code| float(code.sent_us.p50)),
    number("p90", 3, 6, |code| latency(code.sent_us.p90), |code| float(code.sent_us.p90)),
    number("p99", 0, 6, |code| latency(code.sent_us.p99), |code| float(code.sent_us.p99)),
    number("p99.9", 1, 6, |code| latency(code.sent_us.p999), |code| float(code.sent_us.p999)),
    number("max", 0, 6, |code| latency(code.sent_us.max), |code| float(code.sent_us.max)),
    number("queued-p99", 4, 10, |code| latency(code.queued_us.p99), |code| float(code.queued_us.p99)),
    number("slow", 0, 5, |code| code.slow.to_string(), |code| float(code.slow)),
];

#[rustfmt::skip]
pub(super) const CONNECTIONS: &[Column<Connection>] = &[
    Column { title: "connection", is_text: true, dispensable: 0, width: 10, show: |row| row.id.as_str().to_owned(), weigh: |_| 0.0 },
    Column { title: "peer", is_text: true, dispensable: 0, width: 21, show: |row| row.peer.as_str().to_owned(), weigh: |_| 0.0 },
    number("age", 3, 8, |row| time(row.age_seconds), |row| row.age_seconds),
    number("queued", 0, 6, |row| bytes(row.queued_bytes), |row| float(row.queued_bytes)),
    number("received", 2, 8, |row| bytes(row.received_bytes), |row| float(row.received_bytes)),
    number("sent", 2, 6, |row| bytes(row.sent_bytes), |row| float(row.sent_bytes)),
    number("frames-in", 4, 9, |row| row.frames_received.to_string(), |row| float(row.frames_received)),
    number("frames-out", 4, 10, |row| row.frames_sent.to_string(), |row| float(row.frames_sent)),
    number("slowest", 0, 7, |row| latency(row.slowest_us), |row| float(row.slowest_us)),
    number("ending", 1, 13, |row| row.ending.as_ref().map_or(NONE, |cause| cause.as_str()).to_owned(), |_| 0.0),
];

fn stuck(shard: &Shard) -> String {
    let for_ms = shard.stuck.as_ref().map(|stuck| stuck.for_ms);
    for_ms.map_or_else(|| NONE.to_owned(), |ms| latency(ms.saturating_mul(1000)))
}

/// `1/ECHO`, `1000`, `others`
pub(super) fn code_name(code: Option<u16>) -> String {
    let name = match code {
        None => return "others".to_owned(),
        Some(codes::PING) => "/PING",
        Some(codes::ECHO) => "/ECHO",
        Some(_) => "",
    };
    format!("{}{name}", code.unwrap_or_default())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "to compare: what is equal in its first 53 bits may stand in any order"
)]
fn float(number: u64) -> f64 {
    number as f64
}

/// The rows in the order of a column; those that weigh the same stay as they are.
pub(super) fn sorted<'a, R>(rows: &'a [R], column: &Column<R>, is_reversed: bool) -> Vec<&'a R> {
    let mut rows: Vec<&R> = rows.iter().collect();
    rows.sort_by(|a, b| {
        let (a, b) = ((column.weigh)(a), (column.weigh)(b));
        let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
        if is_reversed { order.reverse() } else { order }
    });
    rows
}

/// How wide each column must be for its title and these rows.
pub(super) fn widths<R>(columns: &[Column<R>], rows: &[&R]) -> Vec<u16> {
    let width = |column: &Column<R>| {
        let cells = rows.iter().map(|row| (column.show)(row).chars().count());
        let widest = cells.max().unwrap_or(0).max(column.title.len());
        u16::try_from(widest).unwrap_or(u16::MAX).max(column.width)
    };
    columns.iter().map(width).collect()
}

/// The columns that fit into so much room, by their indices: the most dispensable go first, and of
/// two that are equally so, the one further right.
pub(super) fn fitting<R>(columns: &[Column<R>], widths: &[u16], room: u16) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    while total(&kept, widths) > u32::from(room) {
        let Some(at) = (0..kept.len()).max_by_key(|&at| columns[kept[at]].dispensable) else {
            break;
        };
        if columns[kept[at]].dispensable == 0 {
            break;
        }
        kept.remove(at);
    }
    kept
}

fn total(kept: &[usize], widths: &[u16]) -> u32 {
    let columns: u32 = kept.iter().map(|&at| u32::from(widths[at])).sum();
    let gaps = u32::try_from(kept.len())
        .unwrap_or(u32::MAX)
        .saturating_sub(1);
    columns + gaps * u32::from(GAP)
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::sample;
    use super::*;

    fn index(title: &str) -> usize {
        let is_it = |column: &Column<Shard>| column.title == title;
        SHARDS.iter().position(is_it).unwrap()
    }

    #[test]
    fn rows_are_sorted_by_a_column_both_ways() {
        let status = sample();
        let order = |title, is_reversed| -> Vec<u32> {
            let rows = sorted(&status.shards, &SHARDS[index(title)], is_reversed);
            rows.iter().map(|shard| shard.shard).collect()
        };
        assert_eq!(order("shard", false), [0, 1]);
        assert_eq!(order("busy", false), [1, 0]);
        assert_eq!(order("busy", true), [0, 1]);
        assert_eq!(order("stuck", true), [1, 0]);
    }

    #[test]
    fn every_cell_is_one_word_and_no_table_is_wider_than_80_columns_must_be() {
        let status = sample();
        let shards: Vec<&Shard> = status.shards.iter().collect();
        for shard in &shards {
            for column in SHARDS {
                assert!(!(column.show)(shard).contains(' '), "{}", column.title);
            }
        }
        let widths_of = widths(SHARDS, &shards);
        let kept = fitting(SHARDS, &widths_of, 80);
        assert!(total(&kept, &widths_of) <= 80);
        let titles: Vec<&str> = kept.iter().map(|&at| SHARDS[at].title).collect();
        assert_eq!(
            titles,
            [
                "shard",
                "conns",
                "messages/s",
                "received",
                "sent",
                "busy",
                "memory",
                "slow-turns",
                "stuck"
            ]
        );
        assert_eq!(fitting(SHARDS, &widths_of, 200).len(), SHARDS.len());
        // Less room than what must stay takes: it stays.
        assert_eq!(fitting(SHARDS, &widths_of, 10).len(), 5);
    }

    #[test]
    fn codes_have_their_names() {
        assert_eq!(code_name(Some(1)), "1/ECHO");
        assert_eq!(code_name(Some(1000)), "1000");
        assert_eq!(code_name(None), "others");
    }
}
