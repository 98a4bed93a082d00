//! From a source to a configuration: merge, read once, check as a whole.
//!
//! serde tells only which key cannot be read. The words are ours: the value as
//! it was given, its place, and what the key's rule says would be right.

use std::path::Path;

use serde::Deserializer;
use serde::de::DeserializeOwned;

use super::error::ConfigError;
use super::key::KeyPath;
use super::source::{Given, Source};
use super::validate::{self, Violation};
use super::{Config, Override, rules, suggest};

/// Reads and checks the configuration that `source` gives.
pub(super) fn load(source: &Source<'_>) -> Result<Config, ConfigError> {
    let config = read(source)?;
    validate::check(&config).map_err(|violation| violated(source, violation))?;
    Ok(config)
}

/// The text of a file: the one place of this module that touches the disk.
pub(super) fn read_file(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|cause| ConfigError::Unreadable {
        file: file.to_owned(),
        cause,
    })
}

fn read(source: &Source<'_>) -> Result<Config, ConfigError> {
    let file = toml::de::Deserializer::from(source.document.clone());
    // Nothing but a number too large for any type can fail here.
    let mut merged: toml::Table =
        read_from(file).map_err(|path| refused(source, &path, source.in_document(&path)))?;
    for set in source.overrides {
        apply(source, set, &mut merged)?;
    }
    tables_only(source, &merged)?;
    read_from(merged).map_err(|path| refused(source, &path, source.given(&path)))
}

/// The error for a violation by the values read.
fn violated(source: &Source<'_>, violation: Violation) -> ConfigError {
    let mut paths = vec![violation.path.clone()];
    paths.extend(violation.others.iter().copied().map(KeyPath::new));
    // Of keys that do not go together the default is never at fault,
    // and what stands above the file more likely than the file.
    let given = paths
        .iter()
        .find_map(|path| source.in_overrides(path))
        .or_else(|| paths.iter().find_map(|path| source.in_document(path)))
        .unwrap_or_default();
    violation.at(given.place)
}

/// Puts one override above what is merged so far.
fn apply(source: &Source<'_>, set: &Override, merged: &mut toml::Table) -> Result<(), ConfigError> {
    let path = KeyPath::new(&set.key);
    let known = rules::right(&path, false).is_some();
    let (section, keys) = match (path.names.as_slice(), &set.value) {
        ([section, key], value) if known => (
            section,
            toml::Table::from_iter([(key.clone(), value.clone())]),
        ),
        ([section], toml::Value::Table(keys)) if known => (section, keys.clone()),
        _ => return Err(refused(source, &path, source.in_overrides(&path))),
    };
    let section = merged
        .entry(section)
        .or_insert_with(|| toml::Table::new().into());
    // If it is no section, the file has that wrong, and the read says so.
    if let Some(section) = section.as_table_mut() {
        section.extend(keys);
    }
    Ok(())
}

/// Refuses sections that are no tables. The read alone would take a list
/// for the values of the section's keys, in their order.
fn tables_only(source: &Source<'_>, merged: &toml::Table) -> Result<(), ConfigError> {
    let mut others = merged.iter().filter(|(_, value)| !value.is_table());
    others.next().map_or(Ok(()), |(name, _)| {
        let path = KeyPath::section(name);
        Err(refused(source, &path, source.given(&path)))
    })
}

/// The error for what is at `path`, which no [`Config`] can
/// hold.
fn refused(source: &Source<'_>, path: &KeyPath, given: Option<Given>) -> ConfigError {
    let given = given.unwrap_or_default();
    let key = path.to_string();
    match rules::right(path, given.is_whole_number) {
        Some(right) => ConfigError::Wrong {
            place: given.place,
            key,
            value: given.text,
            right,
        },
        None => ConfigError::Unknown {
            place: source.place_of_key(path).unwrap_or(given.place),
            kind: if given.is_section { "section" } else { "key" },
            key,
            hint: suggest::hint(path),
        },
    }
}

/// Reads a `T`, or says which key does not let itself be read.
fn read_from<'d, T: DeserializeOwned>(from: impl Deserializer<'d>) -> Result<T, KeyPath> {
    serde_path_to_error::deserialize(from).map_err(|error| error.path().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str, assignments: &[&str]) -> String {
        let overrides: Result<Vec<_>, _> =
            assignments.iter().map(|set| Override::parse(set)).collect();
        let error = Config::parse(text, "c.toml", &overrides.unwrap()).unwrap_err();
        error.to_string()
    }

    #[track_caller]
    fn refuses(text: &str, message: &str) {
        assert_eq!(error(text, &[]), format!("c.toml:{message}"));
    }

    #[track_caller]
    fn refuses_set(assignment: &str, message: &str) {
        let message = format!("--set {assignment}: {message}");
        assert_eq!(error("", &[assignment]), message);
    }

    #[test]
    fn numbers() {
        let right = "but must be between 8 and 65535";
        for value in [
            "70000",
            "7",
            "-1",
            "9223372036854775808",
            "99999999999999999999",
        ] {
            let text = format!("# ä\n[limits]\nmax_frame_bytes = {value}");
            refuses(
                &text,
                &format!("3:19: limits.max_frame_bytes is {value}, {right}"),
            );
        }
        let right = "but must be a whole number between 8 and 65535";
        for value in ["1.5", "\"9\"", "true", "[ 9 ]", "1979-05-27"] {
            let text = format!("[limits]\nmax_frame_bytes = {value}");
            refuses(
                &text,
                &format!("2:19: limits.max_frame_bytes is {value}, {right}"),
            );
        }
    }

    #[test]
    fn choices() {
        let right = r#"must be "auto" or a number from 1 to 1024"#;
        refuses(
            "shards.count = 'zero'",
            &format!("1:16: shards.count is 'zero', but {right}"),
        );
        refuses(
            "shards.count = 0",
            &format!("1:16: shards.count is 0, but {right}"),
        );
        refuses_set(
            "shards.count=zero",
            &format!(r#"shards.count is "zero", but {right}"#),
        );

        let right = r#"must be "auto" or a list of different CPUs from 0 to 4095, such as "0-3,8""#;
        refuses(
            "shards.cpus = '0,0'",
            &format!("1:15: shards.cpus is '0,0', but {right}"),
        );
        refuses_set(
            "shards.cpus=4096",
            &format!("shards.cpus is 4096, but {right}"),
        );

        refuses(
            r#"shards.pin = "yes""#,
            r#"1:14: shards.pin is "yes", but must be true or false"#,
        );
        refuses(
            "shards.accept = 'here'",
            r#"1:17: shards.accept is 'here', but must be "balanced" or "local""#,
        );
        let right = r#"must be "reply" or "silent""#;
        refuses(
            "protocol.errors = 5",
            &format!("1:19: protocol.errors is 5, but {right}"),
        );
        let right = r#"must be "single" or "supervised""#;
        refuses(
            "process.mode = 'master'",
            &format!("1:16: process.mode is 'master', but {right}"),
        );
        let right = r#"must be "text" or "json""#;
        refuses(
            "log.format = 'xml'",
            &format!("1:14: log.format is 'xml', but {right}"),
        );
    }

    #[test]
    fn texts() {
        let right = r#"must be the path of a file in quotes, or "" for stderr"#;
        refuses(
            "log.file = true",
            &format!("1:12: log.file is true, but {right}"),
        );
        let right = r#"must be the path of a file in quotes, or "" for none"#;
        refuses(
            "process.pid_file = 1",
            &format!("1:20: process.pid_file is 1, but {right}"),
        );
        let right = r#"must be the name of a user in quotes, or "" to stay who starts it"#;
        refuses_set(
            "process.user=33",
            &format!("process.user is 33, but {right}"),
        );
        let right = r#"must be a filter in quotes, such as "info" or "info,corelane::shard=debug""#;
        refuses(
            "log.level = ''",
            &format!(r#"1:13: log.level is "", but {right}"#),
        );
    }

    #[test]
    fn lists_and_their_elements() {
        let right = r#"must be a list of 1 to 64 addresses with ports, such as ["127.0.0.1:8700"]"#;
        refuses(
            "server.listen = 'x'",
            &format!("1:17: server.listen is 'x', but {right}"),
        );
        let right = "must be a list of 1 to 64 addresses";
        refuses(
            "server.listen = []",
            &format!("1:17: server.listen is [], but {right}"),
        );

        let right =
            r#"must be an IP address with a port, such as "127.0.0.1:8700" or "[::1]:8700""#;
        refuses(
            "[server]\nlisten = [\n  '[::1]:1',\n  'localhost',\n]",
            &format!("4:3: server.listen[1] is 'localhost', but {right}"),
        );
        refuses_set(
            "server.listen=[5]",
            &format!("server.listen[0] is 5, but {right}"),
        );
        let right = "must be different from the addresses before it";
        refuses(
            "server.listen = ['[::1]:1', '[::1]:1']",
            &format!(r#"1:29: server.listen[1] is "[::1]:1", but {right}"#),
        );
    }

    #[test]
    fn unknown_keys() {
        refuses(
            "[limits]\n\nmax_frame_byte = 9",
            "3:1: unknown key limits.max_frame_byte; did you mean limits.max_frame_bytes?",
        );
        let hint = "the keys of server are listen, backlog";
        refuses(
            "[server]\nport = 1",
            &format!("2:1: unknown key server.port; {hint}"),
        );
        let hint = "did you mean server.backlog?";
        refuses("backlog = 5", &format!("1:1: unknown key backlog; {hint}"));
        refuses(
            "limits.backlog = 5",
            &format!("1:8: unknown key limits.backlog; {hint}"),
        );
        let hint = "did you mean limits.connections?";
        refuses_set(
            "limit.connections=5",
            &format!("unknown key limit.connections; {hint}"),
        );
        let hint = "did you mean flood.burst?";
        refuses_set("flod.burst=5", &format!("unknown key flod.burst; {hint}"));
        let hint = "did you mean log.level?";
        refuses_set("log={levle=1}", &format!("unknown key log.levle; {hint}"));
    }

    #[test]
    fn unknown_sections() {
        let hint = "did you mean limits?";
        refuses(
            "[limit]\nconnections = 5",
            &format!("1:2: unknown section limit; {hint}"),
        );
        let hint = "the sections are server, shards, protocol, limits, timeouts, flood, outbound, \
                    handlers, topics, process, log, admin, accounts";
        refuses("[tls]", &format!("1:2: unknown section tls; {hint}"));
        refuses(
            "'a.b' = 99999999999999999999",
            &format!("1:1: unknown key \"a.b\"; {hint}"),
        );
        refuses_set("a.b.c=1", &format!("unknown key a.b.c; {hint}"));
    }

    #[test]
    fn sections_that_are_no_tables() {
        let right = "must be a section with keys, such as server.listen";
        refuses("server = 5", &format!("1:10: server is 5, but {right}"));
        refuses(
            "server = [[], 5]",
            &format!("1:10: server is [[], 5], but {right}"),
        );
        refuses(
            "[[server]]",
            &format!("1:1: server is [[server]], but {right}"),
        );
        refuses_set("server=5", &format!("server is 5, but {right}"));
        refuses(
            "[server.backlog]",
            "1:1: server.backlog is a table, but must be a whole number between 1 and 65535",
        );
    }

    #[test]
    fn text_that_is_not_toml() {
        refuses(
            "[log]\nlevel = 'a'\nlevel = 'b'",
            "3:1: not valid TOML: duplicate key at `level`",
        );
        refuses(
            "[server\nbacklog = 1",
            "1:8: not valid TOML: unclosed table, expected `]`",
        );
        refuses(
            "# ä\n'ä' = yes",
            "2:7: not valid TOML: string values must be quoted, expected literal string at `yes`",
        );
    }

    #[test]
    fn of_keys_at_odds_the_one_that_was_set_is_shown() {
        let high = |low, high| {
            format!(
                "outbound.low_bytes is {low}, but must be less than outbound.high_bytes, which is {high}"
            )
        };
        refuses(
            "outbound.low_bytes = 3\noutbound.high_bytes = 2",
            &format!("1:22: {}", high(3, 2)),
        );
        refuses(
            "outbound.high_bytes = 9",
            &format!("1:23: {}", high(65_536, 9)),
        );
        let set = "outbound.high_bytes=2";
        let message = error("outbound.low_bytes = 3", &[set]);
        assert_eq!(message, format!("--set {set}: {}", high(3, 2)));

        let room = "but must be at least 5000001, \
                    the sum of outbound.high_bytes and limits.max_frame_bytes";
        let message = error(
            "limits.max_frame_bytes = 9",
            &["outbound.high_bytes=4999992"],
        );
        assert_eq!(
            message,
            format!("--set outbound.high_bytes=4999992: outbound.max_bytes is 4194304, {room}")
        );

        refuses(
            "shards = { count = 3, cpus = '0-1' }",
            "1:20: shards.count is 3, but must be at most 2, the number of CPUs in shards.cpus",
        );
    }

    #[test]
    fn an_override_is_not_blamed_for_the_file() {
        let message = error("server = 5", &["server.backlog=5"]);
        let words = "server is 5, but must be a section with keys, such as server.listen";
        assert_eq!(message, format!("c.toml:1:10: {words}"));

        let huge = "99999999999999999999";
        let message = error(&format!("server.backlog = {huge}"), &["server.backlog=5"]);
        let words = format!("server.backlog is {huge}, but must be between 1 and 65535");
        assert_eq!(message, format!("c.toml:1:18: {words}"));
    }

    #[test]
    fn messages_are_one_line() {
        let right = r#"must be "text" or "json""#;
        refuses(
            "log.format = '''\na\nb'''",
            &format!("1:14: log.format is ''' a b''', but {right}"),
        );
        let message = error("", &["log.format='a'\n"]);
        assert_eq!(
            message,
            format!(r#"--set log.format='a': log.format is "a", but {right}"#)
        );
    }
}
