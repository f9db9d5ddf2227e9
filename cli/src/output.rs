//! What commands print: aligned tables for people, JSON for programs.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Write as _},
};

use clap::ValueEnum;
use prost_types::Timestamp;
use serde_json::Value;

use crate::exit::{Exit, Failure};

/// How a command prints its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[default]
    Table,
    /// One document; one object per line where results stream.
    Json,
}

/// Rows under headings.
pub(crate) struct Table {
    headings: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &'static [&'static str]) -> Self {
        Self { headings, rows: Vec::new() }
    }

    /// Adds a row with one cell for each heading.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.headings.len());
        self.rows.push(cells);
    }

    fn render(&self) -> String {
        let headings: Vec<String> = self.headings.iter().map(|heading| (*heading).to_owned()).collect();
        let lines = || std::iter::once(&headings).chain(&self.rows);
        let width = |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        let render_line = |line: &Vec<String>| {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        lines().map(render_line).collect::<Vec<_>>().join("\n")
    }
}

impl Output {
    /// Prints one result: the table, or the same facts as JSON.
    pub(crate) fn print(self, table: &Table, json: &Value) -> Result<(), Failure> {
        match self {
            Self::Table => line(&table.render()),
            Self::Json => self::json(json),
        }
    }

    /// Prints one sentence about what was done, or the facts as JSON.
    pub(crate) fn done(self, sentence: &str, json: &Value) -> Result<(), Failure> {
        match self {
            Self::Table => line(sentence),
            Self::Json => self::json(json),
        }
    }
}

/// Prints a line to standard output; a reader that went away ends the command like any failure.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    write(printable(text).as_bytes())
}

/// Prints a document on a line of its own.
pub(crate) fn json(document: &Value) -> Result<(), Failure> {
    write(escaped(&document.to_string()).as_bytes())
}

/// Prints a message's body on a line of its own: to a program as it is.
pub(crate) fn body(body: &[u8]) -> Result<(), Failure> {
    if io::stdout().is_terminal() { line(&String::from_utf8_lossy(body)) } else { write(body) }
}

fn write(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text)
        .and_then(|()| out.write_all(b"\n"))
        .map_err(|error| Failure::new(Exit::Failed, format!("the result cannot be printed: {error}")))
}

/// JSON without what a terminal would obey: control characters that it allows as they are.
fn escaped(json: &str) -> Cow<'_, str> {
    if !json.chars().any(char::is_control) {
        return json.into();
    }
    let escape = |c: char| if c.is_control() { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(escape).collect()
}

/// Text of others without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A time for people and programs alike; `-` for none.
pub(crate) fn time(ms: u64) -> String {
    if ms == 0 {
        return "-".to_owned();
    }
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(ms % 1000 * 1_000_000).unwrap_or(0);
    Timestamp { seconds, nanos }.to_string()
}

/// A time as JSON; null for none.
pub(crate) fn time_json(ms: u64) -> Value {
    if ms == 0 { Value::Null } else { time(ms).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(vec!["größer".into(), "1".into()]);
        table.row(vec!["a".into(), "22".into()]);
        assert_eq!(table.render(), "NAME    N\ngrößer  1\na       22");
    }

    #[test]
    fn terminals_are_not_commanded() {
        assert_eq!(printable("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\n");
    }

    #[test]
    fn json_keeps_every_character() {
        let document = serde_json::json!({ "body": "a\u{85}\u{7f}\u{1b}\nß" });
        let text = document.to_string();
        assert!(!escaped(&text).chars().any(char::is_control));
        assert_eq!(serde_json::from_str::<Value>(&escaped(&text)).expect("JSON"), document);
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(time(0), "-");
    }
}
