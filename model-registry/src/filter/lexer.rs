//! Cuts a filter into tokens.
//!
//! MLflow's filters are read by a tolerant SQL tokenizer, whose rules are kept here as far as a filter that it accepts
//! can show them: where quotes end, which keys may stand without quotes, what is a number.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, or names joined by dots; each bare, in backticks or in double quotes.
    Identifier,
    /// `AND`.
    And,
    /// `IN`.
    In,
    /// `NOT`.
    Not,
    /// `IS`.
    Is,
    /// `NULL`.
    Null,
    /// Signs such as `>=`, or `LIKE`, `NOT LIKE`, `ILIKE`, `RLIKE`.
    Comparison,
    /// A whole number.
    Integer,
    /// A number with a point or an exponent.
    Float,
    /// A text in single quotes.
    Text,
    /// Everything between parentheses, and these.
    List,
    /// `;`.
    Semicolon,
    /// What no filter has.
    Other,
}

/// A part of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
}

/// Words that are never the key after a dot.
const NEVER_KEYS: [&str; 6] = ["case", "in", "values", "using", "from", "as"];

/// Parentheses and quotes that nothing closes. Each is looked for up to the end; a filter with one is refused anyway.
const MOST_UNCLOSED: usize = 100;

/// All tokens but white space.
pub(super) fn tokens(filter: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = filter.trim_start();
    let mut unclosed = 0;
    while !rest.is_empty() {
        if unclosed > MOST_UNCLOSED {
            found.push(Token { kind: Kind::Other, text: rest });
            break;
        }
        let (kind, length) = next(rest);
        unclosed += usize::from(kind == Kind::Other && rest.starts_with(['(', '\'', '"', '`']));
        found.push(Token { kind, text: &rest[..length] });
        rest = rest[length..].trim_start();
    }
    joined(filter, found)
}

/// The kind and the length in bytes of the token that `rest` begins with.
fn next(rest: &str) -> (Kind, usize) {
    let Some(first) = rest.chars().next() else { return (Kind::Other, 0) };
    if let Some(found) = number(rest) {
        return found;
    }
    match first {
        '\'' => quoted(rest, '\'').map_or((Kind::Other, 1), |length| (Kind::Text, length)),
        '`' | '"' => identifier(rest),
        '(' => parentheses(rest).map_or((Kind::Other, 1), |length| (Kind::List, length)),
        ';' => (Kind::Semicolon, 1),
        '<' | '>' | '=' | '~' | '!' => {
            (Kind::Comparison, rest.len() - rest.trim_start_matches(['<', '>', '=', '~', '!']).len())
        }
        _ if is_word(first) => word(rest),
        _ => (Kind::Other, first.len_utf8()),
    }
}

fn word(rest: &str) -> (Kind, usize) {
    let length = word_length(rest);
    let after = &rest[length..];
    if dot(after).is_some() && !is_never_a_key(&rest[..length]) {
        return identifier(rest);
    }
    (word_of_the_language(&rest[..length], after), length)
}

fn word_of_the_language(word: &str, after: &str) -> Kind {
    match word.to_ascii_lowercase().as_str() {
        "in" => Kind::In,
        // Before a parenthesis a word is the name of a function.
        _ if after.starts_with('(') => Kind::Other,
        "and" => Kind::And,
        "not" => Kind::Not,
        "is" => Kind::Is,
        "null" => Kind::Null,
        "like" | "ilike" | "rlike" => Kind::Comparison,
        "or" | "between" | "exists" | "select" | "where" | "case" | "values" | "using" | "from" | "as" => Kind::Other,
        _ => Kind::Identifier,
    }
}

/// Names with dots between them, with white space around the dots. Between two dots, and behind the last, there may be
/// nothing.
fn identifier(rest: &str) -> (Kind, usize) {
    let Some(mut length) = name(rest) else { return (Kind::Other, 1) };
    while let Some(dot) = dot(&rest[length..]) {
        length += dot;
        let part = rest[length..].trim_start();
        let space = rest.len() - length - part.len();
        let Some(part_length) = name(part) else { continue };
        let is_key = match space {
            0 => !is_never_a_key(&part[..part_length]),
            _ => !part.starts_with(is_word) || is_name(part),
        };
        if !is_key {
            break;
        }
        length += space + part_length;
    }
    (Kind::Identifier, length)
}

/// The length of white space and a dot that joins names: `.5` behind a name is a number.
fn dot(after: &str) -> Option<usize> {
    let dotted = after.trim_start();
    (dotted.starts_with('.') && !begins_with_fraction(dotted)).then(|| after.len() - dotted.len() + 1)
}

/// Whether a word that does not touch its dot is a name, and not one of the language.
fn is_name(part: &str) -> bool {
    let (word, after) = part.split_at(word_length(part));
    let names_something = || dot(after).is_some() || word_of_the_language(word, after) == Kind::Identifier;
    number(part).is_none() && !is_never_a_key(word) && names_something()
}

fn is_never_a_key(word: &str) -> bool {
    NEVER_KEYS.iter().any(|never| word.eq_ignore_ascii_case(never))
}

/// The length of one name: bare, or in quotes of any kind.
fn name(part: &str) -> Option<usize> {
    match part.chars().next()? {
        quote @ ('`' | '"' | '\'') => quoted(part, quote),
        '*' => Some(1),
        first if is_word(first) => Some(word_length(part)),
        _ => None,
    }
}

/// The length of a text in quotes. A doubled quote stays inside, and so does one behind a backslash (not in backticks),
/// unless then no quote would be left to end the text.
fn quoted(rest: &str, quote: char) -> Option<usize> {
    let bytes = rest.as_bytes();
    let quote = quote as u8;
    let mut last_resort = None;
    let mut at = 1;
    while at < bytes.len() {
        let follows = bytes.get(at + 1) == Some(&quote);
        if bytes[at] == quote && !follows {
            return Some(at + 1);
        }
        if bytes[at] == quote {
            last_resort = Some(at + 1);
            at += 2;
        } else if bytes[at] == b'\\' && follows && quote != b'`' {
            last_resort = Some(at + 2);
            at += 2;
        } else {
            at += 1;
        }
    }
    last_resort
}

/// The length from an opening parenthesis to its closing one.
fn parentheses(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            quote @ (b'\'' | b'"' | b'`') => at += quoted(&rest[at..], quote as char)? - 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// A number, when `rest` begins with one that is not part of a word.
fn number(rest: &str) -> Option<(Kind, usize)> {
    let unsigned = rest.strip_prefix('-').unwrap_or(rest);
    let sign = rest.len() - unsigned.len();
    let whole = digits(unsigned);
    let after = &unsigned[whole..];
    let fraction = after.strip_prefix('.').map(|text| 1 + digits(text));
    if whole == 0 && fraction.is_none_or(|length| length == 1) {
        return None;
    }
    if let Some(exponent) = exponent(unsigned, whole, fraction) {
        return Some((Kind::Float, sign + exponent));
    }
    let length = sign + whole + fraction.unwrap_or(0);
    if rest[length..].chars().next().is_some_and(is_letter) {
        return None;
    }
    Some((if fraction.is_some() { Kind::Float } else { Kind::Integer }, length))
}

/// The length of a number with an exponent, which has digits on both sides of its point.
fn exponent(unsigned: &str, whole: usize, fraction: Option<usize>) -> Option<usize> {
    if whole == 0 || fraction == Some(1) {
        return None;
    }
    let mantissa = whole + fraction.unwrap_or(0);
    let power = unsigned[mantissa..].strip_prefix(['e', 'E'])?;
    let unsigned_power = power.strip_prefix('-').unwrap_or(power);
    let length = digits(unsigned_power);
    (length > 0).then(|| mantissa + 1 + (power.len() - unsigned_power.len()) + length)
}

/// Behind a name, `.5` is a number and not a key; `.5a` is a key.
fn begins_with_fraction(text: &str) -> bool {
    let after = &text[1..];
    let count = digits(after);
    count > 1 || (count == 1 && !after[1..].chars().next().is_some_and(is_letter))
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn word_length(text: &str) -> usize {
    text.find(|character| !is_word(character)).unwrap_or(text.len())
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn is_letter(character: char) -> bool {
    character == '_' || character.is_alphabetic()
}

/// `NOT LIKE` is one sign.
fn joined<'a>(filter: &'a str, found: Vec<Token<'a>>) -> Vec<Token<'a>> {
    let offset = |token: &Token<'_>| token.text.as_ptr() as usize - filter.as_ptr() as usize;
    let mut tokens: Vec<Token<'a>> = Vec::with_capacity(found.len());
    for token in found {
        let is_like = token.kind == Kind::Comparison && token.text.starts_with(|c: char| c.is_ascii_alphabetic());
        match tokens.last_mut() {
            Some(before) if is_like && before.kind == Kind::Not => {
                let text = &filter[offset(before)..offset(&token) + token.text.len()];
                *before = Token { kind: Kind::Comparison, text };
            }
            _ => tokens.push(token),
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(filter: &str) -> Vec<(Kind, &str)> {
        tokens(filter).into_iter().map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn names_are_joined_by_dots() {
        use Kind::{Comparison, Float, Identifier, Integer, Text};
        assert_eq!(kinds("metrics.a.b>-1.5"), [(Identifier, "metrics.a.b"), (Comparison, ">"), (Float, "-1.5")]);
        assert_eq!(
            kinds("tags.`mlflow.source name` = 'it''s'"),
            [(Identifier, "tags.`mlflow.source name`"), (Comparison, "="), (Text, "'it''s'")]
        );
        assert_eq!(kinds("metrics.1a"), [(Identifier, "metrics.1a")]);
        assert_eq!(kinds("metrics.1"), [(Identifier, "metrics"), (Float, ".1")]);
        assert_eq!(kinds("12 1e5 1."), [(Integer, "12"), (Float, "1e5"), (Float, "1.")]);
        assert_eq!(kinds("tags.in"), [(Identifier, "tags."), (Kind::In, "in")]);
    }

    #[test]
    fn names_may_have_empty_parts_and_white_space_around_their_dots() {
        use Kind::{Comparison, Identifier, In, Integer, Text};
        for name in
            ["tags..team", "tags...team", "tags.a.", "tags..", "tags. a", "tags .a", "tags . . a", "tags. and .a"]
        {
            assert_eq!(kinds(&format!("{name}='b'")), [(Identifier, name), (Comparison, "="), (Text, "'b'")], "{name}");
        }
        assert_eq!(kinds("tags. in")[..], [(Identifier, "tags."), (In, "in")]);
        assert_eq!(kinds("tags. 5")[..], [(Identifier, "tags."), (Integer, "5")]);
        assert_eq!(kinds("tags. like 'b'")[..], [(Identifier, "tags."), (Comparison, "like"), (Text, "'b'")]);
    }

    #[test]
    fn quotes_end_where_a_quote_is_left() {
        assert_eq!(kinds(r"'a\' b'"), [(Kind::Text, r"'a\' b'")]);
        assert_eq!(kinds(r"'a\'"), [(Kind::Text, r"'a\'")]);
        assert_eq!(kinds("'a''"), [(Kind::Text, "'a'"), (Kind::Other, "'")]);
        assert_eq!(kinds("'open")[0].0, Kind::Other);
    }

    #[test]
    fn words_of_the_language_know_no_case() {
        use Kind::{Comparison, Identifier, In, Is, List, Not, Null};
        assert_eq!(kinds("a not  like"), [(Identifier, "a"), (Comparison, "not  like")]);
        assert_eq!(
            kinds("run_id NOT in('(', ')')"),
            [(Identifier, "run_id"), (Not, "NOT"), (In, "in"), (List, "('(', ')')")]
        );
        assert_eq!(kinds("tags.a Is nOT null"), [(Identifier, "tags.a"), (Is, "Is"), (Not, "nOT"), (Null, "null")]);
    }
}
