//! The configuration: typed, with named limits, read from TOML.
//!
//! Every key has a default, unknown keys are errors, sizes are bytes and times
//! are in the unit of the name. Reading is all or nothing: a [`Config`] that
//! was loaded has passed every check, and an error is one sentence with the
//! place in the file or the override at fault.
//!
//! ```
//! use corelane::config::{Config, Override};
//!
//! let file = "[limits]\nconnections = 5000\n";
//! let above = [Override::parse("log.level=debug")?];
//! let config = Config::parse(file, "corelane.toml", &above)?;
//! assert_eq!(config.limits.connections, 5000);
//! assert_eq!(config.log.level, "debug");
//!
//! let wrong = Config::parse("[limits]\nconnections = 0", "corelane.toml", &[]).unwrap_err();
//! assert_eq!(
//!     wrong.to_string(),
//!     "corelane.toml:2:15: limits.connections is 0, but must be between 1 and 16000000"
//! );
//! # Ok::<(), corelane::config::ConfigError>(())
//! ```

pub mod bounds;
mod changes;
mod cpus;
mod error;
mod key;
mod load;
mod overrides;
mod rules;
mod sections;
mod shards;
mod source;
mod suggest;
mod validate;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use changes::Changes;
pub use cpus::{CpuList, CpuListError};
pub use error::{ConfigError, Place};
pub use overrides::Override;
pub use sections::{
    AccountStore, Accounts, Admin, ErrorFrames, Flood, Handlers, Limits, Log, LogFormat, Outbound,
    Process, ProcessMode, Protocol, Server, Timeouts, Topics,
};
pub use shards::{Accept, CpuChoice, ShardCount, Shards};

use source::Source;

/// Everything that can be configured. The fields say what each key means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    pub server: Server,
    /// The cores and how they wait for work.
    pub shards: Shards,
    /// What clients are told.
    pub protocol: Protocol,
    /// What a shard takes on.
    pub limits: Limits,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How many frames a connection may send.
    pub flood: Flood,
    /// Flow control of each connection.
    pub outbound: Outbound,
    /// The code that answers messages.
    pub handlers: Handlers,
    /// Who may subscribe to how much.
    pub topics: Topics,
    /// Master and worker, and what the operating system sees of them.
    pub process: Process,
    /// What is written down, how and where.
    pub log: Log,
    /// Where operators look.
    pub admin: Admin,
    /// Who may log in.
    pub accounts: Accounts,
}

impl Config {
    /// Reads the file, if there is one, with `overrides` above it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unreadable`] for the file, and those of
    /// [`parse`](Self::parse).
    pub fn load(file: Option<&Path>, overrides: &[Override]) -> Result<Self, ConfigError> {
        let Some(file) = file else {
            return Self::parse("", "defaults", overrides);
        };
        let text = load::read_file(file)?;
        Self::parse(&text, &file.display().to_string(), overrides)
    }

    /// Reads `text`, the content of a file called `name` in errors. The
    /// overrides stand above it, a later one above an earlier.
    ///
    /// # Errors
    ///
    /// All but [`ConfigError::Unreadable`], with the place of what is wrong.
    pub fn parse(text: &str, name: &str, overrides: &[Override]) -> Result<Self, ConfigError> {
        load::load(&Source::new(text, name, overrides)?)
    }

    /// Checks a configuration that was put together by hand; a loaded one has
    /// been checked.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Wrong`] for the first value out of its bounds or at odds
    /// with another.
    pub fn validate(&self) -> Result<(), ConfigError> {
        validate::check(self).map_err(|violation| violation.at(Place::Program))
    }

    /// The configuration as a TOML file, every key included.
    /// [`parse`](Self::parse) makes the same configuration of it.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "sections of texts, numbers and lists always are TOML"
    )]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a Config has a TOML form")
    }

    #[expect(clippy::expect_used, reason = "as in `to_toml`")]
    fn to_table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("a Config has a TOML form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU16;

    const PRODUCTION: &str = include_str!("../../config/corelane.toml");

    fn set(assignments: &[&str]) -> Result<Config, String> {
        above("", assignments)
    }

    fn above(text: &str, assignments: &[&str]) -> Result<Config, String> {
        let overrides: Vec<_> = assignments
            .iter()
            .map(|assignment| Override::parse(assignment).unwrap())
            .collect();
        Config::parse(text, "corelane.toml", &overrides).map_err(|error| error.to_string())
    }

    fn exactly(count: u16) -> ShardCount {
        ShardCount::Exactly(NonZeroU16::new(count).unwrap())
    }

    fn cpus(list: &str) -> CpuChoice {
        CpuChoice::List(list.parse().unwrap())
    }

    #[test]
    fn no_text_is_the_defaults() {
        let config = set(&[]).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.server.listen, ["127.0.0.1:8700".parse().unwrap()]);
        assert_eq!(config, Config::load(None, &[]).unwrap());
    }

    #[test]
    fn overrides_stand_above_the_file() {
        let text = "limits.connections = 5\nlimits.max_bad_frames = 6";
        let config = above(text, &["limits.connections=7"]).unwrap();
        assert_eq!(config.limits.connections, 7);
        assert_eq!(config.limits.max_bad_frames, 6);
        let config = set(&["limits.connections=8", "limits.connections=9"]).unwrap();
        assert_eq!(config.limits.connections, 9);
    }

    #[test]
    fn overrides_need_no_quotes() {
        let config = set(&["shards.count=2", "shards.cpus=0-3", "log.level=debug"]).unwrap();
        assert_eq!(config.shards.count, exactly(2));
        assert_eq!(config.shards.cpus, cpus("0-3"));
        assert_eq!(config.log.level, "debug");
        let config = set(&["shards.count=auto", "shards.cpus=0", "log.file="]).unwrap();
        assert_eq!(config.shards.count, ShardCount::Auto);
        assert_eq!(config.shards.cpus, cpus("0"));
        assert_eq!(config.log.file(), None);
        let config = set(&["server.listen=[\"127.0.0.1:0\"]"]).unwrap();
        assert_eq!(config.server.listen, ["127.0.0.1:0".parse().unwrap()]);
    }

    #[test]
    fn an_override_may_be_a_section() {
        let text = "log.level = 'warn'\nlog.format = 'text'";
        let config = above(text, &["log={format='json'}"]).unwrap();
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.log.level, "warn");
    }

    #[test]
    fn an_override_mends_the_file() {
        let config = above("limits.connections = 0", &["limits.connections=7"]).unwrap();
        assert_eq!(config.limits.connections, 7);
    }

    #[test]
    fn a_single_cpu_may_be_a_number() {
        let config = above("shards.cpus = 3", &[]).unwrap();
        assert_eq!(config.shards.cpus, cpus("3"));
    }

    #[test]
    fn prints_what_it_parses() {
        let mut other = Config::default();
        other.server.listen = vec!["[::1]:9".parse().unwrap(), "1.2.3.4:0".parse().unwrap()];
        other.shards.count = exactly(3);
        other.shards.cpus = cpus("8,0-3,10");
        other.shards.accept = Accept::Local;
        other.protocol.errors = ErrorFrames::Silent;
        other.limits.memory_bytes = 1 << 40;
        other.limits.max_frame_bytes = 8;
        other.flood.frames_per_second = 9;
        other.flood.burst = 90;
        other.process.mode = ProcessMode::Supervised;
        other.process.daemon = true;
        other.process.pid_file = "/run/corelane.pid".into();
        other.process.user = "corelane".to_owned();
        other.admin.listen = None;
        other.accounts.store = AccountStore::Memory;
        other.accounts.path = "/var/lib/core lane/accounts.redb".into();
        other.accounts.hash_queue = 7;
        other.log.level = "info,[turn{id=\"7\"}]=debug".to_owned();
        other.log.format = LogFormat::Json;
        other.log.file = "/var/log/core lane.log".into();
        for config in [Config::default(), other] {
            let text = config.to_toml();
            let parsed = Config::parse(&text, "printed", &[]);
            assert_eq!(parsed.unwrap(), config, "{text}");
        }
    }

    #[test]
    fn loads_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("corelane.toml");
        std::fs::write(&file, "[limits]\nconnections = 5\n").unwrap();
        let config = Config::load(Some(&file), &[]).unwrap();
        assert_eq!(config.limits.connections, 5);

        std::fs::write(&file, "[limits]\nconnections = -5\n").unwrap();
        let words = "limits.connections is -5, but must be between 1 and 16000000";
        let error = Config::load(Some(&file), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{}:2:15: {words}", file.display())
        );
    }

    #[test]
    fn says_why_a_file_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let error = |file: &Path| Config::load(Some(file), &[]).unwrap_err().to_string();

        let missing = folder.path().join("y.toml");
        let words = format!(
            "cannot read {}: No such file or directory",
            missing.display()
        );
        assert_eq!(error(&missing), words);
        let words = format!("cannot read {}: Is a directory", folder.path().display());
        assert_eq!(error(folder.path()), words);
    }

    #[test]
    fn the_production_file_is_right_and_complete() {
        let config = above(PRODUCTION, &[]).unwrap();
        assert_eq!(config.server.listen, ["0.0.0.0:8700".parse().unwrap()]);
        assert_eq!(config.shards, Shards::default());
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.timeouts, Timeouts::default());
        assert_eq!(config.flood, Flood::default());
        assert_eq!(config.outbound, Outbound::default());
        assert_eq!(config.process, Process::default());
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.admin, Admin::default());
        assert_eq!(config.accounts, Accounts::default());

        let shown: toml::Table = PRODUCTION.parse().unwrap();
        for key in rules::keys() {
            let (section, name) = key.split_once('.').unwrap();
            let value = shown.get(section).and_then(|keys| keys.get(name));
            assert!(value.is_some(), "{key} is not in config/corelane.toml");
        }
    }
}
