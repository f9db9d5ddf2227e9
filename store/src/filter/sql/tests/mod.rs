//! What conditions mean, case by case and at random.

mod random;

use centaur_apis::v2::{Message, SystemProperties};
use prost::Message as _;

use super::*;

/// A message with these properties: its head and its system properties, encoded.
fn message<'a>(properties: impl IntoIterator<Item = (&'a str, &'a str)>) -> [Vec<u8>; 2] {
    let mut head = Message::default();
    let mut system = SystemProperties::default();
    for (name, value) in properties {
        match name {
            "TAGS" => system.tag = Some(value.into()),
            "KEYS" => system.keys = value.split(' ').map(Into::into).collect(),
            _ => drop(head.user_properties.insert(name.into(), value.into())),
        }
    }
    [head.encode_to_vec(), system.encode_to_vec()]
}

/// What a condition says of a message, unknown apart from false.
fn evaluate(expression: &Expression, [head, properties]: &[Vec<u8>; 2]) -> Option<bool> {
    let text = Text { head, properties };
    let truth = expression.names.with_values(text, |values| expression.root.evaluate(values));
    assert_eq!(expression.matches(text), truth == YES);
    truth
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);
const UNKNOWN: Option<bool> = None;

/// Conditions on a message with one property of every kind.
fn check(expected: Option<bool>, conditions: &[&str]) {
    let properties = [
        ("five", "5"),
        ("minus", "-5"),
        ("pi", "3.14"),
        ("huge", "9223372036854775807"),
        ("huger", "9223372036854775808"),
        ("word", "axb"),
        ("yes", "True"),
        ("no", "false"),
        ("empty", ""),
        ("quote", "it's"),
        ("TAGS", "red"),
        ("KEYS", "k1 k2"),
    ];
    let message = message(properties);
    for condition in conditions {
        let expression = Expression::parse(condition).unwrap_or_else(|error| panic!("{condition}: {}", error.message));
        assert_eq!(evaluate(&expression, &message), expected, "{condition}");
    }
}

fn refused(condition: &str, place: &str, words: &str) {
    let error = Expression::parse(condition).expect_err(condition);
    assert_eq!(error.reason(), Reason::InvalidFilter);
    let expected = format!("filter_expression is not valid SQL at {place}: ");
    let sentence = error.message.strip_prefix(&expected).unwrap_or_else(|| panic!("{condition}: {}", error.message));
    assert!(sentence.contains(words), "{condition}: {sentence}");
}

#[test]
fn numbers_compare_by_value() {
    check(YES, &["five = 5", "five = 5L", "five=5.0", "five = 05", "5 = five", "five > 4.9", "five >= 5", "five < 6"]);
    check(YES, &["five <= 5", "five <> 6", "minus < 0", "minus = -5", "minus = - 5", "minus = - + 5", "-five = minus"]);
    check(
        YES,
        &["pi > 3", "pi = 3.14", "pi < .4e1", "pi > 314e-2 OR pi = 314E-2", "pi <> 3", "+five = 5", "- -five = 5"],
    );
    check(
        YES,
        &["huge = 9223372036854775807", "huge <= huger", "huge > -9223372036854775808", "(5) = five", "-(5) = minus"],
    );
    check(YES, &["'5' = 5", "five = 0.5E+1", "five > 0.0", "5 > 4", "five > minus", "pi < five", "-(five) = minus"]);
    check(NO, &["five = 6", "five > 5", "five < 5", "five <> 5", "pi >= 3.2", "minus = 5", "huge < 5", "huge <> huge"]);
}

#[test]
fn text_is_equal_or_not() {
    check(YES, &["word = 'axb'", "'axb' = word", "word <> 'AXB'", "quote = 'it''s'", "empty = ''", "five = '5'"]);
    check(YES, &["word = word", "five <> '5.0'", "'a' = 'a'", "TAGS = 'red'", "KEYS = 'k1 k2'", "word <> five"]);
    check(
        NO,
        &["word = 'a'", "word <> 'axb'", "five = '5.0'", "word = five", "TAGS <> 'red'", "tags = 'red' AND FALSE"],
    );
}

#[test]
fn what_is_no_number_does_not_compare_with_one() {
    check(UNKNOWN, &["word = 5", "word <> 5", "word > 5", "word < five", "empty = 0", "word > word", "-word = 5"]);
    check(UNKNOWN, &["word BETWEEN 1 AND 9", "word NOT BETWEEN 1 AND 9", "yes = 1", "NOT word = 5", "'nan' = 5"]);
    check(YES, &["word = 5 OR five = 5", "five = 5 OR word = 5", "(word = 5) IS NULL"]);
}

#[test]
fn what_is_said_of_a_missing_property_is_unknown() {
    check(UNKNOWN, &["gone = 5", "gone <> 5", "5 <> gone", "gone > 5", "gone = 'x'", "gone = lost", "gone <> lost"]);
    check(UNKNOWN, &["gone", "NOT gone", "gone = TRUE", "gone IN ('x')", "gone NOT IN ('x')", "-gone = 5", "Five = 5"]);
    check(UNKNOWN, &["gone CONTAINS 'x'", "gone NOT CONTAINS 'x'", "NOT gone STARTSWITH 'x'", "gone ENDSWITH 'x'"]);
    check(
        UNKNOWN,
        &["gone BETWEEN 1 AND 5", "gone NOT BETWEEN 1 AND 5", "five BETWEEN gone AND 9", "(gone IS NULL) = lost"],
    );
    check(NO, &["five BETWEEN gone AND 4", "five NOT BETWEEN 1 AND 9 AND gone = 1"]);
    check(
        YES,
        &["gone IS NULL", "five IS NOT NULL", "NULL IS NULL", "5 IS NOT NULL", "gone > 5 IS NULL", "empty IS NOT NULL"],
    );
    check(NO, &["gone IS NOT NULL", "five IS NULL", "NULL IS NOT NULL", "(gone IS NULL) IS NULL", "NOT gone IS NULL"]);
}

#[test]
fn logic_has_three_values() {
    check(
        YES,
        &["TRUE", "NOT FALSE", "TRUE AND TRUE", "FALSE OR TRUE", "TRUE OR NULL", "NULL OR TRUE", "NOT NOT TRUE"],
    );
    check(NO, &["FALSE", "NOT TRUE", "TRUE AND FALSE", "FALSE AND NULL", "NULL AND FALSE", "FALSE OR FALSE"]);
    check(UNKNOWN, &["NULL", "NOT NULL", "TRUE AND NULL", "NULL AND TRUE", "FALSE OR NULL", "NULL OR FALSE"]);
    check(UNKNOWN, &["NULL AND NULL", "NULL OR NULL", "NOT (NULL AND TRUE)", "NOT NOT NULL"]);
}

#[test]
fn truths_compare_with_each_other_and_with_text() {
    check(
        YES,
        &["yes", "NOT no", "yes = TRUE", "TRUE = yes", "no = FALSE", "yes <> FALSE", "word = FALSE", "NOT word"],
    );
    check(
        YES,
        &["(five > 4) = TRUE", "five > 4 = yes", "no = five > 6", "'true' = TRUE", "TRUE <> FALSE", "yes AND (yes)"],
    );
    check(NO, &["no", "word", "five", "NOT yes", "yes = FALSE", "word = TRUE", "(gone IS NULL) = FALSE"]);
    check(UNKNOWN, &["(gone = 5) = TRUE", "TRUE = gone", "yes = (NULL AND TRUE)"]);
}

#[test]
fn words_bind_as_in_sql() {
    check(YES, &["TRUE OR TRUE AND FALSE", "NOT FALSE AND TRUE", "NOT five = 6", "NOT five > 6", "NOT five IN ('6')"]);
    check(YES, &["FALSE AND FALSE OR TRUE", "NOT five BETWEEN 6 AND 7 AND TRUE", "NOT (FALSE OR FALSE)"]);
    check(NO, &["(TRUE OR TRUE) AND FALSE", "NOT FALSE AND FALSE", "NOT (TRUE OR FALSE)", "NOT five = 5"]);
}

#[test]
fn predicates_look_into_a_value() {
    check(YES, &["five BETWEEN 5 AND 6", "five BETWEEN 4 AND 5", "5 BETWEEN minus AND five", "pi BETWEEN 3.1 AND 3.2"]);
    check(
        YES,
        &[
            "five NOT BETWEEN 6 AND 7",
            "five not between 1 and 4.9",
            "five NOT BETWEEN 9 AND 1",
            "-five BETWEEN -6 AND 0",
        ],
    );
    check(NO, &["five BETWEEN 6 AND 7", "five NOT BETWEEN 5 AND 5", "five BETWEEN five AND minus"]);
    check(
        YES,
        &[
            "word IN ('axb')",
            "word IN ('c','axb' , 'a')",
            "five IN ('5')",
            "word NOT IN ('a', 'b')",
            "(word) IN ('axb')",
        ],
    );
    check(NO, &["word IN ('a', 'b', '')", "five IN ('5.0')", "word NOT IN ('axb', 'axb')"]);
    check(YES, &["word CONTAINS 'x'", "word STARTSWITH 'ax'", "word ENDSWITH 'xb'", "'axb' CONTAINS 'axb'"]);
    check(YES, &["word NOT CONTAINS '.'", "word NOT STARTSWITH 'x'", "word NOT ENDSWITH 'x'", "five CONTAINS '5'"]);
    check(NO, &["word CONTAINS 'X'", "word STARTSWITH 'xb'", "word ENDSWITH 'ax'", "word NOT CONTAINS 'x'"]);
    check(
        NO,
        &[
            "word CONTAINS ''",
            "word NOT CONTAINS ''",
            "word STARTSWITH ''",
            "word NOT ENDSWITH ''",
            "empty CONTAINS ''",
        ],
    );
}

#[test]
fn form_is_free() {
    check(
        YES,
        &["five=5and\tword\n<>\r'x'\x0cOr false", "/* a */five/**/=--b\n5--end", "not(false)", "((((five))))=(((5)))"],
    );
    check(YES, &["five = 5 And Not(word is NULL)and word In('axb')", "--\n five between 1AND 9"]);
}

#[test]
fn mistakes_name_their_place() {
    refused("", "line 1, column 1", "expected a property or a value, found the end");
    refused("a >", "line 1, column 4", "found the end");
    refused("a = 5 b", "line 1, column 7", "expected AND, OR or the end, found b");
    refused("a\n  = ä", "line 2, column 5", "found ä");
    refused("ä = 5", "line 1, column 1", "found ä");
    refused("a = 'ä' =", "line 1, column 9", "found =");
    refused("a != 5", "line 1, column 3", "found !");
    refused("a == 5", "line 1, column 4", "found =");
    refused("a = \"x\"", "line 1, column 5", "found \"");
    refused("a = 'x", "line 1, column 5", "closing '");
    refused("a = 5 /* x", "line 1, column 7", "closing */");
    refused("a LIKE 'x%'", "line 1, column 3", "found LIKE");
    refused("a + 1 = 2", "line 1, column 3", "found +");
    refused("a = 5abc", "line 1, column 6", "found abc");
    refused("(a = 5", "line 1, column 7", "expected AND, OR or ), found the end");
    refused("a = 5)", "line 1, column 6", "found )");
    refused("a and between 2 and 10", "line 1, column 7", "found between");
    refused("a = 5 AND", "line 1, column 10", "found the end");
    refused("a NOT = 5", "line 1, column 7", "expected BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH, found =");
    refused("a IS 5", "line 1, column 6", "expected NULL or NOT NULL, found 5");
    refused("a BETWEEN 5, 6", "line 1, column 12", "expected AND");
    refused(&format!("a = 5 {}", "x".repeat(99)), "line 1, column 7", &format!("found {}…", "x".repeat(32)));
}

#[test]
fn what_could_never_be_true_is_refused() {
    refused("a = NULL", "line 1, column 5", "IS NULL");
    refused("NULL <> a", "line 1, column 1", "IS NULL");
    refused("a > 'x'", "line 1, column 5", "found text");
    refused("a > '5'", "line 1, column 5", "found text");
    refused("TRUE < a", "line 1, column 1", "found a condition");
    refused("a > NULL", "line 1, column 5", "found NULL");
    refused("a > b > c", "line 1, column 7", "found >");
    refused("a = b = c", "line 1, column 7", "found =");
    refused("a between 10 and 0", "line 1, column 11", "lower bound");
    refused("a between 'a' and 'b'", "line 1, column 11", "found text");
    refused("a between NULL and 0", "line 1, column 11", "found NULL");
    refused("a IN (1, 2)", "line 1, column 7", "expected text in single quotes, found 1");
    refused("a IN ()", "line 1, column 7", "found )");
    refused("a IN ('x' 'y')", "line 1, column 11", "expected , or ), found 'y'");
    refused("5 IN ('5')", "line 1, column 1", "found a number");
    refused("a CONTAINS b", "line 1, column 12", "found b");
    refused("5 CONTAINS '5'", "line 1, column 1", "found a number");
    refused("5", "line 1, column 1", "expected a condition, found a number");
    refused("a = 1 OR 'x'", "line 1, column 10", "found text");
    refused("-a", "line 1, column 1", "found a property with a sign");
    refused("-TRUE = a", "line 1, column 2", "behind the sign");
    refused("-'5' = a", "line 1, column 2", "behind the sign");
    refused("TRUE = 5", "line 1, column 8", "expected a condition to compare with, found a number");
    refused("-a = (b = 5)", "line 1, column 6", "found a condition");
}

#[test]
fn numbers_have_64_bits() {
    refused("a > 9223372036854775808", "line 1, column 5", "64 bits");
    refused("a > -9223372036854775809", "line 1, column 6", "64 bits");
    refused("a > 100000000000000000000000", "line 1, column 5", "64 bits");
    refused("a > 1e999", "line 1, column 5", "64 bits");
    refused(&format!("a > {}.5", "1".repeat(999)), "line 1, column 5", "64 bits");
}

#[test]
fn size_is_bounded() {
    let nested = |depth: usize| format!("{}a = 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Expression::parse(&nested(128)).is_ok());
    refused(&nested(129), "line 1, column 129", "at most 128 parentheses");
    refused(&"(".repeat(10_000), "line 1, column 129", "at most 128 parentheses");
    refused(&"(NOT ".repeat(10_000), "line 1, column 641", "at most 128 parentheses");

    let items = |count: usize| format!("a IN ({}'x')", "'x',".repeat(count - 1));
    assert!(Expression::parse(&items(4096)).is_ok());
    refused(&items(4097), &format!("line 1, column {}", 7 + 4 * 4096), "at most 4096 texts");

    let names = |count: usize| (0..count).map(|i| format!("p{i} = 1")).collect::<Vec<_>>().join(" OR ");
    assert!(Expression::parse(&names(256)).is_ok());
    assert!(Expression::parse(&names(257)).is_err_and(|error| error.message.contains("at most 256 different")));

    let long = format!("a = '{}'", "x".repeat(64 << 10));
    let error = Expression::parse(&long).expect_err("too long");
    assert_eq!(error.message, "filter_expression has 65542 bytes; at most 65536 are allowed");
}

#[test]
fn what_repeats_does_not_nest() {
    check(YES, &[&format!("{}yes", "NOT ".repeat(10_000)), &format!("five = {}5", "- ".repeat(10_000))]);
    check(YES, &[&format!("yes{}", " AND yes".repeat(8_000)), &format!("no{}", " OR yes".repeat(9_000))]);
}

#[test]
fn longer_conditions_cost_more() {
    let cost = |text: &str| Expression::parse(text).expect("valid").cost();
    assert_eq!(cost("a = 5"), 1);
    assert!(cost(&format!("a = 5{}", " OR b CONTAINS 'x'".repeat(100))) > 20);
}
