//! Single keys that stand above the file's, mostly from the command line.

use super::error::{ConfigError, Place};

/// One key set from outside of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Section and key: `limits.max_frame_bytes`.
    pub key: String,
    /// The value, as the file would give it.
    pub value: toml::Value,
    /// Where it comes from, as an error names it: `--shards 2`.
    pub origin: String,
}

impl Override {
    /// Sets `key` to `text`, which is taken for a TOML value if it is one and
    /// for a string if not: `2` is a number, `auto` needs no quotes.
    pub fn new(key: impl Into<String>, text: &str, origin: impl Into<String>) -> Self {
        let value = text.parse().unwrap_or_else(|_| text.into());
        Self {
            key: key.into(),
            value,
            origin: origin.into(),
        }
    }

    /// Reads the argument of `--set`: `KEY=VALUE`, the value as in
    /// [`new`](Self::new).
    ///
    /// ```
    /// # use corelane::config::Override;
    /// let level = Override::parse("log.level=debug")?;
    /// assert_eq!(level.key, "log.level");
    /// assert_eq!(level.value.as_str(), Some("debug"));
    /// assert_eq!(level.origin, "--set log.level=debug");
    /// # Ok::<(), corelane::config::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotAnAssignment`] if there is no `=` or no key before it.
    /// Whether the key exists is found when the override is applied.
    pub fn parse(assignment: &str) -> Result<Self, ConfigError> {
        let origin = format!("--set {assignment}");
        match assignment.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok(Self::new(key.trim(), value.trim(), origin))
            }
            _ => Err(ConfigError::NotAnAssignment {
                place: Place::Override(origin),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::Value;

    #[test]
    fn values_are_toml_or_else_strings() {
        for (text, value) in [
            ("2", Value::Integer(2)),
            ("true", Value::Boolean(true)),
            ("\"2\"", "2".into()),
            ("auto", "auto".into()),
            ("0-3,8", "0-3,8".into()),
            ("", "".into()),
            ("info,corelane=debug", "info,corelane=debug".into()),
            ("[\"[::1]:0\"]", Value::Array(vec!["[::1]:0".into()])),
        ] {
            let set = Override::parse(&format!("a.b={text}")).unwrap();
            assert_eq!(set.value, value, "{text}");
        }
    }

    #[test]
    fn spaces_around_are_dropped() {
        let set = Override::parse("log.level = debug ").unwrap();
        assert_eq!((set.key.as_str(), set.value), ("log.level", "debug".into()));
    }

    #[test]
    fn must_be_an_assignment() {
        for text in ["log.level", "=debug", "="] {
            let words = "must be KEY=VALUE, such as limits.connections=1000";
            let error = Override::parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("--set {text}: {words}"));
        }
    }
}
