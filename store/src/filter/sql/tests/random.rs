//! Random conditions against a second, plainer opinion of what they mean; and noise.

use std::collections::HashMap;

use proptest::{prelude::*, sample::select};

use super::{evaluate, message};
use crate::filter::sql::Expression;

const NAMES: [&str; 6] = ["a", "b", "c", "_x$1", "TAGS", "KEYS"];
const TEXTS: [&str; 12] = ["", "5", "-5", "5.0", "7", "1e1", "abc", "bc", "true", "FALSE", "it's", "ä b"];

/// A condition as it was meant.
#[derive(Clone, Debug)]
enum Meant {
    Constant(Option<bool>),
    Property(&'static str),
    Not(Box<Meant>),
    Both(&'static str, Box<Meant>, Box<Meant>),
    Compare(&'static str, Term, Term),
    Between(bool, Term, Term, Term),
    In(bool, &'static str, Vec<&'static str>),
    Holds(bool, &'static str, Term, &'static str),
    IsNull(bool, Term),
}

#[derive(Clone, Debug)]
enum Term {
    Number(f64),
    Text(&'static str),
    Property(&'static str),
    Negated(&'static str),
    Condition(Box<Meant>),
}

#[derive(Clone, Debug, PartialEq)]
enum Worth {
    Number(f64),
    Text(String),
    Truth(bool),
    Unknown,
}

type Properties = HashMap<&'static str, &'static str>;

impl Meant {
    fn print(&self) -> String {
        let not = |not: &bool| if *not { "NOT " } else { "" };
        match self {
            Self::Constant(truth) => truth.map_or("NULL", |truth| if truth { "TRUE" } else { "false" }).to_owned(),
            Self::Property(name) => (*name).to_owned(),
            Self::Not(meant) => format!("NOT ({})", meant.print()),
            Self::Both(word, left, right) => format!("({}) {word} ({})", left.print(), right.print()),
            Self::Compare(symbol, left, right) => format!("{}{symbol}{}", left.print(), right.print()),
            Self::Between(negated, term, from, to) => {
                format!("{} {}between {} and {}", term.print(), not(negated), from.print(), to.print())
            }
            Self::In(negated, name, texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quote(text)).collect();
                format!("{name} {}In({})", not(negated), texts.join(" , "))
            }
            Self::Holds(negated, word, term, part) => {
                format!("{} {}{word} {}", term.print(), not(negated), quote(part))
            }
            Self::IsNull(negated, term) => format!("{} IS {}NULL", term.print(), not(negated)),
        }
    }

    /// 1 for true, 0 for false and one half for unknown: then AND is the lesser and OR the greater.
    fn truth(&self, properties: &Properties) -> f64 {
        let not_if = |negated: bool, truth: f64| if negated { 1.0 - truth } else { truth };
        match self {
            Self::Constant(truth) => truth.map_or(0.5, as_number),
            Self::Property(name) => match properties.get(name) {
                Some(text) => as_number(text.to_lowercase() == "true"),
                None => 0.5,
            },
            Self::Not(meant) => 1.0 - meant.truth(properties),
            Self::Both("AND", left, right) => left.truth(properties).min(right.truth(properties)),
            Self::Both(_, left, right) => left.truth(properties).max(right.truth(properties)),
            Self::Compare(symbol, left, right) => compare(symbol, &left.worth(properties), &right.worth(properties)),
            Self::Between(negated, term, from, to) => {
                let (term, from, to) = (term.worth(properties), from.worth(properties), to.worth(properties));
                not_if(*negated, compare("<=", &from, &term).min(compare("<=", &term, &to)))
            }
            Self::In(negated, name, texts) => match properties.get(name) {
                Some(text) => as_number(texts.contains(text) != *negated),
                None => 0.5,
            },
            Self::Holds(_, _, _, "") => 0.0,
            Self::Holds(negated, word, term, part) => match term.worth(properties) {
                Worth::Text(text) => {
                    let found = match *word {
                        "CONTAINS" => text.contains(part),
                        "STARTSWITH" => text.starts_with(part),
                        _ => text.ends_with(part),
                    };
                    as_number(found != *negated)
                }
                _ => 0.5,
            },
            Self::IsNull(negated, term) => as_number((term.worth(properties) == Worth::Unknown) != *negated),
        }
    }
}

impl Term {
    fn print(&self) -> String {
        match self {
            Self::Number(number) => format!("{number}"),
            Self::Text(text) => quote(text),
            Self::Property(name) => (*name).to_owned(),
            Self::Negated(name) => format!("-{name}"),
            Self::Condition(meant) => format!("({})", meant.print()),
        }
    }

    fn worth(&self, properties: &Properties) -> Worth {
        match self {
            Self::Number(number) => Worth::Number(*number),
            Self::Text(text) => Worth::Text((*text).to_owned()),
            Self::Property(name) => properties.get(name).map_or(Worth::Unknown, |text| Worth::Text((*text).to_owned())),
            Self::Negated(name) => properties
                .get(name)
                .and_then(|text| text.parse().ok())
                .map_or(Worth::Unknown, |number: f64| Worth::Number(-number)),
            Self::Condition(meant) => match meant.truth(properties) {
                0.5 => Worth::Unknown,
                truth => Worth::Truth(truth == 1.0),
            },
        }
    }
}

fn as_number(truth: bool) -> f64 {
    f64::from(u8::from(truth))
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn compare(symbol: &str, left: &Worth, right: &Worth) -> f64 {
    if let "=" | "<>" = symbol {
        let equal = match (left, right) {
            (Worth::Text(left), Worth::Text(right)) => Some(left == right),
            (Worth::Truth(truth), Worth::Text(text)) | (Worth::Text(text), Worth::Truth(truth)) => {
                Some((text.to_lowercase() == "true") == *truth)
            }
            (Worth::Truth(left), Worth::Truth(right)) => Some(left == right),
            _ => number(left).zip(number(right)).map(|(left, right)| left == right),
        };
        return equal.map_or(0.5, |equal| as_number(equal == (symbol == "=")));
    }
    let Some((left, right)) = number(left).zip(number(right)) else { return 0.5 };
    as_number(match symbol {
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        _ => left >= right,
    })
}

fn number(worth: &Worth) -> Option<f64> {
    match worth {
        Worth::Number(number) => Some(*number),
        Worth::Text(text) => text.parse().ok(),
        Worth::Truth(_) | Worth::Unknown => None,
    }
}

fn numbers() -> impl Strategy<Value = Term> + Clone {
    prop_oneof![
        select(vec![-5.0, 0.0, 5.0, 7.5, 1e10]).prop_map(Term::Number),
        select(NAMES.to_vec()).prop_map(Term::Property),
        select(NAMES.to_vec()).prop_map(Term::Negated),
    ]
}

fn words() -> impl Strategy<Value = Term> + Clone {
    prop_oneof![select(TEXTS.to_vec()).prop_map(Term::Text), select(NAMES.to_vec()).prop_map(Term::Property)]
}

fn leaves() -> impl Strategy<Value = Meant> {
    let order = select(vec!["<", "<=", ">", ">="]);
    let equality = select(vec!["=", "<>"]);
    let places = select(vec!["CONTAINS", "STARTSWITH", "ENDSWITH"]);
    let names = select(NAMES.to_vec());
    let texts = proptest::collection::vec(select(TEXTS.to_vec()), 1..6);
    prop_oneof![
        any::<Option<bool>>().prop_map(Meant::Constant),
        names.clone().prop_map(Meant::Property),
        (order, numbers(), numbers()).prop_map(|(symbol, left, right)| Meant::Compare(symbol, left, right)),
        (equality, prop_oneof![numbers(), words()], prop_oneof![numbers(), words()])
            .prop_map(|(symbol, left, right)| Meant::Compare(symbol, left, right)),
        (any::<bool>(), numbers(), numbers(), numbers())
            .prop_map(|(negated, term, from, to)| between(negated, term, from, to)),
        (any::<bool>(), names, texts).prop_map(|(negated, name, texts)| Meant::In(negated, name, texts)),
        (any::<bool>(), places, words(), select(TEXTS.to_vec()))
            .prop_map(|(negated, word, term, part)| Meant::Holds(negated, word, term, part)),
        (any::<bool>(), prop_oneof![numbers(), words()]).prop_map(|(negated, term)| Meant::IsNull(negated, term)),
    ]
}

/// With the bounds in the order that is not refused.
fn between(negated: bool, term: Term, from: Term, to: Term) -> Meant {
    match (&from, &to) {
        (Term::Number(lower), Term::Number(upper)) if lower > upper => Meant::Between(negated, term, to, from),
        _ => Meant::Between(negated, term, from, to),
    }
}

fn conditions() -> impl Strategy<Value = Meant> {
    leaves().prop_recursive(6, 40, 2, |inner| {
        let value = inner.clone().prop_map(value);
        prop_oneof![
            inner.clone().prop_map(|meant| Meant::Not(Box::new(meant))),
            (select(vec!["AND", "OR"]), inner.clone(), inner).prop_map(|(word, left, right)| Meant::Both(
                word,
                Box::new(left),
                Box::new(right)
            )),
            (any::<bool>(), value.clone()).prop_map(|(negated, term)| Meant::IsNull(negated, term)),
            (select(vec!["=", "<>"]), value.clone(), prop_oneof![words(), value])
                .prop_map(|(symbol, left, right)| Meant::Compare(symbol, left, right)),
        ]
    })
}

/// A condition as a value: in parentheses a property is itself, and NULL compares with nothing.
fn value(meant: Meant) -> Term {
    match meant {
        Meant::Property(name) => Term::Property(name),
        Meant::Constant(None) => Term::Condition(Box::new(Meant::Constant(Some(true)))),
        meant => Term::Condition(Box::new(meant)),
    }
}

fn messages() -> impl Strategy<Value = Properties> {
    let values = (select(NAMES.to_vec()), select(TEXTS.to_vec()));
    proptest::collection::vec(values, 0..10).prop_map(|values| {
        // An empty tag is no tag, and a message has no empty keys.
        let is_there = |(name, text): &(&str, &str)| !(text.is_empty() && ["TAGS", "KEYS"].contains(name));
        values.into_iter().filter(is_there).collect()
    })
}

/// Pieces that expressions are made of.
fn noise() -> impl Strategy<Value = String> {
    let pieces = [
        "a", "b", "TAGS", "5", "-", "+", "5.5e", "1e9", "'x'", "''", "'", "(", ")", ",", "=", "<>", "<", ">", "<=",
        ">=", "AND", "OR", "NOT", "IN", "IS", "NULL", "TRUE", "BETWEEN", "CONTAINS", "ENDSWITH", "--", "/*", "*/",
        "\n", ".", "L", "ä", "\0", "!",
    ];
    let joints = select(vec!["", " "]);
    proptest::collection::vec((select(pieces.to_vec()), joints), 0..40)
        .prop_map(|pieces| pieces.into_iter().flat_map(|(piece, joint)| [piece, joint]).collect())
}

/// Reads and, if it can be read, evaluates: neither may panic.
fn survives(expression: &str, properties: &Properties) {
    let message = message(properties.iter().map(|(name, value)| (*name, *value)));
    match Expression::parse(expression) {
        Ok(parsed) => drop(evaluate(&parsed, &message)),
        Err(error) => assert!(error.message.starts_with("filter_expression "), "{}", error.message),
    }
}

proptest! {
    #[test]
    fn conditions_mean_what_was_meant(meant in conditions(), properties in messages()) {
        let printed = meant.print();
        let expression = Expression::parse(&printed);
        prop_assert!(expression.is_ok(), "{}: {:?}", printed, expression);
        let message = message(properties.iter().map(|(name, value)| (*name, *value)));
        let truth = expression.ok().map(|expression| evaluate(&expression, &message));
        let expected = match meant.truth(&properties) {
            0.5 => None,
            truth => Some(truth == 1.0),
        };
        prop_assert_eq!(truth, Some(expected), "{}", printed);
    }

    #[test]
    fn changed_conditions_are_read_or_refused(
        meant in conditions(),
        properties in messages(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), noise()), 1..4),
    ) {
        let mut characters: Vec<char> = meant.print().chars().collect();
        for (place, piece) in changes {
            let at = place.index(characters.len() + 1);
            let end = (at + piece.len() % 3).min(characters.len());
            characters.splice(at..end, piece.chars().take(4));
        }
        survives(&characters.into_iter().collect::<String>(), &properties);
    }

    #[test]
    fn noise_is_read_or_refused(noise in noise(), any in any::<String>(), properties in messages()) {
        survives(&noise, &properties);
        survives(&any, &properties);
    }

    #[test]
    fn hostile_properties_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let expression = Expression::parse("a > 5 AND b CONTAINS 'x' OR TAGS = KEYS").expect("valid");
        evaluate(&expression, &[bytes.clone(), bytes]);
    }
}
