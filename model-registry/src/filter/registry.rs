//! Filters and orders of registered models and their versions.
//!
//! Prompts are models with the tag `mlflow.prompt.is_prompt`; a search finds them only when it asks for that tag to be
//! `'true'`.

use super::Filter;
use super::condition::{Condition, Part, Test};
use super::order::{Key, Order, term};
use super::parser::{Clause, Complaint, Value, parse};
use super::terms::{
    Entity, integer_test, list, no_such_attribute, tag_or_attribute, text, text_of, text_test, unquoted_key,
};
use crate::{Error, Result};

const IS_PROMPT: &str = "mlflow.prompt.is_prompt";

const VERSION_ATTRIBUTES: [&str; 4] = ["name", "run_id", "source_path", "version_number"];

static MODEL_TAG: Part = Part {
    exists: "EXISTS (SELECT 1 FROM registered_model_tag t WHERE t.model_no = m.no AND t.key = ",
    within: "m.no IN (SELECT m.no FROM (SELECT t.model_no AS no FROM registered_model_tag t WHERE t.key = ",
    newest_first: None,
    found: ") m WHERE 1 = 1",
    count: "SELECT 1 FROM registered_model_tag t WHERE t.key = ",
    value: "t.value",
    prefix: Some("substr(t.value, 1, 100)"),
    is_nan: None,
};
static VERSION_TAG: Part = Part {
    exists: "EXISTS (SELECT 1 FROM model_version_tag t WHERE t.model_no = v.model_no AND t.version = v.version \
             AND t.key = ",
    within: "(v.model_no, v.version) IN (SELECT v.model_no, v.version FROM (SELECT t.model_no AS model_no, t.version AS version FROM model_version_tag t WHERE t.key = ",
    newest_first: None,
    found: ") v WHERE 1 = 1",
    count: "SELECT 1 FROM model_version_tag t WHERE t.key = ",
    value: "t.value",
    prefix: Some("substr(t.value, 1, 100)"),
    is_nan: None,
};

const NO_PROMPT_MODELS: &str = "m.no NOT IN (SELECT t.model_no FROM registered_model_tag t \
    WHERE t.key = 'mlflow.prompt.is_prompt' AND substr(t.value, 1, 100) = 'true')";
const NO_PROMPT_VERSIONS: &str = "v.model_no NOT IN (SELECT t.model_no FROM model_version_tag t \
    WHERE t.key = 'mlflow.prompt.is_prompt' AND substr(t.value, 1, 100) = 'true')";

/// Reads a filter of registered models; the table is `m`.
pub(crate) fn models(filter: Option<&str>) -> Result<Filter> {
    let clauses = parse(filter.unwrap_or_default(), Complaint::Bare)?;
    let conditions = clauses.iter().map(model_condition).collect::<Result<_>>()?;
    Ok(Filter { conditions: without_prompts(conditions, NO_PROMPT_MODELS) })
}

/// Reads a filter of versions; the tables are `v` and, for the name, `m`.
pub(crate) fn versions(filter: Option<&str>) -> Result<Filter> {
    let clauses = parse(filter.unwrap_or_default(), Complaint::Bare)?;
    let conditions = clauses.iter().map(version_condition).collect::<Result<_>>()?;
    Ok(Filter { conditions: without_prompts(conditions, NO_PROMPT_VERSIONS) })
}

/// Reads an order of registered models: equals, or all, by their names.
pub(crate) fn models_order(order_by: &[String]) -> Result<Order> {
    let mut order = Order::default();
    for text in order_by {
        let (name, ascending) = term(text)?;
        let column = match name {
            "name" => "m.name",
            "timestamp" | "last_updated_timestamp" => "m.updated_at",
            other => {
                return Err(Error::invalid(format!(
                    "Invalid order by key '{other}' specified. Valid keys are '{{'name', 'timestamp'}}'"
                )));
            }
        };
        order.add(Key::Column(column), ascending, order_by)?;
    }
    order.end_with(Key::Column("m.name"), true);
    Ok(order)
}

/// Reads an order of versions: when none is asked for, those that changed last come first.
pub(crate) fn versions_order(order_by: &[String]) -> Result<Order> {
    let mut order = Order::default();
    for text in order_by {
        let (name, ascending) = term(text)?;
        let (entity, key) = tag_or_attribute(name)?;
        let column = match (entity, unquoted_key(key)) {
            (Entity::Attribute, "name") => "m.name",
            (Entity::Attribute, "version_number") => "v.version",
            (Entity::Attribute, "creation_timestamp") => "v.created_at",
            (Entity::Attribute, "last_updated_timestamp") => "v.updated_at",
            (Entity::Attribute, other) => {
                let valid = ["creation_timestamp", "last_updated_timestamp", "name", "version_number"];
                return Err(no_such_attribute(other, &valid));
            }
            (_, other) => {
                return Err(Error::invalid(format!(
                    "Invalid order by key '{other}' specified. Valid keys are {{'creation_timestamp', \
                     'last_updated_timestamp', 'name', 'version_number'}}"
                )));
            }
        };
        order.add(Key::Column(column), ascending, order_by)?;
    }
    if order_by.is_empty() {
        order.end_with(Key::Column("v.updated_at"), false);
    }
    order.end_with(Key::Column("m.name"), true);
    order.end_with(Key::Column("v.version"), false);
    Ok(order)
}

/// Leaves prompts out, unless the filter asks for them; then what it says about the tag is all said.
fn without_prompts(conditions: Vec<Condition>, no_prompts: &'static str) -> Vec<Condition> {
    let on_prompts = |condition: &Condition| matches!(condition, Condition::Part { key, .. } if key == IS_PROMPT);
    if conditions.iter().find(|condition| on_prompts(condition)).is_some_and(asks_for_prompts) {
        return conditions;
    }
    let mut kept = conditions;
    kept.retain(|condition| !on_prompts(condition));
    kept.push(Condition::Fixed(no_prompts));
    kept
}

fn asks_for_prompts(condition: &Condition) -> bool {
    use super::condition::TextComparator::{Equal, NotEqual};
    let Condition::Part { test: Test::Text { comparator, value }, .. } = condition else { return false };
    (*comparator == Equal && value.eq_ignore_ascii_case("true"))
        || (*comparator == NotEqual && value.eq_ignore_ascii_case("false"))
}

fn model_condition(clause: &Clause) -> Result<Condition> {
    let (entity, key) = tag_or_attribute(&clause.name)?;
    if entity == Entity::Tag {
        return tag(&MODEL_TAG, key, clause);
    }
    // Quotes are not taken off an attribute's name here.
    if key != "name" {
        return Err(no_such_attribute(key, &["name"]));
    }
    refuse_presence(clause)?;
    Ok(Condition::Column { column: "m.name", test: attribute_test(clause, &["name"], true)? })
}

fn version_condition(clause: &Clause) -> Result<Condition> {
    let (entity, key) = tag_or_attribute(&clause.name)?;
    if entity == Entity::Tag {
        return tag(&VERSION_TAG, key, clause);
    }
    refuse_presence(clause)?;
    let text = |takes_lists: bool| {
        if matches!(clause.value, Value::Integer(_) | Value::Float(_)) {
            return Err(Error::invalid(
                "Only the '{'creation_timestamp', 'last_updated_timestamp', 'version_number'}' attributes support \
                 comparison with numeric values.",
            ));
        }
        attribute_test(clause, &["name", "run_id"], takes_lists)
    };
    let (column, test) = match key {
        "name" => ("m.name", text(true)?),
        "run_id" => ("v.run_id", text(true)?),
        "source_path" => ("v.source", text(false)?),
        "version_number" => ("v.version", number(key, clause)?),
        other => return Err(no_such_attribute(other, &VERSION_ATTRIBUTES)),
    };
    Ok(Condition::Column { column, test })
}

fn tag(part: &'static Part, key: &str, clause: &Clause) -> Result<Condition> {
    refuse_presence(clause)?;
    let comparator = clause.comparator.to_uppercase();
    let test = text_test(&comparator, text_of(Entity::Tag, &clause.value)?)?;
    let test = test.ok_or_else(|| Error::invalid(format!("Invalid comparator for tag: {comparator}")))?;
    Ok(Condition::Part { part, key: unquoted_key(key).to_owned(), test })
}

fn attribute_test(clause: &Clause, with_lists: &[&str], takes_lists: bool) -> Result<Test> {
    let comparator = clause.comparator.to_uppercase();
    let no_such_comparator = || Error::invalid(format!("Invalid comparator for attribute: {comparator}"));
    if let Value::List(written) = &clause.value {
        if !takes_lists {
            let keys = with_lists.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", ");
            return Err(Error::invalid(format!(
                "Only [{keys}] attributes support comparison with a list of quoted string values."
            )));
        }
        let values = list(written)?;
        return match comparator.as_str() {
            "IN" => Ok(Test::OneOf { wanted: true, values }),
            "NOT IN" => Ok(Test::OneOf { wanted: false, values }),
            _ => Err(no_such_comparator()),
        };
    }
    let Some(value) = text(&clause.value) else {
        let value = clause.value.written();
        return Err(Error::invalid(format!(
            "Expected a quoted string value or a list of quoted string values for attributes. Got value {value}"
        )));
    };
    text_test(&comparator, value?)?.ok_or_else(no_such_comparator)
}

/// A number, which may stand in quotes.
fn number(key: &str, clause: &Clause) -> Result<Test> {
    let comparator = clause.comparator.to_uppercase();
    if matches!(clause.value, Value::List(_)) {
        return Err(Error::invalid(
            "Only ['name', 'run_id'] attributes support comparison with a list of quoted string values.",
        ));
    }
    let invalid = |shown: &str| Error::invalid(format!("Invalid value for numeric attribute '{key}': {shown}"));
    let value = match text(&clause.value) {
        Some(text) => {
            let text = text?;
            let number: i64 = text.trim().parse().map_err(|_| invalid(&format!("'{text}'")))?;
            Value::Integer(number.to_string())
        }
        None => clause.value.clone(),
    };
    if matches!(value, Value::Float(_)) {
        return Err(invalid(value.written()));
    }
    integer_test(&comparator, &value)
        .ok_or_else(|| Error::invalid(format!("Invalid comparator for attribute {key}: {comparator}")))
}

fn refuse_presence(clause: &Clause) -> Result<()> {
    if clause.value == Value::Nothing {
        return Err(Error::invalid(format!(
            "Invalid comparison clause. Models and their versions cannot be compared by {}",
            clause.comparator
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn models_are_found_by_name_and_tags() {
        for filter in [
            "name = 'x'",
            "attribute.name ilike '%x'",
            "name IN ('a', 'b')",
            "tags.a = 'x'",
            "tag.`a b` like 'x'",
            "name = 'x' AND tag.`mlflow.prompt.is_prompt` != 'true'",
        ] {
            models(Some(filter)).unwrap_or_else(|error| panic!("{filter}: {error}"));
        }
        let refused = |filter: &str| models(Some(filter)).unwrap_err().to_string();
        assert!(refused("`name` = 'x'").starts_with("Invalid attribute key '`name`' specified."));
        assert_eq!(refused("name > 'x'"), "Invalid comparator for attribute: >");
        assert_eq!(
            refused("name = 5"),
            "Expected a quoted string value or a list of quoted string values for attributes. Got value 5"
        );
        assert!(models_order(&["creation_timestamp".into()]).is_err());
    }

    #[test]
    fn versions_are_found_by_number_run_and_source() {
        for filter in [
            "name = 'x'",
            "version_number > 3",
            "version_number = '3'",
            "run_id IN ('a')",
            "run_id NOT IN ('a')",
            "source_path LIKE 's3:%'",
            "tags.a != 'x'",
        ] {
            versions(Some(filter)).unwrap_or_else(|error| panic!("{filter}: {error}"));
        }
        let refused = |filter: &str| versions(Some(filter)).unwrap_err().to_string();
        assert_eq!(refused("version_number LIKE 3"), "Invalid comparator for attribute version_number: LIKE");
        assert_eq!(refused("version_number > 1.5"), "Invalid value for numeric attribute 'version_number': 1.5");
        assert_eq!(refused("version_number = 'x'"), "Invalid value for numeric attribute 'version_number': 'x'");
        assert!(refused("name = 3").starts_with("Only the '{"));
        assert!(refused("source_path IN ('x')").starts_with("Only ['name', 'run_id'] attributes support"));
    }

    #[test]
    fn prompts_are_left_out_unless_asked_for() {
        let all = models(None).unwrap();
        assert_eq!(all.conditions, [Condition::Fixed(NO_PROMPT_MODELS)]);
        assert_eq!(models(Some("tag.`mlflow.prompt.is_prompt` != 'true'")).unwrap(), all);
        assert_ne!(models(Some("tag.`mlflow.prompt.is_prompt` = 'TRUE'")).unwrap(), all);
        assert_ne!(models(Some("tag.`mlflow.prompt.is_prompt` != 'false'")).unwrap(), all);
    }
}
