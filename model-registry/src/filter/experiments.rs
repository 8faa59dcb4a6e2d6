//! Filters and orders of experiments.

use super::Filter;
use super::condition::{Condition, Part, Test};
use super::order::{Key, Order, term};
use super::parser::{Clause, Complaint, Value, parse};
use super::terms::{
    Entity, integer_test, list, no_such_attribute, tag_or_attribute, text, text_of, text_test, unquoted_key,
};
use crate::{Error, Result};

const ATTRIBUTES: [&str; 4] = ["creation_time", "experiment_id", "last_update_time", "name"];

static TAG: Part = Part {
    exists: "EXISTS (SELECT 1 FROM experiment_tag t WHERE t.experiment_id = e.id AND t.key = ",
    within: "e.id IN (SELECT e.id FROM (SELECT t.experiment_id AS id FROM experiment_tag t WHERE t.key = ",
    newest_first: None,
    found: ") e WHERE 1 = 1",
    count: "SELECT 1 FROM experiment_tag t WHERE t.key = ",
    value: "t.value",
    prefix: Some("substr(t.value, 1, 100)"),
    is_nan: None,
};

/// Reads a filter of experiments; the table is `e`. Words such as `like` must be in capitals here.
pub(crate) fn experiments(filter: Option<&str>) -> Result<Filter> {
    let clauses = parse(filter.unwrap_or_default(), Complaint::Bare)?;
    let conditions = clauses.iter().map(condition).collect::<Result<_>>()?;
    Ok(Filter { conditions })
}

/// Reads an order of experiments: when none is asked for, the newest come first.
pub(crate) fn experiments_order(order_by: &[String]) -> Result<Order> {
    let mut order = Order::default();
    for text in order_by {
        let (name, ascending) = term(text)?;
        let (entity, key) = tag_or_attribute(name)?;
        if entity != Entity::Attribute {
            return Err(Error::invalid(format!("Invalid order_by entity: {}", entity.as_str())));
        }
        order.end_with(Key::Column(column(unquoted_key(key))?), ascending);
    }
    if order_by.is_empty() {
        order.end_with(Key::Column("e.created_at"), false);
        order.end_with(Key::Column("e.id"), true);
    }
    order.end_with(Key::Column("e.id"), false);
    Ok(order)
}

fn column(key: &str) -> Result<&'static str> {
    Ok(match key {
        "name" => "e.name",
        "experiment_id" => "e.id",
        "creation_time" => "e.created_at",
        "last_update_time" => "e.updated_at",
        other => return Err(no_such_attribute(other, &ATTRIBUTES)),
    })
}

fn condition(clause: &Clause) -> Result<Condition> {
    let (entity, key) = tag_or_attribute(&clause.name)?;
    let key = unquoted_key(key);
    if entity == Entity::Tag {
        return tag(key, clause);
    }
    let column = column(key)?;
    if clause.value == Value::Nothing {
        return Err(Error::invalid(format!(
            "IS NULL / IS NOT NULL is only supported for tags, not for attribute '{key}'"
        )));
    }
    let test = match key {
        "experiment_id" => identifier(clause)?,
        "name" => name(clause)?,
        _ => time(key, clause)?,
    };
    Ok(Condition::Column { column, test })
}

fn tag(key: &str, clause: &Clause) -> Result<Condition> {
    if clause.value == Value::Nothing {
        let wanted = clause.comparator == "IS NOT NULL";
        return Ok(Condition::Has { part: &TAG, key: key.to_owned(), wanted });
    }
    let test = text_test(&clause.comparator, text_of(Entity::Tag, &clause.value)?)?;
    let test = test.ok_or_else(|| Error::invalid(format!("Invalid comparator for tag: {}", clause.comparator)))?;
    Ok(Condition::Part { part: &TAG, key: key.to_owned(), test })
}

fn identifier(clause: &Clause) -> Result<Test> {
    let number = |text: &str| {
        text.trim().parse::<i64>().map_err(|_| {
            Error::invalid(format!("Invalid experiment ID '{text}'. Experiment ID must be a valid integer."))
        })
    };
    let values = match &clause.value {
        Value::List(written) => list(written)?,
        value => vec![attribute_text(value)?],
    };
    let values = values.iter().map(|text| number(text)).collect::<Result<Vec<_>>>()?;
    match clause.comparator.as_str() {
        "=" | "IN" => Ok(Test::Integers { wanted: true, values }),
        "!=" | "NOT IN" => Ok(Test::Integers { wanted: false, values }),
        other => Err(Error::invalid(format!("Invalid comparator for experiment_id: {other}"))),
    }
}

fn name(clause: &Clause) -> Result<Test> {
    let value = attribute_text(&clause.value)?;
    let test = text_test(&clause.comparator, value)?;
    test.ok_or_else(|| Error::invalid(format!("Invalid comparator for string attribute: {}", clause.comparator)))
}

fn time(key: &str, clause: &Clause) -> Result<Test> {
    match &clause.value {
        Value::Integer(_) => {}
        Value::Float(written) => {
            return Err(Error::invalid(format!("Invalid value for numeric attribute '{key}': '{written}'")));
        }
        value => {
            let found = value.written();
            return Err(Error::invalid(format!(
                "Expected numeric value type for numeric attribute: {key}. Found {found}"
            )));
        }
    }
    let test = integer_test(&clause.comparator, &clause.value);
    test.ok_or_else(|| Error::invalid(format!("Invalid comparator for numeric attribute: {}", clause.comparator)))
}

fn attribute_text(value: &Value) -> Result<String> {
    if matches!(value, Value::List(_)) {
        return Err(Error::invalid(
            "Only ['experiment_id'] attributes support comparison with a list of quoted string values.",
        ));
    }
    text(value).unwrap_or_else(|| {
        let found = value.written();
        Err(Error::invalid(format!("Expected a quoted string value for attributes. Got value {found}")))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(filter: &str) -> String {
        experiments(Some(filter)).unwrap_err().to_string()
    }

    #[test]
    fn names_tags_times_and_identifiers_are_compared() {
        for filter in [
            "name = 'x'",
            "attribute.name LIKE '%x'",
            "tags.a ILIKE 'x'",
            "tag.`a b` != 'x'",
            "creation_time > 5",
            "last_update_time <= 7",
            "experiment_id = '3'",
            "experiment_id NOT IN ('1', ' 2 ')",
            "tags.a IS NULL",
        ] {
            experiments(Some(filter)).unwrap_or_else(|error| panic!("{filter}: {error}"));
        }
    }

    #[test]
    fn refusals_are_mlflows() {
        assert!(refused("attributes.name = 'x'").starts_with("Invalid entity type 'attributes'."));
        assert!(refused("status = 'x'").starts_with("Invalid attribute key 'status' specified."));
        assert_eq!(refused("name like 'x'"), "Invalid comparator for string attribute: like");
        assert_eq!(refused("experiment_id > '3'"), "Invalid comparator for experiment_id: >");
        assert_eq!(refused("experiment_id = 'x'"), "Invalid experiment ID 'x'. Experiment ID must be a valid integer.");
        assert_eq!(refused("creation_time > 1.5"), "Invalid value for numeric attribute 'creation_time': '1.5'");
        assert_eq!(refused("tags.a > 'x'"), "Invalid comparator for tag: >");
        assert_eq!(refused("name = 'x' OR name = 'y'"), "Invalid clause(s) in filter string: OR");
    }
}
