//! A TOML file as a flat list of keys with the place of each.

use toml::de::{DeTable, DeValue};

use crate::config::keys;

/// One value of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) place: Place,
}

/// A line and column of the file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// Everything the file sets, in its order, and everything that cannot be read.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) entries: Vec<Entry>,
    pub(crate) errors: Vec<(Place, String)>,
}

/// Reads the text of a file; never stops at the first error.
pub(crate) fn read(text: &str) -> Content {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut content = Content::default();
    for error in errors {
        content.errors.push((place(text, error.span().map_or(0, |span| span.start)), error.message().to_owned()));
    }
    flatten(text, "", table.get_ref(), &mut content);
    content.entries.sort_by_key(|entry| (entry.place.line, entry.place.column));
    content
}

fn flatten(text: &str, above: &str, table: &DeTable<'_>, content: &mut Content) {
    for (key, value) in table {
        let name = key.get_ref();
        let path = if above.is_empty() { name.to_string() } else { format!("{above}.{name}") };
        let place = place(text, key.span().start);
        match value.get_ref() {
            DeValue::Table(inner) if keys::is_table(&path) && keys::find(&path).is_none() => {
                flatten(text, &path, inner, content);
            }
            DeValue::Table(inner) => {
                // The table itself is unknown: its keys are reported, each where it stands.
                if inner.is_empty() {
                    content.entries.push(Entry { path, text: String::new(), place });
                } else {
                    flatten(text, &path, inner, content);
                }
            }
            other => match scalar(other) {
                Some(value) => content.entries.push(Entry { path, text: value, place }),
                None => content.errors.push((place, format!("{path} takes one value, not {}", other.type_str()))),
            },
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn place(text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_with_their_place() {
        let content = read("[store]\nflush = \"async\"\nretention.age = \"1h\"\n\n[proxy.tls]\n  mode = \"off\"\n");
        let found: Vec<_> = content.entries.iter().map(|e| (e.path.as_str(), e.place.line, e.place.column)).collect();
        assert_eq!(found, [("store.flush", 2, 1), ("store.retention.age", 3, 11), ("proxy.tls.mode", 6, 3)]);
        assert!(content.errors.is_empty());
    }

    #[test]
    fn broken_lines_are_named() {
        let content = read("[store]\nflush = \n[log]\nlevel = [1]\n");
        let lines: Vec<_> = content.errors.iter().map(|(place, _)| place.line).collect();
        assert_eq!(lines, [2, 4], "{:?}", content.errors);
    }
}
