//! Filters and orders of runs.

use super::Filter;
use super::condition::{Condition, Part, Test};
use super::order::{Key, Order, term};
use super::parser::{Clause, Complaint, Value, parse};
use super::terms::{
    Entity, entity_and_key, float_test, integer_test, list, no_such_attribute, text, text_of, text_test,
};
use crate::{Error, Result};

/// The tag that holds a run's name.
const RUN_NAME: &str = "mlflow.runName";

const ATTRIBUTES: [&str; 12] = [
    "Created",
    "Run Name",
    "Run name",
    "artifact_uri",
    "created",
    "end_time",
    "run name",
    "run_id",
    "run_name",
    "start_time",
    "status",
    "user_id",
];

static METRIC: Part = Part {
    exists: "EXISTS (SELECT 1 FROM latest_metric t WHERE t.run_no = r.no AND t.key = ",
    within: "r.no IN (SELECT r.no FROM (SELECT t.run_no AS no FROM latest_metric t WHERE t.key = ",
    newest_first: None,
    found: ") r WHERE 1 = 1",
    count: "SELECT 1 FROM latest_metric t WHERE t.key = ",
    value: "t.value",
    prefix: None,
    is_nan: Some("t.is_nan"),
};
static PARAM: Part = Part {
    exists: "EXISTS (SELECT 1 FROM param t WHERE t.run_no = r.no AND t.key = ",
    within: "r.no IN (SELECT r.no FROM (SELECT t.run_no AS no FROM param t WHERE t.key = ",
    newest_first: Some("param t"),
    found: ") r WHERE 1 = 1",
    count: "SELECT 1 FROM param t WHERE t.key = ",
    value: "t.value",
    prefix: Some("substr(t.value, 1, 100)"),
    is_nan: None,
};
static TAG: Part = Part {
    exists: "EXISTS (SELECT 1 FROM run_tag t WHERE t.run_no = r.no AND t.key = ",
    within: "r.no IN (SELECT r.no FROM (SELECT t.run_no AS no FROM run_tag t WHERE t.key = ",
    newest_first: Some("run_tag t"),
    found: ") r WHERE 1 = 1",
    count: "SELECT 1 FROM run_tag t WHERE t.key = ",
    value: "t.value",
    prefix: Some("substr(t.value, 1, 100)"),
    is_nan: None,
};

/// A dataset of the run.
const DATASET: &str = "EXISTS (SELECT 1 FROM run_dataset d JOIN dataset s ON s.no = d.dataset_no \
                       WHERE d.run_no = r.no AND ";

const TEXT_COMPARATORS: &str = "{'!=', '=', 'ILIKE', 'IN', 'LIKE', 'NOT IN'}";
const PART_COMPARATORS: &str = "{'!=', '=', 'ILIKE', 'IS NOT NULL', 'IS NULL', 'LIKE'}";
const METRIC_COMPARATORS: &str = "{'!=', '<', '<=', '=', '>', '>='}";

/// Reads a filter of runs; the table is `r`.
pub(crate) fn runs(filter: Option<&str>) -> Result<Filter> {
    let clauses = parse(filter.unwrap_or_default(), Complaint::Quoted)?;
    let conditions = clauses.iter().map(condition).collect::<Result<_>>()?;
    Ok(Filter { conditions })
}

/// Reads an order of runs: after what is asked for, the newest come first.
pub(crate) fn runs_order(order_by: &[String]) -> Result<Order> {
    let mut order = Order::default();
    for text in order_by {
        let (name, ascending) = term(text)?;
        let (entity, key) = entity_and_key(name)?;
        let key = match entity {
            Entity::Attribute => Key::Column(order_column(key)?),
            Entity::Metric => Key::Metric(key.to_owned()),
            Entity::Param => Key::Param(key.to_owned()),
            Entity::Tag => Key::Tag(key.to_owned()),
            Entity::Dataset => return Err(Error::invalid("Invalid identifier type 'dataset'")),
        };
        order.add(key, ascending, order_by)?;
    }
    order.end_with(Key::Column("r.started_at"), false);
    order.end_with(Key::LastText("r.id"), true);
    Ok(order)
}

fn condition(clause: &Clause) -> Result<Condition> {
    let (entity, key) = entity_and_key(&clause.name)?;
    if entity == Entity::Attribute && !ATTRIBUTES.contains(&key) {
        return Err(no_such_attribute(key, &ATTRIBUTES));
    }
    if clause.value == Value::Nothing {
        return presence(entity, key, &clause.comparator);
    }
    match entity {
        Entity::Metric => metric(key, clause),
        Entity::Param => part(&PARAM, entity, key, clause),
        Entity::Tag => part(&TAG, entity, key, clause),
        Entity::Attribute => attribute(key, clause),
        Entity::Dataset => dataset(key, clause),
    }
}

fn presence(entity: Entity, key: &str, comparator: &str) -> Result<Condition> {
    let part = match entity {
        Entity::Param => &PARAM,
        Entity::Tag => &TAG,
        other => {
            return Err(Error::invalid(format!(
                "IS NULL / IS NOT NULL is only supported for tags and params, not for '{}' '{key}'",
                other.as_str()
            )));
        }
    };
    Ok(Condition::Has { part, key: key.to_owned(), wanted: comparator == "IS NOT NULL" })
}

fn metric(key: &str, clause: &Clause) -> Result<Condition> {
    if !matches!(clause.value, Value::Integer(_) | Value::Float(_)) {
        let found = clause.value.written();
        return Err(Error::invalid(format!("Expected numeric value type for metric. Found {found}")));
    }
    let test = float_test(&clause.comparator, &clause.value);
    let test = test.ok_or_else(|| no_such_comparator(clause, METRIC_COMPARATORS))?;
    Ok(Condition::Part { part: &METRIC, key: key.to_owned(), test })
}

fn part(part: &'static Part, entity: Entity, key: &str, clause: &Clause) -> Result<Condition> {
    let value = text_of(entity, &clause.value)?;
    let test = text_test(&clause.comparator.to_uppercase(), value)?;
    let test = test.ok_or_else(|| no_such_comparator(clause, PART_COMPARATORS))?;
    Ok(Condition::Part { part, key: key.to_owned(), test })
}

fn attribute(key: &str, clause: &Clause) -> Result<Condition> {
    let number = |column: &'static str| {
        if !matches!(clause.value, Value::Integer(_) | Value::Float(_)) {
            let found = clause.value.written();
            return Err(Error::invalid(format!(
                "Expected numeric value type for numeric attribute: {key}. Found {found}"
            )));
        }
        let test = integer_test(&clause.comparator, &clause.value);
        Ok(Condition::Column { column, test: test.ok_or_else(|| no_such_comparator(clause, METRIC_COMPARATORS))? })
    };
    match key {
        "start_time" | "created" | "Created" => number("r.started_at"),
        "end_time" => number("r.ended_at"),
        "run_id" => Ok(Condition::Column { column: "r.id", test: text_or_list(clause, true)? }),
        "status" => Ok(Condition::Column { column: "r.status", test: text_or_list(clause, false)? }),
        "user_id" => Ok(Condition::Column { column: "r.user_id", test: text_or_list(clause, false)? }),
        "artifact_uri" => Ok(Condition::Column { column: "r.artifact_uri", test: text_or_list(clause, false)? }),
        // The name is looked for in its tag, whose index finds it.
        _ => Ok(Condition::Part { part: &TAG, key: RUN_NAME.to_owned(), test: text_or_list(clause, false)? }),
    }
}

/// A test of an attribute of text, which may be a list for `run_id`.
fn text_or_list(clause: &Clause, takes_lists: bool) -> Result<Test> {
    let comparator = clause.comparator.to_uppercase();
    if let Value::List(written) = &clause.value {
        if !takes_lists {
            return Err(Error::invalid(
                "Only ['run_id'] attributes support comparison with a list of quoted string values.",
            ));
        }
        return list_test(clause, &comparator, written);
    }
    let Some(value) = text(&clause.value) else {
        let value = clause.value.written();
        return Err(Error::invalid(format!("Expected a quoted string value for attributes. Got value {value}")));
    };
    text_test(&comparator, value?)?.ok_or_else(|| no_such_comparator(clause, TEXT_COMPARATORS))
}

fn list_test(clause: &Clause, comparator: &str, written: &str) -> Result<Test> {
    let values = list(written)?;
    match comparator {
        "IN" => Ok(Test::OneOf { wanted: true, values }),
        "NOT IN" => Ok(Test::OneOf { wanted: false, values }),
        _ => Err(no_such_comparator(clause, "{'IN', 'NOT IN'}")),
    }
}

fn dataset(key: &str, clause: &Clause) -> Result<Condition> {
    let column = match key {
        "name" => "s.name",
        "digest" => "s.digest",
        "context" => "d.context",
        other => {
            return Err(Error::invalid(format!(
                "Invalid dataset key '{other}' specified. Valid keys are '{{'context', 'digest', 'name'}}'"
            )));
        }
    };
    let comparator = clause.comparator.to_uppercase();
    let test = match &clause.value {
        Value::List(written) => list_test(clause, &comparator, written)?,
        value => {
            let value = text(value).unwrap_or_else(|| {
                let found = value.written();
                Err(Error::invalid(format!("Expected a quoted string value for dataset attributes. Got value {found}")))
            })?;
            text_test(&comparator, value)?.ok_or_else(|| no_such_comparator(clause, TEXT_COMPARATORS))?
        }
    };
    Ok(Condition::Joined { exists: DATASET, column, test })
}

fn order_column(key: &str) -> Result<&'static str> {
    Ok(match key {
        "run_id" => "r.id",
        "run_name" => "r.name",
        "status" => "r.status",
        "user_id" => "r.user_id",
        "artifact_uri" => "r.artifact_uri",
        "start_time" | "created" | "Created" => "r.started_at",
        "end_time" => "r.ended_at",
        other => {
            let valid = [
                "Created",
                "artifact_uri",
                "created",
                "end_time",
                "run_id",
                "run_name",
                "start_time",
                "status",
                "user_id",
            ];
            return Err(no_such_attribute(other, &valid));
        }
    })
}

fn no_such_comparator(clause: &Clause, valid: &str) -> Error {
    let comparator = clause.comparator.to_uppercase();
    Error::invalid(format!("Invalid comparator '{comparator}' not one of '{valid}'"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(filter: &str) -> String {
        runs(Some(filter)).unwrap_err().to_string()
    }

    #[test]
    fn every_name_of_an_entity_is_understood() {
        for filter in [
            "metrics.a > 1",
            "metric.a >= -1.5e-3",
            "params.a = 'x'",
            "parameters.a != \"x\"",
            "tags.a LIKE '%x'",
            "tag.`a b` ilike 'X%'",
            "attributes.status = 'FINISHED'",
            "attr.run_id IN ('a', 'b')",
            "run.user_id = 'me'",
            "Created > 5",
            "attribute.start_time <= 5.5",
            "end_time != 3",
            "attributes.`Run name` = 'x'",
            "run_id NOT IN ('a')",
            "dataset.name = 'x'",
            "datasets.digest IN ('a')",
            "dataset.context like 'tr%'",
            "tags.a IS NULL",
            "params.\"a.b\" is not null",
            "run_name ILIKE '%A'",
        ] {
            runs(Some(filter)).unwrap_or_else(|error| panic!("{filter}: {error}"));
        }
        assert_eq!(runs(None).unwrap(), runs(Some("")).unwrap());
    }

    #[test]
    fn what_cannot_be_compared_is_refused_in_mlflows_words() {
        assert_eq!(refused("metrics.a = 'x'"), "Expected numeric value type for metric. Found 'x'");
        assert!(refused("metrics.a LIKE 5").starts_with("Invalid comparator 'LIKE' not one of '{"));
        assert_eq!(
            refused("params.a = 5"),
            "Expected a quoted string value for parameter (e.g. 'my-value'). Got value 5"
        );
        assert!(refused("tags.a = x").starts_with("Parameter value is either not quoted or unidentified quote types"));
        assert!(refused("tags.a > 'x'").starts_with("Invalid comparator '>' not one of '{"));
        assert!(refused("tags.a NOT LIKE 'x'").starts_with("Invalid comparator 'NOT LIKE' not one of '{"));
        assert_eq!(
            refused("start_time > 'x'"),
            "Expected numeric value type for numeric attribute: start_time. Found 'x'"
        );
        assert!(refused("run = 'x'").starts_with("Invalid attribute key 'run' specified. Valid keys are '{"));
        assert!(refused("attribute.lifecycle = 'x'").starts_with("Invalid attribute key 'lifecycle' specified."));
        assert_eq!(
            refused("run_name IN ('a')"),
            "Only ['run_id'] attributes support comparison with a list of quoted string values."
        );
        assert!(refused("dataset.schema = 'x'").starts_with("Invalid dataset key 'schema' specified."));
        assert_eq!(
            refused("metrics.a IS NULL"),
            "IS NULL / IS NOT NULL is only supported for tags and params, not for 'metric' 'a'"
        );
    }

    #[test]
    fn orders_are_read_in_mlflows_words() {
        let order = |text: &str| runs_order(&[text.to_owned()]);
        for text in
            ["metrics.`a b` DESC", "start_time", "Created asc", "params.\"x\"  desc", "tag.a", "attribute.run_id"]
        {
            order(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        assert_eq!(
            order("metrics.a foo").unwrap_err().to_string(),
            "Invalid ordering key in order_by clause 'metrics.a foo'."
        );
        assert_eq!(
            order("metrics.a desc nulls last").unwrap_err().to_string(),
            "Invalid order_by clause 'metrics.a desc nulls last'. Could not be parsed."
        );
        assert!(order("lifecycle").unwrap_err().to_string().starts_with("Invalid attribute key 'lifecycle'"));
        let twice = ["metrics.a".to_owned(), "metric.a DESC".to_owned()];
        assert_eq!(
            runs_order(&twice).unwrap_err().to_string(),
            "`order_by` contains duplicate fields: ['metrics.a', 'metric.a DESC']"
        );
    }
}
