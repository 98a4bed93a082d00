//! What a server says of itself at GET /status, as it comes.
//!
//! A later server may say more. Text is kept as it may be shown: a peer or a server can't send a
//! terminal what would move its cursor.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Status {
    pub version: Text,
    pub pid: u32,
    pub uptime_seconds: f64,
    /// "starting", "serving" or "draining".
    pub state: Text,
    pub shards: Vec<Shard>,
    pub codes: Vec<Code>,
    pub closes: Totals,
    pub bad_frames: Totals,
    pub drops: Totals,
    pub connections: Lists,
}

/// Counts since the server started, by name.
pub(super) type Totals = BTreeMap<Text, u64>;

#[derive(Clone, Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the server names it so")]
pub(super) struct Shard {
    pub shard: u32,
    pub connections: u64,
    pub waiting: u64,
    pub handlers: u64,
    pub memory_bytes: u64,
    pub messages_per_second: f64,
    pub received_bytes_per_second: f64,
    pub sent_bytes_per_second: f64,
    /// The share of its time that it worked, 0 to 1.
    pub busy: f64,
    pub completions_per_turn: f64,
    pub slow_turns: u64,
    pub stuck: Option<Stuck>,
}

/// A shard has not come to the end of its turn.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Stuck {
    pub for_ms: u64,
    /// Whose request is being handled, if any is.
    pub connection: Option<Text>,
    pub code: Option<u16>,
}

#[derive(Clone, Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the server names it so")]
pub(super) struct Code {
    /// None is all those without a handler.
    pub code: Option<u16>,
    pub messages: u64,
    pub messages_per_second: f64,
    pub slow: u64,
    /// Until the reply was queued.
    pub queued_us: Percentiles,
    /// Until the kernel had taken the reply.
    pub sent_us: Percentiles,
}

/// Of the last minute.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Percentiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    #[serde(rename = "p99.9")]
    pub p999: u64,
    pub max: u64,
}

/// The connections that matter most, in three ways.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Lists {
    pub queued: Vec<Connection>,
    pub busy: Vec<Connection>,
    pub slow: Vec<Connection>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Connection {
    pub id: Text,
    pub peer: Text,
    pub age_seconds: f64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub frames_received: u64,
    pub frames_sent: u64,
    pub queued_bytes: u64,
    pub slowest_us: u64,
    /// Why it is being closed.
    pub ending: Option<Text>,
}

/// Text without control characters.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(from = "String")]
pub(super) struct Text(String);

impl From<String> for Text {
    fn from(text: String) -> Text {
        let shown = |letter: char| if letter.is_control() { '?' } else { letter };
        Text(text.chars().map(shown).collect())
    }
}

impl Text {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Status {
    /// All shards together.
    pub(super) fn connections(&self) -> u64 {
        self.shards.iter().map(|shard| shard.connections).sum()
    }

    pub(super) fn total_per_second(&self, of: impl Fn(&Shard) -> f64) -> f64 {
        self.shards.iter().map(of).sum()
    }

    /// The share of its time that the busiest shard worked.
    pub(super) fn busiest(&self) -> f64 {
        self.shards
            .iter()
            .map(|shard| shard.busy)
            .fold(0.0, f64::max)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a server of two shards says, one of which is stuck.
    pub(crate) const SAMPLE: &str = include_str!("../../../tests/top/status.json");

    pub(crate) fn sample() -> Status {
        serde_json::from_str(SAMPLE).unwrap()
    }

    #[test]
    fn a_status_is_read_and_added_up() {
        let status = sample();
        assert_eq!(status.connections(), 503);
        let messages = status.total_per_second(|shard| shard.messages_per_second);
        assert!((messages - 33_799.7).abs() < 0.01, "{messages}");
        assert!((status.busiest() - 0.561).abs() < f64::EPSILON);
        assert_eq!(status.codes[1].sent_us.p999, 720);
    }

    #[test]
    fn what_would_move_a_cursor_is_not_kept() {
        let status = sample();
        assert_eq!(
            status.connections.busy[0].peer.as_str(),
            "192.0.2.8:40037?[2J"
        );
    }
}
