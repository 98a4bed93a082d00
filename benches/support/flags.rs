//! The words after `cargo bench --bench NAME --`.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use super::Failure;

/// A flag that takes a value.
pub(crate) struct Flag {
    /// With its two dashes.
    pub(crate) name: &'static str,
    /// What its value is called in the help.
    pub(crate) value: &'static str,
    /// For the help.
    pub(crate) meaning: &'static str,
}

/// What the words ask for.
pub(crate) enum Parsed {
    Help,
    Run(Flags),
}

/// The flags that were given, in their order.
pub(crate) struct Flags {
    given: Vec<(&'static str, String)>,
}

impl Flags {
    /// Every value of a flag.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.given
            .iter()
            .filter(move |(given, _)| *given == name)
            .map(|(_, value)| value.as_str())
    }

    /// The last value of a flag; `wanted` says what a right one is.
    pub(crate) fn last<T: FromStr>(&self, name: &str, wanted: &str) -> Result<Option<T>, Failure> {
        self.all(name)
            .last()
            .map(|value| {
                value.parse().map_err(|_| {
                    Failure::Words(format!("{name} takes {wanted}, and `{value}` is not one"))
                })
            })
            .transpose()
    }

    /// How often and for how long to measure: `--repeats` and `--seconds`, or these.
    #[allow(dead_code, reason = "not every bench measures for a time")]
    pub(crate) fn turns(&self, repeats: usize, seconds: f64) -> Result<(usize, Duration), Failure> {
        let repeats = self
            .last("--repeats", "a whole number from 1 on")?
            .unwrap_or(repeats);
        let seconds = self
            .last("--seconds", "a number of seconds above 0")?
            .unwrap_or(seconds);
        if repeats == 0 {
            return Err(Failure::Words("--repeats must be at least 1".to_owned()));
        }
        let measured = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        if measured.is_zero() {
            return Err(Failure::Words(format!(
                "--seconds takes a number of seconds above 0, and `{seconds}` is not one"
            )));
        }
        Ok((repeats, measured))
    }
}

/// Reads `--name value` and `--name=value`; cargo's own `--bench` is passed over.
pub(crate) fn parse(words: &[String], known: &[Flag]) -> Result<Parsed, Failure> {
    let mut given = Vec::new();
    let mut words = words.iter().filter(|word| *word != "--bench");
    while let Some(word) = words.next() {
        if word == "--help" || word == "-h" {
            return Ok(Parsed::Help);
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let Some(flag) = known.iter().find(|flag| flag.name == name) else {
            return Err(Failure::Words(format!(
                "`{name}` is not known here; the flags are {}",
                names(known)
            )));
        };
        let Some(value) = value.or_else(|| words.next().cloned()) else {
            return Err(Failure::Words(format!(
                "{name} needs a value: {name} {}",
                flag.value
            )));
        };
        given.push((flag.name, value));
    }
    Ok(Parsed::Run(Flags { given }))
}

/// The text for `--help`.
pub(crate) fn help(bench: &str, known: &[Flag]) -> String {
    let mut text = format!("cargo bench --bench {bench} -- [FLAG VALUE]...\n\n");
    for flag in known {
        let left = format!("{} {}", flag.name, flag.value);
        let _ = writeln!(text, "  {left:<25} {}", flag.meaning);
    }
    text
}

fn names(known: &[Flag]) -> String {
    let names: Vec<&str> = known.iter().map(|flag| flag.name).collect();
    names.join(", ")
}
