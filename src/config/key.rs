//! Keys as errors name them: `limits.connections`, `server.listen[1]`.

use std::fmt;

use serde_path_to_error::{Path, Segment};

/// The way to a value: section, key, and the element if the value is a list's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyPath {
    /// Section and key; only one of them for a section itself and for what is
    /// outside of all sections.
    pub(super) names: Vec<String>,
    /// Index into the key's list.
    pub(super) element: Option<usize>,
}

impl KeyPath {
    /// The path of a key written with dots.
    pub(super) fn new(dotted: &str) -> Self {
        Self {
            names: dotted.split('.').map(str::to_owned).collect(),
            element: None,
        }
    }

    /// The path of a section, or of a key outside of all sections.
    pub(super) fn section(name: &str) -> Self {
        Self {
            names: vec![name.to_owned()],
            element: None,
        }
    }

    /// The same key's element.
    pub(super) fn element(self, index: usize) -> Self {
        Self {
            element: Some(index),
            ..self
        }
    }

    /// The key with dots between its names, fit to be compared with others.
    pub(super) fn dotted(&self) -> String {
        self.names.join(".")
    }
}

impl From<&Path> for KeyPath {
    fn from(path: &Path) -> Self {
        let names = path.iter().map_while(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            _ => None,
        });
        let names: Vec<String> = names.collect();
        let element = match path.iter().nth(names.len()) {
            Some(Segment::Seq { index }) => Some(*index),
            _ => None,
        };
        Self { names, element }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            // As TOML has it, a name of other characters stands in quotes.
            if !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
            {
                write!(f, "{dot}{name}")?;
            } else {
                write!(f, "{dot}{name:?}")?;
            }
        }
        self.element.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_as_written_in_toml() {
        assert_eq!(KeyPath::new("server.backlog").to_string(), "server.backlog");
        let second = KeyPath::new("server.listen").element(1);
        assert_eq!(second.to_string(), "server.listen[1]");
        let strange = KeyPath {
            names: vec!["a.b".to_owned(), "two\nlines".to_owned()],
            element: None,
        };
        assert_eq!(strange.to_string(), r#""a.b"."two\nlines""#);
    }
}
