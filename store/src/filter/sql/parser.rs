//! Tokens to tree, one function for each level of precedence:
//!
//! ```text
//! or         = and { OR and }
//! and        = not { AND not }
//! not        = { NOT } equality
//! equality   = comparison [ ( = | <> ) comparison | IS [ NOT ] NULL ]
//! comparison = value [ ( < | <= | > | >= ) value | [ NOT ] predicate ]
//! predicate  = BETWEEN value AND value | IN ( text { , text } )
//!            | ( CONTAINS | STARTSWITH | ENDSWITH ) text
//! value      = { + | - } ( number | text | property | TRUE | FALSE | NULL | "(" or ")" )
//! ```
//! Only parentheses nest, so their depth bounds that of the tree.

use std::cmp::Ordering;

use super::{
    Mistake,
    properties::Names,
    token::{Lexeme, Token, Tokens},
    tree::{Node, Number, Operand, Place, Relation},
};

/// Parentheses within each other.
const DEPTH_MAX: usize = 128;
/// Different properties in one expression.
const NAMES_MAX: usize = 256;
/// Texts in the list of one IN.
const ITEMS_MAX: usize = 4096;

/// Reads a whole condition.
pub fn parse(text: &str) -> Result<(Node, Names), Mistake> {
    let mut tokens = Tokens::new(text);
    let next = tokens.next()?;
    let mut parser = Parser { tokens, next, depth: 0, names: Names::default() };
    let at = parser.next.at;
    let condition = parser.or()?;
    match parser.next.token {
        Token::End => Ok((condition_of(condition, at)?, parser.names)),
        _ => Err(parser.expected("AND, OR or the end")),
    }
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    next: Lexeme<'a>,
    depth: usize,
    names: Names,
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Operand, Mistake> {
        self.joined(Token::Or, Self::and, Node::Or)
    }

    fn and(&mut self) -> Result<Operand, Mistake> {
        self.joined(Token::And, Self::not, Node::And)
    }

    /// Conditions with `word` between them; a single one may be any operand.
    fn joined(
        &mut self,
        word: Token<'a>,
        part: fn(&mut Self) -> Result<Operand, Mistake>,
        join: fn(Vec<Node>) -> Node,
    ) -> Result<Operand, Mistake> {
        let at = self.next.at;
        let first = part(self)?;
        if self.next.token != word {
            return Ok(first);
        }
        let mut nodes = vec![condition_of(first, at)?];
        while self.take(word)? {
            let at = self.next.at;
            nodes.push(condition_of(part(self)?, at)?);
        }
        nodes.shrink_to_fit();
        Ok(condition(join(nodes)))
    }

    fn not(&mut self) -> Result<Operand, Mistake> {
        if self.next.token != Token::Not {
            return self.equality();
        }
        let mut is_negated = false;
        while self.take(Token::Not)? {
            is_negated = !is_negated;
        }
        let at = self.next.at;
        let node = condition_of(self.equality()?, at)?;
        Ok(condition(negate_if(is_negated, node)))
    }

    fn equality(&mut self) -> Result<Operand, Mistake> {
        let at = self.next.at;
        let left = self.comparison()?;
        let relation = match self.next.token {
            Token::Equal => Relation::Equal,
            Token::NotEqual => Relation::NotEqual,
            Token::Is => return self.is_null(left),
            _ => return Ok(left),
        };
        self.advance()?;
        let right_at = self.next.at;
        let right = self.comparison()?;
        for (operand, at) in [(&left, at), (&right, right_at)] {
            if is_null(operand) {
                return Err(Mistake::new(at, "expected a value to compare, found NULL; write IS NULL"));
            }
        }
        let is_condition = |operand: &Operand| matches!(operand, Operand::Condition(_));
        let is_number = |operand: &Operand| matches!(operand, Operand::Number(_) | Operand::Negated(_));
        if (is_condition(&left) && is_number(&right)) || (is_number(&left) && is_condition(&right)) {
            let sentence = format!("expected {} to compare with, found {}", kind(&left), kind(&right));
            return Err(Mistake::new(right_at, sentence));
        }
        Ok(condition(Node::Compare(relation, left, right)))
    }

    fn is_null(&mut self, operand: Operand) -> Result<Operand, Mistake> {
        self.advance()?;
        let is_negated = self.take(Token::Not)?;
        if !self.take(Token::Null)? {
            return Err(self.expected(if is_negated { "NULL" } else { "NULL or NOT NULL" }));
        }
        Ok(condition(negate_if(is_negated, Node::IsNull(operand))))
    }

    fn comparison(&mut self) -> Result<Operand, Mistake> {
        let at = self.next.at;
        let left = self.value()?;
        let relation = match self.next.token {
            Token::Less => Relation::Less,
            Token::LessEqual => Relation::LessEqual,
            Token::Greater => Relation::Greater,
            Token::GreaterEqual => Relation::GreaterEqual,
            _ => return self.predicate(left, at),
        };
        check_ordered(&left, at)?;
        self.advance()?;
        let right = self.ordered_value()?;
        Ok(condition(Node::Compare(relation, left, right)))
    }

    /// What is said of a value by a word behind it; the value itself when there is none.
    fn predicate(&mut self, operand: Operand, at: usize) -> Result<Operand, Mistake> {
        let is_negated = self.take(Token::Not)?;
        let place = match self.next.token {
            Token::Between => return self.between(operand, at, is_negated),
            Token::In => return self.is_in(&operand, at, is_negated),
            Token::Contains => Place::Anywhere,
            Token::StartsWith => Place::Start,
            Token::EndsWith => Place::End,
            _ if is_negated => return Err(self.expected("BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH")),
            _ => return Ok(operand),
        };
        if !matches!(operand, Operand::Property(_) | Operand::Text(_)) {
            return Err(Mistake::new(at, format!("expected a property or text, found {}", kind(&operand))));
        }
        self.advance()?;
        let part = self.text()?;
        if part.is_empty() {
            return Ok(condition(Node::Constant(Some(false))));
        }
        Ok(condition(negate_if(is_negated, Node::Holds(place, operand, part))))
    }

    fn between(&mut self, operand: Operand, at: usize, is_negated: bool) -> Result<Operand, Mistake> {
        check_ordered(&operand, at)?;
        self.advance()?;
        let from_at = self.next.at;
        let from = self.ordered_value()?;
        if !self.take(Token::And)? {
            return Err(self.expected("AND and the upper bound"));
        }
        let to = self.ordered_value()?;
        if is_negated {
            let below = Node::Compare(Relation::Less, operand.clone(), from);
            let above = Node::Compare(Relation::Greater, operand, to);
            return Ok(condition(Node::Or(vec![below, above])));
        }
        if let (Operand::Number(from), Operand::Number(to)) = (&from, &to)
            && from.order(*to) == Some(Ordering::Greater)
        {
            return Err(Mistake::new(from_at, "expected the lower bound of BETWEEN, found the upper one"));
        }
        let lower = Node::Compare(Relation::GreaterEqual, operand.clone(), from);
        let upper = Node::Compare(Relation::LessEqual, operand, to);
        Ok(condition(Node::And(vec![lower, upper])))
    }

    fn is_in(&mut self, operand: &Operand, at: usize, is_negated: bool) -> Result<Operand, Mistake> {
        let Operand::Property(slot) = operand else {
            return Err(Mistake::new(at, format!("expected a property before IN, found {}", kind(operand))));
        };
        self.advance()?;
        if !self.take(Token::Open)? {
            return Err(self.expected("("));
        }
        let mut texts = vec![self.text()?];
        while self.take(Token::Comma)? {
            if texts.len() == ITEMS_MAX {
                return Err(Mistake::new(self.next.at, format!("expected at most {ITEMS_MAX} texts for IN")));
            }
            texts.push(self.text()?);
        }
        if !self.take(Token::Close)? {
            return Err(self.expected(", or )"));
        }
        texts.sort_unstable();
        Ok(condition(negate_if(is_negated, Node::In(*slot, texts.into()))))
    }

    fn ordered_value(&mut self) -> Result<Operand, Mistake> {
        let at = self.next.at;
        let value = self.value()?;
        check_ordered(&value, at)?;
        Ok(value)
    }

    fn value(&mut self) -> Result<Operand, Mistake> {
        let mut sign = None;
        loop {
            if self.take(Token::Minus)? {
                sign = Some(!sign.unwrap_or(false));
            } else if self.take(Token::Plus)? {
                sign = Some(sign.unwrap_or(false));
            } else {
                break;
            }
        }
        let at = self.next.at;
        if let Token::Integer(digits) = self.next.token {
            return self.integer(digits, sign == Some(true));
        }
        let value = self.unsigned_value()?;
        match sign {
            None => Ok(value),
            Some(is_negative) => signed(value, is_negative, at),
        }
    }

    fn unsigned_value(&mut self) -> Result<Operand, Mistake> {
        let value = match self.next.token {
            Token::Float(digits) => self.float(digits)?,
            Token::Text(text) => Operand::Text(unquoted(text)),
            Token::Name(name) => Operand::Property(self.slot(name)?),
            Token::True => condition(Node::Constant(Some(true))),
            Token::False => condition(Node::Constant(Some(false))),
            Token::Null => condition(Node::Constant(None)),
            Token::Open => return self.parenthesized(),
            _ => return Err(self.expected("a property or a value")),
        };
        self.advance()?;
        Ok(value)
    }

    fn parenthesized(&mut self) -> Result<Operand, Mistake> {
        if self.depth == DEPTH_MAX {
            let sentence = format!("expected at most {DEPTH_MAX} parentheses within each other");
            return Err(Mistake::new(self.next.at, sentence));
        }
        self.advance()?;
        self.depth += 1;
        let inner = self.or()?;
        self.depth -= 1;
        if !self.take(Token::Close)? {
            return Err(self.expected("AND, OR or )"));
        }
        Ok(inner)
    }

    fn integer(&mut self, digits: &str, is_negative: bool) -> Result<Operand, Mistake> {
        let number = if is_negative { format!("-{digits}").parse() } else { digits.parse() };
        let number = number.map_err(|_| self.expected("a number of 64 bits"))?;
        self.advance()?;
        Ok(Operand::Number(Number::Integer(number)))
    }

    fn float(&self, digits: &str) -> Result<Operand, Mistake> {
        let number = digits.parse().ok().filter(|number: &f64| number.is_finite());
        let number = number.ok_or_else(|| self.expected("a number of 64 bits"))?;
        Ok(Operand::Number(Number::Float(number)))
    }

    fn text(&mut self) -> Result<Box<str>, Mistake> {
        let Token::Text(text) = self.next.token else { return Err(self.expected("text in single quotes")) };
        self.advance()?;
        Ok(unquoted(text))
    }

    fn slot(&mut self, name: &str) -> Result<usize, Mistake> {
        let slot = self.names.slot(name);
        if self.names.count() > NAMES_MAX {
            let sentence = format!("expected at most {NAMES_MAX} different properties");
            return Err(Mistake::new(self.next.at, sentence));
        }
        Ok(slot)
    }

    /// Goes on behind the next token, if it is this one.
    fn take(&mut self, token: Token<'a>) -> Result<bool, Mistake> {
        let is_it = self.next.token == token;
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    fn advance(&mut self) -> Result<(), Mistake> {
        self.next = self.tokens.next()?;
        Ok(())
    }

    fn expected(&self, what: &str) -> Mistake {
        Mistake::new(self.next.at, format!("expected {what}, found {}", self.tokens.show(self.next)))
    }
}

fn condition(node: Node) -> Operand {
    Operand::Condition(Box::new(node))
}

/// An operand as a condition: a property means that it is true.
fn condition_of(operand: Operand, at: usize) -> Result<Node, Mistake> {
    match operand {
        Operand::Condition(node) => Ok(*node),
        Operand::Property(slot) => Ok(Node::Property(slot)),
        Operand::Number(_) | Operand::Text(_) | Operand::Negated(_) => {
            Err(Mistake::new(at, format!("expected a condition, found {}", kind(&operand))))
        }
    }
}

fn negate_if(is_negated: bool, node: Node) -> Node {
    if is_negated { Node::Not(Box::new(node)) } else { node }
}

fn signed(operand: Operand, is_negative: bool, at: usize) -> Result<Operand, Mistake> {
    match operand {
        Operand::Text(_) | Operand::Condition(_) => {
            Err(Mistake::new(at, format!("expected a number or a property behind the sign, found {}", kind(&operand))))
        }
        _ if !is_negative => Ok(operand),
        Operand::Number(number) => Ok(Operand::Number(number.negated())),
        Operand::Property(slot) => Ok(Operand::Negated(slot)),
        Operand::Negated(slot) => Ok(Operand::Property(slot)),
    }
}

fn check_ordered(operand: &Operand, at: usize) -> Result<(), Mistake> {
    match operand {
        Operand::Number(_) | Operand::Property(_) | Operand::Negated(_) => Ok(()),
        Operand::Text(_) | Operand::Condition(_) => {
            Err(Mistake::new(at, format!("expected a number or a property to compare, found {}", kind(operand))))
        }
    }
}

fn is_null(operand: &Operand) -> bool {
    matches!(operand, Operand::Condition(node) if **node == Node::Constant(None))
}

/// What an operand is, in words.
fn kind(operand: &Operand) -> &'static str {
    match operand {
        Operand::Number(_) => "a number",
        Operand::Text(_) => "text",
        Operand::Property(_) => "a property",
        Operand::Negated(_) => "a property with a sign",
        Operand::Condition(_) if is_null(operand) => "NULL",
        Operand::Condition(_) => "a condition",
    }
}

fn unquoted(text: &str) -> Box<str> {
    text.replace("''", "'").into()
}
