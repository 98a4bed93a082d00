//! What a reload changes: which keys differ between two configurations, and which of them a running
//! server can take over.

use super::Config;

/// Keys that a running server has built upon: its sockets, its shards and what they hold, its user,
/// its log, its accounts. Every other key can change while it runs.
const FIXED: [&str; 19] = [
    "server.listen",
    "server.backlog",
    "shards.count",
    "shards.cpus",
    "shards.pin",
    "topics.per_connection",
    "topics.per_shard",
    "topics.distinct_per_shard",
    "process.mode",
    "process.daemon",
    "process.pid_file",
    "process.user",
    "log.format",
    "log.file",
    "admin.listen",
    "accounts.store",
    "accounts.path",
    "accounts.hash_threads",
    "accounts.hash_queue",
];

/// The keys in which two configurations differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that a running server takes over, its connections untouched: `limits.connections`.
    pub in_place: Vec<String>,
    /// Those that take a new worker, or a new start.
    pub fixed: Vec<String>,
}

impl Changes {
    /// Whether the configurations say the same.
    pub fn is_empty(&self) -> bool {
        self.in_place.is_empty() && self.fixed.is_empty()
    }

    /// All keys, for people: `flood.burst, timeouts.idle_ms`.
    pub fn keys(&self) -> String {
        let all: Vec<&str> = self
            .fixed
            .iter()
            .chain(&self.in_place)
            .map(String::as_str)
            .collect();
        all.join(", ")
    }
}

impl Config {
    /// What would change with another configuration.
    ///
    /// ```
    /// use corelane::config::Config;
    ///
    /// let old = Config::default();
    /// let mut new = old.clone();
    /// new.timeouts.idle_ms = 5000;
    /// new.server.backlog = 100;
    /// let changes = old.changes_to(&new);
    /// assert_eq!(changes.in_place, ["timeouts.idle_ms"]);
    /// assert_eq!(changes.fixed, ["server.backlog"]);
    /// ```
    pub fn changes_to(&self, new: &Config) -> Changes {
        let (old, new) = (self.to_table(), new.to_table());
        let mut changes = Changes::default();
        for (section, keys) in &new {
            for (name, value) in keys.as_table().into_iter().flatten() {
                if old.get(section).and_then(|keys| keys.get(name)) == Some(value) {
                    continue;
                }
                let key = format!("{section}.{name}");
                if FIXED.contains(&key.as_str()) {
                    changes.fixed.push(key);
                } else {
                    changes.in_place.push(key);
                }
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Override, rules};

    #[test]
    fn a_fixed_key_is_a_key() {
        for key in FIXED {
            assert!(rules::keys().any(|known| known == key), "{key}");
        }
    }

    #[test]
    fn the_same_has_no_changes() {
        let config = Config::default();
        let changes = config.changes_to(&config.clone());
        assert!(changes.is_empty(), "{changes:?}");
    }

    #[test]
    fn every_change_is_named_by_its_key() {
        let set = ["log.file=a.log", "limits.connections=7", "shards.count=2"];
        let overrides: Vec<_> = set
            .iter()
            .map(|set| Override::parse(set).unwrap())
            .collect();
        let new = Config::parse("", "none", &overrides).unwrap();
        let changes = Config::default().changes_to(&new);
        assert_eq!(changes.keys(), "log.file, shards.count, limits.connections");
        assert_eq!(changes.in_place, ["limits.connections"]);
    }
}
