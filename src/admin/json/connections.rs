//! Connections that come first in some order, of all shards together.

use std::cmp::Reverse;

use serde::Serialize;

use crate::metrics::CloseCause;
use crate::shard::ConnectionView;

/// The first ones in each order.
#[derive(Debug, Serialize)]
pub(in crate::admin) struct Connections {
    /// Most bytes queued.
    queued: Vec<View>,
    /// Most frames received.
    busy: Vec<View>,
    /// Longest from a request to its reply sent.
    slow: Vec<View>,
}

/// The answer of /connections.
#[derive(Debug, Serialize)]
pub(in crate::admin) struct Queued {
    connections: Vec<View>,
}

#[derive(Debug, Serialize)]
struct View {
    id: String,
    peer: String,
    shard: usize,
    age_seconds: f64,
    received_bytes: u64,
    sent_bytes: u64,
    frames_received: u64,
    frames_sent: u64,
    queued_bytes: u64,
    slowest_us: u64,
    /// Why it ends, if it does.
    ending: Option<&'static str>,
}

impl Connections {
    /// So many in each order, out of what the shards have shown.
    pub(super) fn first(shown: &[ConnectionView], limit: usize) -> Connections {
        Connections {
            queued: first(shown, limit, |connection| connection.queued_bytes),
            busy: first(shown, limit, |connection| connection.frames_received),
            slow: first(shown, limit, |connection| connection.slowest_us),
        }
    }
}

/// So many with most bytes queued, out of what the shards have shown.
pub(in crate::admin) fn queued(shown: &[ConnectionView], limit: usize) -> Queued {
    Queued {
        connections: first(shown, limit, |connection| connection.queued_bytes),
    }
}

fn first(shown: &[ConnectionView], limit: usize, rank: fn(&ConnectionView) -> u64) -> Vec<View> {
    let mut shown: Vec<_> = shown.iter().collect();
    // With the id last, equal ones don't jump about from answer to answer.
    shown.sort_by_key(|connection| (Reverse(rank(connection)), connection.id));
    shown.truncate(limit);
    shown.into_iter().map(View::from).collect()
}

impl From<&ConnectionView> for View {
    fn from(connection: &ConnectionView) -> View {
        View {
            id: connection.id.to_string(),
            peer: connection.peer.to_string(),
            shard: connection.id.shard(),
            age_seconds: super::status::seconds(connection.age_us),
            received_bytes: connection.received_bytes,
            sent_bytes: connection.sent_bytes,
            frames_received: connection.frames_received,
            frames_sent: connection.frames_sent,
            queued_bytes: connection.queued_bytes,
            slowest_us: connection.slowest_us,
            ending: connection.ending.map(CloseCause::name),
        }
    }
}
