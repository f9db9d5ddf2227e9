//! A parsed condition as a tree, and what it says of given values.

use std::cmp::Ordering;

/// Something true, false or unknown (`None`).
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Constant(Option<bool>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Compare(Relation, Operand, Operand),
    /// The property in this slot is one of these texts, which are sorted.
    In(usize, Box<[Box<str>]>),
    /// The first holds this text, at this place.
    Holds(Place, Operand, Box<str>),
    IsNull(Operand),
    /// The property in this slot reads `true`.
    Property(usize),
}

/// Something with a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    Number(Number),
    Text(Box<str>),
    /// The property in this slot.
    Property(usize),
    /// The number that the property in this slot reads as, with the other sign.
    Negated(usize),
    Condition(Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Integer(i64),
    Float(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Anywhere,
    Start,
    End,
}

/// The values of the properties, by slot.
pub type Values<'a> = [Option<&'a str>];

/// What an operand is worth.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(Number),
    Text(&'a str),
    Truth(bool),
}

impl Node {
    /// Whether it holds; `None` when that is unknown.
    pub fn evaluate(&self, values: &Values<'_>) -> Option<bool> {
        match self {
            Self::Constant(truth) => *truth,
            Self::And(nodes) => unless_any(false, nodes, values),
            Self::Or(nodes) => unless_any(true, nodes, values),
            Self::Not(node) => node.evaluate(values).map(|truth| !truth),
            Self::Compare(relation, left, right) => {
                let (left, right) = (left.value(values)?, right.value(values)?);
                relation.holds(left, right)
            }
            Self::In(slot, texts) => {
                let value = values[*slot]?;
                Some(texts.binary_search_by(|text| text.as_ref().cmp(value)).is_ok())
            }
            Self::Holds(place, operand, part) => match operand.value(values)? {
                Value::Text(text) => Some(place.holds(text, part)),
                Value::Number(_) | Value::Truth(_) => None,
            },
            Self::IsNull(operand) => Some(operand.value(values).is_none()),
            Self::Property(slot) => values[*slot].map(is_true),
        }
    }
}

/// `decisive` when one of the nodes is; otherwise the opposite, unless one is unknown.
fn unless_any(decisive: bool, nodes: &[Node], values: &Values<'_>) -> Option<bool> {
    let mut truth = Some(!decisive);
    for node in nodes {
        match node.evaluate(values) {
            Some(found) if found == decisive => return Some(decisive),
            Some(_) => {}
            None => truth = None,
        }
    }
    truth
}

fn is_true(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

impl Operand {
    fn value<'a>(&'a self, values: &Values<'a>) -> Option<Value<'a>> {
        match self {
            Self::Number(number) => Some(Value::Number(*number)),
            Self::Text(text) => Some(Value::Text(text)),
            Self::Property(slot) => values[*slot].map(Value::Text),
            Self::Negated(slot) => Number::read(values[*slot]?).map(|number| Value::Number(number.negated())),
            Self::Condition(node) => node.evaluate(values).map(Value::Truth),
        }
    }
}

impl Relation {
    fn holds(self, left: Value<'_>, right: Value<'_>) -> Option<bool> {
        match self {
            Self::Equal => equal(left, right),
            Self::NotEqual => equal(left, right).map(|equal| !equal),
            Self::Less => order(left, right).map(Ordering::is_lt),
            Self::LessEqual => order(left, right).map(Ordering::is_le),
            Self::Greater => order(left, right).map(Ordering::is_gt),
            Self::GreaterEqual => order(left, right).map(Ordering::is_ge),
        }
    }
}

fn equal(left: Value<'_>, right: Value<'_>) -> Option<bool> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Some(left == right),
        (Value::Truth(left), Value::Truth(right)) => Some(left == right),
        (Value::Truth(truth), Value::Text(text)) | (Value::Text(text), Value::Truth(truth)) => {
            Some(is_true(text) == truth)
        }
        (Value::Number(_), _) | (_, Value::Number(_)) => order(left, right).map(Ordering::is_eq),
    }
}

/// Of two numbers, or what reads as one.
fn order(left: Value<'_>, right: Value<'_>) -> Option<Ordering> {
    left.number()?.order(right.number()?)
}

impl Value<'_> {
    fn number(self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(text) => Number::read(text),
            Self::Truth(_) => None,
        }
    }
}

impl Number {
    /// Reads a number as it stands in a property: with a sign, a point or an exponent at most.
    pub fn read(text: &str) -> Option<Self> {
        if let Ok(integer) = text.parse() {
            return Some(Self::Integer(integer));
        }
        // Infinity and the like are words, not numbers.
        let is_plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        is_plain.then(|| text.parse().ok()).flatten().map(Self::Float)
    }

    pub fn negated(self) -> Self {
        match self {
            Self::Integer(integer) => integer.checked_neg().map_or(Self::Float(-(integer as f64)), Self::Integer),
            Self::Float(float) => Self::Float(-float),
        }
    }

    /// How two numbers compare: whole ones exactly, others as floats.
    pub fn order(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(left), Self::Integer(right)) => Some(left.cmp(&right)),
            _ => self.float().partial_cmp(&other.float()),
        }
    }

    fn float(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Float(float) => float,
        }
    }
}

impl Place {
    fn holds(self, text: &str, part: &str) -> bool {
        match self {
            Self::Anywhere => text.contains(part),
            Self::Start => text.starts_with(part),
            Self::End => text.ends_with(part),
        }
    }
}
