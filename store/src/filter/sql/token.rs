//! Cuts the text of an expression into tokens; blanks and comments fall away.

use super::Mistake;

/// Characters of a token that an error message shows, at most.
const SHOWN_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// Of a property.
    Name(&'a str),
    /// Digits.
    Integer(&'a str),
    /// Digits with a point, an exponent or both.
    Float(&'a str),
    /// Without the quotes around it; those within are still doubled.
    Text(&'a str),
    And,
    Between,
    Contains,
    EndsWith,
    False,
    In,
    Is,
    Not,
    Null,
    Or,
    StartsWith,
    True,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Plus,
    Minus,
    Comma,
    Open,
    Close,
    End,
}

/// Names that are not properties, in any case.
const KEYWORDS: [(&str, Token<'static>); 12] = [
    ("AND", Token::And),
    ("BETWEEN", Token::Between),
    ("CONTAINS", Token::Contains),
    ("ENDSWITH", Token::EndsWith),
    ("FALSE", Token::False),
    ("IN", Token::In),
    ("IS", Token::Is),
    ("NOT", Token::Not),
    ("NULL", Token::Null),
    ("OR", Token::Or),
    ("STARTSWITH", Token::StartsWith),
    ("TRUE", Token::True),
];

/// A token and its place: from byte `at` to byte `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lexeme<'a> {
    pub token: Token<'a>,
    pub at: usize,
    pub end: usize,
}

/// Walks the tokens of a text.
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token; `End` for ever once there is none.
    pub fn next(&mut self) -> Result<Lexeme<'a>, Mistake> {
        self.skip_blanks()?;
        let at = self.at;
        let rest = &self.text[at..];
        let (token, length) = match rest.as_bytes() {
            [] => (Token::End, 0),
            [b'\'', ..] => quoted(rest).ok_or_else(|| Mistake::new(at, "expected a closing ' of this text"))?,
            [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => number(rest),
            [first, ..] if begins_name(*first) => name(rest),
            bytes => symbol(bytes).ok_or_else(|| {
                let found = rest.chars().next().unwrap_or_default();
                Mistake::new(at, format!("expected a property, a value or an operator, found {found}"))
            })?,
        };
        self.at = at + length;
        Ok(Lexeme { token, at, end: self.at })
    }

    /// A token as it stands in the text, for error messages.
    pub fn show(&self, lexeme: Lexeme<'a>) -> String {
        let shown = &self.text[lexeme.at..lexeme.end];
        match shown.char_indices().nth(SHOWN_MAX) {
            _ if shown.is_empty() => "the end".to_owned(),
            Some((end, _)) => format!("{}…", &shown[..end]),
            None => shown.to_owned(),
        }
    }

    fn skip_blanks(&mut self) -> Result<(), Mistake> {
        loop {
            let rest = &self.text[self.at..];
            let length = match rest.as_bytes() {
                [b' ' | b'\t' | b'\n' | b'\r' | b'\x0c', ..] => 1,
                [b'-', b'-', ..] => rest.find(['\n', '\r']).unwrap_or(rest.len()),
                [b'/', b'*', inside @ ..] => {
                    let length = inside.windows(2).position(|pair| pair == b"*/");
                    2 + length.ok_or_else(|| Mistake::new(self.at, "expected a closing */ of this comment"))? + 2
                }
                _ => return Ok(()),
            };
            self.at += length;
        }
    }
}

fn begins_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte == b'$'
}

fn name(rest: &str) -> (Token<'_>, usize) {
    let length = rest.bytes().take_while(|byte| begins_name(*byte) || byte.is_ascii_digit()).count();
    let name = &rest[..length];
    let keyword = KEYWORDS.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(name));
    (keyword.map_or(Token::Name(name), |(_, token)| *token), length)
}

fn quoted(rest: &str) -> Option<(Token<'_>, usize)> {
    let mut end = 1;
    loop {
        end += rest[end..].find('\'')?;
        if rest.as_bytes().get(end + 1) != Some(&b'\'') {
            return Some((Token::Text(&rest[1..end]), end + 1));
        }
        end += 2;
    }
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn number(rest: &str) -> (Token<'_>, usize) {
    let bytes = rest.as_bytes();
    let whole = digits(bytes);
    let mut length = whole;
    if bytes.get(length) == Some(&b'.') {
        length += 1 + digits(&bytes[length + 1..]);
    }
    length += exponent(&bytes[length..]);
    if length > whole {
        return (Token::Float(&rest[..length]), length);
    }
    let suffix = usize::from(matches!(bytes.get(whole), Some(b'l' | b'L')));
    (Token::Integer(&rest[..whole]), whole + suffix)
}

/// The length of an exponent; 0 when there is none.
fn exponent(bytes: &[u8]) -> usize {
    let mark = match bytes {
        [b'e' | b'E', b'+' | b'-', ..] => 2,
        [b'e' | b'E', ..] => 1,
        _ => return 0,
    };
    match digits(&bytes[mark..]) {
        0 => 0,
        digits => mark + digits,
    }
}

fn symbol(bytes: &[u8]) -> Option<(Token<'static>, usize)> {
    Some(match bytes {
        [b'<', b'>', ..] => (Token::NotEqual, 2),
        [b'<', b'=', ..] => (Token::LessEqual, 2),
        [b'>', b'=', ..] => (Token::GreaterEqual, 2),
        [b'<', ..] => (Token::Less, 1),
        [b'>', ..] => (Token::Greater, 1),
        [b'=', ..] => (Token::Equal, 1),
        [b'+', ..] => (Token::Plus, 1),
        [b'-', ..] => (Token::Minus, 1),
        [b',', ..] => (Token::Comma, 1),
        [b'(', ..] => (Token::Open, 1),
        [b')', ..] => (Token::Close, 1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<Token<'_>>, Mistake> {
        let mut tokens = Tokens::new(text);
        let mut found = Vec::new();
        loop {
            match tokens.next()?.token {
                Token::End => return Ok(found),
                token => found.push(token),
            }
        }
    }

    fn check(text: &str, expected: &[Token<'_>]) {
        assert_eq!(tokens(text).as_deref(), Ok(expected), "{text}");
    }

    #[test]
    fn numbers_end_where_they_can_go_on_no_longer() {
        use Token::{And, Float, Integer, Minus, Name};
        check("0 7L 7l 007", &[Integer("0"), Integer("7"), Integer("7"), Integer("007")]);
        check("5.5 5. .5 5e1 5.E+1 .5e-1", &["5.5", "5.", ".5", "5e1", "5.E+1", ".5e-1"].map(Float));
        check("1AND", &[Integer("1"), And]);
        check("5e 5e- 5x", &[Integer("5"), Name("e"), Integer("5"), Name("e"), Minus, Integer("5"), Name("x")]);
        assert_eq!(tokens("1 .").map_err(|mistake| mistake.at), Err(2));
    }

    #[test]
    fn quotes_are_doubled_within_text() {
        check("'' 'a' 'it''s' ''''", &["", "a", "it''s", "''"].map(Token::Text));
        check("'a''b\n' 'ä--/*'", &["a''b\n", "ä--/*"].map(Token::Text));
        for open in ["'", "'a", "'a''", "x 'a"] {
            assert!(tokens(open).is_err(), "{open}");
        }
    }

    #[test]
    fn keywords_have_no_case_and_names_do() {
        use Token::{In, Name, Null, StartsWith};
        check("in IN iN null startsWith", &[In, In, In, Null, StartsWith]);
        check("_a $b a1$ inn Inn", &["_a", "$b", "a1$", "inn", "Inn"].map(Name));
        assert_eq!(tokens("a ä").map_err(|mistake| mistake.at), Err(2));
    }

    #[test]
    fn comments_are_blanks() {
        use Token::{Integer, Minus, Name};
        check("a--b\n-/*c*//**/- 1 /* -- **/ --", &[Name("a"), Minus, Minus, Integer("1")]);
        check("--a\r1", &[Integer("1")]);
        assert_eq!(tokens("a /*/").map_err(|mistake| mistake.at), Err(2));
    }
}
