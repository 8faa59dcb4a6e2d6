//! From tokens to clauses, still without knowing what is searched.

use std::fmt;

use super::lexer::{Kind, Token, tokens};
use crate::{Error, Result};

/// Bytes of a filter: enough for a list of some thousand runs. The statement that it becomes stays within what the
/// databases take, 32,766 values in SQLite.
const MOST_BYTES: usize = 100 * 1024;

/// Clauses of a filter: SQLite takes expressions up to a depth of 1000.
const MOST_CLAUSES: usize = 200;

/// One clause: a name, a comparison and what it is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clause {
    /// As it was written, such as ``tags.`a b` ``.
    pub(super) name: String,
    /// As it was written, such as `>=` or `like`; `NOT IN`, `IS NULL` and `IS NOT NULL` in capitals.
    pub(super) comparator: String,
    /// The other side.
    pub(super) value: Value,
}

/// What a name is compared with, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A text with its single quotes.
    Text(String),
    /// A name, or a text in double quotes.
    Name(String),
    /// A whole number.
    Integer(String),
    /// Another number.
    Float(String),
    /// A list with its parentheses.
    List(String),
    /// Nothing, after `IS NULL` and `IS NOT NULL`.
    Nothing,
}

/// How a kind of search names what it cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// Each part in quotes.
    Quoted,
    /// Each part as it is.
    Bare,
}

/// Reads clauses joined by `AND`.
///
/// # Errors
/// What in the filter is no clause, or that it is too long.
pub(super) fn parse(filter: &str, complaint: Complaint) -> Result<Vec<Clause>> {
    if filter.len() > MOST_BYTES {
        let length = filter.len();
        return Err(Error::invalid(format!("the filter has {length} bytes; {MOST_BYTES} are allowed, ask in parts")));
    }
    let tokens = tokens(filter);
    if tokens.is_empty() && !filter.is_empty() {
        return Err(Error::invalid(format!("Invalid filter {}. Could not be parsed.", quoted(filter))));
    }
    if let Some(end) = tokens.iter().position(|token| token.kind == Kind::Semicolon)
        && end + 1 < tokens.len()
    {
        return Err(Error::invalid(format!(
            "Search filter contained multiple expression {}. Provide AND-ed expression list.",
            quoted(filter)
        )));
    }
    let mut clauses = Vec::new();
    let mut invalid = Vec::new();
    let mut rest = tokens.as_slice();
    // Behind a value a lone name would be its alias.
    let mut behind_value = false;
    while let Some(first) = rest.first() {
        if first.kind == Kind::And {
            behind_value = false;
            rest = &rest[1..];
            continue;
        }
        let Some((clause, length, ends_in_value)) = clause(rest, behind_value) else {
            invalid.push(first.text);
            behind_value = false;
            rest = &rest[1..];
            continue;
        };
        clauses.push((first.kind, clause));
        behind_value = ends_in_value;
        rest = &rest[length..];
    }
    if !invalid.is_empty() {
        let shown = invalid.iter().map(|text| match complaint {
            Complaint::Quoted => format!("'{text}'"),
            Complaint::Bare => (*text).to_owned(),
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        return Err(Error::invalid(format!("Invalid clause(s) in filter string: {shown}")));
    }
    if clauses.len() > MOST_CLAUSES {
        let count = clauses.len();
        return Err(Error::invalid(format!(
            "the filter has {count} clauses; {MOST_CLAUSES} are allowed, ask in parts"
        )));
    }
    clauses.into_iter().map(|(kind, clause)| begins_with_name(kind, clause)).collect()
}

fn begins_with_name(kind: Kind, clause: Clause) -> Result<Clause> {
    if kind == Kind::Identifier {
        return Ok(clause);
    }
    Err(Error::invalid(format!("Invalid comparison clause. Expected 'Identifier' found '{}'", clause.name)))
}

/// The clause that the tokens begin with, how many they are, and whether it ends in a value.
fn clause(tokens: &[Token<'_>], behind_value: bool) -> Option<(Clause, usize, bool)> {
    use Kind::{Comparison, Identifier, In, Is, List, Not, Null};
    let first = tokens.first()?;
    let made = |comparator: &str, value: Value, length: usize, ends_in_value: bool| {
        let clause = Clause { name: first.text.to_owned(), comparator: comparator.to_owned(), value };
        Some((clause, length, ends_in_value))
    };
    let kind = |at: usize| tokens.get(at).map(|token| token.kind);
    if kind(1) == Some(Comparison) {
        is_operand(first.kind).then_some(())?;
        let value = operand(tokens.get(2)?)?;
        return made(tokens[1].text, value, 3, true);
    }
    if first.kind != Identifier || behind_value {
        return None;
    }
    match (kind(1)?, kind(2)?, kind(3)) {
        (In, List, _) => made(tokens[1].text, Value::List(tokens[2].text.to_owned()), 3, true),
        (Not, In, Some(List)) => made("NOT IN", Value::List(tokens[3].text.to_owned()), 4, true),
        (Is, Null, _) => made("IS NULL", Value::Nothing, 3, false),
        (Is, Not, Some(Null)) => made("IS NOT NULL", Value::Nothing, 4, false),
        _ => None,
    }
}

fn is_operand(kind: Kind) -> bool {
    matches!(kind, Kind::Identifier | Kind::Integer | Kind::Float | Kind::Text | Kind::List | Kind::Null)
}

fn operand(token: &Token<'_>) -> Option<Value> {
    let text = token.text.to_owned();
    match token.kind {
        Kind::Identifier | Kind::Null => Some(Value::Name(text)),
        Kind::Integer => Some(Value::Integer(text)),
        Kind::Float => Some(Value::Float(text)),
        Kind::Text => Some(Value::Text(text)),
        Kind::List => Some(Value::List(text)),
        _ => None,
    }
}

/// A text in quotes for a message.
pub(super) fn quoted(text: &str) -> String {
    if text.contains('\'') && !text.contains('"') { format!("\"{text}\"") } else { format!("'{text}'") }
}

impl Value {
    /// As it was written.
    pub(super) fn written(&self) -> &str {
        match self {
            Self::Text(text) | Self::Name(text) | Self::Integer(text) | Self::Float(text) | Self::List(text) => text,
            Self::Nothing => "",
        }
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.comparator)?;
        match self.value {
            Value::Nothing => Ok(()),
            ref value => write!(f, " {}", value.written()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn clause_of(name: &str, comparator: &str, value: Value) -> Clause {
        Clause { name: name.to_owned(), comparator: comparator.to_owned(), value }
    }

    fn names() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            "[a-zA-Z_][a-zA-Z0-9_]{0,8}".prop_filter("a word of the language", |key| {
                !["case", "in", "values", "using", "from", "as"].contains(&key.to_lowercase().as_str())
            }),
            "`[^`]{1,12}`",
            "\"[^\"\\\\]{1,12}\"",
        ];
        ("(metrics|params|tags|attributes)", key).prop_map(|(entity, key)| format!("{entity}.{key}"))
    }

    fn clauses() -> impl Strategy<Value = Clause> {
        let number = prop_oneof![
            any::<i64>().prop_map(|number| Value::Integer(number.to_string())),
            (-1e6..1e6_f64).prop_map(|number| Value::Float(format!("{number:.3}"))),
        ];
        let text = "[^'\\\\]{0,16}".prop_map(|text| Value::Text(format!("'{text}'")));
        let list = prop::collection::vec("[a-z()]{0,6}", 1..4)
            .prop_map(|items| Value::List(format!("('{}')", items.join("', '"))));
        prop_oneof![
            (names(), "(=|!=|<|<=|>|>=|LIKE|ilike|NOT LIKE)", prop_oneof![number, text])
                .prop_map(|(name, comparator, value)| Clause { name, comparator, value }),
            (names(), "(IN|NOT IN)", list).prop_map(|(name, comparator, value)| Clause { name, comparator, value }),
            (names(), "(IS NULL|IS NOT NULL)").prop_map(|(name, comparator)| Clause {
                name,
                comparator,
                value: Value::Nothing
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(clauses in prop::collection::vec(clauses(), 0..6), and in "(AND|and|\n And\t)") {
            let written = clauses.iter().map(Clause::to_string).collect::<Vec<_>>().join(&format!(" {and} "));
            prop_assert_eq!(parse(&written, Complaint::Quoted).unwrap(), clauses);
        }

        #[test]
        fn no_text_ends_in_a_panic(filter in "\\PC{0,60}") {
            let _ = parse(&filter, Complaint::Bare);
        }

        #[test]
        fn no_heap_of_signs_ends_in_a_panic(filter in "[ a1.'\"`()<>=!\\\\;\\-eE,é\u{0301}%_INOTLKEASUDU]{0,40}") {
            let _ = parse(&filter, Complaint::Quoted);
        }
    }

    #[test]
    fn clauses_stand_beside_each_other() {
        let parsed = parse("metrics.a > 1 params.b = \"x\" AND", Complaint::Quoted).unwrap();
        let first = clause_of("metrics.a", ">", Value::Integer("1".into()));
        let second = clause_of("params.b", "=", Value::Name("\"x\"".into()));
        assert_eq!(parsed, [first, second]);
        assert_eq!(parse("AND", Complaint::Quoted).unwrap(), []);
    }

    #[test]
    fn what_is_no_clause_is_named() {
        let refused = |filter: &str| parse(filter, Complaint::Quoted).unwrap_err().to_string();
        assert_eq!(refused("metrics.a > 1 OR metrics.b > 2"), "Invalid clause(s) in filter string: 'OR'");
        assert_eq!(refused("(a = 'x')"), "Invalid clause(s) in filter string: '(a = 'x')'");
        assert_eq!(refused(" "), "Invalid filter ' '. Could not be parsed.");
        assert_eq!(refused("a = 'x';"), "Invalid clause(s) in filter string: ';'");
        assert!(refused("a = 'x'; b = 'y'").starts_with("Search filter contained multiple expression"));
        assert_eq!(refused("'x' = params.a"), "Invalid comparison clause. Expected 'Identifier' found ''x''");
        assert!(refused("metrics.a > 1 run_id IN ('a')").contains("'run_id'"));
        assert!(refused("metrics.a >").contains("'metrics.a', '>'"));
    }

    #[test]
    fn a_filter_that_is_too_long_is_refused() {
        let many = |count: usize| vec!["tags.a = 'b'"; count].join(" AND ");
        assert_eq!(parse(&many(MOST_CLAUSES), Complaint::Bare).unwrap().len(), MOST_CLAUSES);
        let refused = parse(&many(MOST_CLAUSES + 1), Complaint::Bare).unwrap_err();
        assert_eq!(refused.to_string(), "the filter has 201 clauses; 200 are allowed, ask in parts");
        let refused = parse(&" ".repeat(MOST_BYTES + 1), Complaint::Bare).unwrap_err();
        assert_eq!(refused.to_string(), "the filter has 102401 bytes; 102400 are allowed, ask in parts");
        for unclosed in ["(", "'\\", "\"\\", "`"] {
            assert!(parse(&unclosed.repeat(MOST_BYTES / unclosed.len()), Complaint::Bare).is_err(), "{unclosed}");
        }
    }
}
