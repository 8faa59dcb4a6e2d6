//! Filters and orders of logged models.

use super::Filter;
use super::condition::{Condition, Dataset, NumberComparator, Part, Test, TextComparator};
use super::order::{Key, Order};
use super::parser::{Clause, Complaint, Value, parse};
use super::terms::{integer_test, list, text_test};
use crate::{Error, Result};

static PARAM: Part = Part {
    exists: "EXISTS (SELECT 1 FROM logged_model_param t WHERE t.model_no = l.no AND t.key = ",
    within: "l.no IN (SELECT l.no FROM (SELECT t.model_no AS no FROM logged_model_param t WHERE t.key = ",
    newest_first: None,
    found: ") l WHERE 1 = 1",
    count: "SELECT 1 FROM logged_model_param t WHERE t.key = ",
    value: "t.value",
    prefix: None,
    is_nan: None,
};
static TAG: Part = Part {
    exists: "EXISTS (SELECT 1 FROM logged_model_tag t WHERE t.model_no = l.no AND t.key = ",
    within: "l.no IN (SELECT l.no FROM (SELECT t.model_no AS no FROM logged_model_tag t WHERE t.key = ",
    newest_first: None,
    found: ") l WHERE 1 = 1",
    count: "SELECT 1 FROM logged_model_tag t WHERE t.key = ",
    value: "t.value",
    prefix: None,
    is_nan: None,
};

/// One entry of a logged-model search's `order_by`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelOrder {
    pub(crate) field_name: String,
    pub(crate) ascending: bool,
    pub(crate) dataset_name: Option<String>,
    pub(crate) dataset_digest: Option<String>,
}

enum Kind {
    Attribute,
    Metric,
    Param,
    Tag,
}

/// Reads a filter of logged models; the table is `l`. Of datasets, if any are given, the metrics of the filter must be,
/// or when it has none, any metric of the model.
pub(crate) fn logged_models(filter: Option<&str>, datasets: Vec<Dataset>) -> Result<Filter> {
    let clauses = parse(filter.unwrap_or_default(), Complaint::Bare)?;
    let mut conditions = clauses.iter().map(|clause| condition(clause, &datasets)).collect::<Result<Vec<_>>>()?;
    let has_metric = conditions.iter().any(|condition| matches!(condition, Condition::ModelMetric { .. }));
    if !datasets.is_empty() && !has_metric {
        conditions.push(Condition::OnDatasets(datasets));
    }
    Ok(Filter { conditions })
}

/// Reads an order of logged models: equals, or all, the newest first.
pub(crate) fn logged_models_order(order_by: &[ModelOrder]) -> Result<Order> {
    let mut order = Order::default();
    for entry in order_by {
        order.append(key(entry)?, entry.ascending);
    }
    order.end_with(Key::Column("l.created_at"), false);
    order.end_with(Key::LastText("l.id"), true);
    Ok(order)
}

fn key(entry: &ModelOrder) -> Result<Key> {
    let field = entry.field_name.as_str();
    let Some((entity, name)) = field.split_once('.') else {
        let column = order_column(field);
        return column.map(Key::Column).ok_or_else(|| Error::invalid(format!("Invalid order by field name: {field}")));
    };
    if entity != "metrics" {
        return Err(Error::invalid(format!("Invalid order by field name: {field}. Only metrics are supported.")));
    }
    let dataset = entry.dataset_name.clone().map(|name| (name, entry.dataset_digest.clone()));
    Ok(Key::ModelMetric { key: name.to_owned(), dataset })
}

fn order_column(field: &str) -> Option<&'static str> {
    Some(match field {
        "name" => "l.name",
        "model_id" => "l.id",
        "model_type" => "l.model_type",
        "status" => "l.status",
        "source_run_id" => "l.source_run_id",
        "experiment_id" => "l.experiment_id",
        "creation_time" | "creation_timestamp" | "creation_timestamp_ms" => "l.created_at",
        "last_updated_timestamp" | "last_updated_timestamp_ms" => "l.updated_at",
        _ => return None,
    })
}

fn condition(clause: &Clause, datasets: &[Dataset]) -> Result<Condition> {
    if clause.value == Value::Nothing {
        return Err(Error::invalid(format!("Invalid comparison: {clause}. Expected a comparison with 3 tokens.")));
    }
    let (kind, key) = kind_and_key(&clause.name)?;
    let comparator = clause.comparator.to_uppercase();
    match kind {
        Kind::Attribute => attribute(key, &comparator, clause),
        Kind::Metric => {
            let test = number(&format!("metrics.{key}"), &comparator, clause)?;
            let test = match test {
                Test::Integer { comparator, value } => Test::Float { comparator, value: value as f64 },
                other => other,
            };
            Ok(Condition::ModelMetric { key: key.to_owned(), test, datasets: datasets.to_vec() })
        }
        Kind::Param => {
            let test = text_or_list(&format!("params.{key}"), &comparator, clause)?;
            Ok(Condition::Part { part: &PARAM, key: key.to_owned(), test })
        }
        Kind::Tag => {
            let test = text_or_list(&format!("tags.{key}"), &comparator, clause)?;
            Ok(Condition::Part { part: &TAG, key: key.to_owned(), test })
        }
    }
}

/// Only lower-case letters before the dot name an entity.
fn kind_and_key(name: &str) -> Result<(Kind, &str)> {
    let split = name.split_once('.').filter(|(entity, key)| {
        !entity.is_empty() && entity.bytes().all(|byte| byte.is_ascii_lowercase()) && !key.is_empty()
    });
    let Some((entity, key)) = split else { return Ok((Kind::Attribute, name.trim_matches('`'))) };
    let kind = match entity {
        "attributes" => Kind::Attribute,
        "metrics" => Kind::Metric,
        "params" => Kind::Param,
        "tags" => Kind::Tag,
        other => {
            return Err(Error::invalid(format!(
                "Invalid entity type: '{other}'. Expected one of ['attributes', 'metrics', 'params', 'tags']."
            )));
        }
    };
    Ok((kind, key.trim_matches('`')))
}

fn attribute(key: &str, comparator: &str, clause: &Clause) -> Result<Condition> {
    let shown = format!("attributes.{key}");
    let text = |column: &'static str| Ok(Condition::Column { column, test: text_or_list(&shown, comparator, clause)? });
    match key {
        "creation_time" | "creation_timestamp" | "creation_timestamp_ms" => {
            Ok(Condition::Column { column: "l.created_at", test: number(&shown, comparator, clause)? })
        }
        "last_updated_timestamp" | "last_updated_timestamp_ms" => {
            Ok(Condition::Column { column: "l.updated_at", test: number(&shown, comparator, clause)? })
        }
        "experiment_id" => {
            Ok(Condition::Column { column: "l.experiment_id", test: experiments(&shown, comparator, clause)? })
        }
        "name" => text("l.name"),
        "model_id" => text("l.id"),
        "model_type" => text("l.model_type"),
        "status" => text("l.status"),
        "source_run_id" => text("l.source_run_id"),
        "artifact_location" => text("l.artifact_location"),
        other => Err(Error::invalid(format!("Invalid logged model search key '{other}'"))),
    }
}

fn number(shown: &str, comparator: &str, clause: &Clause) -> Result<Test> {
    if NumberComparator::read(comparator).is_none() {
        let operators = "('<', '<=', '>', '>=', '=', '!=')";
        return Err(no_such_operator(shown, comparator, operators));
    }
    integer_test(comparator, &clause.value).ok_or_else(|| {
        let found = clause.value.written();
        Error::invalid(format!("Expected a number to compare {shown} with. Found {found}"))
    })
}

/// Experiments by their numbers, which stand in quotes; a text that is no number is that of none.
fn experiments(shown: &str, comparator: &str, clause: &Clause) -> Result<Test> {
    let number = |text: &String| text.trim().parse().unwrap_or(-1);
    match text_or_list(shown, comparator, clause)? {
        Test::OneOf { wanted, values } => Ok(Test::Integers { wanted, values: values.iter().map(number).collect() }),
        Test::Text { comparator: TextComparator::Equal, value } => {
            Ok(Test::Integers { wanted: true, values: vec![number(&value)] })
        }
        Test::Text { comparator: TextComparator::NotEqual, value } => {
            Ok(Test::Integers { wanted: false, values: vec![number(&value)] })
        }
        _ => Err(no_such_operator(shown, comparator, "('=', '!=', 'IN', 'NOT IN')")),
    }
}

/// A text, whose single quotes may be left out, or a list.
fn text_or_list(shown: &str, comparator: &str, clause: &Clause) -> Result<Test> {
    let refused = || no_such_operator(shown, comparator, "('=', '!=', 'LIKE', 'ILIKE', 'IN', 'NOT IN')");
    if let Value::List(written) = &clause.value {
        let wanted = match comparator {
            "IN" => true,
            "NOT IN" => false,
            _ => return Err(refused()),
        };
        return Ok(Test::OneOf { wanted, values: list(written)? });
    }
    let value = clause.value.written().trim_matches('\'').to_owned();
    text_test(comparator, value)?.ok_or_else(refused)
}

fn no_such_operator(shown: &str, comparator: &str, operators: &str) -> Error {
    Error::invalid(format!("Invalid comparison operator for {shown}: '{comparator}'. Expected one of {operators}."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_kind_of_name_is_understood() {
        for filter in [
            "name = 'x'",
            "attributes.model_type != 'x'",
            "metrics.a >= 0.5",
            "params.`a b` = 'x'",
            "tags.a in ('x')",
            "creation_timestamp > 5",
            "creation_time < 7",
            "source_run_id like 'x%'",
            "model_id NOT IN ('a')",
            "status = 'READY'",
            "name = x",
        ] {
            logged_models(Some(filter), Vec::new()).unwrap_or_else(|error| panic!("{filter}: {error}"));
        }
        let refused = |filter: &str| logged_models(Some(filter), Vec::new()).unwrap_err().to_string();
        assert!(refused("tag.a = 'x'").starts_with("Invalid entity type: 'tag'."));
        assert!(refused("metrics.a LIKE 5").starts_with("Invalid comparison operator for metrics.a: 'LIKE'."));
        assert!(refused("tags.a > 'x'").starts_with("Invalid comparison operator for tags.a: '>'."));
        assert!(refused("tags.a IS NULL").starts_with("Invalid comparison: tags.a IS NULL."));
    }
}
