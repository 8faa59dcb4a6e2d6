//! Names and values as the kinds of search share them.

use super::condition::{NumberComparator, Test, TextComparator, check_pattern};
use super::parser::Value;
use crate::{Error, Result};

/// What a name begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entity {
    Metric,
    Param,
    Tag,
    Attribute,
    Dataset,
}

impl Entity {
    /// As messages call it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Metric => "metric",
            Self::Param => "parameter",
            Self::Tag => "tag",
            Self::Attribute => "attribute",
            Self::Dataset => "dataset",
        }
    }
}

/// Splits a name of a search for runs: the entity, by any of its names, and the key without its quotes.
pub(super) fn entity_and_key(name: &str) -> Result<(Entity, &str)> {
    let Some((entity, key)) = name.split_once('.') else { return Ok((Entity::Attribute, unquoted_key(name))) };
    let entity = match trimmed(entity, '`') {
        "metric" | "metrics" => Entity::Metric,
        "parameter" | "parameters" | "param" | "params" => Entity::Param,
        "tag" | "tags" => Entity::Tag,
        "attribute" | "attributes" | "attr" | "run" => Entity::Attribute,
        "dataset" | "datasets" => Entity::Dataset,
        other => {
            return Err(Error::invalid(format!(
                "Invalid entity type '{other}'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']"
            )));
        }
    };
    Ok((entity, unquoted_key(key)))
}

/// Splits a name of a search for experiments, models or versions, which have tags and attributes only.
pub(super) fn tag_or_attribute(name: &str) -> Result<(Entity, &str)> {
    let Some((entity, key)) = name.split_once('.') else { return Ok((Entity::Attribute, name)) };
    let entity = match entity {
        "attribute" => Entity::Attribute,
        "tag" | "tags" => Entity::Tag,
        other => {
            return Err(Error::invalid(format!(
                "Invalid entity type '{other}'. Valid entity types are ('attribute', 'tag', 'tags')"
            )));
        }
    };
    Ok((entity, key))
}

/// A key without its quotes.
pub(super) fn unquoted_key(key: &str) -> &str {
    let stripped = [trimmed(key, '\''), trimmed(key, '"')].into_iter().find(|text| text.len() < key.len());
    trimmed(stripped.unwrap_or(key), '`')
}

fn trimmed(text: &str, quote: char) -> &str {
    if text.len() < 2 {
        return text;
    }
    text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)).unwrap_or(text)
}

/// There is no such attribute.
pub(super) fn no_such_attribute(key: &str, valid: &[&str]) -> Error {
    let valid = valid.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", ");
    Error::invalid(format!("Invalid attribute key '{key}' specified. Valid keys are '{{{valid}}}'"))
}

/// Reads a text in quotes; `None` for another kind of value.
pub(super) fn text(value: &Value) -> Option<Result<String>> {
    let (Value::Text(written) | Value::Name(written)) = value else { return None };
    let inside = [trimmed(written, '\''), trimmed(written, '"')].into_iter().find(|text| text.len() < written.len());
    Some(inside.map(str::to_owned).ok_or_else(|| {
        Error::invalid(format!(
            "Parameter value is either not quoted or unidentified quote types used for string value {written}. Use \
             either single or double quotes."
        ))
    }))
}

/// A text of a param or tag.
pub(super) fn text_of(entity: Entity, value: &Value) -> Result<String> {
    text(value).unwrap_or_else(|| {
        let (entity, value) = (entity.as_str(), value.written());
        Err(Error::invalid(format!("Expected a quoted string value for {entity} (e.g. 'my-value'). Got value {value}")))
    })
}

/// A test of a text, when the comparator is one of those.
pub(super) fn text_test(comparator: &str, value: String) -> Result<Option<Test>> {
    let Some(comparator) = TextComparator::read(comparator) else { return Ok(None) };
    if matches!(comparator, TextComparator::Like | TextComparator::ILike) {
        check_pattern(&value)?;
    }
    Ok(Some(Test::Text { comparator, value }))
}

/// A test of a whole number: a number that is too large for the tables is compared as a real one.
pub(super) fn integer_test(comparator: &str, value: &Value) -> Option<Test> {
    let comparator = NumberComparator::read(comparator)?;
    match value {
        Value::Integer(text) => Some(match text.parse() {
            Ok(value) => Test::Integer { comparator, value },
            Err(_) => Test::Float { comparator, value: text.parse().ok()? },
        }),
        Value::Float(text) => Some(Test::Float { comparator, value: text.parse().ok()? }),
        _ => None,
    }
}

/// A test of a real number.
pub(super) fn float_test(comparator: &str, value: &Value) -> Option<Test> {
    let comparator = NumberComparator::read(comparator)?;
    let (Value::Integer(text) | Value::Float(text)) = value else { return None };
    Some(Test::Float { comparator, value: text.parse().ok()? })
}

/// Reads a list of texts, which are written as Python writes them.
pub(super) fn list(written: &str) -> Result<Vec<String>> {
    let ill_formed = || {
        Error::invalid(
            "While parsing a list in the query, expected a non-empty list of string values, but got ill-formed list.",
        )
    };
    let inside = written.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(ill_formed)?;
    let mut rest = inside.trim_start();
    if rest.is_empty() {
        return Err(Error::invalid(
            "While parsing a list in the query, expected a non-empty list of string values, but got empty list",
        ));
    }
    let mut values = Vec::new();
    while !rest.is_empty() {
        if rest.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            return Err(Error::invalid(format!(
                "While parsing a list in the query, expected string value, punctuation, or whitespace, but got \
                 different type in list: {written}"
            )));
        }
        let (value, after) = python_text(rest).ok_or_else(ill_formed)?;
        values.push(value);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.is_empty() => after,
            None => return Err(ill_formed()),
        };
    }
    if values.len() > LIST {
        return Err(Error::invalid(format!(
            "a list in the query has more than {LIST} values; search in several steps"
        )));
    }
    Ok(values)
}

/// Databases take about 32,000 values in one statement.
const LIST: usize = 10_000;

/// The text that `written` begins with, and what is behind it.
fn python_text(written: &str) -> Option<(String, &str)> {
    let quote = written.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let mut text = String::new();
    let mut characters = written.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return Some((text, &written[at + 1..]));
        }
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next()?.1 {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            escaped @ ('\\' | '\'' | '"') => text.push(escaped),
            other => text.extend(['\\', other]),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_lose_their_quotes() {
        assert_eq!(entity_and_key("metrics.`a.b`").unwrap(), (Entity::Metric, "a.b"));
        assert_eq!(entity_and_key("`params`.\"x\"").unwrap(), (Entity::Param, "x"));
        assert_eq!(entity_and_key("run.status").unwrap(), (Entity::Attribute, "status"));
        assert_eq!(entity_and_key("status").unwrap(), (Entity::Attribute, "status"));
        assert!(entity_and_key("m.a").unwrap_err().to_string().starts_with("Invalid entity type 'm'"));
        assert!(tag_or_attribute("attributes.name").is_err());
    }

    #[test]
    fn lists_hold_quoted_texts() {
        assert_eq!(list("('a', \"b\" ,'it\\'s',)").unwrap(), ["a", "b", "it's"]);
        assert_eq!(list("('a')").unwrap(), ["a"]);
        assert!(list("()").unwrap_err().to_string().ends_with("but got empty list"));
        assert!(list("(1, 2)").unwrap_err().to_string().contains("different type in list"));
        assert!(list("(a)").unwrap_err().to_string().ends_with("ill-formed list."));
        assert!(list("('a' 'b')").is_err());
    }

    #[test]
    fn texts_need_quotes() {
        assert_eq!(text(&Value::Text("'x'".into())).unwrap().unwrap(), "x");
        assert_eq!(text(&Value::Name("\"x\"".into())).unwrap().unwrap(), "x");
        assert!(text(&Value::Name("x".into())).unwrap().is_err());
        assert!(text(&Value::Integer("1".into())).is_none());
        assert_eq!(text(&Value::Text("''".into())).unwrap().unwrap(), "");
    }
}
