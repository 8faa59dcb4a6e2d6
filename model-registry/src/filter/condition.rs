//! What a clause asks of the tables, and its SQL.

use platform::database::{Engine, Statement};

use crate::{Error, Result};

/// One condition on the rows that are searched.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    /// On a column of the table itself.
    Column { column: &'static str, test: Test },
    /// On a row of another table, which belongs to the searched row and has a key.
    Part { part: &'static Part, key: String, test: Test },
    /// Whether there is a row with that key.
    Has { part: &'static Part, key: String, wanted: bool },
    /// On a row of another table that has no key, such as a dataset.
    Joined { exists: &'static str, column: &'static str, test: Test },
    /// On any metric of a logged model, if datasets are given, on one of these.
    ModelMetric { key: String, test: Test, datasets: Vec<Dataset> },
    /// On whether a logged model has any metric on one of these datasets.
    OnDatasets(Vec<Dataset>),
    /// SQL without values.
    Fixed(&'static str),
}

/// A dataset that metrics of logged models were measured on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dataset {
    pub(crate) name: String,
    pub(crate) digest: Option<String>,
}

/// A table of keys and values that belong to rows of the searched table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Begins a test that is made for each row; ends before the key.
    pub(super) exists: &'static str,
    /// Begins a test that finds the rows first; ends before the key.
    pub(super) within: &'static str,
    /// The table, as `t`, when its index on key and value has runs of an experiment newest first.
    pub(super) newest_first: Option<&'static str>,
    /// Goes on with it behind the value: the found rows have the letter of the searched table, for further tests of each.
    pub(super) found: &'static str,
    /// Begins a count of the rows that would be found, up to a limit; ends before the key.
    pub(super) count: &'static str,
    /// The value's column.
    pub(super) value: &'static str,
    /// The expression of the index on key and value, for texts.
    pub(super) prefix: Option<&'static str>,
    /// Values may be no number.
    pub(super) is_nan: Option<&'static str>,
}

/// A comparison with what stands in the filter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Text { comparator: TextComparator, value: String },
    OneOf { wanted: bool, values: Vec<String> },
    Integers { wanted: bool, values: Vec<i64> },
    Integer { comparator: NumberComparator, value: i64 },
    Float { comparator: NumberComparator, value: f64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextComparator {
    Equal,
    NotEqual,
    Like,
    ILike,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberComparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Characters of a value that are in the indexes (see the migrations).
const PREFIX: usize = 100;

/// SQLite refuses longer patterns.
const PATTERN_BYTES: usize = 50_000;

impl Condition {
    /// Adds the condition as a test of each row. It is never unknown for a row that is there.
    pub(super) fn push(&self, statement: &mut Statement, engine: Engine) {
        match self {
            Self::Column { column, test } => test.push(statement, engine, column),
            Self::Part { part, key, test } => {
                statement.push(part.exists);
                push_part(statement, engine, part, key, test);
                statement.push(")");
            }
            Self::Has { part, key, wanted } => {
                if !wanted {
                    statement.push("NOT ");
                }
                statement.push(part.exists).text(key).push(")");
            }
            Self::Joined { exists, column, test } => {
                statement.push(exists);
                test.push(statement, engine, column);
                statement.push(")");
            }
            Self::ModelMetric { key, test, datasets } => push_model_metric(statement, engine, key, test, datasets),
            Self::OnDatasets(datasets) => {
                statement.push("EXISTS (SELECT 1 FROM logged_model_metric t WHERE t.model_no = l.no AND (");
                push_datasets(statement, datasets);
                statement.push("))");
            }
            Self::Fixed(text) => {
                statement.push(text);
            }
        }
    }

    /// Adds the condition so that its rows are found first, by its index on key and value, and tested for `others` at
    /// once, before the searched table is read. Means the same as all of them one by one.
    pub(super) fn push_first(&self, statement: &mut Statement, engine: Engine, others: &[&Self]) {
        let Self::Part { part, key, test } = self else { return self.push(statement, engine) };
        statement.push(part.within);
        push_part(statement, engine, part, key, test);
        statement.push(part.found);
        for other in others {
            statement.push(" AND ");
            other.push(statement, engine);
        }
        statement.push(")");
    }

    /// The table, as `t`, whose index has the runs of an experiment that match, newest first.
    pub(super) fn newest_first(&self) -> Option<&'static str> {
        let Self::Part { part, test: Test::Text { comparator: TextComparator::Equal, .. }, .. } = self else {
            return None;
        };
        part.newest_first
    }

    /// Adds the test of such a table's rows.
    pub(super) fn push_test(&self, statement: &mut Statement, engine: Engine) {
        if let Self::Part { part, key, test } = self {
            statement.push("t.key = ");
            push_part(statement, engine, part, key, test);
        }
    }

    /// Whether it can be tested without the searched table, by the number of its row alone.
    pub(super) fn is_of_parts(&self) -> bool {
        matches!(self, Self::Part { .. } | Self::Has { .. })
    }

    /// Whether an index finds the rows of this condition.
    pub(super) fn is_indexed(&self) -> bool {
        let Self::Part { part, test, .. } = self else { return false };
        match test {
            Test::Text { comparator, .. } => part.prefix.is_some() && *comparator == TextComparator::Equal,
            Test::Float { comparator, .. } => *comparator != NumberComparator::NotEqual,
            _ => false,
        }
    }

    /// Adds a SELECT of as many rows as the condition's index finds; nothing without one.
    pub(super) fn push_count(&self, statement: &mut Statement, engine: Engine) {
        if let Self::Part { part, key, test } = self {
            statement.push(part.count);
            push_part(statement, engine, part, key, test);
        }
    }
}

fn push_part(statement: &mut Statement, engine: Engine, part: &Part, key: &str, test: &Test) {
    statement.text(key).push(" AND ");
    if let (Some(prefix), Test::Text { comparator: TextComparator::Equal, value }) = (part.prefix, test) {
        return push_equal(statement, prefix, part.value, value);
    }
    let Some(is_nan) = part.is_nan else { return test.push(statement, engine, part.value) };
    // What is no number is stored as 0 and differs from every number.
    let differs = matches!(test, Test::Float { comparator: NumberComparator::NotEqual, .. });
    statement.push("(");
    test.push(statement, engine, part.value);
    statement.push(if differs { " OR " } else { " AND " }).push(is_nan).push(if differs { " = 1)" } else { " = 0)" });
}

/// Adds that a text is equal, so that the index on its first characters is used. SQLite would not use it if it knew the
/// text itself from a plain `value = …`.
fn push_equal(statement: &mut Statement, prefix: &'static str, column: &'static str, value: &str) {
    let first: String = value.chars().take(PREFIX).collect();
    let is_whole = first.len() == value.len() && value.chars().count() < PREFIX;
    statement.push(prefix).push(" = ").text(first);
    if !is_whole {
        statement.push(" AND (").push(column).push(" || '') = ").text(value);
    }
}

fn push_model_metric(statement: &mut Statement, engine: Engine, key: &str, test: &Test, datasets: &[Dataset]) {
    statement.push("EXISTS (SELECT 1 FROM logged_model_metric t WHERE t.model_no = l.no AND t.key = ").text(key);
    let differs = matches!(test, Test::Float { comparator: NumberComparator::NotEqual, .. });
    statement.push(" AND (");
    test.push(statement, engine, "t.value");
    statement.push(if differs { " OR t.is_nan = 1)" } else { " AND t.is_nan = 0)" });
    if !datasets.is_empty() {
        statement.push(" AND (");
        push_datasets(statement, datasets);
        statement.push(")");
    }
    statement.push(")");
}

/// Adds that the metric `t` was measured on one of the datasets.
fn push_datasets(statement: &mut Statement, datasets: &[Dataset]) {
    for (at, dataset) in datasets.iter().enumerate() {
        statement.push(if at == 0 { "(t.dataset_name = " } else { " OR (t.dataset_name = " }).text(&dataset.name);
        if let Some(digest) = &dataset.digest {
            statement.push(" AND t.dataset_digest = ").text(digest);
        }
        statement.push(")");
    }
}

impl Test {
    fn push(&self, statement: &mut Statement, engine: Engine, column: &'static str) {
        match self {
            Self::Text { comparator, value } => push_text(statement, engine, column, *comparator, value),
            Self::OneOf { wanted, values } => {
                statement.push(column).push(if *wanted { " IN " } else { " NOT IN " }).row();
                for value in values {
                    statement.text(value);
                }
                statement.end_row();
            }
            Self::Integers { wanted, values } => {
                statement.push(column).push(if *wanted { " IN " } else { " NOT IN " }).row();
                for &value in values {
                    statement.number(value);
                }
                statement.end_row();
            }
            Self::Integer { comparator, value } => {
                statement.push(column).push(comparator.sql()).number(*value);
            }
            Self::Float { comparator, value } => {
                statement.push(column).push(comparator.sql()).float(*value);
            }
        }
    }
}

fn push_text(statement: &mut Statement, engine: Engine, column: &'static str, comparator: TextComparator, value: &str) {
    match (comparator, engine) {
        (TextComparator::Equal, _) => statement.push(column).push(" = ").text(value),
        (TextComparator::NotEqual, _) => statement.push(column).push(" <> ").text(value),
        // SQLite's LIKE takes no notice of the case of ASCII letters, its GLOB does. PostgreSQL would read backslashes.
        (TextComparator::Like, Engine::Sqlite) => statement.push(column).push(" GLOB ").text(glob(value)),
        (TextComparator::Like, Engine::Postgres) => {
            statement.push(column).push(" LIKE ").text(value).push(" ESCAPE ''")
        }
        (TextComparator::ILike, Engine::Sqlite) => statement.push(column).push(" LIKE ").text(value),
        (TextComparator::ILike, Engine::Postgres) => {
            statement.push("lower(").push(column).push(" COLLATE \"C\") LIKE ");
            statement.text(value.to_ascii_lowercase()).push(" ESCAPE ''")
        }
    };
}

/// A pattern of LIKE as one of GLOB.
fn glob(pattern: &str) -> String {
    let mut glob = String::with_capacity(pattern.len());
    for character in pattern.chars() {
        match character {
            '%' => glob.push('*'),
            '_' => glob.push('?'),
            '*' | '?' | '[' => glob.extend(['[', character, ']']),
            other => glob.push(other),
        }
    }
    glob
}

/// Refuses patterns that the database would not take.
pub(super) fn check_pattern(pattern: &str) -> Result<()> {
    if glob(pattern).len() <= PATTERN_BYTES {
        return Ok(());
    }
    Err(Error::invalid(format!("a pattern of LIKE or ILIKE is longer than {PATTERN_BYTES} bytes")))
}

impl NumberComparator {
    pub(super) fn read(text: &str) -> Option<Self> {
        Some(match text {
            "=" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    fn sql(self) -> &'static str {
        match self {
            Self::Equal => " = ",
            Self::NotEqual => " <> ",
            Self::Less => " < ",
            Self::LessOrEqual => " <= ",
            Self::Greater => " > ",
            Self::GreaterOrEqual => " >= ",
        }
    }
}

impl TextComparator {
    pub(super) fn read(text: &str) -> Option<Self> {
        Some(match text {
            "=" => Self::Equal,
            "!=" => Self::NotEqual,
            "LIKE" => Self::Like,
            "ILIKE" => Self::ILike,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_like_become_patterns_of_glob() {
        assert_eq!(glob("a%_*[b]?"), "a*?[*][[]b][?]");
    }
}
