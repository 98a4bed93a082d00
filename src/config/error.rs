//! What can be wrong with a configuration, each in one sentence.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no configuration. Displays as one line that says where, what
/// was wrong and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The operating system did not give us the file.
    #[error("cannot read {}: {}", file.display(), reason(cause))]
    Unreadable {
        /// The file asked for.
        file: PathBuf,
        /// What the operating system said. Not a `source`: the sentence
        /// already has it.
        cause: io::Error,
    },
    /// The text is not TOML, which includes a key that comes twice.
    #[error("{place}not valid TOML: {problem}")]
    Syntax {
        /// Where reading ended.
        place: Place,
        /// What the TOML parser said, on one line.
        problem: String,
    },
    /// An override is not `KEY=VALUE`.
    #[error("{place}must be KEY=VALUE, such as limits.connections=1000")]
    NotAnAssignment {
        /// The override.
        place: Place,
    },
    /// A key or section that does not exist.
    #[error("{place}unknown {kind} {key}; {hint}")]
    Unknown {
        /// Where the key is.
        place: Place,
        /// "key" or "section".
        kind: &'static str,
        /// The key, with its section.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// A key whose value it does not take.
    #[error("{place}{key} is {value}, but must be {right}")]
    Wrong {
        /// Where the value is.
        place: Place,
        /// The key, with its section; with the element if it is one's value.
        key: String,
        /// What was there, shortened if it is long.
        value: String,
        /// What the key takes.
        right: String,
    },
}

/// Where a value was given. Displays as the beginning of a sentence, colon and
/// space included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// The file's name as it was given.
        name: String,
        /// The line, from 1.
        line: usize,
        /// The column, in characters from 1.
        column: usize,
    },
    /// By an override; its origin.
    Override(String),
    /// By the program, which made the [`Config`](super::Config) itself.
    /// Displays as nothing.
    #[default]
    Program,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}: "),
            Self::Override(origin) => write!(f, "{}: ", excerpt(origin)),
            Self::Program => Ok(()),
        }
    }
}

/// The longest text from outside that an error repeats, in characters.
const EXCERPT_CHARS_MAX: usize = 60;

/// A text from outside on one line and not too long of it.
pub(super) fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// The reason in words alone: the number that Rust puts behind them says
/// nothing more.
fn reason(cause: &io::Error) -> String {
    let text = cause.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_one_line_and_short() {
        assert_eq!(excerpt("[\n  1,\n\t2 ]"), "[ 1, 2 ]");
        assert_eq!(excerpt(&"ä".repeat(60)), "ä".repeat(60));
        assert_eq!(excerpt(&"ä".repeat(61)), "ä".repeat(60) + "...");
    }

    #[test]
    fn reasons_have_no_numbers() {
        let missing = io::Error::from_raw_os_error(2);
        assert_eq!(reason(&missing), "No such file or directory");
        let other = io::Error::other("broken");
        assert_eq!(reason(&other), "broken");
    }
}
