//! The checks that types cannot make: ranges, and what one key says about
//! another.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::bounds::LISTEN_ADDRESSES;
use super::error::{ConfigError, Place};
use super::key::KeyPath;
use super::rules::{self, RULES, Takes};
use super::{
    Accounts, Config, CpuChoice, Flood, Limits, Log, Outbound, Process, ProcessMode, Server,
    ShardCount, Shards,
};

/// A value that is not right; "{path} is {value}, but must be {right}".
#[derive(Debug)]
pub(super) struct Violation {
    /// The value's key.
    pub(super) path: KeyPath,
    /// The value.
    pub(super) value: String,
    /// What would be right.
    pub(super) right: String,
    /// The keys that it does not go with, any of which may be the wrong one as
    /// well.
    pub(super) others: &'static [&'static str],
}

impl Violation {
    /// The error, with the place of the value.
    pub(super) fn at(self, place: Place) -> ConfigError {
        ConfigError::Wrong {
            place,
            key: self.path.to_string(),
            value: self.value,
            right: self.right,
        }
    }
}

/// Checks the whole configuration and stops at the first violation.
pub(super) fn check(config: &Config) -> Result<(), Violation> {
    ranges(config)?;
    addresses(&config.server)?;
    cpus_for_all_shards(&config.shards)?;
    a_rate_with_a_burst(&config.flood)?;
    watermarks(&config.outbound)?;
    room_for_a_reply(&config.outbound, &config.limits)?;
    a_daemon_with_a_master(&config.process)?;
    a_file_for_accounts(&config.accounts)?;
    log_level(&config.log)
}

fn ranges(config: &Config) -> Result<(), Violation> {
    for rule in RULES {
        if let Takes::Number(range, of) = &rule.takes {
            let value = of(config);
            if !range.contains(&value) {
                let path = KeyPath::new(rule.key);
                return Err(wrong(path, value.to_string(), rules::between(range)));
            }
        }
    }
    Ok(())
}

fn addresses(Server { listen, .. }: &Server) -> Result<(), Violation> {
    let path = KeyPath::new("server.listen");
    if !LISTEN_ADDRESSES.contains(&(listen.len() as u64)) {
        let value = match listen.len() {
            0 => "[]".to_owned(),
            count => format!("a list of {count}"),
        };
        let (first, last) = LISTEN_ADDRESSES.into_inner();
        let right = format!("a list of {first} to {last} addresses");
        return Err(wrong(path, value, right));
    }
    for (i, address) in listen.iter().enumerate() {
        if address.port() != 0 && listen[..i].contains(address) {
            let right = "different from the addresses before it".to_owned();
            return Err(wrong(path.element(i), format!("\"{address}\""), right));
        }
    }
    Ok(())
}

fn cpus_for_all_shards(shards: &Shards) -> Result<(), Violation> {
    if let (ShardCount::Exactly(count), CpuChoice::List(cpus)) = (shards.count, &shards.cpus) {
        let listed = cpus.ids().len();
        if usize::from(count.get()) > listed {
            return Err(Violation {
                path: KeyPath::new("shards.count"),
                value: count.to_string(),
                right: format!("at most {listed}, the number of CPUs in shards.cpus"),
                others: &["shards.cpus"],
            });
        }
    }
    Ok(())
}

fn a_rate_with_a_burst(flood: &Flood) -> Result<(), Violation> {
    if flood.burst > 0 && flood.frames_per_second == 0 {
        return Err(Violation {
            path: KeyPath::new("flood.burst"),
            value: flood.burst.to_string(),
            right: "0 unless flood.frames_per_second sets a rate".to_owned(),
            others: &["flood.frames_per_second"],
        });
    }
    Ok(())
}

fn watermarks(outbound: &Outbound) -> Result<(), Violation> {
    if outbound.low_bytes >= outbound.high_bytes {
        return Err(Violation {
            path: KeyPath::new("outbound.low_bytes"),
            value: outbound.low_bytes.to_string(),
            right: format!(
                "less than outbound.high_bytes, which is {}",
                outbound.high_bytes
            ),
            others: &["outbound.high_bytes"],
        });
    }
    Ok(())
}

/// A connection is read until `high_bytes` are queued, so the reply that
/// reaches them may exceed them by almost a frame. That must not close it.
fn room_for_a_reply(outbound: &Outbound, limits: &Limits) -> Result<(), Violation> {
    let needed_bytes = u64::from(outbound.high_bytes) + u64::from(limits.max_frame_bytes);
    if u64::from(outbound.max_bytes) < needed_bytes {
        return Err(Violation {
            path: KeyPath::new("outbound.max_bytes"),
            value: outbound.max_bytes.to_string(),
            right: format!(
                "at least {needed_bytes}, the sum of outbound.high_bytes and limits.max_frame_bytes"
            ),
            others: &["outbound.high_bytes", "limits.max_frame_bytes"],
        });
    }
    Ok(())
}

/// The master is what stays behind, and who tells that the service is ready.
fn a_daemon_with_a_master(process: &Process) -> Result<(), Violation> {
    if process.daemon && process.mode == ProcessMode::Single {
        return Err(Violation {
            path: KeyPath::new("process.daemon"),
            value: "true".to_owned(),
            right: "false unless process.mode is \"supervised\"".to_owned(),
            others: &["process.mode"],
        });
    }
    Ok(())
}

/// Whatever the store is: it is one word away from the file.
fn a_file_for_accounts(accounts: &Accounts) -> Result<(), Violation> {
    let path = KeyPath::new("accounts.path");
    match rules::right(&path, false) {
        Some(right) if accounts.path.as_os_str().is_empty() => {
            Err(wrong(path, "\"\"".to_owned(), right))
        }
        _ => Ok(()),
    }
}

fn log_level(log: &Log) -> Result<(), Violation> {
    let path = KeyPath::new("log.level");
    let is_filter =
        EnvFilter::try_new(&log.level).is_ok() && log.level.split(',').all(says_a_level);
    match rules::right(&path, false) {
        Some(right) if !is_filter => Err(wrong(path, format!("{:?}", log.level), right)),
        _ => Ok(()),
    }
}

/// Whether one directive of a filter says a level. A lone word that is none would be taken for a
/// target of which everything is wanted, and nothing else: `verbose`, and the log is silent.
fn says_a_level(directive: &str) -> bool {
    let word = directive.trim();
    word.contains('=') || (!word.is_empty() && word.parse::<LevelFilter>().is_ok())
}

fn wrong(path: KeyPath, value: String, right: String) -> Violation {
    Violation {
        path,
        value,
        right,
        others: &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with the defaults after `change`.
    fn violation(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_right() {
        check(&Config::default()).unwrap();
    }

    #[test]
    fn both_ends_of_a_range_are_in_it() {
        let mut config = Config::default();
        for frame in [8, 65_535] {
            config.limits.max_frame_bytes = frame;
            check(&config).unwrap();
        }
        let words = "limits.max_frame_bytes is 7, but must be between 8 and 65535";
        assert_eq!(violation(|c| c.limits.max_frame_bytes = 7), words);
        let words = "timeouts.stop_ms is 3600001, but must be between 0 and 3600000";
        assert_eq!(violation(|c| c.timeouts.stop_ms = 3_600_001), words);
    }

    #[test]
    fn port_0_may_come_twice_and_others_may_not() {
        let mut config = Config::default();
        config.server.listen = vec!["[::1]:0".parse().unwrap(); 2];
        check(&config).unwrap();
        assert_eq!(
            violation(|c| c.server.listen = vec!["[::1]:1".parse().unwrap(); 2]),
            "server.listen[1] is \"[::1]:1\", but must be different from the addresses before it"
        );
    }

    #[test]
    fn addresses_are_counted() {
        assert_eq!(
            violation(|c| c.server.listen = vec!["[::1]:0".parse().unwrap(); 65]),
            "server.listen is a list of 65, but must be a list of 1 to 64 addresses"
        );
    }

    #[test]
    fn low_must_be_below_high() {
        assert_eq!(
            violation(|c| c.outbound.low_bytes = c.outbound.high_bytes),
            "outbound.low_bytes is 262144, but must be less than outbound.high_bytes, which is 262144"
        );
    }

    #[test]
    fn a_reply_fits_between_high_and_max() {
        let mut config = Config::default();
        config.outbound.max_bytes = 262_144 + 29_000;
        check(&config).unwrap();
        config.outbound.high_bytes = (1 << 30) - 65_535;
        config.outbound.max_bytes = 1 << 30;
        config.limits.max_frame_bytes = 65_535;
        check(&config).unwrap();

        let sum = "the sum of outbound.high_bytes and limits.max_frame_bytes";
        assert_eq!(
            violation(|c| c.outbound.max_bytes = 291_143),
            format!("outbound.max_bytes is 291143, but must be at least 291144, {sum}")
        );
        assert_eq!(
            violation(|c| c.outbound.high_bytes = 4 << 20),
            format!("outbound.max_bytes is 4194304, but must be at least 4223304, {sum}")
        );
        assert_eq!(
            violation(|c| c.outbound.max_bytes = (1 << 30) + 1),
            "outbound.max_bytes is 1073741825, but must be between 1 and 1073741824"
        );
    }

    #[test]
    fn a_burst_needs_a_rate() {
        let mut config = Config::default();
        config.flood.frames_per_second = 10_000_000;
        for burst in [0, 1, 10_000_000] {
            config.flood.burst = burst;
            check(&config).unwrap();
        }
        assert_eq!(
            violation(|c| c.flood.burst = 9),
            "flood.burst is 9, but must be 0 unless flood.frames_per_second sets a rate"
        );
        assert_eq!(
            violation(|c| c.flood.frames_per_second = 10_000_001),
            "flood.frames_per_second is 10000001, but must be between 0 and 10000000"
        );
    }

    #[test]
    fn memory_is_bounded_at_both_ends() {
        let mut config = Config::default();
        for memory_bytes in [1 << 20, 1 << 40] {
            config.limits.memory_bytes = memory_bytes;
            check(&config).unwrap();
        }
        let right = "must be between 1048576 and 1099511627776";
        for wrong in [0, (1 << 20) - 1, (1 << 40) + 1] {
            assert_eq!(
                violation(|c| c.limits.memory_bytes = wrong),
                format!("limits.memory_bytes is {wrong}, but {right}")
            );
        }
    }

    #[test]
    fn times_are_off_at_0_and_bounded() {
        let mut config = Config::default();
        for wait_ms in [0, 86_400_000] {
            config.timeouts.first_frame_ms = wait_ms;
            config.timeouts.idle_ms = wait_ms;
            config.timeouts.write_ms = wait_ms;
            check(&config).unwrap();
        }
        for drain_ms in [0, 3_600_000] {
            config.timeouts.drain_ms = drain_ms;
            check(&config).unwrap();
        }
        let beyond = |key: &str, last: u32| {
            let value = last + 1;
            format!("timeouts.{key} is {value}, but must be between 0 and {last}")
        };
        assert_eq!(
            violation(|c| c.timeouts.first_frame_ms = 86_400_001),
            beyond("first_frame_ms", 86_400_000)
        );
        assert_eq!(
            violation(|c| c.timeouts.idle_ms = 86_400_001),
            beyond("idle_ms", 86_400_000)
        );
        assert_eq!(
            violation(|c| c.timeouts.write_ms = 86_400_001),
            beyond("write_ms", 86_400_000)
        );
        assert_eq!(
            violation(|c| c.timeouts.drain_ms = 3_600_001),
            beyond("drain_ms", 3_600_000)
        );
    }

    #[test]
    fn a_daemon_has_a_master() {
        let mut config = Config::default();
        config.process.mode = ProcessMode::Supervised;
        check(&config).unwrap();
        config.process.daemon = true;
        check(&config).unwrap();
        assert_eq!(
            violation(|c| c.process.daemon = true),
            "process.daemon is true, but must be false unless process.mode is \"supervised\""
        );
    }

    #[test]
    fn accounts_have_a_file_and_bounds() {
        let mut config = Config::default();
        for (threads, queue) in [(1, 1), (64, 65_536)] {
            config.accounts.hash_threads = threads;
            config.accounts.hash_queue = queue;
            check(&config).unwrap();
        }
        assert_eq!(
            violation(|c| c.accounts.hash_threads = 65),
            "accounts.hash_threads is 65, but must be between 1 and 64"
        );
        assert_eq!(
            violation(|c| c.accounts.hash_queue = 0),
            "accounts.hash_queue is 0, but must be between 1 and 65536"
        );
        assert_eq!(
            violation(|c| c.accounts.path = "".into()),
            "accounts.path is \"\", but must be the path of a file in quotes"
        );
    }

    #[test]
    fn pauses_and_patience_with_workers_are_bounded_at_both_ends() {
        let mut config = Config::default();
        for wait_ms in [100, 3_600_000] {
            config.process.respawn_max_ms = wait_ms;
            config.process.ready_ms = wait_ms;
            check(&config).unwrap();
        }
        let right = "must be between 100 and 3600000";
        for wrong in [0, 99, 3_600_001] {
            assert_eq!(
                violation(|c| c.process.respawn_max_ms = wrong),
                format!("process.respawn_max_ms is {wrong}, but {right}")
            );
            assert_eq!(
                violation(|c| c.process.ready_ms = wrong),
                format!("process.ready_ms is {wrong}, but {right}")
            );
        }
    }

    #[test]
    fn a_log_level_is_a_filter() {
        for wrong in [" ", "", "verbsoe", "a=b=c", "info,corelane", "info,,debug"] {
            assert_eq!(
                violation(|c| c.log.level = wrong.to_owned()),
                format!(
                    r#"log.level is "{wrong}", but must be a filter in quotes, such as "info" or "info,corelane::shard=debug""#
                )
            );
        }
        for right in [
            "off",
            "WARN",
            "info,corelane::shard=debug",
            "[turn{a=1}]=trace",
        ] {
            let mut config = Config::default();
            config.log.level = right.to_owned();
            check(&config).unwrap();
        }
    }
}
