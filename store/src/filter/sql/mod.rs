//! Conditions over the properties of a message, in the part of SQL92 that RocketMQ knows.
//!
//! Values are numbers, text, TRUE and FALSE; every property is text. `TAGS` is the tag and `KEYS`
//! the keys, joined by blanks; a message without them does not have these properties.
//!
//! - Logic has three values: what is said of a property that a message does not have is unknown,
//!   and only what is true matches. `IS NULL` is never unknown.
//! - Text beside a number is read as a number, by its value: `a > 3` holds for `3.5`, `a = 3` for
//!   `3.0`. Text that is no number makes the comparison unknown, as a missing property does.
//! - Text beside text is equal or not; for `<` and `>` both have to be numbers.
//! - Text beside TRUE or FALSE is true when it reads `true` in any case, otherwise false. A lone
//!   property is a condition and means the same as `property = TRUE`.
//! - `NOT` binds looser than comparisons and tighter than `AND`, as in SQL92.
//! - `CONTAINS ''`, `STARTSWITH ''` and `ENDSWITH ''` are false, with `NOT` before them as well.
//! - What can never be true by its form is refused: `BETWEEN` with the bounds reversed, order
//!   between texts or truths in the expression, `= NULL`, a condition beside a number.
//! - Comparisons do not chain; parentheses make a condition a value.
//!
//! RocketMQ differs where it converts by the type of the literal (`a > 3` fails on `3.5`), lets
//! `NOT` bind to the operand of a comparison, and counts `5 <> missing` and
//! `missing = also_missing` as true.
//!
//! Source: public contract, filter expressions; the grammar of RocketMQ's SQL92 filter.

mod parser;
mod properties;
mod token;
mod tree;

#[cfg(test)]
mod tests;

use centaur_apis::store::{Error, Reason};

use super::Text;
use properties::Names;
use tree::Node;

/// Longest expression, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Bytes of an expression that cost as much to evaluate as a message costs to read, or less.
const BYTES_FOR_COST: usize = 64;

/// A parsed condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    root: Node,
    names: Names,
    cost: usize,
}

/// What is wrong with an expression, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mistake {
    at: usize,
    sentence: String,
}

impl Expression {
    /// Reads a condition. Errors: `InvalidFilter`, with the place and what was expected there.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > TEXT_BYTES_MAX {
            let sentence = format!("filter_expression has {} bytes; at most {TEXT_BYTES_MAX} are allowed", text.len());
            return Err(Error::new(Reason::InvalidFilter, sentence));
        }
        let (root, names) = parser::parse(text).map_err(|mistake| mistake.in_text(text))?;
        Ok(Self { root, names, cost: 1 + text.len() / BYTES_FOR_COST })
    }

    /// What evaluating it costs, in readings of a message.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Whether the condition is true of a message with these properties.
    pub fn matches(&self, text: Text<'_>) -> bool {
        self.names.with_values(text, |values| self.root.evaluate(values)) == Some(true)
    }
}

impl Mistake {
    fn new(at: usize, sentence: impl Into<String>) -> Self {
        Self { at, sentence: sentence.into() }
    }

    fn in_text(self, text: &str) -> Error {
        let before = text.get(..self.at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        let sentence = format!("filter_expression is not valid SQL at line {line}, column {column}: {}", self.sentence);
        Error::new(Reason::InvalidFilter, sentence)
    }
}
