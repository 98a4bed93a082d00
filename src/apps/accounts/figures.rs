//! What the accounts of a server come to: counts, and the metrics that are made of them.
//!
//! Hash threads count, before they answer: who has an answer finds it counted. A shard counts only
//! what it turns away because the queue is full, right after it has looked into that queue, which all
//! shards share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::clerk::Hashing;
use super::hashing::{HashError, Hasher};
use super::threads::{Outcome, Pool, Wish};
use crate::handler::Router;
use crate::metrics::own::{Durations, Metric};

/// Since the start.
#[derive(Debug, Default)]
pub(super) struct Figures {
    registrations: Outcomes,
    logins: Outcomes,
    hashing: Arc<Durations>,
}

/// Requests by how they came out.
#[derive(Debug, Default)]
struct Outcomes([AtomicU64; Outcome::ALL.len()]);

impl Outcomes {
    fn read(&self) -> [u64; Outcome::ALL.len()] {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

impl Figures {
    /// A request came out so.
    pub(super) fn count(&self, wish: Wish, outcome: Outcome) {
        let outcomes = match wish {
            Wish::Register => &self.registrations,
            Wish::LogIn => &self.logins,
        };
        outcomes.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// This hasher, whose times are recorded.
    pub(super) fn timing(&self, hasher: Hasher) -> Timed {
        Timed {
            hasher,
            took: Arc::clone(&self.hashing),
        }
    }
}

/// Hashing, with each time recorded.
pub(super) struct Timed {
    hasher: Hasher,
    took: Arc<Durations>,
}

impl Timed {
    fn time<T>(&mut self, hash: impl FnOnce(&mut Hasher) -> T) -> T {
        let began = Instant::now();
        let hashed = hash(&mut self.hasher);
        self.took.record(began.elapsed());
        hashed
    }
}

impl Hashing for Timed {
    fn hash(&mut self, password: &[u8]) -> Result<String, HashError> {
        self.time(|hasher| hasher.hash(password))
    }

    fn matches(&mut self, password: &[u8], hash: &str) -> Result<bool, HashError> {
        self.time(|hasher| hasher.matches(password, hash))
    }
}

const REGISTRATIONS: Metric = Metric::counter(
    "corelane_accounts_registrations_total",
    "REGISTERs by outcome: done, rejected (the name is taken), overloaded (the queue is full, or others \
     are at the store for too long), failed (INTERNAL).",
);
const LOGINS: Metric = Metric::counter(
    "corelane_accounts_logins_total",
    "LOGINs by outcome: done, rejected (name or password are wrong), overloaded, failed, as for \
     corelane_accounts_registrations_total.",
);
const QUEUE: Metric = Metric::gauge(
    "corelane_accounts_hash_queue_length",
    "REGISTERs and LOGINs that wait for a hash thread.",
);
const QUEUE_LIMIT: Metric = Metric::gauge(
    "corelane_accounts_hash_queue_limit",
    "How many may wait: accounts.hash_queue.",
);
const HASHING: Metric = Metric::histogram(
    "corelane_accounts_hash_duration_seconds",
    "What it takes to hash a password or to compare it with a hash, without waiting for a thread.",
);

/// Has the figures of these accounts shown among the server's metrics.
pub(super) fn show<S: 'static>(router: &mut Router<S>, pool: &Pool) {
    let outcomes = Outcome::ALL.map(Outcome::name);
    let figures = Arc::clone(pool.figures());
    let registrations = REGISTRATIONS.shipped().by("outcome", outcomes);
    router.metric(registrations.of_server(move || figures.registrations.read()));
    let figures = Arc::clone(pool.figures());
    let logins = LOGINS.shipped().by("outcome", outcomes);
    router.metric(logins.of_server(move || figures.logins.read()));
    let queue = pool.queue();
    router.metric(QUEUE.shipped().of_server(move || queue.len()));
    let limit = pool.queue().limit();
    router.metric(QUEUE_LIMIT.shipped().of_server(move || limit));
    router.metric(HASHING.shipped().reading(&pool.figures().hashing));
}
