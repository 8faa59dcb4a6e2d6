//! Orders of search results.

use platform::database::{Engine, Statement};

use super::lexer::{Kind, tokens};
use crate::{Error, Result};

/// An order, the most important key first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Order {
    keys: Vec<(Key, bool)>,
}

/// What rows are ordered by.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    /// A column; rows without a value come last.
    Column(&'static str),
    /// A column of texts, which are all there, by their bytes.
    LastText(&'static str),
    /// A run's latest value of a metric: first numbers, then what is none, then runs without it.
    Metric(String),
    /// A run's param; runs without it come last.
    Param(String),
    /// A run's tag; runs without it come last.
    Tag(String),
    /// The newest value of a metric of a logged model, on a dataset if one is named.
    ModelMetric { key: String, dataset: Option<(String, Option<String>)> },
}

/// Columns of text, whose order must not depend on the database's language.
const TEXTS: [&str; 13] = [
    "r.id",
    "r.name",
    "r.status",
    "r.user_id",
    "r.artifact_uri",
    "e.name",
    "m.name",
    "l.id",
    "l.name",
    "l.model_type",
    "l.status",
    "l.source_run_id",
    "v.source",
];

impl Order {
    /// Adds a key that was asked for.
    pub(super) fn add(&mut self, key: Key, ascending: bool, order_by: &[String]) -> Result<()> {
        if self.keys.iter().any(|(earlier, _)| *earlier == key) {
            let shown = order_by.iter().map(|text| format!("'{text}'")).collect::<Vec<_>>().join(", ");
            return Err(Error::invalid(format!("`order_by` contains duplicate fields: [{shown}]")));
        }
        self.keys.push((key, ascending));
        Ok(())
    }

    /// Adds a key that was asked for, be it twice.
    pub(super) fn append(&mut self, key: Key, ascending: bool) {
        self.keys.push((key, ascending));
    }

    /// Adds a key that decides between equals, unless it was asked for.
    pub(super) fn end_with(&mut self, key: Key, ascending: bool) {
        let column = |key: &Key| match key {
            Key::Column(column) | Key::LastText(column) => Some(*column),
            _ => None,
        };
        if !self.keys.iter().any(|(earlier, _)| column(earlier) == column(&key)) {
            self.keys.push((key, ascending));
        }
    }

    /// The metric by which runs are ordered before anything else.
    pub(crate) fn first_metric(&self) -> Option<&str> {
        match self.keys.first() {
            Some((Key::Metric(key), _)) => Some(key),
            _ => None,
        }
    }

    /// Whether runs are to come newest first, as they do when nothing is asked for.
    pub(crate) fn is_newest_first(&self) -> bool {
        self.keys == [(Key::Column("r.started_at"), false), (Key::LastText("r.id"), true)]
    }

    /// Adds ` ORDER BY …` for this order, where the table `t` knows when runs were started.
    pub(crate) fn push_newest_first(statement: &mut Statement, engine: Engine) {
        statement.push(" ORDER BY t.started_at DESC, r.id").push(bytewise(engine));
    }

    /// Adds ` ORDER BY …`.
    pub(crate) fn push(&self, statement: &mut Statement, engine: Engine) {
        for (at, (key, ascending)) in self.keys.iter().enumerate() {
            statement.push(if at == 0 { " ORDER BY " } else { ", " });
            key.push(statement, engine, *ascending);
        }
    }

    /// Adds ` ORDER BY …` where the first key is a metric, whose row is `o` and a number.
    pub(crate) fn push_behind_metric(&self, statement: &mut Statement, engine: Engine) {
        let ascending = self.keys.first().is_some_and(|(_, ascending)| *ascending);
        statement.push(" ORDER BY o.value").push(direction(ascending));
        for (key, ascending) in self.keys.iter().skip(1) {
            statement.push(", ");
            key.push(statement, engine, *ascending);
        }
    }
}

impl Key {
    fn push(&self, statement: &mut Statement, engine: Engine, ascending: bool) {
        match self {
            Self::LastText(column) => {
                statement.push(column).push(collation(column, engine));
            }
            Self::Column(column) if may_be_null(column) => {
                statement.push("CASE WHEN ").push(column).push(" IS NULL THEN 1 ELSE 0 END, ");
                statement.push(column).push(collation(column, engine));
            }
            Self::Column(column) => {
                statement.push(column).push(collation(column, engine));
            }
            Self::Metric(key) => {
                const OF_RUN: &str = " FROM latest_metric t WHERE t.run_no = r.no AND t.key = ";
                statement.push("COALESCE((SELECT t.is_nan").push(OF_RUN).text(key).push("), 2), ");
                statement.push("(SELECT t.value").push(OF_RUN).text(key).push(")");
            }
            Self::Param(key) => {
                push_part(statement, engine, "(SELECT t.value FROM param t WHERE t.run_no = r.no AND t.key = ", key);
            }
            Self::Tag(key) => {
                push_part(statement, engine, "(SELECT t.value FROM run_tag t WHERE t.run_no = r.no AND t.key = ", key);
            }
            Self::ModelMetric { key, dataset } => {
                push_model_metric(statement, "COALESCE((SELECT t.is_nan", key, dataset.as_ref());
                statement.push("), 2), ");
                push_model_metric(statement, "(SELECT t.value", key, dataset.as_ref());
                statement.push(")");
            }
        }
        statement.push(direction(ascending));
    }
}

fn push_part(statement: &mut Statement, engine: Engine, select: &'static str, key: &str) {
    statement.push("CASE WHEN ").push(select).text(key).push(") IS NULL THEN 1 ELSE 0 END, ");
    statement.push(select).text(key).push(")").push(bytewise(engine));
}

/// Adds the SELECT of the newest value, without its closing parenthesis.
fn push_model_metric(
    statement: &mut Statement,
    select: &'static str,
    key: &str,
    dataset: Option<&(String, Option<String>)>,
) {
    statement.push(select).push(" FROM logged_model_metric t WHERE t.model_no = l.no AND t.key = ").text(key);
    if let Some((name, digest)) = dataset {
        statement.push(" AND t.dataset_name = ").text(name);
        if let Some(digest) = digest {
            statement.push(" AND t.dataset_digest = ").text(digest);
        }
    }
    statement.push(" ORDER BY t.time DESC, t.step DESC, t.run_id LIMIT 1");
}

fn direction(ascending: bool) -> &'static str {
    if ascending { "" } else { " DESC" }
}

fn may_be_null(column: &str) -> bool {
    matches!(column, "r.ended_at" | "l.model_type" | "l.source_run_id")
}

fn collation(column: &str, engine: Engine) -> &'static str {
    if TEXTS.contains(&column) { bytewise(engine) } else { "" }
}

/// SQLite compares bytes by itself.
fn bytewise(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "",
        Engine::Postgres => " COLLATE \"C\"",
    }
}

/// Reads one entry of `order_by`: a name, and `ASC` (the default) or `DESC`.
pub(super) fn term(text: &str) -> Result<(&str, bool)> {
    let unreadable = || Error::invalid(format!("Invalid order_by clause '{text}'. Could not be parsed."));
    if text.trim() != text {
        return Err(unreadable());
    }
    let tokens = tokens(text);
    match tokens.as_slice() {
        [name] if name.kind == Kind::Identifier => Ok((name.text, true)),
        [name, direction] if name.kind == Kind::Identifier && direction.kind == Kind::Identifier => {
            match direction.text.to_ascii_lowercase().as_str() {
                "asc" => Ok((name.text, true)),
                "desc" => Ok((name.text, false)),
                _ => Err(Error::invalid(format!("Invalid ordering key in order_by clause '{text}'."))),
            }
        }
        _ => Err(unreadable()),
    }
}
