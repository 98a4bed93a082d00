//! What each key takes: one list for the check, for the words of the errors
//! and for the keys that exist at all.

use std::ops::RangeInclusive;

use super::key::KeyPath;
use super::{Config, bounds};

/// A key and what it takes.
pub(super) struct Rule {
    /// Section and key.
    pub(super) key: &'static str,
    /// The values that are right.
    pub(super) takes: Takes,
}

/// The values that a key takes.
pub(super) enum Takes {
    /// A whole number in a range, and how to get at it.
    Number(&'static RangeInclusive<u64>, fn(&Config) -> u64),
    /// Anything else, described so that it fits after "must be".
    Described(&'static str),
}

/// All keys, section by section.
pub(super) const RULES: &[Rule] = &[
    words(
        "server.listen",
        r#"a list of 1 to 64 addresses with ports, such as ["127.0.0.1:8700"]"#,
    ),
    number("server.backlog", &bounds::BACKLOG, |c| {
        c.server.backlog.into()
    }),
    words("shards.count", r#""auto" or a number from 1 to 1024"#),
    words(
        "shards.cpus",
        r#""auto" or a list of different CPUs from 0 to 4095, such as "0-3,8""#,
    ),
    words("shards.pin", "true or false"),
    number("shards.busy_poll_us", &bounds::BUSY_POLL_US, |c| {
        c.shards.busy_poll_us.into()
    }),
    words("shards.accept", r#""balanced" or "local""#),
    words("protocol.errors", r#""reply" or "silent""#),
    number("limits.connections", &bounds::CONNECTIONS, |c| {
        c.limits.connections.into()
    }),
    number(
        "limits.connections_per_ip",
        &bounds::CONNECTIONS_PER_IP,
        |c| c.limits.connections_per_ip.into(),
    ),
    number("limits.memory_bytes", &bounds::MEMORY_BYTES, |c| {
        c.limits.memory_bytes
    }),
    number("limits.max_frame_bytes", &bounds::MAX_FRAME_BYTES, |c| {
        c.limits.max_frame_bytes.into()
    }),
    number("limits.max_bad_frames", &bounds::MAX_BAD_FRAMES, |c| {
        c.limits.max_bad_frames.into()
    }),
    number("timeouts.first_frame_ms", &bounds::PATIENCE_MS, |c| {
        c.timeouts.first_frame_ms.into()
    }),
    number("timeouts.idle_ms", &bounds::PATIENCE_MS, |c| {
        c.timeouts.idle_ms.into()
    }),
    number("timeouts.write_ms", &bounds::PATIENCE_MS, |c| {
        c.timeouts.write_ms.into()
    }),
    number("timeouts.drain_ms", &bounds::DRAIN_MS, |c| {
        c.timeouts.drain_ms.into()
    }),
    number("timeouts.stop_ms", &bounds::STOP_MS, |c| {
        c.timeouts.stop_ms.into()
    }),
    number("flood.frames_per_second", &bounds::FLOOD_FRAMES, |c| {
        c.flood.frames_per_second.into()
    }),
    number("flood.burst", &bounds::FLOOD_FRAMES, |c| {
        c.flood.burst.into()
    }),
    number("outbound.low_bytes", &bounds::OUTBOUND_BYTES, |c| {
        c.outbound.low_bytes.into()
    }),
    number("outbound.high_bytes", &bounds::HIGH_BYTES, |c| {
        c.outbound.high_bytes.into()
    }),
    number("outbound.max_bytes", &bounds::OUTBOUND_BYTES, |c| {
        c.outbound.max_bytes.into()
    }),
    number("handlers.slow_ms", &bounds::SLOW_MS, |c| {
        c.handlers.slow_ms.into()
    }),
    number("handlers.async_per_shard", &bounds::ASYNC_PER_SHARD, |c| {
        c.handlers.async_per_shard.into()
    }),
    number("topics.per_connection", &bounds::SUBSCRIPTIONS, |c| {
        c.topics.per_connection.into()
    }),
    number("topics.per_shard", &bounds::SUBSCRIPTIONS, |c| {
        c.topics.per_shard.into()
    }),
    number("topics.distinct_per_shard", &bounds::SUBSCRIPTIONS, |c| {
        c.topics.distinct_per_shard.into()
    }),
    words("process.mode", r#""single" or "supervised""#),
    words("process.daemon", "true or false"),
    words(
        "process.pid_file",
        r#"the path of a file in quotes, or "" for none"#,
    ),
    words(
        "process.user",
        r#"the name of a user in quotes, or "" to stay who starts it"#,
    ),
    number("process.respawn_max_ms", &bounds::RESPAWN_MAX_MS, |c| {
        c.process.respawn_max_ms.into()
    }),
    number("process.ready_ms", &bounds::READY_MS, |c| {
        c.process.ready_ms.into()
    }),
    words(
        "log.level",
        r#"a filter in quotes, such as "info" or "info,corelane::shard=debug""#,
    ),
    words("log.format", r#""text" or "json""#),
    words(
        "log.file",
        r#"the path of a file in quotes, or "" for stderr"#,
    ),
    number("log.stats_seconds", &bounds::STATS_SECONDS, |c| {
        c.log.stats_seconds.into()
    }),
    number("log.repeats_per_second", &bounds::REPEATS_PER_SECOND, |c| {
        c.log.repeats_per_second.into()
    }),
    number("log.repeats_burst", &bounds::REPEATS_BURST, |c| {
        c.log.repeats_burst.into()
    }),
    words(
        "admin.listen",
        r#"an IP address with a port in quotes, such as "127.0.0.1:8701", or "" for off"#,
    ),
    words("accounts.store", r#""embedded", "memory" or "off""#),
    words("accounts.path", "the path of a file in quotes"),
    number("accounts.hash_threads", &bounds::HASH_THREADS, |c| {
        c.accounts.hash_threads.into()
    }),
    number("accounts.hash_queue", &bounds::HASH_QUEUE, |c| {
        c.accounts.hash_queue.into()
    }),
];

/// The words for one address of `server.listen`.
const ADDRESS: &str = r#"an IP address with a port, such as "127.0.0.1:8700" or "[::1]:8700""#;

const fn words(key: &'static str, description: &'static str) -> Rule {
    let takes = Takes::Described(description);
    Rule { key, takes }
}

const fn number(
    key: &'static str,
    range: &'static RangeInclusive<u64>,
    of: fn(&Config) -> u64,
) -> Rule {
    let takes = Takes::Number(range, of);
    Rule { key, takes }
}

/// The sections, each once.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    RULES
        .chunk_by(|a, b| section_of(a.key) == section_of(b.key))
        .filter_map(|rules| rules.first())
        .map(|rule| section_of(rule.key))
}

/// All keys, with their sections.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|rule| rule.key)
}

/// The keys of a section, without it; nothing if there is no such section.
pub(super) fn keys_of(section: &str) -> impl Iterator<Item = &'static str> {
    keys().filter_map(move |key| key.strip_prefix(section)?.strip_prefix('.'))
}

/// What is right at `path`, fit to stand after "must be"; `None` if there is no
/// such key. A whole number needs no telling that it must be one.
pub(super) fn right(path: &KeyPath, is_whole_number: bool) -> Option<String> {
    let names = || path.names.iter().map(String::as_str);
    if let [section] = path.names.as_slice()
        && let Some(key) = keys_of(section).next()
    {
        return Some(format!("a section with keys, such as {section}.{key}"));
    }
    let rule = RULES.iter().find(|rule| rule.key.split('.').eq(names()))?;
    let words = match &rule.takes {
        Takes::Described(_) if path.element.is_some() => ADDRESS.to_owned(),
        Takes::Described(words) => (*words).to_owned(),
        Takes::Number(range, _) if is_whole_number => between(range),
        Takes::Number(range, _) => format!("a whole number {}", between(range)),
    };
    Some(words)
}

/// The words for a range.
pub(super) fn between(range: &RangeInclusive<u64>) -> String {
    format!("between {} and {}", range.start(), range.end())
}

fn section_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(section, _)| section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_rule_and_every_rule_a_key() {
        let all = toml::Table::try_from(Config::default()).unwrap();
        let mut of_config: Vec<String> = Vec::new();
        for (section, keys) in &all {
            let keys = keys.as_table().unwrap().keys();
            of_config.extend(keys.map(|key| format!("{section}.{key}")));
        }
        let mut of_rules: Vec<&str> = keys().collect();
        of_rules.sort_unstable();
        assert_eq!(of_rules, of_config);
    }

    #[test]
    fn sections_come_once() {
        let all: Vec<_> = sections().collect();
        let expected = [
            "server", "shards", "protocol", "limits", "timeouts", "flood", "outbound", "handlers",
            "topics", "process", "log", "admin", "accounts",
        ];
        assert_eq!(all, expected);
        let of_flood: Vec<_> = keys_of("flood").collect();
        assert_eq!(of_flood, ["frames_per_second", "burst"]);
    }

    #[test]
    fn descriptions_say_the_bounds() {
        for (key, range) in [
            ("server.listen", bounds::LISTEN_ADDRESSES),
            ("shards.count", bounds::SHARDS),
            ("shards.cpus", bounds::CPU_IDS),
        ] {
            let words = right(&KeyPath::new(key), false).unwrap();
            let said = format!("{} to {}", range.start(), range.end());
            assert!(words.contains(&said), "{words}: {said}");
        }
    }
}
