//! What a configuration is read from, a file's text and the overrides above it,
//! and the place of every value in them.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Override;
use super::error::{ConfigError, Place, excerpt};
use super::key::KeyPath;

/// The text and the overrides; of several overrides of a key the last counts.
pub(super) struct Source<'s> {
    name: &'s str,
    text: &'s str,
    /// The text as a table that knows where everything stands.
    pub(super) document: Spanned<DeTable<'s>>,
    /// What stands above it.
    pub(super) overrides: &'s [Override],
}

/// A value as it was given.
#[derive(Default)]
pub(super) struct Given {
    /// Where it is.
    pub(super) place: Place,
    /// How it is written there, as an excerpt.
    pub(super) text: String,
    /// Whether it is a whole number, of whatever size.
    pub(super) is_whole_number: bool,
    /// Whether it is a whole section of the file.
    pub(super) is_section: bool,
}

impl<'s> Source<'s> {
    /// Takes `text`, called `name` in errors, apart.
    pub(super) fn new(
        text: &'s str,
        name: &'s str,
        overrides: &'s [Override],
    ) -> Result<Self, ConfigError> {
        let document = DeTable::parse(text).map_err(|error| {
            let at = error.span().unwrap_or_default();
            let near = text
                .get(at.clone())
                .map(excerpt)
                .filter(|near| !near.is_empty());
            let near = near.map(|near| format!(" at `{near}`")).unwrap_or_default();
            ConfigError::Syntax {
                place: place(name, text, &at),
                problem: excerpt(error.message()) + &near,
            }
        })?;
        Ok(Self {
            name,
            text,
            document,
            overrides,
        })
    }

    /// The value at `path` that counts.
    pub(super) fn given(&self, path: &KeyPath) -> Option<Given> {
        self.in_overrides(path).or_else(|| self.in_document(path))
    }

    /// The value that an override gives.
    pub(super) fn in_overrides(&self, path: &KeyPath) -> Option<Given> {
        self.overrides.iter().rev().find_map(|set| {
            let of_set = KeyPath::new(&set.key).names;
            let below = path.names.strip_prefix(of_set.as_slice())?;
            let value = below
                .iter()
                .try_fold(&set.value, |value, name| value.get(name))?;
            let value = path.element.and_then(|i| value.get(i)).unwrap_or(value);
            Some(Given {
                place: Place::Override(set.origin.clone()),
                text: excerpt(&value.to_string()),
                is_whole_number: value.is_integer(),
                is_section: false,
            })
        })
    }

    /// The value that the file gives.
    pub(super) fn in_document(&self, path: &KeyPath) -> Option<Given> {
        let (_, value) = self.find(path)?;
        let value = path
            .element
            .and_then(|i| value.get_ref().get(i))
            .unwrap_or(value);
        let text = match value.get_ref() {
            // Its place may be its header, which would say nothing.
            DeValue::Table(_) => "a table".to_owned(),
            _ => self.text.get(value.span()).map(excerpt).unwrap_or_default(),
        };
        Some(Given {
            place: place(self.name, self.text, &value.span()),
            text,
            is_whole_number: value.get_ref().is_integer(),
            is_section: value.get_ref().is_table() && path.names.len() == 1,
        })
    }

    /// The place of the key rather than of its value, if it is in the file.
    pub(super) fn place_of_key(&self, path: &KeyPath) -> Option<Place> {
        if self.in_overrides(path).is_some() {
            return None;
        }
        let (key, _) = self.find(path)?;
        Some(place(self.name, self.text, &key.span()))
    }

    /// The key and the value in the file, of the list if `path` is an element's.
    fn find(&self, path: &KeyPath) -> Option<(&Spanned<DeString<'s>>, &Spanned<DeValue<'s>>)> {
        let (last, sections) = path.names.split_last()?;
        let table = sections
            .iter()
            .try_fold(self.document.get_ref(), |table, name| {
                table.get(name.as_str())?.get_ref().as_table()
            })?;
        table.get_key_value(last.as_str())
    }
}

/// The place of a span's start.
fn place(name: &str, text: &str, span: &Range<usize>) -> Place {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.split('\n').count();
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Place::File {
        name: name.to_owned(),
        line,
        column,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is_at(text: &str, start: usize, displayed: &str) {
        assert_eq!(
            place("c.toml", text, &(start..start)).to_string(),
            displayed
        );
    }

    #[test]
    fn places_count_from_1_in_characters() {
        is_at("", 0, "c.toml:1:1: ");
        is_at("ab", 2, "c.toml:1:3: ");
        is_at("a\n", 2, "c.toml:2:1: ");
        is_at("a\r\n\nbc", 5, "c.toml:3:2: ");
        is_at("\u{e4}\u{e4}b", 4, "c.toml:1:3: ");
    }

    #[test]
    fn the_last_override_counts() {
        let set = |text| Override::new("a.b", text, format!("--b {text}"));
        let overrides = [set("2"), set("3")];
        let source = Source::new("a.b = 1", "c.toml", &overrides).unwrap();
        let given = source.given(&KeyPath::new("a.b")).unwrap();
        assert_eq!(given.text, "3");
        assert_eq!(given.place, Place::Override("--b 3".to_owned()));
        let in_file = source.in_document(&KeyPath::new("a.b")).unwrap();
        assert_eq!(in_file.text, "1");
        assert!(source.given(&KeyPath::new("a.c")).is_none());
    }
}
